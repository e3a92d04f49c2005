//! Zone-aware routing: as much traffic as possible stays in the zone of the proxy.
//!
//! Pure: from the hosts of the cluster that the proxies are in, and those of the cluster that they send to, to the
//! shares of the zones. Only the first priority is divided so.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::levels::Level;
use super::{DistributionRules, HostSet, Member};
use crate::upstream::host::{Health, Host, Locality};

/// `zone_aware_lb_config`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ZoneRules {
    /// The percentage of requests that are routed by zone. Default 100.
    pub routing_enabled: u32,
    /// With fewer healthy hosts, zones do not matter. Default 6.
    pub min_cluster_size: usize,
    /// Everything stays in the zone of the proxy if it has so many healthy hosts; none: only as much as its share.
    pub force_local_zone: Option<usize>,
    /// Whether zones count by the weights of their hosts instead of their number.
    pub by_weight: bool,
}

/// Envoy's defaults.
impl Default for ZoneRules {
    fn default() -> Self {
        Self { routing_enabled: 100, min_cluster_size: 6, force_local_zone: None, by_weight: false }
    }
}

/// The zones of the cluster that the proxies are in: `local_cluster_name`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalZones {
    /// The healthy hosts by locality: their number, and the sum of their weights.
    healthy: BTreeMap<Locality, [u64; 2]>,
    /// The percentage of its hosts that are healthy.
    available: f64,
}

/// How requests are divided between zones: the groups of the candidates are the zones, that of the proxy first, and
/// behind them all hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Zones {
    /// The percentage of requests that are routed by zone.
    pub routing_enabled: u32,
    /// Whether too few hosts of the local cluster are healthy.
    pub is_local_cluster_ill: bool,
    /// Whether requests fail then.
    pub fails_in_panic: bool,
    /// The share of the zones.
    pub routing: Routing,
}

/// The share of the zones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Routing {
    /// Everything stays in the zone of the proxy.
    Direct,
    /// A part goes to other zones.
    Residual {
        /// Of 10,000 requests so many stay.
        stay: u64,
        /// By zone: what it and those before it can take of the rest.
        capacity: Vec<u64>,
    },
}

/// Where one request goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// To the zone of the proxy, as all do.
    Direct,
    /// To the zone of the proxy, as its share allows.
    Sampled,
    /// To this zone.
    Cross(usize),
    /// To this zone, though none has any capacity left.
    NoCapacity(usize),
}

impl LocalZones {
    /// Those of the first priority of these hosts.
    pub fn of(hosts: &HostSet) -> Self {
        let first = hosts.hosts().iter().filter(|host| host.endpoint.priority == 0);
        let (mut healthy, mut all, mut well) = (BTreeMap::<_, [u64; 2]>::new(), 0_u32, 0_u32);
        for host in first {
            let counts = healthy.entry(host.endpoint.locality.clone()).or_default();
            all += 1;
            if host.health_flags().health() == Health::Healthy {
                well += 1;
                add(counts, host);
            }
        }
        let available = if all == 0 { 0.0 } else { 100.0 * f64::from(well) / f64::from(all) };
        Self { healthy, available }
    }
}

/// Whether these are too few hosts to be divided by zones.
pub fn are_too_few(hosts: &[Arc<Host>], rules: &DistributionRules) -> bool {
    let first = hosts.iter().filter(|host| host.endpoint.priority == 0);
    let healthy = first.filter(|host| host.health_flags().health() == Health::Healthy);
    rules.zones.is_some_and(|zones| healthy.count() < zones.min_cluster_size)
}

fn add(counts: &mut [u64; 2], host: &Host) {
    let [number, weight] = counts;
    *number += 1;
    *weight += u64::from(host.endpoint.weight);
}

impl Routing {
    /// The zone of one request; `random` gives a number below its argument, which is not 0.
    pub fn way(&self, mut random: impl FnMut(u64) -> u64) -> Way {
        let Self::Residual { stay, capacity } = self else { return Way::Direct };
        if random(10_000) < *stay {
            return Way::Sampled;
        }
        let zones = capacity.len() as u64;
        match capacity.last() {
            Some(&total) if total > 0 => {
                let threshold = random(total);
                Way::Cross(capacity.partition_point(|end| *end <= threshold))
            }
            _ => Way::NoCapacity(usize::try_from(random(zones.max(1))).unwrap_or(0)),
        }
    }
}

