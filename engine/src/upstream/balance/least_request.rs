//! `LEAST_REQUEST`: the least busy of a few hosts drawn at random; by weight and business if the
//! weights differ.
//!
//! How busy a host is, each shard judges by its own requests: what the others have there would be a
//! cache line shared by all for every choice, and a slow host shows itself to every shard.

use fastrand::Rng;

use crate::upstream::balance::Hosts;
use crate::upstream::balance::edf::Edf;

/// How `LEAST_REQUEST` compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// How many hosts are drawn and compared when all weigh the same; at least 2.
    pub choice_count: u32,
    /// How much requests weigh against weights when those differ: 1.0 fully, 0.0 not at all; not
    /// below 0.
    pub active_request_bias: f64,
}

#[derive(Debug)]
pub(super) enum Schedule {
    /// All hosts weigh the same.
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
