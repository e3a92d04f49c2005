//! One priority of a host set, and what it can carry.

use super::division::Selected;
use super::loads::Availability;
use super::{DistributionRules, Member};
use crate::upstream::host::Health;

/// The hosts of one priority, while the loads are computed.
pub(super) struct Level<'a> {
    /// All its hosts.
    pub(super) members: &'a [Member<'a>],
    /// What they can carry.
    pub(super) availability: Availability,
}

/// The hosts by priority; unused priorities are empty.
/// Envoy: priority 0 always exists, and is in panic if it has no hosts.
pub(super) fn levels<'a>(members: &'a [Member<'a>], rules: &DistributionRules) -> Vec<Level<'a>> {
    let last = members.last().map_or(1, |it| it.host.endpoint.priority + 1);
    let mut rest = members;
    let level = |priority| {
        let end = rest.partition_point(|it| it.host.endpoint.priority <= priority);
        let (level, others) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = others;
        Level::new(level, rules)
    };
    (0..last).map(level).collect()
}

impl<'a> Level<'a> {
    fn new(members: &'a [Member<'a>], rules: &DistributionRules) -> Self {
        let size = |includes: &dyn Fn(&Member<'_>) -> bool| -> u64 {
            let selected = members.iter().filter(|it| includes(it));
            if rules.weighted_priority_health {
                selected.map(|it| u64::from(it.host.endpoint.weight)).sum()
            } else {
                selected.count() as u64
            }
        };
        let all = size(&|it| !it.flags.is_excluded());
        let availability = |health| -> u32 {
            let size = size(&|it| it.flags.health() == health);
            let factor = u128::from(rules.overprovisioning_factor);
            let percent = (factor * u128::from(size)).checked_div(all.into()).unwrap_or(0);
            u32::try_from(percent.min(100)).unwrap_or(100)
        };
        let availability = Availability {
            healthy: availability(Health::Healthy),
            degraded: availability(Health::Degraded),
            hosts: members.len(),
            available: available(members),
        };
        Self { members, availability }
    }

    /// Whether there is any of these hosts.
    pub(super) fn has(&self, selected: Selected) -> bool {
        match selected {
            Selected::All => !self.members.is_empty(),
            Selected::Of(health) => self.members.iter().any(|it| it.flags.health() == health),
        }
    }

    /// The hosts of this health.
    pub(super) fn of_health(&self, health: Health) -> Vec<Member<'a>> {
        self.members.iter().filter(|it| it.flags.health() == health).copied().collect()
    }
}

/// The percentage of these hosts that are healthy or degraded.
fn available(members: &[Member<'_>]) -> f64 {
    let counted = members.iter().filter(|it| !it.flags.is_excluded()).count();
    let available = members.iter().filter(|it| it.flags.health() != Health::Unhealthy).count();
    if counted == 0 { 0.0 } else { 100.0 * available as f64 / counted as f64 }
}
