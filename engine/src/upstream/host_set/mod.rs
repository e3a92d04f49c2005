//! The hosts of a cluster at one moment, and how traffic is distributed over their priorities and localities.
//!
//! Everything about priorities, localities, degraded hosts and panic mode is computed here, once, when the
//! control plane creates the set; so are the tables of consistent hashing. The shards get a short list of
//! [`Candidates`]: hosts to pick from, and the percentage of requests that they get.

mod division;
mod levels;
pub mod loads;
mod localities;
mod subsets;
pub mod zones;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::address::Address;
use crate::stats::ClusterStats;
use crate::upstream::balance::table::{Sizes, TableRule};
use crate::upstream::host::{Health, HealthFlags, Host, Locality};

pub use division::{Candidates, Division, Group};
use subsets::Subsets;
pub use subsets::{Criteria, Fallback, Found, Selector, SelectorFallback, SubsetRules};
use zones::{LocalZones, ZoneRules};

/// The hosts of a cluster. Immutable; a change creates a new set, in which hosts that stay keep their
/// `Arc`.
#[derive(Debug, Default)]
pub struct HostSet {
    hosts: Vec<Arc<Host>>,
    /// The whole set first, then its subsets.
    divisions: Vec<Division>,
    subsets: Option<Subsets>,
    priorities_in_use: u64,
    healthy: usize,
    degraded: usize,
    excluded: usize,
    table_sizes: Option<Sizes>,
    /// The hosts by their addresses, once a request has asked for one.
    by_address: OnceLock<HashMap<Address, usize>>,
    overprovisioning_factor: u32,
}

/// The cluster's settings for the distribution of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct DistributionRules {
    /// How much of its share of the traffic a host can carry, in percent.
    /// `policy.overprovisioning_factor`, default 140.
    pub overprovisioning_factor: u32,
    /// Below this percentage of healthy and degraded hosts a priority uses all its hosts; 0: never.
    /// `common_lb_config.healthy_panic_threshold`, default 50.
    pub healthy_panic_threshold: f64,
    /// Whether health is computed by weight instead of the number of hosts.
    /// `policy.weighted_priority_health`.
    pub weighted_priority_health: bool,
    /// Whether requests fail instead of going to all hosts of a priority in panic. Not with a table.
    /// `fail_traffic_on_panic`.
    pub fails_in_panic: bool,
    /// Whether localities get traffic by their weights. `locality_weighted_lb_config`.
    pub weighs_localities: bool,
    /// How much traffic stays in the zone of the proxy; none: there is no local cluster.
    pub zones: Option<ZoneRules>,
    /// The zones of the local cluster, as they are at the moment.
    pub local_zones: Option<Arc<LocalZones>>,
    /// The locality of the proxy; empty if it has none.
    pub own_locality: Locality,
    /// The table of a policy with consistent hashing; none for every other policy.
    pub table: Option<TableRule>,
    /// How it is divided into subsets; none: it is not.
    pub subsets: Option<Arc<SubsetRules>>,
}

/// A host of a set while it is created.
#[derive(Clone, Copy)]
struct Member<'a> {
    /// Its index in the set.
    index: usize,
    host: &'a Arc<Host>,
    /// Its flags when the set is created: they may change meanwhile.
    flags: HealthFlags,
}

impl HostSet {
    /// A set of these hosts, which keep their order within a priority.
    pub fn new(mut hosts: Vec<Arc<Host>>, rules: &DistributionRules) -> Self {
        hosts.sort_by_key(|host| host.endpoint.priority);
        let member = |(index, host)| Member { index, host, flags: Host::health_flags(host) };
        let members: Vec<Member<'_>> = hosts.iter().enumerate().map(member).collect();
        let levels = levels::levels(&members, rules);
        let count = |health| members.iter().filter(|it| it.flags.health() == health).count();
        let mut divisions = vec![division::division(&levels, rules)];
        let subsets = rules.subsets.as_ref();
        let subsets = subsets.map(|it| Subsets::new(&members, rules, it, &mut divisions));
        Self {
            healthy: count(Health::Healthy),
            degraded: count(Health::Degraded),
            excluded: members.iter().filter(|it| it.flags.is_excluded()).count(),
            priorities_in_use: levels.iter().filter(|level| !level.members.is_empty()).count()
                as u64,
            table_sizes: divisions
                .first()
                .and_then(|whole| division::table_sizes(&whole.candidates)),
            divisions,
            subsets,
            hosts,
            by_address: OnceLock::new(),
            overprovisioning_factor: rules.overprovisioning_factor,
        }
    }

