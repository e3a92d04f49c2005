//! One priority of a host set, and what it can carry.

use super::{DistributionRules, Member};
use crate::upstream::host::Health;

/// The hosts of one priority, while the loads are computed.
pub(super) struct Level<'a> {
    /// All its hosts.
    pub(super) members: &'a [Member<'a>],
    /// What the healthy hosts can carry, in percent of all traffic; at most 100.
    pub(super) healthy_availability: u32,
    /// The same for the degraded hosts.
    pub(super) degraded_availability: u32,
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
        Self {
            members,
            healthy_availability: availability(Health::Healthy),
            degraded_availability: availability(Health::Degraded),
        }
    }

    /// The hosts of this health.
    pub(super) fn of_health(&self, health: Health) -> Vec<Member<'a>> {
        self.members.iter().filter(|it| it.flags.health() == health).copied().collect()
    }

    /// Whether so few of its hosts are available that all of them are used.
    pub(super) fn is_in_panic(&self, rules: &DistributionRules) -> bool {
        let counted = self.members.iter().filter(|it| !it.flags.is_excluded()).count();
        let is_available = |it: &&Member<'_>| it.flags.health() != Health::Unhealthy;
        let available = self.members.iter().filter(is_available).count();
        let percent = if counted == 0 { 0.0 } else { 100.0 * available as f64 / counted as f64 };
        percent < rules.healthy_panic_threshold
    }
}
