//! When a name is looked up again.

use std::time::Duration;

use fastrand::Rng;

use crate::upstream::discovery::{Outcome, Refresh};

/// The delays between the lookups of one name.
#[derive(Debug)]
pub struct RefreshDelays {
    refresh: Refresh,
    /// Delay after a failure, unless it is random.
    failure_rate: Duration,
    /// Bound of the delay after the next failure.
    failure_bound: Duration,
    random: Rng,
}

impl RefreshDelays {
    /// The state before the first lookup.
    pub fn new(refresh: Refresh, random: Rng) -> Self {
        Self::with_failure_rate(refresh, refresh.rate, random)
    }

    /// The same, with another rate after failures.
    pub fn with_failure_rate(refresh: Refresh, failure_rate: Duration, random: Rng) -> Self {
        let mut delays = Self { refresh, failure_rate, failure_bound: Duration::ZERO, random };
        delays.on_success();
        delays
    }

    /// The delay after a lookup with this outcome; `ttl` is that of the answer, 0 if unknown.
    pub fn after(&mut self, outcome: Outcome, ttl: Duration) -> Duration {
        match outcome {
            Outcome::Failed => self.after_failure(),
            Outcome::Same | Outcome::Changed => {
                self.on_success();
                self.after_success(ttl)
            }
        }
    }

    fn after_success(&mut self, ttl: Duration) -> Duration {
        let refresh = self.refresh;
        let rate = if refresh.respect_ttl && !ttl.is_zero() {
            ttl.max(refresh.ttl_min)
        } else {
            refresh.rate
        };
        rate + self.up_to(refresh.jitter)
    }

    //= envoy: Cluster.dns_failure_refresh_rate
    // A random part of a bound, which starts at base_interval and doubles up to max_interval.
    // Default: the rate.
    fn after_failure(&mut self) -> Duration {
        let Some(failure) = self.refresh.failure else {
            return self.failure_rate;
        };
        let bound = self.failure_bound;
        self.failure_bound = bound.saturating_mul(2).min(failure.max_interval);
        self.up_to(bound)
    }

    fn on_success(&mut self) {
        self.failure_bound =
            self.refresh.failure.map_or(Duration::ZERO, |failure| failure.base_interval);
    }

    /// A random time below the bound, in whole milliseconds.
    fn up_to(&mut self, bound: Duration) -> Duration {
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.u64(0..bound.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::discovery::FailureRefresh;

    const NO_TTL: Duration = Duration::ZERO;

    fn delays(refresh: Refresh) -> RefreshDelays {
        RefreshDelays::new(refresh, Rng::with_seed(7))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_default_is_five_seconds_also_after_failures() {
        let mut delays = delays(Refresh::default());
        assert_eq!(delays.after(Outcome::Changed, seconds(60)), seconds(5));
        assert_eq!(delays.after(Outcome::Failed, NO_TTL), seconds(5));
        assert_eq!(delays.after(Outcome::Failed, NO_TTL), seconds(5));
    }

    #[test]
    fn the_ttl_is_used_if_configured_and_not_zero() {
        let refresh = Refresh { respect_ttl: true, ttl_min: seconds(2), ..Refresh::default() };
        let mut delays = delays(refresh);
        assert_eq!(delays.after(Outcome::Same, seconds(60)), seconds(60));
        assert_eq!(delays.after(Outcome::Same, seconds(1)), seconds(2));
        assert_eq!(delays.after(Outcome::Same, NO_TTL), seconds(5));
    }

    #[test]
    fn jitter_is_added_after_answers_only() {
        let mut delays = delays(Refresh { jitter: seconds(2), ..Refresh::default() });
        let all: Vec<_> = (0..100).map(|_| delays.after(Outcome::Same, NO_TTL)).collect();
        assert!(all.iter().all(|delay| (seconds(5)..seconds(7)).contains(delay)));
        assert!(all.iter().any(|delay| *delay != all[0]));
        assert_eq!(delays.after(Outcome::Failed, NO_TTL), seconds(5));
    }

    #[test]
    fn failures_back_off_to_the_bound_and_an_answer_resets_it() {
        let failure = FailureRefresh { base_interval: seconds(1), max_interval: seconds(4) };
        let mut delays = delays(Refresh { failure: Some(failure), ..Refresh::default() });
        for bound in [1, 2, 4, 4, 4] {
            assert_eq!(delays.failure_bound, seconds(bound));
            assert!(delays.after(Outcome::Failed, NO_TTL) < seconds(bound));
        }
        delays.after(Outcome::Same, NO_TTL);
        assert_eq!(delays.failure_bound, seconds(1));
    }
}
