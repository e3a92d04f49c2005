//! Which shard serves a connection.
//!
//! The kernel distributes connections over the listening sockets of the shards by a hash: evenly if
//! there are many, unevenly if there are few. So the shard that accepts a connection may hand it over.
//!
//! Invariant: a connection is counted on the shard that serves it, from before it is handed over until
//! it ends. Counts are shared between shards; they are written when a connection begins and ends,
//! never per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::shard::handle::{ShardHandle, ShardHandles};

/// How a listener distributes its connections.
#[derive(Debug)]
pub enum ConnectionBalance {
    /// A connection stays on the shard that accepted it, unless another shard, chosen at random, has
    /// markedly fewer connections, of all listeners. This one comparison leaves the busiest shard with
    /// 1.2 to 1.5 times the mean; the hash alone leaves it with twice the mean.
    Approximate,
    /// `exact_balance`: the shard with the fewest connections of this listener. Reads the counts of all
    /// shards.
    Exact(ExactBalance),
}

/// Counts a connection on the shard that serves it, until it is dropped.
#[derive(Debug)]
pub struct Assignment {
    shard: &'static ShardHandle,
    listener_count: Option<Arc<Count>>,
}

impl ConnectionBalance {
    /// Chooses the shard for a connection that `home` accepted. `random` returns a number below its
    /// argument, which is not 0.
    pub fn assign(
        &self,
        home: &'static ShardHandle,
        handles: ShardHandles,
        random: impl FnOnce(usize) -> usize,
    ) -> Assignment {
        let (shard, listener_count) = match self {
            Self::Approximate => (better_of_two(home, handles, random), None),
            Self::Exact(exact) => match exact.count_one(home.id()) {
                Some((shard, held)) => (handles.get(shard).unwrap_or(home), Some(held)),
                None => (home, None),
            },
        };
        shard.connection_opened();
        Assignment { shard, listener_count }
    }
}

impl Assignment {
    /// The shard that serves the connection.
    #[must_use]
    pub const fn shard(&self) -> &'static ShardHandle {
        self.shard
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.shard.connection_closed();
        if let Some(held) = &self.listener_count {
            held.0.fetch_sub(1, Relaxed);
        }
    }
}

fn better_of_two(
    home: &'static ShardHandle,
    handles: ShardHandles,
    random: impl FnOnce(usize) -> usize,
) -> &'static ShardHandle {
    let here = home.connections();
    let others = handles.count().saturating_sub(1);
    // No shard has fewer than 0.
    if here == 0 || others == 0 {
        return home;
    }
    let other = random(others);
    let other = if other < home.id() { other } else { other + 1 };
    let other = handles.get(other).filter(|other| is_worth_handing_over(here, other.connections()));
    other.unwrap_or(home)
}

/// Whether the difference is worth a handover: more than a quarter, or 1 if there are fewer than four.
/// A quarter is the random variation among some tens of connections, and the message and the wake-up
/// cost some microseconds.
const fn is_worth_handing_over(here: u64, there: u64) -> bool {
    here > there + there / 4
}

/// How many connections of one listener each shard has.
#[derive(Debug)]
pub struct ExactBalance(Box<[Arc<Count>]>);

/// Two cache lines, because the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl ExactBalance {
    /// For this many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self(std::iter::repeat_with(Arc::default).take(shards).collect())
    }

    /// Counts a connection on the shard that has the fewest; among equals, on the first from `home` on.
    fn count_one(&self, home: usize) -> Option<(usize, Arc<Count>)> {
        loop {
            let from_home = self.0.iter().enumerate().cycle().skip(home).take(self.0.len());
            let counted = from_home.map(|(shard, held)| (held.0.load(Relaxed), shard, held));
            let (count, shard, held) = counted.min_by_key(|(count, ..)| *count)?;
            // Another shard may have counted one in the meantime.
            if held.0.compare_exchange(count, count + 1, Relaxed, Relaxed).is_ok() {
                return Some((shard, Arc::clone(held)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::Mailbox;

    fn shards(count: usize) -> ShardHandles {
        ShardHandles::new((0..count).map(|_| Mailbox::new().unwrap().0).collect(), u64::MAX)
    }

    fn exact(shards: usize) -> ConnectionBalance {
        ConnectionBalance::Exact(ExactBalance::new(shards))
    }

    fn held(handles: ShardHandles) -> Vec<u64> {
        (0..handles.count()).map(|shard| handles.get(shard).unwrap().connections()).collect()
    }

    /// Assigns connections that were all accepted by the first shard.
    fn accepted_by_the_first(
        balance: &ConnectionBalance,
        handles: ShardHandles,
        connections: usize,
    ) -> Vec<Assignment> {
        let mut random = fastrand::Rng::with_seed(7);
        let home = handles.get(0).unwrap();
        let mut assignment = |_| balance.assign(home, handles, |below| random.usize(..below));
        (0..connections).map(&mut assignment).collect()
    }

    #[test]
    fn exact_balance_is_exact() {
        let handles = shards(4);
        let _assignments = accepted_by_the_first(&exact(4), handles, 18);
        assert_eq!(held(handles), [5, 5, 4, 4]);
    }

    #[test]
    fn exact_balance_is_exact_when_all_shards_accept_at_once() {
        let (handles, balance) = (shards(4), exact(4));
        let accept = |shard: usize| {
            let home = handles.get(shard).unwrap();
            (0..500).map(|_| balance.assign(home, handles, |_| 0)).collect::<Vec<_>>()
        };
        let assignments: Vec<Vec<Assignment>> = std::thread::scope(|scope| {
            let accepting: Vec<_> =
                (0..4).map(|shard| scope.spawn(move || accept(shard))).collect();
            accepting.into_iter().map(|shard| shard.join().unwrap()).collect()
        });
        assert_eq!(held(handles), [500; 4]);
        drop(assignments);
        assert_eq!(held(handles), [0; 4]);
        let ConnectionBalance::Exact(counts) = &balance else { unreachable!() };
        assert!(counts.0.iter().all(|held| held.0.load(Relaxed) == 0));
    }

    #[test]
    fn exact_balance_counts_the_connections_of_its_own_listener() {
        let handles = shards(2);
        let _of_another = accepted_by_the_first(&exact(2), handles, 1);
        let _assignments = accepted_by_the_first(&exact(2), handles, 3);
        assert_eq!(held(handles), [3, 1]);
    }

    #[test]
    fn approximate_balance_of_two_shards_leaves_at_most_a_quarter_more() {
        for (connections, evenly) in [(1, [1, 0]), (2, [1, 1]), (8, [4, 4]), (1000, [556, 444])] {
            let handles = shards(2);
            let _assignments =
                accepted_by_the_first(&ConnectionBalance::Approximate, handles, connections);
            assert_eq!(held(handles), evenly);
        }
    }

    #[test]
    fn approximate_balance_of_many_shards_leaves_none_idle() {
        let handles = shards(16);
        let _assignments = accepted_by_the_first(&ConnectionBalance::Approximate, handles, 64);
        assert!(held(handles).iter().all(|held| (1..=8).contains(held)), "{:?}", held(handles));
    }

    #[test]
    fn balanced_shards_keep_the_connections_that_they_accept() {
        for balance in [ConnectionBalance::Approximate, exact(3)] {
            let handles = shards(3);
            let mut assignments = Vec::new();
            for here in [2, 0, 1, 1, 2, 0] {
                let home = handles.get(here).unwrap();
                assignments.push(balance.assign(home, handles, |_| 0));
                assert_eq!(assignments.last().unwrap().shard().id(), here, "{balance:?}");
            }
        }
    }
}
