//! `hash_balance_factor`: a host that has more than its share of the active requests is passed over, and the
//! same hash always tries the other hosts in the same order.

use std::collections::HashMap;

use super::Share;
use crate::upstream::balance::mersenne_twister::MersenneTwister;

/// The hosts of a table with their weights.
#[derive(Debug)]
pub(in crate::upstream::balance) struct BoundedLoad {
    factor: u32,
    /// Each host's index in the host set, and its weight; 1.0 in total.
    hosts: Box<[(usize, f64)]>,
    weights: HashMap<usize, f64>,
}

impl BoundedLoad {
    pub(super) fn new(factor: u32, shares: &[Share<'_>]) -> Self {
        let hosts: Box<[_]> = shares.iter().map(|share| (share.index, share.weight)).collect();
        Self { factor, weights: hosts.iter().copied().collect(), hosts }
    }

    /// The host for a request whose hash belongs to `host`: that one, unless it has too many requests. If all
    /// have, the one that exceeds its share the least. `active` counts the requests of a host, `all_active`
    /// those of the cluster.
    pub(in crate::upstream::balance) fn settle(
        &self,
        host: usize,
        hash: u64,
        all_active: u64,
        active: impl Fn(usize) -> u64,
    ) -> usize {
        let load = |host: usize, weight: f64| {
            let slots = (all_active + 1) * u64::from(self.factor);
            let slots = (slots.div_ceil(100) as f64 * weight).ceil().max(1.0);
            active(host) as f64 / slots
        };
        let mut least = (host, load(host, self.weights.get(&host).copied().unwrap_or(1.0)));
        if least.1 <= 1.0 {
            return host;
        }
        for other in shuffled(&self.hosts, hash).filter(|(other, _)| *other != host) {
            let loaded = load(other.0, other.1);
            if loaded <= 1.0 {
                return other.0;
            }
            if loaded < least.1 {
                least = (other.0, loaded);
            }
        }
        least.0
    }
}

/// The hosts in an order that the seed determines, as Envoy shuffles them.
fn shuffled(hosts: &[(usize, f64)], seed: u64) -> impl Iterator<Item = (usize, f64)> {
    #[expect(clippy::cast_possible_truncation, reason = "the generator takes 32 bits, as in Envoy")]
    let mut random = MersenneTwister::new(seed as u32);
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    (0..hosts.len()).filter_map(move |place| {
        let left = u32::try_from(hosts.len() - place).unwrap_or(u32::MAX);
        let chosen = place + uniform(&mut random, left) as usize;
        order.swap(place, chosen);
        hosts.get(*order.get(place)?).copied()
    })
}

/// A number below `end`, which is at least 1; each with the same probability.
fn uniform(random: &mut MersenneTwister, end: u32) -> u32 {
    let step = ((u64::from(u32::MAX) + 1) / u64::from(end)).max(1);
    loop {
        let number = u64::from(random.next()) / step;
        if let Some(number) = u32::try_from(number).ok().filter(|number| *number < end) {
            return number;
        }
    }
}
