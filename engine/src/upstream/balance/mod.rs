//! Load balancing: picks the host for each request. There is one [`Balancer`] per cluster and shard.
//!
//! First it picks one of the set's [`Candidates`](crate::upstream::host_set::Candidates) by their load, then
//! one of their groups by weight, then the policy picks one of the hosts. Shards are independent: each starts
//! at a random host, so that they do not all start with the first one.
//!
//! Health is not considered here: the candidates were determined when the host set was created.
//!
//! Invariant: there is one selection for each `Candidates` of the current host set.

pub(super) mod compile;
mod context;
mod edf;
mod least_request;
mod mersenne_twister;
mod random;
mod round_robin;
mod slow_start;
pub mod table;

use std::sync::Arc;

use fastrand::Rng;

use crate::shard::clock::Millis;
use crate::stats::{ClusterStats, Scope};
use crate::upstream::host::Host;
use crate::upstream::host_set::loads::{Availability, Target};
use crate::upstream::host_set::zones::Way;
use crate::upstream::host_set::{Candidates, Found, HostSet};

pub use context::LbContext;
use edf::Edf;
pub use least_request::{LeastRequest, SelectionMethod};
pub use slow_start::SlowStart;

/// How a host is picked: `lb_policy` or `load_balancing_policy`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LbPolicy {
    /// One after the other; by weight if the weights differ.
    RoundRobin(Option<SlowStart>),
    /// The host with the fewest active requests.
    LeastRequest(LeastRequest),
    /// A random host.
    Random,
    /// `RING_HASH` and `MAGLEV`: the host of the request's hash, in the table of the host set.
    ConsistentHashing,
}

/// Picks hosts for one cluster on one shard.
#[derive(Debug)]
pub struct Balancer {
    policy: LbPolicy,
    random: Rng,
    hosts: Arc<HostSet>,
    /// By division of the host set.
    selections: Vec<Vec<Selection>>,
    /// The stats of the cluster.
    stats: Arc<Scope<ClusterStats>>,
    shard: usize,
}

/// The state for one `Candidates`.
#[derive(Debug)]
struct Selection {
    /// Whose turn it is.
    turns: Turns,
    /// One per group.
    schedules: Vec<Schedule>,
}

/// Which group gets the next request.
#[derive(Debug)]
enum Turns {
    /// There is only one.
    One,
    /// One after the other, by their weights.
    ByWeight(Edf),
    /// As the zones say.
    ByZone,
}

/// The state of a policy for one group.
#[derive(Debug)]
enum Schedule {
    RoundRobin(round_robin::Schedule),
    LeastRequest(least_request::Schedule),
    Random,
    Table,
}

impl Balancer {
    /// A balancer without hosts; the seed determines where it starts.
    pub fn new(policy: LbPolicy, stats: Arc<Scope<ClusterStats>>, shard: usize, seed: u64) -> Self {
        let (random, hosts) = (Rng::with_seed(seed), Arc::default());
        Self { policy, random, hosts, selections: Vec::new(), stats, shard }
    }

    /// Switches to a new host set.
    pub fn update(&mut self, hosts: Arc<HostSet>, now: Millis) {
        let Self { policy, random, selections, .. } = self;
        let mut selection = |it: &Candidates| Selection::new(*policy, &hosts, it, now, random);
        let divisions = hosts.divisions().iter();
        *selections =
            divisions.map(|it| it.candidates.iter().map(&mut selection).collect()).collect();
        self.hosts = hosts;
    }

    /// The current host set.
    pub const fn hosts(&self) -> &Arc<HostSet> {
        &self.hosts
    }

    /// What the priorities can carry that a request may go to.
    pub fn levels(&self, request: &LbContext<'_>) -> &[Availability] {
        let division = match self.hosts.division(request.subset) {
            Found::Subset(division) | Found::Fallback(Some(division)) => division,
            Found::Fallback(None) | Found::Nothing => return &[],
        };
        self.hosts.divisions().get(division).map_or(&[], |it| &it.levels)
    }

