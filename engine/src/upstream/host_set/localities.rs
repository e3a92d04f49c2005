//! The localities of one priority, and what weights make of them.

use std::collections::BTreeMap;

use super::division::Group;
use super::levels::Level;
use super::{DistributionRules, Member};
use crate::upstream::balance::table::Share;
use crate::upstream::host::Locality;

/// The localities of a priority: that of the proxy first, then the others in the order of their names.
pub(super) struct Localities<'a>(Vec<LocalityHosts<'a>>);

struct LocalityHosts<'a> {
    locality: &'a Locality,
    /// Of the configuration; 0: gets no traffic.
    weight: u32,
    /// Hosts that are not excluded from the share of healthy hosts.
    counted: usize,
}

impl<'a> Localities<'a> {
    pub(super) fn of(level: &Level<'a>, rules: &DistributionRules) -> Self {
        let mut localities = BTreeMap::<&Locality, LocalityHosts<'_>>::new();
        for member in level.members {
            let endpoint = &member.host.endpoint;
            let locality = &endpoint.locality;
            let hosts = LocalityHosts { locality, weight: 0, counted: 0 };
            let hosts = localities.entry(locality).or_insert(hosts);
            hosts.weight = endpoint.locality_weight;
            hosts.counted += usize::from(!member.flags.is_excluded());
        }
        let mut localities: Vec<_> = localities.into_values().collect();
        let is_own = |it: &LocalityHosts<'_>| *it.locality == rules.own_locality;
        localities.sort_by_key(|it| !is_own(it) || it.locality.is_empty());
        Self(localities)
    }

    /// The hosts by locality, with what each locality can carry of its weight. Empty if no locality has any.
    pub(super) fn groups(&self, hosts: &[Member<'_>], rules: &DistributionRules) -> Vec<Group> {
        let mut of_locality = by_locality(hosts);
        let factor = f64::from(rules.overprovisioning_factor) / 100.0;
        let group = |it: &LocalityHosts<'_>| {
            let hosts = of_locality.remove(it.locality)?;
            let available = hosts.len() as f64 / it.counted as f64;
            let weight = f64::from(it.weight) * (factor * available).min(1.0);
            (weight > 0.0).then(|| Group::of(&hosts, weight))
        };
        self.0.iter().filter_map(group).collect()
    }
}

/// The hosts with their weights, which are 1.0 in total: by the weight of their locality, if localities have
/// weights, and by their own.
pub(super) fn shares<'a>(
    hosts: &[Member<'a>],
    localities: Option<&Localities<'_>>,
) -> Vec<Share<'a>> {
    let total = |localities: &Localities<'_>| -> u64 {
        localities.0.iter().map(|it| u64::from(it.weight)).sum()
    };
    let Some(localities) = localities else { return shares_of(hosts, 1.0) };
    let total = total(localities);
    let mut of_locality = by_locality(hosts);
    let mut shares = Vec::with_capacity(hosts.len());
    for it in localities.0.iter().filter(|it| it.weight > 0) {
        if let Some(hosts) = of_locality.remove(it.locality) {
            shares.extend(shares_of(&hosts, f64::from(it.weight) / total as f64));
        }
    }
    shares
}

/// The hosts with their part of a weight.
fn shares_of<'a>(hosts: &[Member<'a>], weight: f64) -> Vec<Share<'a>> {
    let total: u64 = hosts.iter().map(|it| u64::from(it.host.endpoint.weight)).sum();
    let share = |it: &Member<'a>| Share {
        index: it.index,
        host: it.host,
        weight: f64::from(it.host.endpoint.weight) * weight / total as f64,
    };
    hosts.iter().map(share).collect()
}

fn by_locality<'a>(hosts: &[Member<'a>]) -> BTreeMap<&'a Locality, Vec<Member<'a>>> {
    let mut localities = BTreeMap::<_, Vec<_>>::new();
    for member in hosts {
        localities.entry(&member.host.endpoint.locality).or_default().push(*member);
    }
    localities
}
