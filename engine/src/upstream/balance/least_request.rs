//! `LEAST_REQUEST`: the host with the fewest active requests of a few random ones; by weight and
//! active requests if the weights differ.
//!
//! Each shard counts only its own requests: the counts of the others would be a cache line shared by
//! all shards on every pick, and every shard notices a slow host by itself.

use fastrand::Rng;

use crate::upstream::balance::Hosts;
use crate::upstream::balance::edf::Edf;

/// The options of `LEAST_REQUEST`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// How many random hosts are compared if all weights are equal; at least 2.
    pub choice_count: u32,
    /// How much active requests count if the weights differ: 1.0 fully, 0.0 not at all; not negative.
    pub active_request_bias: f64,
}

#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal.
    Even {
        choice_count: u32,
    },
    Weighted {
        edf: Edf,
        bias: f64,
    },
}

impl Schedule {
    pub(super) fn new(policy: LeastRequest, hosts: Hosts<'_>, random: &mut Rng) -> Self {
        if hosts.weights_differ() {
            let edf = Edf::new(hosts.weights(), random);
            Self::Weighted { edf, bias: policy.active_request_bias }
        } else {
            Self::Even { choice_count: policy.choice_count }
        }
    }

    pub(super) fn pick(
        &mut self,
        hosts: Hosts<'_>,
        shard: usize,
        random: &mut Rng,
    ) -> Option<usize> {
        if hosts.len() == 0 {
            return None;
        }
        let active = |position: usize| {
            hosts.at(position).map_or(u64::MAX, |host| host.stats.shard(shard).rq_active.value())
        };
        match self {
            Self::Even { choice_count } => (0..*choice_count)
                .map(|_| random.usize(0..hosts.len()))
                .min_by_key(|&position| active(position)),
            Self::Weighted { edf, bias } => edf.pick(|position| {
                hosts.weight(position) / (active(position) as f64 + 1.0).powf(*bias)
            }),
        }
    }
}
