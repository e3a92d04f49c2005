//! How traffic is divided between priorities, and within them between healthy and degraded hosts.

use super::levels::Level;
use super::localities::{self, Localities};
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
    /// Percentage of the requests; at least 1, and 100 in total over all candidates of a set.
    pub load: u32,
    /// Too few hosts of this priority are healthy, so the groups contain all of them.
    pub in_panic: bool,
}

/// Hosts that are interchangeable.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Indexes of the hosts in the set.
    pub hosts: Vec<usize>,
    /// Its share of the traffic, compared with the other groups; above 0.
    pub weight: f64,
}

//= envoy: arch_overview/upstream/load_balancing/priority
// Traffic goes to the healthy hosts of the first priority as far as they can carry it, then to
// those of the next; the remainder goes to degraded hosts in the same order; rounding errors are added
// to the first.
pub(super) fn candidates(levels: &[Level<'_>], rules: &DistributionRules) -> Vec<Candidates> {
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
        let mut add = |selected, load, in_panic| {
            if load > 0 {
                candidates.push(Candidates::new(level, selected, load, in_panic, rules));
            }
        };
        if in_panic {
            add(Selected::All, healthy_load + degraded_load, true);
        } else {
            add(Selected::Of(Health::Healthy), healthy_load, false);
            add(Selected::Of(Health::Degraded), degraded_load, false);
        }
    }
    candidates
}

/// The sizes of the last table.
pub(super) fn table_sizes(candidates: &[Candidates]) -> Option<Sizes> {
    candidates.iter().rev().find_map(|it| it.table.as_ref()).map(|table| table.sizes)
}

/// Which hosts of a level get a part of the traffic.
#[derive(Clone, Copy)]
enum Selected {
    All,
    Of(Health),
}

impl Candidates {
    fn new(
        level: &Level<'_>,
        selected: Selected,
        load: u32,
        in_panic: bool,
        rules: &DistributionRules,
    ) -> Self {
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
            return Self { groups: vec![Group::of(&hosts, 1.0)], table, load, in_panic };
        }
        if in_panic && rules.fails_in_panic {
            return Self { groups: vec![Group::of(&[], 1.0)], table: None, load, in_panic };
        }
        // As in Envoy, localities do not matter in panic mode.
        let groups = localities.filter(|_| !in_panic).map(|it| it.groups(&hosts, rules));
        let groups = groups.filter(|groups| !groups.is_empty());
        let groups = groups.unwrap_or_else(|| vec![Group::of(&hosts, 1.0)]);
        Self { groups, table: None, load, in_panic }
    }
}

impl Group {
    pub(super) fn of(members: &[Member<'_>], weight: f64) -> Self {
        Self { hosts: members.iter().map(|it| it.index).collect(), weight }
    }
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
    let all: usize = levels.iter().map(|level| level.members.len()).sum();
    let percent = |level: &Level<'_>| (100 * level.members.len()).checked_div(all).unwrap_or(0);
    let mut loads: Vec<(u32, u32)> =
        levels.iter().map(|level| (u32::try_from(percent(level)).unwrap_or(100), 0)).collect();
    let remaining = 100 - loads.iter().map(|load| load.0).sum::<u32>();
    let first = levels.iter().position(|level| !level.members.is_empty()).unwrap_or(0);
    if let Some(load) = loads.get_mut(first) {
        load.0 += remaining;
    }
    loads
}
