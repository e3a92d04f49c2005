//! How traffic is divided between priorities, and within them between healthy and degraded hosts.

use super::levels::Level;
use super::loads::{self, Availability, Loads};
use super::localities::{self, Localities};
use super::zones::{LevelZones, Zones};
use super::{DistributionRules, Member};
use crate::upstream::balance::table::{Sizes, Table};
use crate::upstream::host::Health;

/// Hosts that a policy picks from.
#[derive(Debug)]
pub struct Candidates {
    /// The hosts, in groups that get traffic by their weights: one per locality if localities are weighted,
    /// otherwise a single one. If it has no hosts, these requests have no healthy upstream.
    pub groups: Vec<Group>,
    /// The same hosts as a table; only with consistent hashing.
    pub table: Option<Table>,
    /// Percentage of the requests; 100 in total over all candidates of a set.
    pub load: u32,
    /// Too few hosts of this priority are healthy, so the groups contain all of them.
    pub in_panic: bool,
    /// Their priority.
    pub priority: u32,
    /// Whether they are the degraded hosts of their priority.
    pub degraded: bool,
    /// How requests are divided between the groups if these are zones.
    pub zones: Option<Zones>,
}

/// Hosts that are interchangeable.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Indexes of the hosts in the set.
    pub hosts: Vec<usize>,
    /// Its share of the traffic, compared with the other groups; above 0.
    pub weight: f64,
}

/// Hosts that a request may go to: all of a host set, or those of a subset.
#[derive(Debug)]
pub struct Division {
    /// Those with a load come first.
    pub candidates: Vec<Candidates>,
    /// What the priorities can carry.
    pub levels: Vec<Availability>,
}

pub(super) fn division(levels: &[Level<'_>], rules: &DistributionRules) -> Division {
    let availability: Vec<Availability> = levels.iter().map(|level| level.availability).collect();
    let Loads { loads, panic } = loads::loads(&availability, rules.healthy_panic_threshold);
    let mut candidates = Vec::new();
    for ((priority, level), (load, in_panic)) in (0..).zip(levels).zip(loads.into_iter().zip(panic))
    {
        let mut add = |selected, load| {
            // Those without a load are for requests that say themselves which priority they go to.
            if load > 0 || level.has(selected) {
                candidates.push(Candidates::new((priority, level), selected, load, rules));
            }
        };
        if in_panic {
            add(Selected::All, load.healthy + load.degraded);
        } else {
            add(Selected::Of(Health::Healthy), load.healthy);
            add(Selected::Of(Health::Degraded), load.degraded);
        }
    }
    candidates.sort_by_key(|it| it.load == 0);
    Division { candidates, levels: availability }
}

/// The sizes of the last table.
pub(super) fn table_sizes(candidates: &[Candidates]) -> Option<Sizes> {
    candidates.iter().rev().find_map(|it| it.table.as_ref()).map(|table| table.sizes)
}

/// Which hosts of a level get a part of the traffic.
#[derive(Clone, Copy)]
pub(super) enum Selected {
    All,
    Of(Health),
}

impl Candidates {
    fn new(
        (priority, level): (u32, &Level<'_>),
        selected: Selected,
        load: u32,
        rules: &DistributionRules,
    ) -> Self {
        let in_panic = matches!(selected, Selected::All);
        let degraded = matches!(selected, Selected::Of(Health::Degraded));
        let new =
            |groups, table| Self { groups, table, load, in_panic, priority, degraded, zones: None };
        let hosts: Vec<Member<'_>> = match selected {
            Selected::All => level.members.to_vec(),
            Selected::Of(health) => level.of_health(health),
        };
        let localities = rules.weighs_localities.then(|| Localities::of(level, rules));
        if let Some(rule) = &rules.table {
            // As in Envoy: degraded hosts are in no table; their requests go to the healthy ones.
            let hosts = if in_panic { hosts } else { level.of_health(Health::Healthy) };
            let shares = localities::shares(&hosts, localities.as_ref());
            let table = Table::new(rule, &shares);
            return new(vec![Group::of(&hosts, 1.0)], table);
        }
        if in_panic && rules.fails_in_panic {
            return new(vec![Group::of(&[], 1.0)], None);
        }
        if !in_panic && !degraded && priority == 0 && localities.is_none() {
            let of_level = LevelZones::of(level, &rules.own_locality);
            if let Some(zones) = of_level.routing(rules) {
                let each = of_level.hosts.iter().map(|(_, hosts)| Group::of(hosts, 1.0));
                let groups = each.chain([Group::of(&hosts, 1.0)]).collect();
                return Self { zones: Some(zones), ..new(groups, None) };
            }
        }
        // As in Envoy, localities do not matter in panic mode.
        let groups = localities.filter(|_| !in_panic).map(|it| it.groups(&hosts, rules));
        let groups = groups.filter(|groups| !groups.is_empty());
        let groups = groups.unwrap_or_else(|| vec![Group::of(&hosts, 1.0)]);
        new(groups, None)
    }
}

impl Group {
    pub(super) fn of(members: &[Member<'_>], weight: f64) -> Self {
        Self { hosts: members.iter().map(|it| it.index).collect(), weight }
    }
}
