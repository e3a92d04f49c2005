//! The deadlines of one exchange; the nearest one is the connection's alarm.

use crate::shard::clock::Millis;

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passed {
    /// The request was not received whole in time (`request_timeout`).
    Request,
    /// Nothing moved for too long (`stream_idle_timeout`).
    StreamIdle,
    /// The exchange has lasted too long (`max_stream_duration`).
    StreamDuration,
    /// The answer did not come in time (the route's `timeout`).
    Route,
    /// This attempt took too long (`per_try_timeout`).
    PerTry,
    /// The wait before the next attempt is over.
    Backoff,
    /// This attempt was silent for too long (`per_try_idle_timeout`).
    PerTryIdle,
}

/// When each of them passes; none: never.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    at: [Option<Millis>; ORDER.len()],
}

/// If several have passed at once, the first one of these is the reason.
const ORDER: [Passed; 7] = [
    Passed::Route,
    Passed::PerTry,
    Passed::PerTryIdle,
    Passed::Request,
    Passed::StreamDuration,
    Passed::StreamIdle,
    Passed::Backoff,
];

impl Deadlines {
    /// Moves one of them.
    pub(super) fn set(&mut self, which: Passed, at: Option<Millis>) {
        let place = ORDER.iter().position(|&one| one == which);
        if let Some(place) = place.and_then(|place| self.at.get_mut(place)) {
            *place = at;
        }
    }

    /// When one of them passes.
    #[must_use]
    pub(super) fn get(&self, which: Passed) -> Option<Millis> {
        let place = ORDER.iter().position(|&one| one == which);
        place.and_then(|place| self.at.get(place)).copied().flatten()
    }

    /// The nearest.
    #[must_use]
    pub(super) fn nearest(&self) -> Option<Millis> {
        self.at.iter().flatten().min().copied()
    }

    /// Which one has passed at `now`.
    #[must_use]
    pub(super) fn passed(&self, now: Millis) -> Option<Passed> {
        let passed = |at: &Option<Millis>| at.is_some_and(|at| at <= now);
        let place = self.at.iter().position(passed)?;
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
        deadlines.set(Passed::StreamIdle, Some(300_000));
        deadlines.set(Passed::Route, Some(15_000));
        assert_eq!(deadlines.nearest(), Some(15_000));
        assert_eq!(deadlines.passed(14_999), None);
        assert_eq!(deadlines.passed(15_000), Some(Passed::Route));
    }

    #[test]
    fn the_routes_deadline_is_the_reason_when_several_have_passed() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Passed::PerTry, Some(10));
        deadlines.set(Passed::Route, Some(20));
        assert_eq!(deadlines.passed(30), Some(Passed::Route));
        deadlines.set(Passed::Route, None);
        assert_eq!(deadlines.passed(30), Some(Passed::PerTry));
    }
}