    /// `policy.overprovisioning_factor`
    #[must_use]
    pub const fn overprovisioning_factor(&self) -> u32 {
        self.overprovisioning_factor
    }

    /// All hosts, by priority.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// The host at an address, by its index.
    pub fn at_address(&self, address: &str) -> Option<usize> {
        let Ok(address) = address.parse::<SocketAddr>() else {
            // The name of a socket; what a client names is not kept.
            let is_it = |host: &Arc<Host>| match host.address {
                Address::Pipe(_) => host.address.to_string() == address,
                Address::Ip(_) => false,
            };
            return self.hosts.iter().position(is_it);
        };
        let all = self.by_address.get_or_init(|| {
            let hosts = self.hosts.iter().enumerate();
            hosts.map(|(index, host)| (host.address, index)).collect()
        });
        all.get(&Address::from(address)).copied()
    }

    /// Which hosts requests go to: those of the whole set first, then those of each subset. Empty in the
    /// default set; a set without hosts has candidates without hosts.
    pub fn divisions(&self) -> &[Division] {
        &self.divisions
    }

    /// Which division a request with these criteria goes to.
    #[inline]
    pub fn division(&self, criteria: Option<&Criteria>) -> Found {
        self.subsets.as_ref().map_or(Found::Subset(0), |subsets| subsets.find(criteria))
    }

    /// Whether it has subsets.
    #[inline]
    pub const fn has_subsets(&self) -> bool {
        self.subsets.is_some()
    }

    /// The priority of a host, as it is in this set; none: it is not.
    pub fn priority_of(&self, host: &Host) -> Option<u32> {
        let same = self.hosts.iter().find(|it| it.id() == host.id())?;
        Some(same.endpoint.priority)
    }

    /// The number of priorities that have hosts.
    pub const fn priorities_in_use(&self) -> u64 {
        self.priorities_in_use
    }

    /// The sizes of the table of the last priority, as in Envoy; none without consistent hashing.
    pub const fn table_sizes(&self) -> Option<Sizes> {
        self.table_sizes
    }

    /// Whether a request that a fallback has no host for may go to any host.
    pub fn panic_mode_any(&self) -> bool {
        self.subsets.as_ref().is_some_and(Subsets::panic_mode_any)
    }

    /// Counts the subsets that have come and gone since `before`.
    pub fn count_subsets(&self, before: &Self, stats: &ClusterStats) {
        let count = |ours: Option<&Subsets>, others: Option<&Subsets>| {
            ours.map_or(0, |it| it.count_without(others)) as u64
        };
        let (ours, others) = (self.subsets.as_ref(), before.subsets.as_ref());
        if ours.is_some() || others.is_some() {
            stats.lb_subsets_created.add(count(ours, others));
            stats.lb_subsets_removed.add(count(others, ours));
        }
    }

    /// Updates the `membership_*` gauges of the control plane's block.
    pub fn update_gauges(&self, stats: &ClusterStats) {
        stats.membership_total.set(self.hosts.len() as u64);
        stats.membership_healthy.set(self.healthy as u64);
        stats.membership_degraded.set(self.degraded as u64);
        stats.membership_excluded.set(self.excluded as u64);
        // As in Envoy, a cluster without subsets does not use it.
        if let Some(subsets) = &self.subsets {
            stats.lb_subsets_active.set(subsets.count() as u64);
        }
    }
}

/// Envoy's defaults.
impl Default for DistributionRules {
    fn default() -> Self {
        Self {
            overprovisioning_factor: 140,
            healthy_panic_threshold: 50.0,
            weighted_priority_health: false,
            fails_in_panic: false,
            weighs_localities: false,
            zones: None,
            local_zones: None,
            own_locality: Locality::default(),
            table: None,
            subsets: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
