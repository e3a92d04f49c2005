//! The deadlines of one exchange. The nearest one sets the connection's alarm.

use crate::shard::clock::Millis;

/// A timer of an exchange. If several have expired, the first one in this order is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Timer {
    /// The route's `timeout`: the whole response, over all attempts.
    Route,
    /// `per_try_timeout`: the head of this attempt's response.
    PerTry,
    /// `per_try_idle_timeout`: no progress in this attempt.
    PerTryIdle,
    /// `max_stream_duration` of the cluster: this attempt, from its connection to its end.
    UpstreamDuration,
    /// `request_timeout`: receiving the whole request.
    Request,
    /// `max_stream_duration`: the whole exchange.
    StreamDuration,
    /// `stream_idle_timeout`: no progress in either direction.
    StreamIdle,
    /// The grace period of a client that has half-closed; afterwards it counts as disconnected.
    HalfClosed,
    /// The delay before the next attempt.
    Backoff,
    /// When an HTTP filter goes on. It ends no exchange.
    Filter,
    /// The next periodic entry of the access log. It ends no exchange.
    AccessLog,
    /// The next periodic entry of `upstream_log`. It ends no exchange.
    UpstreamLog,
}

/// When each timer expires.
#[derive(Clone, Debug)]
pub(super) struct Deadlines {
    at: [Millis; ORDER.len()],
}

const NEVER: Millis = Millis::MAX;

/// In the order of their discriminants.
const ORDER: [Timer; 12] = [
    Timer::Route,
    Timer::PerTry,
    Timer::PerTryIdle,
    Timer::UpstreamDuration,
    Timer::Request,
    Timer::StreamDuration,
    Timer::StreamIdle,
    Timer::HalfClosed,
    Timer::Backoff,
    Timer::Filter,
    Timer::AccessLog,
    Timer::UpstreamLog,
];

impl Default for Deadlines {
    fn default() -> Self {
        Self { at: [NEVER; ORDER.len()] }
    }
}

impl Deadlines {
    /// Sets a timer, or stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Millis>) {
        if let Some(slot) = self.at.get_mut(timer as usize) {
            *slot = at.unwrap_or(NEVER);
        }
    }

    /// When a timer expires; `None` if it is not running.
    #[must_use]
    pub(super) fn get(&self, timer: Timer) -> Option<Millis> {
        self.at.get(timer as usize).copied().filter(|&at| at != NEVER)
    }

    /// The nearest deadline.
    #[must_use]
    pub(super) fn nearest(&self) -> Option<Millis> {
        Some(self.at.iter().fold(NEVER, |nearest, &at| nearest.min(at))).filter(|&at| at != NEVER)
    }

    /// The first timer that has expired at `now`.
    #[must_use]
    pub(super) fn expired(&self, now: Millis) -> Option<Timer> {
        let slot = self.at.iter().position(|&at| at <= now)?;
        ORDER.get(slot).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_deadline_sets_the_alarm() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.nearest(), None);
        deadlines.set(Timer::StreamIdle, Some(300_000));
        deadlines.set(Timer::Route, Some(15_000));
        assert_eq!(deadlines.nearest(), Some(15_000));
        assert_eq!(deadlines.expired(14_999), None);
        assert_eq!(deadlines.expired(15_000), Some(Timer::Route));
    }

    #[test]
    fn each_timer_has_its_own_slot() {
        for (slot, timer) in ORDER.into_iter().enumerate() {
            assert_eq!(timer as usize, slot);
        }
    }

    #[test]
    fn the_route_timeout_is_reported_when_several_timers_have_expired() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Timer::PerTry, Some(10));
        deadlines.set(Timer::Route, Some(20));
        assert_eq!(deadlines.expired(30), Some(Timer::Route));
        deadlines.set(Timer::Route, None);
        assert_eq!(deadlines.expired(30), Some(Timer::PerTry));
    }
}