    /// The host for the next request, as its index in the host set; none: no healthy upstream.
    #[inline(always)]
    pub fn pick(&mut self, request: &LbContext<'_>, now: Millis) -> Option<usize> {
        if self.hosts.has_subsets() {
            return self.pick_from_subset(request, now);
        }
        self.pick_from(0, request, now)
    }

    /// The same, among the hosts of a division.
    #[inline(always)]
    fn pick_from(
        &mut self,
        division: usize,
        request: &LbContext<'_>,
        now: Millis,
    ) -> Option<usize> {
        if self.policy == LbPolicy::ConsistentHashing {
            return self.pick_from_table(request, division);
        }
        let all = &self.hosts.divisions().get(division)?.candidates;
        let at = match (request.target, all.as_slice()) {
            (None, [first, ..]) if first.load == 100 => 0,
            (None, candidates) => by_load(candidates, self.random.u32(0..100))?,
            (Some(target), candidates) => by_target(candidates, target, self.random.u32(0..100))?,
        };
        let candidates = all.get(at)?;
        if candidates.in_panic {
            self.stats.shard(self.shard).lb_healthy_panic.inc();
        }
        let selection = self.selections.get_mut(division)?.get_mut(at)?;
        let group = match &mut selection.turns {
            Turns::One => 0,
            Turns::ByWeight(turns) => {
                turns.pick(|at| candidates.groups.get(at).map_or(1.0, |it| it.weight))?
            }
            Turns::ByZone => zone(candidates, &mut self.random, self.stats.shard(self.shard))?,
        };
        let hosts =
            Hosts { set: self.hosts.hosts(), indexes: &candidates.groups.get(group)?.hosts };
        let chosen = match selection.schedules.get_mut(group)? {
            Schedule::RoundRobin(schedule) => schedule.pick(hosts, now),
            Schedule::LeastRequest(schedule) => schedule.pick(hosts, now, &mut self.random),
            Schedule::Random => random::pick(hosts, &mut self.random),
            Schedule::Table => None,
        };
        hosts.indexes.get(chosen?).copied()
    }

    /// The same, in the subset of the request, or in what it falls back to.
    #[inline(never)]
    fn pick_from_subset(&mut self, request: &LbContext<'_>, now: Millis) -> Option<usize> {
        let fallback = match self.hosts.division(request.subset) {
            Found::Subset(division) => {
                self.stats.shard(self.shard).lb_subsets_selected.inc();
                return self.pick_from(division, request, now);
            }
            Found::Fallback(fallback) => fallback,
            Found::Nothing => return None,
        };
        if let Some(host) = fallback.and_then(|it| self.pick_from(it, request, now)) {
            self.stats.shard(self.shard).lb_subsets_fallback.inc();
            return Some(host);
        }
        if !self.hosts.panic_mode_any() {
            return None;
        }
        let host = self.pick_from(0, request, now)?;
        self.stats.shard(self.shard).lb_subsets_fallback_panic.inc();
        Some(host)
    }

    //= envoy: arch_overview/upstream/load_balancing/load_balancers, ring hash
    // A request without a hash goes to a random host. The hash also selects the priority.
    #[inline(never)]
    fn pick_from_table(&mut self, request: &LbContext<'_>, division: usize) -> Option<usize> {
        let hash = request.hash.unwrap_or_else(|| self.random.u64(..));
        let candidates = &self.hosts.divisions().get(division)?.candidates;
        let percentage = (hash % 100) as u32;
        let at = match request.target {
            None => by_load(candidates, percentage)?,
            Some(target) => by_target(candidates, target, percentage)?,
        };
        let candidates = candidates.get(at)?;
        if candidates.in_panic {
            self.stats.shard(self.shard).lb_healthy_panic.inc();
        }
        let table = candidates.table.as_ref()?;
        let chosen = table.host(hash, request.attempt)?;
        let Some(bound) = &table.bounded_load else { return Some(chosen) };
        let all_active = self.stats.gauge(|stats| &stats.upstream_rq_active);
        let hosts = self.hosts.hosts();
        let active = |index: usize| hosts.get(index).map_or(0, |host| host.active_requests());
        Some(bound.settle(chosen, hash, all_active, active))
    }
}

