//! Which part of the traffic each priority gets. Pure: from what the priorities can carry to percentages.
//!
//! The same rules serve a cluster, a cluster of clusters, and a retry that leaves priorities out.

/// What one priority can carry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Availability {
    /// What its healthy hosts can carry, in percent of all traffic; at most 100.
    pub healthy: u32,
    /// The same for its degraded hosts.
    pub degraded: u32,
    /// How many hosts it has, whatever their health.
    pub hosts: usize,
    /// The percentage of its hosts that are healthy or degraded.
    pub available: f64,
}

/// Percentages of the requests: for the healthy and for the degraded hosts of a priority. In panic the first is
/// for all of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Of the healthy hosts.
    pub healthy: u32,
    /// Of the degraded hosts.
    pub degraded: u32,
}

/// What a request says about the priority that it goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target<'a> {
    /// The priorities get these loads, not those of the host set.
    Loads(&'a [Load]),
    /// It goes to the healthy, or degraded, hosts of this one.
    Priority {
        /// The priority.
        priority: u32,
        /// Whether it goes to its degraded hosts.
        degraded: bool,
    },
}

impl Target<'_> {
    /// The priority for this random number (0 to 99), and whether its degraded hosts are meant.
    pub fn choose(self, percentage: u32) -> Option<(u32, bool)> {
        match self {
            Self::Loads(loads) => choose(loads, percentage),
            Self::Priority { priority, degraded } => Some((priority, degraded)),
        }
    }
}

/// The loads of priorities, and which of them are in panic.
#[derive(Debug, Default)]
pub struct Loads {
    /// By priority.
    pub loads: Vec<Load>,
    /// By priority: whether all its hosts get requests, whatever their health.
    pub panic: Vec<bool>,
}

//= envoy: arch_overview/upstream/load_balancing/priority
// Traffic goes to the healthy hosts of the first priority as far as they can carry it, then to
// those of the next; the remainder goes to degraded hosts in the same order; rounding errors are added
// to the first.
/// The loads of these priorities; one of which a smaller percentage than `panic_threshold` is available is in
/// panic if all together cannot carry the traffic.
pub fn loads(levels: &[Availability], panic_threshold: f64) -> Loads {
    let total = total(levels);
    let in_panic = |level: &Availability| total < 100 && level.available < panic_threshold;
    let panic: Vec<bool> = levels.iter().map(in_panic).collect();
    let loads = if panic.iter().all(|&it| it) {
        by_size(levels)
    } else if total == 0 {
        // No host is available and panic is disabled: all requests fail with no healthy upstream.
        let mut loads = vec![Load::default(); levels.len()];
        if let Some(first) = loads.first_mut() {
            first.healthy = 100;
        }
        loads
    } else {
        by_availability(levels)
    };
    Loads { loads, panic }
}

/// What all of them can carry together; at most 100.
pub fn total(levels: &[Availability]) -> u32 {
    levels.iter().map(|level| level.healthy + level.degraded).sum::<u32>().min(100)
}

/// Percentages by what each can carry. Something is available.
pub fn by_availability(levels: &[Availability]) -> Vec<Load> {
    let available = total(levels).max(1);
    let mut remaining = 100;
    let mut share = |availability: u32| {
        let load = remaining.min(availability * 100 / available);
        remaining -= load;
        load
    };
    let healthy: Vec<u32> = levels.iter().map(|level| share(level.healthy)).collect();
    let degraded = levels.iter().map(|level| share(level.degraded));
    let load = |(healthy, degraded)| Load { healthy, degraded };
    let mut loads: Vec<Load> = healthy.into_iter().zip(degraded).map(load).collect();
    if let Some(first) = levels.iter().position(|level| level.healthy > 0) {
        if let Some(load) = loads.get_mut(first) {
            load.healthy += remaining;
        }
    } else if let Some(first) = levels.iter().position(|level| level.degraded > 0)
        && let Some(load) = loads.get_mut(first)
    {
        load.degraded += remaining;
    }
    loads
}

/// When every priority is in panic: percentages by the number of hosts, whatever their health.
fn by_size(levels: &[Availability]) -> Vec<Load> {
    let all: usize = levels.iter().map(|level| level.hosts).sum();
    let percent = |level: &Availability| (100 * level.hosts).checked_div(all).unwrap_or(0);
    let load = |level| Load { healthy: u32::try_from(percent(level)).unwrap_or(100), degraded: 0 };
    let mut loads: Vec<Load> = levels.iter().map(load).collect();
    let remaining = 100 - loads.iter().map(|load| load.healthy).sum::<u32>();
    let first = levels.iter().position(|level| level.hosts > 0).unwrap_or(0);
    if let Some(load) = loads.get_mut(first) {
        load.healthy += remaining;
    }
    loads
}

/// The priority for this random number (0 to 99), and whether its degraded hosts are meant.
pub fn choose(loads: &[Load], percentage: u32) -> Option<(u32, bool)> {
    let healthy = (0..).zip(loads).map(|(priority, load)| (priority, false, load.healthy));
    let degraded = (0..).zip(loads).map(|(priority, load)| (priority, true, load.degraded));
    let mut end = 0;
    let mut all = healthy.chain(degraded);
    let chosen = all.find(|(_, _, load)| {
        end += load;
        percentage < end
    });
    chosen.map(|(priority, degraded, _)| (priority, degraded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(healthy: u32, degraded: u32) -> Availability {
        Availability { healthy, degraded, hosts: 1, available: 100.0 }
    }

    #[test]
    fn healthy_hosts_of_all_priorities_come_before_degraded_ones() {
        let loads = [Load { healthy: 30, degraded: 20 }, Load { healthy: 50, degraded: 0 }];
        let chosen = [0, 29, 30, 79, 80, 99].map(|percentage| choose(&loads, percentage));
        let (first, second, last) = (Some((0, false)), Some((1, false)), Some((0, true)));
        assert_eq!(chosen, [first, first, second, second, last, last]);
        assert_eq!(choose(&[], 0), None);
    }

    #[test]
    fn a_request_may_be_bound_to_a_priority() {
        let target = Target::Priority { priority: 3, degraded: true };
        assert_eq!([0, 99].map(|it| target.choose(it)), [Some((3, true)); 2]);
    }

    #[test]
    fn loads_of_several_clusters_add_up_to_everything() {
        let loads = loads(&[level(70, 0), level(0, 60), level(100, 0)], 50.0);
        let healthy: Vec<u32> = loads.loads.iter().map(|it| it.healthy).collect();
        assert_eq!(healthy, [70, 0, 30]);
        assert_eq!(loads.panic, [false; 3]);
    }
}
