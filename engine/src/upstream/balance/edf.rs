//! Earliest deadline first: over any sequence of picks each host gets a share in proportion to its
//! weight, spread evenly.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use fastrand::Rng;

/// Hosts by deadline. A host of weight w is picked every 1/w.
#[derive(Debug)]
pub(super) struct Edf {
    queue: BinaryHeap<Entry>,
}

#[derive(Debug)]
struct Entry {
    deadline: f64,
    host: usize,
}

impl Edf {
    /// Schedules hosts with these weights (above 0). Each starts at a random time in its interval, so
    /// that shards that start together do not send their first requests to the same hosts.
    pub(super) fn new(weights: impl Iterator<Item = f64>, random: &mut Rng) -> Self {
        let entry = |(host, weight): (usize, f64)| Entry { deadline: random.f64() / weight, host };
        Self { queue: weights.enumerate().map(entry).collect() }
    }

    /// Picks the next host. Its next deadline follows from its current `weight`.
    pub(super) fn pick(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let mut entry = self.queue.peek_mut()?;
        entry.deadline += 1.0 / weight(entry.host);
        Some(entry.host)
    }
}

/// The earliest deadline is the greatest, as the heap yields the greatest; equal deadlines are in the
/// order of the hosts.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then_with(|| other.host.cmp(&self.host))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Entry {}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
