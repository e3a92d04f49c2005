//! Load balancing: picks the host for each request. There is one [`Balancer`] per cluster and shard.
//!
//! First it picks one of the set's [`Candidates`](crate::upstream::host_set::Candidates) by their load,
//! then the policy picks one of their hosts. Shards are independent: each starts at a random host, so
//! that they do not all start with the first one.
//!
//! Health is not considered here: the candidates were determined when the host set was created.
//!
//! Invariant: there is one schedule for each `Candidates` of the current host set.

mod edf;
mod least_request;
mod random;
mod round_robin;

use std::sync::Arc;

use fastrand::Rng;

use crate::stats::ClusterStats;
use crate::upstream::host::Host;
use crate::upstream::host_set::{Candidates, HostSet};

pub use least_request::LeastRequest;

/// `lb_policy`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LbPolicy {
    /// One after the other; by weight if the weights differ.
    RoundRobin,
    /// The host with the fewest active requests of a few random ones.
    LeastRequest(LeastRequest),
    /// A random host.
    Random,
}

/// Picks hosts for one cluster on one shard.
#[derive(Debug)]
pub struct Balancer {
    policy: LbPolicy,
    shard: usize,
    random: Rng,
    hosts: Arc<HostSet>,
    schedules: Vec<Schedule>,
}

/// The state of a policy for one `Candidates`.
#[derive(Debug)]
enum Schedule {
    RoundRobin(round_robin::Schedule),
    LeastRequest(least_request::Schedule),
    Random,
}

impl Balancer {
    /// A balancer; the seed determines where it starts.
    pub fn new(policy: LbPolicy, hosts: Arc<HostSet>, shard: usize, seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        let mut balancer = Self { policy, shard, random, hosts, schedules: Vec::new() };
        balancer.schedule();
        balancer
    }

    /// Switches to a new host set.
    pub fn update(&mut self, hosts: Arc<HostSet>) {
        self.hosts = hosts;
        self.schedule();
    }

    /// The current host set.
    pub fn hosts(&self) -> &Arc<HostSet> {
        &self.hosts
    }

    /// The host for the next request, as its index in the host set; none: no healthy upstream.
    /// `stats` is the shard's own block.
    #[inline(always)]
    pub fn pick(&mut self, stats: &ClusterStats) -> Option<usize> {
        let at = match self.hosts.candidates() {
            [_] => 0,
            candidates => by_load(candidates, self.random.u32(0..100))?,
        };
        let candidates = self.hosts.candidates().get(at)?;
        if candidates.in_panic {
            stats.lb_healthy_panic.inc();
        }
        let hosts = Hosts { set: self.hosts.hosts(), indexes: &candidates.hosts };
        let chosen = match self.schedules.get_mut(at)? {
            Schedule::RoundRobin(schedule) => schedule.pick(hosts),
            Schedule::LeastRequest(schedule) => schedule.pick(hosts, self.shard, &mut self.random),
            Schedule::Random => random::pick(hosts, &mut self.random),
        };
        candidates.hosts.get(chosen?).copied()
    }

    fn schedule(&mut self) {
        let Self { policy, random, hosts: set, schedules, .. } = self;
        let schedule = |candidates: &Candidates| {
            let hosts = Hosts { set: set.hosts(), indexes: &candidates.hosts };
            match policy {
                LbPolicy::RoundRobin => {
                    Schedule::RoundRobin(round_robin::Schedule::new(hosts, random))
                }
                LbPolicy::LeastRequest(policy) => {
                    Schedule::LeastRequest(least_request::Schedule::new(*policy, hosts, random))
                }
                LbPolicy::Random => Schedule::Random,
            }
        };
        *schedules = set.candidates().iter().map(schedule).collect();
    }
}

/// Which of the candidates gets the request with this random number (0 to 99).
fn by_load(candidates: &[Candidates], percentage: u32) -> Option<usize> {
    let mut end = 0;
    candidates.iter().position(|candidates| {
        end += candidates.load;
        percentage < end
    })
}

/// The hosts of one `Candidates`, by position.
#[derive(Clone, Copy)]
struct Hosts<'a> {
    set: &'a [Arc<Host>],
    indexes: &'a [usize],
}

impl Hosts<'_> {
    fn len(self) -> usize {
        self.indexes.len()
    }

    fn at(&self, position: usize) -> Option<&Host> {
        self.set.get(*self.indexes.get(position)?).map(AsRef::as_ref)
    }

    fn weight(self, position: usize) -> f64 {
        self.at(position).map_or(1.0, |host| f64::from(host.endpoint.weight))
    }

    fn weights(self) -> impl Iterator<Item = f64> {
        (0..self.len()).map(move |position| self.weight(position))
    }

    /// Whether not all weights are equal.
    fn weights_differ(self) -> bool {
        let mut weights = self.indexes.iter().filter_map(|&index| self.set.get(index));
        let first = weights.next().map(|host| host.endpoint.weight);
        weights.any(|host| Some(host.endpoint.weight) != first)
    }
}

#[cfg(test)]
mod tests;