/// The zones of a level, that of the proxy first if it has any host there, each with its healthy hosts.
pub(super) struct LevelZones<'a> {
    pub(super) hosts: Vec<(&'a Locality, Vec<Member<'a>>)>,
    has_own: bool,
}

impl<'a> LevelZones<'a> {
    pub(super) fn of(level: &Level<'a>, own: &Locality) -> Self {
        let mut zones = BTreeMap::<&Locality, Vec<Member<'_>>>::new();
        for member in level.members {
            let hosts = zones.entry(&member.host.endpoint.locality).or_default();
            if member.flags.health() == Health::Healthy {
                hosts.push(*member);
            }
        }
        let mut hosts: Vec<_> = zones.into_iter().collect();
        let is_own = |locality: &Locality| locality == own && !own.is_empty();
        hosts.sort_by_key(|(locality, _)| !is_own(locality));
        let has_own = hosts.first().is_some_and(|(locality, _)| is_own(locality));
        Self { hosts, has_own }
    }

    /// How requests are divided between them; none: zones do not matter.
    //= envoy: arch_overview/upstream/load_balancing/zone_aware
    pub(super) fn routing(&self, rules: &DistributionRules) -> Option<Zones> {
        let (zone_rules, local) = (rules.zones?, rules.local_zones.as_ref()?);
        if self.hosts.len() < 2 || local.healthy.len() < 2 || self.is_too_small(zone_rules) {
            return None;
        }
        Some(Zones {
            routing_enabled: zone_rules.routing_enabled,
            is_local_cluster_ill: local.available < rules.healthy_panic_threshold,
            fails_in_panic: rules.fails_in_panic,
            routing: self.shares(zone_rules, local),
        })
    }

    fn is_too_small(&self, rules: ZoneRules) -> bool {
        self.hosts.iter().map(|(_, hosts)| hosts.len()).sum::<usize>() < rules.min_cluster_size
    }

