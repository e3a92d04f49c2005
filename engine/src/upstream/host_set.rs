//! The hosts of a cluster at one moment, and how traffic is distributed over their priorities.
//!
//! Everything about priorities, degraded hosts and panic mode is computed here, once, when the control
//! plane creates the set. The shards get a short list of [`Candidates`]: hosts to pick from, and the
//! percentage of requests that they get.

use std::sync::Arc;

use crate::stats::ClusterStats;
use crate::upstream::host::{Health, Host};

/// The hosts of a cluster. Immutable; a change creates a new set, in which hosts that stay keep their
/// `Arc`.
#[derive(Debug, Default)]
pub struct HostSet {
    hosts: Vec<Arc<Host>>,
    candidates: Vec<Candidates>,
    healthy: usize,
    degraded: usize,
    excluded: usize,
}

/// Hosts that a policy picks from.
#[derive(Debug)]
pub struct Candidates {
    /// Indexes of the hosts in the set. If it is empty, these requests have no healthy upstream.
    pub hosts: Vec<usize>,
    /// Percentage of the requests; at least 1, and 100 in total over all candidates of a set.
    pub load: u32,
    /// Too few hosts of this priority are healthy, so `hosts` contains all of them.
    pub in_panic: bool,
}

/// The cluster's settings for health and priorities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthRules {
    /// How much of its share of the traffic a host can carry, in percent.
    /// `policy.overprovisioning_factor`, default 140.
    pub overprovisioning_factor: u32,
    /// Below this percentage of healthy and degraded hosts a priority uses all its hosts; 0: never.
    /// `common_lb_config.healthy_panic_threshold`, default 50.
    pub healthy_panic_threshold: f64,
    /// Whether health is computed by weight instead of the number of hosts.
    /// `policy.weighted_priority_health`.
    pub weighted_priority_health: bool,
}

impl HostSet {
    /// A set of these hosts, which keep their order within a priority.
    pub fn new(mut hosts: Vec<Arc<Host>>, rules: &HealthRules) -> Self {
        hosts.sort_by_key(|host| host.endpoint.priority);
        let levels: Vec<Level<'_>> =
            levels(&hosts).map(|(start, hosts)| Level::new(start, hosts, rules)).collect();
        let count =
            |health| hosts.iter().filter(|host| host.health_flags().health() == health).count();
        let candidates = candidates(&levels, rules);
        Self {
            healthy: count(Health::Healthy),
            degraded: count(Health::Degraded),
            excluded: levels.iter().map(|level| level.excluded).sum(),
            candidates,
            hosts,
        }
    }

    /// All hosts, by priority.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Which hosts requests go to. Empty in the default set; a set without hosts has candidates without
    /// hosts.
    pub fn candidates(&self) -> &[Candidates] {
        &self.candidates
    }

    /// The number of priorities that have hosts.
    pub fn priorities_in_use(&self) -> u64 {
        levels(&self.hosts).filter(|(_, level)| !level.is_empty()).count() as u64
    }

    /// Updates the `membership_*` gauges of the control plane's block.
    pub fn update_gauges(&self, stats: &ClusterStats) {
        stats.membership_total.set(self.hosts.len() as u64);
        stats.membership_healthy.set(self.healthy as u64);
        stats.membership_degraded.set(self.degraded as u64);
        stats.membership_excluded.set(self.excluded as u64);
    }
}

/// Envoy's defaults.
impl Default for HealthRules {
    fn default() -> Self {
        Self {
            overprovisioning_factor: 140,
            healthy_panic_threshold: 50.0,
            weighted_priority_health: false,
        }
    }
}

/// One priority, while the loads are computed.
struct Level<'a> {
    /// Index of its first host in the set.
    start: usize,
    hosts: &'a [Arc<Host>],
    /// Indexes in the set.
    healthy: Vec<usize>,
    /// Indexes in the set.
    degraded: Vec<usize>,
    excluded: usize,
    /// What the healthy hosts can carry, in percent of all traffic; at most 100.
    healthy_availability: u32,
    /// The same for the degraded hosts.
    degraded_availability: u32,
}

