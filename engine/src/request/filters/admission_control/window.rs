//! How many requests of a shard have succeeded lately.

use std::collections::VecDeque;

use crate::shard::clock::Millis;

/// The requests of the last while, second by second.
#[derive(Debug)]
pub(super) struct Window {
    /// How long a request counts, in milliseconds.
    length: u64,
    seconds: VecDeque<Second>,
    total: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    began: Millis,
    counts: Counts,
}

/// Numbers of requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) successes: u64,
}

const SECOND: u64 = 1000;

impl Window {
    pub(super) const fn new(length: u64) -> Self {
        let total = Counts { requests: 0, successes: 0 };
        Self { length, seconds: VecDeque::new(), total }
    }

    /// The requests that count now.
    pub(super) fn counts(&mut self, now: Millis) -> Counts {
        self.forget(now);
        self.total
    }

    /// How many requests there were per second, as in Envoy in whole numbers.
    pub(super) fn per_second(&mut self, now: Millis) -> u64 {
        self.forget(now);
        let age = self.seconds.front().map_or(0, |oldest| now.saturating_sub(oldest.began));
        self.total.requests / (age / SECOND).max(1)
    }

    /// Adds a request.
    pub(super) fn add(&mut self, is_success: bool, now: Millis) {
        self.forget(now);
        let is_over = |last: &Second| now.saturating_sub(last.began) >= SECOND;
        if self.seconds.back().is_none_or(is_over) {
            self.seconds.push_back(Second { began: now, counts: Counts::default() });
        }
        let last = self.seconds.back_mut().map(|last| &mut last.counts);
        for counts in last.into_iter().chain([&mut self.total]) {
            counts.requests += 1;
            counts.successes += u64::from(is_success);
        }
    }

    fn forget(&mut self, now: Millis) {
        while let Some(oldest) = self.seconds.front()
            && now.saturating_sub(oldest.began) >= self.length
        {
            self.total.requests -= oldest.counts.requests;
            self.total.successes -= oldest.counts.successes;
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_as_long_as_the_window() {
        let mut window = Window::new(3000);
        window.add(true, 500);
        window.add(false, 1400);
        window.add(false, 1600);
        assert_eq!(window.counts(3499), Counts { requests: 3, successes: 1 });
        assert_eq!(window.counts(3500), Counts { requests: 1, successes: 0 });
        assert_eq!(window.counts(10_000), Counts::default());
    }

    #[test]
    fn the_rate_is_that_since_the_oldest_request() {
        let mut window = Window::new(30_000);
        assert_eq!(window.per_second(0), 0);
        for _ in 0..10 {
            window.add(true, 1000);
        }
        assert_eq!(window.per_second(1000), 10);
        assert_eq!(window.per_second(2999), 10);
        assert_eq!(window.per_second(3000), 5);
    }
}
