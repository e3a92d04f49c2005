//! Detects failing hosts, for the admin page and the log.
//!
//! Once a second the control plane compares the counters of the shards with their previous values.
//! This is not health checking: it has no influence on load balancing.
//!
//! Invariant: the hosts of a cluster are checked only while the counters of the cluster report
//! failures, or one of its hosts is not fine; a check costs a few loads per host and shard.

mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::control) use self::watch::Outage;
use self::watch::{Counts, Event, HostMonitor};
use super::counted;
use super::server::Running;
use crate::shard::clock::{Millis, millis};
use crate::stats::{ClusterStats, Scope};
use crate::upstream::cluster::Cluster;
use crate::upstream::host::Host;
use crate::upstream::host_set::HostSet;

const EVERY: Duration = Duration::from_secs(1);

/// How many hosts of a cluster get their own log line in one check; the others are counted.
const LINES_MAX: usize = 16;

/// The hosts of all clusters.
#[derive(Debug, Default)]
pub(super) struct Outages {
    clusters: Vec<ClusterMonitor>,
}

/// The hosts of one cluster.
#[derive(Debug, Default)]
struct ClusterMonitor {
    hosts: Arc<HostSet>,
    /// One per host, by its index in the set.
    monitors: Vec<HostMonitor>,
    /// The failures counted by the cluster at the last check.
    failures: u64,
    monitoring: Monitoring,
}

/// Whether the hosts of a cluster are checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Monitoring {
    /// Nothing fails.
    #[default]
    Idle,
    /// Something failed, or a host is not fine. A shard counts for the cluster first and for the host
    /// later, so there is always one more check.
    Active,
}

/// Checks the hosts once a second, forever, and logs outages.
pub(super) async fn watch(running: Arc<Running>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let now = millis(running.identity.started.elapsed());
        for cluster in &running.snapshot().clusters {
            let events = running.change(|changing| {
                let hosts = changing.hosts_of(cluster);
                changing.outages.check(cluster.number.index(), &cluster.stats, hosts, now)
            });
            log(cluster, &events);
        }
    }
}

fn log(cluster: &Cluster, events: &[(Arc<Host>, Event)]) {
    let cluster = &cluster.name;
    let (each, rest) = events.split_at(events.len().min(LINES_MAX));
    for (host, event) in each {
        let host = host.address;
        match event {
            Event::Recovered { .. } => {
                tracing::info!(target: "upstream", "cluster {cluster}: host {host} {event}");
            }
            Event::Failing { .. } | Event::StillFailing { .. } => {
                tracing::warn!(target: "upstream", "cluster {cluster}: host {host} {event}");
            }
        }
    }
    let back = rest.iter().filter(|(_, event)| matches!(event, Event::Recovered { .. })).count();
    let failing = rest.len() - back;
    if failing > 0 {
        let failing = counted(failing, "more host");
        tracing::warn!(target: "upstream", "cluster {cluster}: {failing} failing");
    }
    if back > 0 {
        let back = counted(back, "more host");
        tracing::info!(target: "upstream", "cluster {cluster}: {back} back");
    }
}

impl Outages {
    /// Checks the hosts of one cluster, if needed.
    fn check(
        &mut self,
        cluster: usize,
        stats: &Scope<ClusterStats>,
        hosts: Arc<HostSet>,
        now: Millis,
    ) -> Vec<(Arc<Host>, Event)> {
        if self.clusters.len() <= cluster {
            self.clusters.resize_with(cluster + 1, ClusterMonitor::default);
        }
        let Some(watch) = self.clusters.get_mut(cluster) else { return Vec::new() };
        watch.set_hosts(hosts);
        watch.check(failures(stats), now)
    }

    /// The outage of a host of a cluster, by its index in `hosts`.
    pub(super) fn of(&self, cluster: usize, hosts: &Arc<HostSet>, place: usize) -> Option<&Outage> {
        let watch = self.clusters.get(cluster)?;
        let monitor = Arc::ptr_eq(&watch.hosts, hosts).then(|| watch.monitors.get(place))?;
        monitor?.outage()
    }
}

impl ClusterMonitor {
    /// Replaces the hosts; hosts that stay keep their state.
    fn set_hosts(&mut self, hosts: Arc<HostSet>) {
        if Arc::ptr_eq(&self.hosts, &hosts) {
            return;
        }
        let known = self.hosts.hosts().iter().map(|host| host.id()).zip(self.monitors.drain(..));
        let mut known: HashMap<_, _> = known.collect();
        let monitor = |host: &Arc<Host>| known.remove(&host.id()).unwrap_or_default();
        self.monitors = hosts.hosts().iter().map(monitor).collect();
        self.hosts = hosts;
    }

