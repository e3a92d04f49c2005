//! The deadlines of one exchange; the nearest one is the connection's alarm.

use crate::shard::clock::Millis;

/// Which deadline has passed. If several have at once, the first one of these is the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Timer {
    /// The answer did not come in time (the route's `timeout`).
    Route,
    /// This attempt took too long (`per_try_timeout`).
    PerTry,
    /// This attempt was silent for too long (`per_try_idle_timeout`).
    PerTryIdle,
    /// The request was not received whole in time (`request_timeout`).
    Request,
    /// The exchange has lasted too long (`max_stream_duration`).
    StreamDuration,
    /// Nothing moved for too long (`stream_idle_timeout`).
    StreamIdle,
    /// The client has half-closed, and the grace for it is over: it has left.
    HalfClosed,
    /// The wait before the next attempt is over.
    Backoff,
}

/// When each of them passes.
#[derive(Clone, Debug)]
pub(super) struct Deadlines {
    at: [Millis; ORDER.len()],
}

const NEVER: Millis = Millis::MAX;

/// In the order of their numbers.
const ORDER: [Timer; 8] = [
    Timer::Route,
    Timer::PerTry,
    Timer::PerTryIdle,
    Timer::Request,
    Timer::StreamDuration,
    Timer::StreamIdle,
    Timer::HalfClosed,
    Timer::Backoff,
];

impl Default for Deadlines {
    fn default() -> Self {
        Self { at: [NEVER; ORDER.len()] }
    }
}

impl Deadlines {
    /// Moves one of them.
    pub(super) fn set(&mut self, which: Timer, at: Option<Millis>) {
        if let Some(place) = self.at.get_mut(which as usize) {
            *place = at.unwrap_or(NEVER);
        }
    }

    /// When one of them passes.
    #[must_use]
    pub(super) fn get(&self, which: Timer) -> Option<Millis> {
        self.at.get(which as usize).copied().filter(|&at| at != NEVER)
    }

    /// The nearest.
    #[must_use]
    pub(super) fn nearest(&self) -> Option<Millis> {
        Some(self.at.iter().fold(NEVER, |nearest, &at| nearest.min(at))).filter(|&at| at != NEVER)
    }

    /// Which one has passed at `now`.
    #[must_use]
    pub(super) fn passed(&self, now: Millis) -> Option<Timer> {
        let place = self.at.iter().position(|&at| at <= now)?;
        ORDER.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_deadline_is_the_alarm() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.nearest(), None);
        deadlines.set(Timer::StreamIdle, Some(300_000));
        deadlines.set(Timer::Route, Some(15_000));
        assert_eq!(deadlines.nearest(), Some(15_000));
        assert_eq!(deadlines.passed(14_999), None);
        assert_eq!(deadlines.passed(15_000), Some(Timer::Route));
    }

    #[test]
    fn each_has_a_place_of_its_own() {
        for (place, which) in ORDER.into_iter().enumerate() {
            assert_eq!(which as usize, place);
        }
    }

    #[test]
    fn the_routes_deadline_is_the_reason_when_several_have_passed() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Timer::PerTry, Some(10));
        deadlines.set(Timer::Route, Some(20));
        assert_eq!(deadlines.passed(30), Some(Timer::Route));
        deadlines.set(Timer::Route, None);
        assert_eq!(deadlines.passed(30), Some(Timer::PerTry));
    }
}
