//! Earliest deadline first: over any stretch of choices each host gets a share in proportion to its
//! weight, and its turns are spread evenly.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use fastrand::Rng;

/// Hosts by the time of their next turn. A host of weight w has a turn every 1/w.
#[derive(Debug)]
pub(super) struct Edf {
    turns: BinaryHeap<Turn>,
}

#[derive(Debug)]
struct Turn {
    deadline: f64,
    host: usize,
}

impl Edf {
    /// Schedules hosts of these weights (above 0). Each begins somewhere in its own interval:
    /// shards that start together do not send their first requests to the same hosts.
    pub(super) fn new(weights: impl Iterator<Item = f64>, random: &mut Rng) -> Self {
        let turn = |(host, weight): (usize, f64)| Turn { deadline: random.f64() / weight, host };
        Self { turns: weights.enumerate().map(turn).collect() }
    }

    /// The host whose turn it is. Its next turn comes after an interval of its weight by then.
    pub(super) fn pick(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let mut turn = self.turns.peek_mut()?;
        turn.deadline += 1.0 / weight(turn.host);
        Some(turn.host)
    }
}

/// The earliest deadline is the greatest, which is what the heap yields; equal ones go by the order
/// of hosts.
impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then_with(|| other.host.cmp(&self.host))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Turn {}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