impl<'a> Level<'a> {
    fn new(start: usize, hosts: &'a [Arc<Host>], rules: &HealthRules) -> Self {
        let of_health = |health| {
            let indexed = (start..).zip(hosts);
            let selected = indexed.filter(move |(_, host)| host.health_flags().health() == health);
            selected.map(|(index, _)| index).collect::<Vec<usize>>()
        };
        let size = |includes: &dyn Fn(&Host) -> bool| -> u64 {
            let selected = hosts.iter().filter(|host| includes(host));
            if rules.weighted_priority_health {
                selected.map(|host| u64::from(host.endpoint.weight)).sum()
            } else {
                selected.count() as u64
            }
        };
        let all = size(&|host| !host.health_flags().is_excluded());
        let availability = |health| -> u32 {
            let size = size(&|host| host.health_flags().health() == health);
            let factor = u128::from(rules.overprovisioning_factor);
            let percent = (factor * u128::from(size)).checked_div(all.into()).unwrap_or(0);
            u32::try_from(percent.min(100)).unwrap_or(100)
        };
        Self {
            start,
            hosts,
            healthy: of_health(Health::Healthy),
            degraded: of_health(Health::Degraded),
            excluded: hosts.iter().filter(|host| host.health_flags().is_excluded()).count(),
            healthy_availability: availability(Health::Healthy),
            degraded_availability: availability(Health::Degraded),
        }
    }

    /// Whether so few of its hosts are available that all of them are used.
    fn is_in_panic(&self, rules: &HealthRules) -> bool {
        let counted = self.hosts.len() - self.excluded;
        let available = self.healthy.len() + self.degraded.len();
        let percent = if counted == 0 { 0.0 } else { 100.0 * available as f64 / counted as f64 };
        percent < rules.healthy_panic_threshold
    }
}

/// The hosts by priority, each slice with the index of its first host; unused priorities are empty.
/// Envoy: priority 0 always exists, and is in panic if it has no hosts.
fn levels(hosts: &[Arc<Host>]) -> impl Iterator<Item = (usize, &[Arc<Host>])> {
    let last = hosts.last().map_or(1, |host| host.endpoint.priority + 1);
    let mut start = 0;
    (0..last).map(move |priority| {
        let end = hosts.partition_point(|host| host.endpoint.priority <= priority);
        let level = hosts.get(start..end).unwrap_or_default();
        (std::mem::replace(&mut start, end), level)
    })
}

