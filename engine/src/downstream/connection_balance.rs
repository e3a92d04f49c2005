//! Which shard serves a connection.
//!
//! The kernel spreads connections over the listening sockets of the shards by a hash: evenly when
//! they are many, unevenly when they are few. So the shard that accepts one may hand it over.
//!
//! Invariant: a connection is counted on the shard that serves it from before that shard hears of it
//! until its end. The counts are the one thing of a listener that shards share without a limit being
//! set; they are touched when a connection begins and ends, never by a request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How the connections of one listener lie on the shards.
#[derive(Debug)]
pub struct ConnectionBalance {
    rule: Rule,
    /// In the order of the shards; empty if there is only one.
    held: Box<[Held]>,
}

/// How even the shards are to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The connection stays where it was accepted, unless another shard, chosen at random, has markedly
    /// fewer. Two choices are nearly as even as all, and cost one look.
    Rough,
    /// `exact_balance`: the shard with the fewest serves it. Costs a look at every shard.
    Exact,
}

/// Two cache lines, because the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Held(AtomicU64);

impl ConnectionBalance {
    /// For a listener on so many shards.
    #[must_use]
    pub fn new(rule: Rule, shards: usize) -> Self {
        let shards = if shards > 1 { shards } else { 0 };
        Self { rule, held: std::iter::repeat_with(Held::default).take(shards).collect() }
    }

    /// The shard that is to serve a connection which was accepted on shard `here`; it counts from now
    /// on. `random` gives a number below its argument.
    pub fn place(&self, here: usize, random: impl FnOnce(usize) -> usize) -> usize {
        let Some(at_home) = self.held.get(here) else { return here };
        match self.rule {
            Rule::Rough => self.place_roughly(here, at_home, random),
            Rule::Exact => self.place_exactly(here),
        }
    }

    /// The connection has ended.
    pub fn leave(&self, shard: usize) {
        if let Some(held) = self.held.get(shard) {
            held.0.fetch_sub(1, Relaxed);
        }
    }

    fn place_roughly(
        &self,
        here: usize,
        at_home: &Held,
        random: impl FnOnce(usize) -> usize,
    ) -> usize {
        // Any but this one.
        let other = random(self.held.len() - 1);
        let other = if other < here { other } else { other + 1 };
        if let Some(held) = self.held.get(other)
            && is_worth_it(at_home.0.load(Relaxed), held.0.load(Relaxed))
        {
            held.0.fetch_add(1, Relaxed);
            return other;
        }
        at_home.0.fetch_add(1, Relaxed);
        here
    }

    fn place_exactly(&self, here: usize) -> usize {
        loop {
            let counts = self.held.iter().map(|held| held.0.load(Relaxed));
            // Of those that are even the one that has it already.
            let least = counts.enumerate().min_by_key(|(shard, count)| (*count, *shard != here));
            let Some((shard, count)) = least else { return here };
            // Another shard may place one at this moment.
            if let Some(held) = self.held.get(shard)
                && held.0.compare_exchange(count, count + 1, Relaxed, Relaxed).is_ok()
            {
                return shard;
            }
        }
    }
}

/// Whether a connection goes over to a shard that has so many fewer: the wake-up costs some
/// microseconds, and a quarter is what chance does to some tens of connections.
const fn is_worth_it(here: u64, there: u64) -> bool {
    here > there + there / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections each of `shards` has when all were accepted by shard 0.
    fn accepted_by_the_first(rule: Rule, shards: usize, connections: usize) -> Vec<u64> {
        let balance = ConnectionBalance::new(rule, shards);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..connections {
            let shard = balance.place(0, |below| random.usize(..below));
            assert!(shard < shards);
        }
        balance.held.iter().map(|held| held.0.load(Relaxed)).collect()
    }

    #[test]
    fn exact_balance_is_exact() {
        assert_eq!(accepted_by_the_first(Rule::Exact, 4, 18), [5, 5, 4, 4]);
    }

    #[test]
    fn a_rough_balance_leaves_a_quarter_more_at_the_most() {
        assert_eq!(accepted_by_the_first(Rule::Rough, 2, 1), [1, 0]);
        assert_eq!(accepted_by_the_first(Rule::Rough, 2, 2), [1, 1]);
        for connections in [10, 100, 1000] {
            let held = accepted_by_the_first(Rule::Rough, 2, connections);
            let (most, least) = (*held.iter().max().unwrap(), *held.iter().min().unwrap());
            assert!(most <= least + least / 4 + 1, "{held:?}");
        }
    }

    #[test]
    fn few_connections_find_the_idle_ones_of_many_shards() {
        let held = accepted_by_the_first(Rule::Rough, 16, 64);
        assert!(held.iter().all(|held| (1..=8).contains(held)), "{held:?}");
    }

    #[test]
    fn shards_that_are_even_keep_what_they_accept() {
        for rule in [Rule::Rough, Rule::Exact] {
            let balance = ConnectionBalance::new(rule, 3);
            for here in [2, 0, 1, 1, 2, 0] {
                assert_eq!(balance.place(here, |_| 0), here, "{rule:?}");
            }
        }
    }

    #[test]
    fn who_leaves_makes_room() {
        let balance = ConnectionBalance::new(Rule::Exact, 2);
        let _placed = [0, 1, 0, 1].map(|here| balance.place(here, |_| 0));
        balance.leave(1);
        assert_eq!(balance.place(0, |_| 0), 1);
    }

    #[test]
    fn one_shard_counts_nothing() {
        let balance = ConnectionBalance::new(Rule::Exact, 1);
        assert_eq!((balance.place(0, |_| 0), balance.held.len()), (0, 0));
        balance.leave(0);
    }
}