impl Selection {
    fn new(
        policy: LbPolicy,
        set: &HostSet,
        candidates: &Candidates,
        now: Millis,
        random: &mut Rng,
    ) -> Self {
        let groups = &candidates.groups;
        let weights = groups.iter().map(|group| group.weight);
        let turns = match groups.len() {
            _ if candidates.zones.is_some() => Turns::ByZone,
            0 | 1 => Turns::One,
            _ => Turns::ByWeight(Edf::new(weights, random)),
        };
        let schedule = |indexes| {
            let hosts = Hosts { set: set.hosts(), indexes };
            match policy {
                LbPolicy::RoundRobin(slow_start) => {
                    Schedule::RoundRobin(round_robin::Schedule::new(slow_start, hosts, now, random))
                }
                LbPolicy::LeastRequest(policy) => {
                    Schedule::LeastRequest(least_request::Schedule::new(policy, hosts, now, random))
                }
                LbPolicy::Random => Schedule::Random,
                LbPolicy::ConsistentHashing => Schedule::Table,
            }
        };
        Self { turns, schedules: groups.iter().map(|group| &*group.hosts).map(schedule).collect() }
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

/// Which of the candidates gets a request that says which priority it goes to; `percentage` is a random number
/// (0 to 99).
#[cold]
fn by_target(candidates: &[Candidates], target: Target<'_>, percentage: u32) -> Option<usize> {
    let (priority, degraded) = target.choose(percentage)?;
    candidates
        .iter()
        .position(|it| it.priority == priority && (it.in_panic || it.degraded == degraded))
}

/// The group of the zone that a request goes to.
#[cold]
fn zone(candidates: &Candidates, random: &mut Rng, stats: &ClusterStats) -> Option<usize> {
    let zones = candidates.zones.as_ref()?;
    let all = candidates.groups.len().checked_sub(1)?;
    if random.u32(0..100) >= zones.routing_enabled {
        return Some(all);
    }
    if zones.is_local_cluster_ill {
        stats.lb_local_cluster_not_ok.inc();
        return (!zones.fails_in_panic).then_some(all);
    }
    Some(match zones.routing.way(|below| random.u64(0..below)) {
        Way::Direct => {
            stats.lb_zone_routing_all_directly.inc();
            0
        }
        Way::Sampled => {
            stats.lb_zone_routing_sampled.inc();
            0
        }
        Way::Cross(zone) => {
            stats.lb_zone_routing_cross_zone.inc();
            zone
        }
        Way::NoCapacity(zone) => {
            stats.lb_zone_routing_cross_zone.inc();
            stats.lb_zone_no_capacity_left.inc();
            zone
        }
    })
}

/// The hosts of one group, by position.
#[derive(Clone, Copy)]
struct Hosts<'a> {
    set: &'a [Arc<Host>],
    indexes: &'a [usize],
}

impl<'a> Hosts<'a> {
    const fn len(self) -> usize {
        self.indexes.len()
    }

    fn at(&self, position: usize) -> Option<&'a Host> {
        self.set.get(*self.indexes.get(position)?).map(AsRef::as_ref)
    }

    fn all(self) -> impl Iterator<Item = &'a Host> {
        (0..self.len()).filter_map(move |position| self.at(position))
    }

    fn weight(self, position: usize) -> f64 {
        self.at(position).map_or(1.0, |host| f64::from(host.endpoint.weight))
    }

    /// Whether not all weights are equal.
    fn weights_differ(self) -> bool {
        let mut weights = self.all().map(|host| host.endpoint.weight);
        let first = weights.next();
        weights.any(|weight| Some(weight) != first)
    }
}

#[cfg(test)]
mod tests;
