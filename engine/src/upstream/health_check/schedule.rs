//! When a host is checked next.

use std::time::Duration;

use fastrand::Rng;

use super::{Change, Intervals};

impl Intervals {
    /// The delay before the first check.
    pub fn first(&self, random: &mut Rng) -> Duration {
        below(self.initial_jitter, random)
    }

    /// The delay after a check. `is_healthy`: it succeeded. `has_traffic`: the cluster has had a connection.
    pub fn next(
        &self,
        is_healthy: bool,
        change: Change,
        has_traffic: bool,
        random: &mut Rng,
    ) -> Duration {
        let base = match (is_healthy, change) {
            (true, Change::None | Change::Changed) if !has_traffic => self.no_traffic_healthy,
            _ if !has_traffic => self.no_traffic,
            (true, Change::Pending) => self.healthy_edge,
            (true, _) => self.healthy,
            (false, Change::Pending) => self.unhealthy_edge,
            (false, _) => self.unhealthy,
        };
        let percent = base * self.jitter_percent / 100;
        base + below(percent, random) + below(self.jitter, random)
    }
}

/// A random duration below `end`.
fn below(end: Duration, random: &mut Rng) -> Duration {
    end.mul_f64(random.f64())
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn the_interval_depends_on_health_change_and_traffic() {
        let seconds = Duration::from_secs;
        let intervals = Intervals {
            healthy: seconds(1),
            healthy_edge: seconds(2),
            unhealthy: seconds(3),
            unhealthy_edge: seconds(4),
            no_traffic: seconds(5),
            no_traffic_healthy: seconds(6),
            ..check(1, 1).intervals
        };
        let mut random = Rng::with_seed(1);
        let mut next = |is_healthy, change, has_traffic| {
            intervals.next(is_healthy, change, has_traffic, &mut random).as_secs()
        };
        assert_eq!(next(true, Change::None, true), 1);
        assert_eq!(next(true, Change::Changed, true), 1);
        assert_eq!(next(true, Change::Pending, true), 2);
        assert_eq!(next(false, Change::Changed, true), 3);
        assert_eq!(next(false, Change::Pending, true), 4);
        assert_eq!(next(false, Change::Pending, false), 5);
        assert_eq!(next(true, Change::Pending, false), 5);
        assert_eq!(next(true, Change::None, false), 6);
    }

    #[test]
    fn jitter_is_added() {
        let intervals = Intervals {
            jitter: Duration::from_secs(2),
            jitter_percent: 50,
            ..check(1, 1).intervals
        };
        let mut random = Rng::with_seed(1);
        let all: Vec<Duration> =
            (0..200).map(|_| intervals.next(true, Change::None, true, &mut random)).collect();
        // An interval of 10 s.
        assert!(all.iter().all(|it| (10..17).contains(&it.as_secs())));
        assert!(all.iter().any(|it| it.as_secs() > 14));
    }
}