    fn shares(&self, rules: ZoneRules, local: &LocalZones) -> Routing {
        let of = |[number, weight]: [u64; 2]| if rules.by_weight { weight } else { number };
        let size = |hosts: &[Member<'_>]| {
            let mut counts = [0; 2];
            hosts.iter().for_each(|it| add(&mut counts, it.host));
            of(counts)
        };
        let all: u64 = self.hosts.iter().map(|(_, hosts)| size(hosts)).sum();
        let all_local: u64 = local.healthy.values().map(|counts| of(*counts)).sum();
        let share = |part: u64, all: u64| (10_000 * part).checked_div(all).unwrap_or(0);
        let shares: Vec<(u64, u64)> = self
            .hosts
            .iter()
            .map(|(locality, hosts)| {
                let local = local.healthy.get(*locality).map_or(0, |counts| of(*counts));
                (share(local, all_local), share(size(hosts), all))
            })
            .collect();
        let mut stay = 0;
        if let Some((ours, theirs)) = shares.first().copied().filter(|_| self.has_own) {
            let own_hosts = self.hosts.first().map_or(0, |(_, hosts)| hosts.len());
            let is_forced = rules.force_local_zone.is_some_and(|minimum| own_hosts >= minimum);
            if (theirs > 0 && theirs >= ours) || is_forced {
                return Routing::Direct;
            }
            stay = (10_000 * theirs).checked_div(ours).unwrap_or(0);
        }
        let mut total = 0;
        let capacity = shares.iter().enumerate().map(|(zone, (ours, theirs))| {
            // The zone of the proxy gets what it can already.
            if zone > 0 || !self.has_own {
                total += theirs.saturating_sub(*ours);
            }
            total
        });
        Routing::Residual { stay, capacity: capacity.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::host;
    use super::*;
    use crate::upstream::host::{Endpoint, HealthFlags};

    fn in_zone(number: u8, zone: &str) -> Arc<Host> {
        let plain = host(number, 0, 1, HealthFlags::EMPTY);
        let locality = Locality { zone: zone.to_owned(), ..Locality::default() };
        let endpoint = Endpoint { locality, ..Endpoint::clone(&plain.endpoint) };
        Host::new(plain.address, Arc::new(endpoint), 1)
    }

    fn hosts(zones: &[&str]) -> Vec<Arc<Host>> {
        (1..).zip(zones).map(|(number, zone)| in_zone(number, zone)).collect()
    }

    /// How the traffic of a proxy in zone `a` is divided.
    fn zones(local: &[&str], upstream: &[&str], zones: ZoneRules) -> Option<Zones> {
        let local = HostSet::new(hosts(local), &DistributionRules::default());
        let rules = DistributionRules {
            zones: Some(zones),
            local_zones: Some(Arc::new(LocalZones::of(&local))),
            own_locality: Locality { zone: "a".to_owned(), ..Locality::default() },
            ..DistributionRules::default()
        };
        let set = HostSet::new(hosts(upstream), &rules);
        set.divisions()[0].candidates[0].zones.clone()
    }

    fn routing(local: &[&str], upstream: &[&str]) -> Option<Routing> {
        let rules = ZoneRules { min_cluster_size: 1, ..ZoneRules::default() };
        zones(local, upstream, rules).map(|zones| zones.routing)
    }

    #[test]
    fn everything_stays_where_the_share_of_the_hosts_is_large_enough() {
        assert_eq!(routing(&["a", "b"], &["a", "b"]), Some(Routing::Direct));
        assert_eq!(routing(&["a", "b"], &["a", "a", "b"]), Some(Routing::Direct));
    }

    #[test]
    fn what_a_zone_cannot_take_goes_to_those_that_can() {
        let residual =
            |stay, capacity: &[u64]| Some(Routing::Residual { stay, capacity: capacity.to_vec() });
        // Half of the proxies and a quarter of the hosts are in zone a.
        let upstream = ["a", "b", "b", "b"];
        assert_eq!(routing(&["a", "b"], &upstream), residual(5000, &[0, 2500]));
        let upstream = ["a", "b", "c", "c"];
        assert_eq!(routing(&["a", "a", "b", "c"], &upstream), residual(5000, &[0, 0, 2500]));
        // The proxy's own zone has no host.
        assert_eq!(routing(&["a", "b"], &["b", "c"]), residual(0, &[0, 5000]));
    }

    #[test]
    fn one_zone_and_few_hosts_are_not_divided() {
        assert_eq!(routing(&["a", "b"], &["a", "a"]), None);
        assert_eq!(routing(&["a", "a"], &["a", "b"]), None);
        assert_eq!(zones(&["a", "b"], &["a", "b"], ZoneRules::default()), None);
    }

    #[test]
    fn the_zone_of_the_proxy_may_be_forced() {
        let rules =
            ZoneRules { min_cluster_size: 1, force_local_zone: Some(1), ..ZoneRules::default() };
        let zones = zones(&["a", "b"], &["a", "b", "b", "b"], rules);
        assert_eq!(zones.map(|it| it.routing), Some(Routing::Direct));
    }

    #[test]
    fn requests_find_their_zone() {
        let routing = Routing::Residual { stay: 5000, capacity: vec![0, 1000, 1000, 2500] };
        let way = |numbers: [u64; 2]| {
            let mut numbers = numbers.into_iter();
            routing.way(|_| numbers.next().unwrap())
        };
        assert_eq!(way([4999, 0]), Way::Sampled);
        assert_eq!(way([5000, 0]), Way::Cross(1));
        assert_eq!(way([5000, 999]), Way::Cross(1));
        assert_eq!(way([5000, 1000]), Way::Cross(3));
        let full = Routing::Residual { stay: 0, capacity: vec![0, 0] };
        assert_eq!(full.way(|_| 1), Way::NoCapacity(1));
        assert_eq!(Routing::Direct.way(|_| 0), Way::Direct);
    }
}