    fn check(&mut self, failures: u64, now: Millis) -> Vec<(Arc<Host>, Event)> {
        let fails = std::mem::replace(&mut self.failures, failures) != failures;
        if !fails && self.monitoring == Monitoring::Idle {
            return Vec::new();
        }
        let mut events = Vec::new();
        let mut all_fine = true;
        for (host, monitor) in self.hosts.hosts().iter().zip(&mut self.monitors) {
            let event = monitor.check(Counts::of(host.stats()), now);
            events.extend(event.map(|event| (Arc::clone(host), event)));
            all_fine &= monitor.is_fine();
        }
        self.monitoring = if fails || !all_fine { Monitoring::Active } else { Monitoring::Idle };
        events
    }
}

/// A number that moves whenever a host of the cluster fails.
fn failures(stats: &Scope<ClusterStats>) -> u64 {
    [
        stats.counter(|cluster| &cluster.upstream_cx_connect_fail),
        stats.counter(|cluster| &cluster.upstream_cx_destroy_with_active_rq),
        stats.counter(|cluster| &cluster.upstream_rq_timeout),
        stats.counter(|cluster| &cluster.upstream_rq_per_try_timeout),
        stats.counter(|cluster| &cluster.upstream_rq_per_try_idle_timeout),
    ]
    .into_iter()
    .fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::upstream::host::HealthFlags;
    use crate::upstream::host_set::DistributionRules;
    use crate::upstream::host_set::tests::host;

    fn set(hosts: &[&Arc<Host>]) -> Arc<HostSet> {
        let hosts = hosts.iter().map(|host| Arc::clone(host)).collect();
        Arc::new(HostSet::new(hosts, &DistributionRules::default()))
    }

    fn refuse(cluster: &Scope<ClusterStats>, host: &Host) {
        cluster.shard(0).upstream_cx_connect_fail.inc();
        let stats = host.stats().shard(0);
        stats.cx_connect_fail.inc();
        stats.connect_errno.set(u64::from(libc::ECONNREFUSED.unsigned_abs()));
        stats.connect_failed_ms.set(stats.connected_ms.value() + 1);
    }

    fn respond(host: &Host) {
        let stats = host.stats().shard(0);
        stats.connected_ms.set(stats.connect_failed_ms.value() + 1);
        stats.rq_success.inc();
    }

    #[test]
    fn a_host_that_stays_in_its_cluster_is_still_failing_and_one_that_leaves_is_dropped() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let [one, two, three] = [1, 2, 3].map(|n| host(n, 0, 1, HealthFlags::EMPTY));
        let mut outages = Outages::default();
        let first = set(&[&one, &two]);
        refuse(&cluster, &one);
        refuse(&cluster, &two);
        assert_eq!(outages.check(0, &cluster, Arc::clone(&first), 1000).len(), 2);
        assert!(outages.of(0, &first, 0).is_some() && outages.of(0, &first, 1).is_some());

        let second = set(&[&three, &two]);
        assert!(outages.of(0, &second, 1).is_none(), "not checked yet");
        assert_eq!(outages.check(0, &cluster, Arc::clone(&second), 2000).len(), 0);
        assert!(outages.of(0, &second, 0).is_none() && outages.of(0, &second, 1).is_some());

        respond(&two);
        let events = outages.check(0, &cluster, second, 3000);
        assert!(
            matches!(events.as_slice(), [(back, Event::Recovered { after: 2000 })] if Arc::ptr_eq(back, &two))
        );
    }

    #[test]
    fn a_host_that_counts_later_than_its_cluster_is_not_missed() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let host = host(1, 0, 1, HealthFlags::EMPTY);
        let hosts = set(&[&host]);
        let mut outages = Outages::default();
        cluster.shard(0).upstream_cx_connect_fail.inc();
        assert_eq!(outages.check(0, &cluster, Arc::clone(&hosts), 1000).len(), 0);
        host.stats().shard(0).cx_connect_fail.inc();
        host.stats().shard(0).connect_failed_ms.set(1);
        assert_eq!(outages.check(0, &cluster, hosts, 2000).len(), 1);
    }

    #[test]
    fn hosts_of_a_cluster_in_which_nothing_fails_are_not_checked() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let host = host(1, 0, 1, HealthFlags::EMPTY);
        let hosts = set(&[&host]);
        let mut outages = Outages::default();
        outages.check(0, &cluster, Arc::clone(&hosts), 1000);
        host.stats().shard(0).cx_connect_fail.inc();
        host.stats().shard(0).connect_failed_ms.set(1);
        assert_eq!(outages.check(0, &cluster, Arc::clone(&hosts), 2000).len(), 0);
        cluster.shard(0).upstream_cx_connect_fail.inc();
        assert_eq!(outages.check(0, &cluster, hosts, 3000).len(), 1);
    }
}
