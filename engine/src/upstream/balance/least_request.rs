//! `LEAST_REQUEST`: the host with the fewest active requests, of a few random ones or of all; by weight and
//! active requests if the weights differ.
//!
//! The requests of all shards count. Each shard counts in a block of its own, so a pick reads one cache line
//! per shard of each host that is compared, and writes none.

use fastrand::Rng;

use crate::shard::clock::Millis;
use crate::upstream::balance::edf::Edf;
use crate::upstream::balance::{Hosts, SlowStart, round_robin};

/// The options of `LEAST_REQUEST`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// Which hosts are compared if all weights are equal.
    pub selection: SelectionMethod,
    /// How much active requests count if the weights differ: 1.0 fully, 0.0 not at all; not negative.
    pub active_request_bias: f64,
    /// How new hosts get their share.
    pub slow_start: Option<SlowStart>,
}

/// `selection_method`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SelectionMethod {
    /// So many random hosts, at least 2: `choice_count`. Default 2.
    Choices(u32),
    /// All hosts.
    FullScan,
}

/// Envoy's defaults.
impl Default for LeastRequest {
    fn default() -> Self {
        let selection = SelectionMethod::Choices(2);
        Self { selection, active_request_bias: 1.0, slow_start: None }
    }
}

#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal.
    Even {
        selection: SelectionMethod,
    },
    Weighted {
        edf: Edf,
        policy: LeastRequest,
    },
}

impl Schedule {
    pub(super) fn new(
        policy: LeastRequest,
        hosts: Hosts<'_>,
        now: Millis,
        random: &mut Rng,
    ) -> Self {
        let slow_start = policy.slow_start.filter(|it| now < it.ends(hosts));
        let policy = LeastRequest { slow_start, ..policy };
        if hosts.weights_differ() || slow_start.is_some() {
            let weights = (0..hosts.len()).map(|it| weight(hosts, &policy, it, now));
            Self::Weighted { edf: Edf::new(weights, random), policy }
        } else {
            Self::Even { selection: policy.selection }
        }
    }

    pub(super) fn pick(
        &mut self,
        hosts: Hosts<'_>,
        now: Millis,
        random: &mut Rng,
    ) -> Option<usize> {
        if hosts.len() == 0 {
            return None;
        }
        match self {
            Self::Even { selection: SelectionMethod::Choices(count) } => (0..*count)
                .map(|_| random.usize(0..hosts.len()))
                .min_by_key(|&position| active(hosts, position)),
            Self::Even { selection: SelectionMethod::FullScan } => scan(hosts, random),
            Self::Weighted { edf, policy } => {
                edf.pick(|position| weight(hosts, policy, position, now))
            }
        }
    }
}

/// A host with the fewest active requests of all; a random one, if there are several.
fn scan(hosts: Hosts<'_>, random: &mut Rng) -> Option<usize> {
    let start = random.usize(0..hosts.len());
    let positions = (start..hosts.len()).chain(0..start);
    positions.min_by_key(|&position| active(hosts, position))
}

fn active(hosts: Hosts<'_>, position: usize) -> u64 {
    hosts.at(position).map_or(u64::MAX, |host| host.active_requests())
}

/// The weight of a host at this time; above 0.
fn weight(hosts: Hosts<'_>, policy: &LeastRequest, position: usize, now: Millis) -> f64 {
    let active = active(hosts, position).saturating_add(1) as f64;
    let weight = round_robin::weight(hosts, policy.slow_start, position, now);
    weight / active.powf(policy.active_request_bias)
}