//= envoy: arch_overview/upstream/load_balancing/priority
// Traffic goes to the healthy hosts of the first priority as far as they can carry it, then to
// those of the next; the remainder goes to degraded hosts in the same order; rounding errors are added
// to the first.
fn candidates(levels: &[Level<'_>], rules: &HealthRules) -> Vec<Candidates> {
    let available: u32 =
        levels.iter().map(|level| level.healthy_availability + level.degraded_availability).sum();
    let available = available.min(100);

    // Panic applies per priority, and only while all priorities together cannot carry the traffic.
    let panic: Vec<bool> =
        levels.iter().map(|level| available < 100 && level.is_in_panic(rules)).collect();
    let loads = if panic.iter().all(|&it| it) {
        loads_by_size(levels)
    } else if available == 0 {
        // No host is available and panic is disabled: all requests fail with no healthy upstream.
        let mut loads = vec![(0, 0); levels.len()];
        if let Some(first) = loads.first_mut() {
            first.0 = 100;
        }
        loads
    } else {
        loads_by_availability(levels, available)
    };

    let mut candidates = Vec::new();
    for ((level, in_panic), (healthy_load, degraded_load)) in levels.iter().zip(panic).zip(loads) {
        if in_panic {
            let load = healthy_load + degraded_load;
            let hosts = (level.start..level.start + level.hosts.len()).collect();
            candidates.push(Candidates { hosts, load, in_panic });
        } else {
            let healthy = level.healthy.clone();
            candidates.push(Candidates { hosts: healthy, load: healthy_load, in_panic });
            let degraded = level.degraded.clone();
            candidates.push(Candidates { hosts: degraded, load: degraded_load, in_panic });
        }
    }
    candidates.retain(|candidates| candidates.load > 0);
    candidates
}

/// Percentages for the healthy and the degraded hosts of each priority. `available` is 1 to 100.
fn loads_by_availability(levels: &[Level<'_>], available: u32) -> Vec<(u32, u32)> {
    let mut remaining = 100;
    let mut share = |availability: u32| {
        let load = remaining.min(availability * 100 / available);
        remaining -= load;
        load
    };
    let healthy: Vec<u32> = levels.iter().map(|level| share(level.healthy_availability)).collect();
    let degraded: Vec<u32> =
        levels.iter().map(|level| share(level.degraded_availability)).collect();
    let mut loads: Vec<(u32, u32)> = healthy.into_iter().zip(degraded).collect();

    if let Some(first) = levels.iter().position(|level| level.healthy_availability > 0) {
        if let Some(load) = loads.get_mut(first) {
            load.0 += remaining;
        }
    } else if let Some(first) = levels.iter().position(|level| level.degraded_availability > 0)
        && let Some(load) = loads.get_mut(first)
    {
        load.1 += remaining;
    }
    loads
}

/// When every priority is in panic: percentages by the number of hosts, whatever their health.
fn loads_by_size(levels: &[Level<'_>]) -> Vec<(u32, u32)> {
    let all: usize = levels.iter().map(|level| level.hosts.len()).sum();
    let percent = |level: &Level<'_>| (100 * level.hosts.len()).checked_div(all).unwrap_or(0);
    let mut loads: Vec<(u32, u32)> =
        levels.iter().map(|level| (u32::try_from(percent(level)).unwrap_or(100), 0)).collect();
    let remaining = 100 - loads.iter().map(|load| load.0).sum::<u32>();
    let first = levels.iter().position(|level| !level.hosts.is_empty()).unwrap_or(0);
    if let Some(load) = loads.get_mut(first) {
        load.0 += remaining;
    }
    loads
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::host::{Endpoint, HealthFlags, Locality};
    use crate::upstream::transport_socket::TransportSocket;

    /// A host on 127.0.0.`number` for tests of one shard.
    pub(crate) fn host(number: u8, priority: u32, weight: u32, flags: HealthFlags) -> Arc<Host> {
        let endpoint = Endpoint {
            hostname: String::new(),
            weight,
            priority,
            locality: Locality::default(),
            health_flags: flags,
            transport_socket: TransportSocket::plain(),
            metadata: Arc::default(),
        };
        Host::new(([127, 0, 0, number], 80).into(), Arc::new(endpoint), 1)
    }

    const HEALTHY: HealthFlags = HealthFlags::EMPTY;
    const UNHEALTHY: HealthFlags = HealthFlags::FAILED_EDS_HEALTH;
    const DEGRADED: HealthFlags = HealthFlags::DEGRADED_EDS_HEALTH;

    /// The loads of hosts given as (priority, flags), as (number of hosts, load, in panic).
    fn loads(hosts: &[(u32, HealthFlags)], rules: HealthRules) -> Vec<(usize, u32, bool)> {
        let hosts = (1..).zip(hosts).map(|(n, &(priority, flags))| host(n, priority, 1, flags));
        let set = HostSet::new(hosts.collect(), &rules);
        let line = |it: &Candidates| (it.hosts.len(), it.load, it.in_panic);
        set.candidates().iter().map(line).collect()
    }

    fn never_panic() -> HealthRules {
        HealthRules { healthy_panic_threshold: 0.0, ..HealthRules::default() }
    }

    #[test]
    fn a_cluster_without_hosts_is_in_panic() {
        assert_eq!(loads(&[], HealthRules::default()), [(0, 100, true)]);
        assert_eq!(loads(&[], never_panic()), [(0, 100, false)]);
    }

    #[test]
    fn the_first_priority_gets_all_traffic_that_it_can_carry() {
        // Two of three: 140 * 2/3 = 93.
        let hosts = [(0, HEALTHY), (0, HEALTHY), (0, UNHEALTHY), (1, HEALTHY)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(2, 93, false), (1, 7, false)]);
        // Three of four carry everything.
        let hosts = [(0, HEALTHY), (0, HEALTHY), (0, HEALTHY), (0, UNHEALTHY), (1, HEALTHY)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(3, 100, false)]);
    }

    #[test]
    fn degraded_hosts_get_the_traffic_that_healthy_ones_cannot_carry() {
        let hosts = [(0, HEALTHY), (0, DEGRADED), (0, DEGRADED), (0, DEGRADED)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(1, 35, false), (3, 65, false)]);
    }

    #[test]
    fn one_healthy_host_of_three_is_panic() {
        let hosts = [(0, HEALTHY), (0, UNHEALTHY), (0, UNHEALTHY)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(3, 100, true)]);
        assert_eq!(loads(&hosts, never_panic()), [(1, 100, false)]);
    }

    #[test]
    fn an_unhealthy_cluster_without_panic_has_no_candidates() {
        assert_eq!(loads(&[(0, UNHEALTHY)], never_panic()), [(0, 100, false)]);
    }

    #[test]
    fn in_total_panic_load_follows_the_number_of_hosts() {
        let hosts = [(0, UNHEALTHY), (1, UNHEALTHY), (1, UNHEALTHY)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(1, 34, true), (2, 66, true)]);
    }

    #[test]
    fn a_priority_without_hosts_is_skipped() {
        assert_eq!(loads(&[(3, HEALTHY)], HealthRules::default()), [(1, 100, false)]);
    }

    /// What Envoy 1.40 did with a thousand requests to clusters like these.
    #[test]
    fn traffic_is_distributed_as_by_envoy() {
        let draining = HealthFlags::EDS_STATUS_DRAINING;
        let half_healthy = [
            (0, HEALTHY),
            (0, HEALTHY),
            (0, draining),
            (0, UNHEALTHY),
            (0, DEGRADED),
            (0, UNHEALTHY),
            (1, HEALTHY),
        ];
        assert_eq!(loads(&half_healthy, HealthRules::default()), [(2, 56, false), (1, 44, false)]);
        let lower_priorities = [(0, UNHEALTHY), (2, HEALTHY), (2, UNHEALTHY), (3, DEGRADED)];
        assert_eq!(
            loads(&lower_priorities, HealthRules::default()),
            [(1, 70, false), (1, 30, false)]
        );
        let all_draining = [(0, draining), (0, draining)];
        assert_eq!(loads(&all_draining, HealthRules::default()), [(2, 100, true)]);
        let no_panic = [(0, UNHEALTHY), (0, HEALTHY), (1, UNHEALTHY)];
        assert_eq!(loads(&no_panic, never_panic()), [(1, 100, false)]);
    }

    #[test]
    fn draining_hosts_do_not_count_as_unhealthy() {
        let hosts = [(0, HEALTHY), (0, HealthFlags::EDS_STATUS_DRAINING)];
        assert_eq!(loads(&hosts, HealthRules::default()), [(1, 100, false)]);
    }

    #[test]
    fn health_is_by_weight_if_configured() {
        let hosts = vec![host(1, 0, 9, HEALTHY), host(2, 0, 1, UNHEALTHY), host(3, 1, 1, HEALTHY)];
        let by_number = HostSet::new(hosts.clone(), &HealthRules::default());
        assert_eq!(by_number.candidates()[0].load, 70);
        let rules = HealthRules { weighted_priority_health: true, ..HealthRules::default() };
        assert_eq!(HostSet::new(hosts, &rules).candidates()[0].load, 100);
    }

    proptest! {
        #[test]
        fn the_loads_add_up_to_100_percent(
            hosts in prop::collection::vec(
                (
                    0..4u32,
                    prop::sample::select(vec![
                        HEALTHY, UNHEALTHY, DEGRADED, HealthFlags::EDS_STATUS_DRAINING,
                    ]),
                ),
                1..40,
            ),
            healthy_panic_threshold in prop::sample::select(vec![0.0, 50.0, 100.0]),
        ) {
            let rules = HealthRules { healthy_panic_threshold, ..HealthRules::default() };
            let loads = loads(&hosts, rules);
            prop_assert_eq!(loads.iter().map(|load| load.1).sum::<u32>(), 100);
            let available = hosts.iter().any(|host| host.1 == HEALTHY || host.1 == DEGRADED);
            prop_assert!(!available || loads.iter().all(|load| load.0 > 0), "{:?}", loads);
        }
    }
}
