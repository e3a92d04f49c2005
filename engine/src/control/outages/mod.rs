//! Which hosts are failing: for the operator's page and for the log.
//!
//! Once a second the control plane compares what the shards have counted with what they had counted
//! before. It is not health checking: nothing here decides where a request goes, and no shard knows
//! of it.
//!
//! Invariant: the hosts of a cluster are looked at only while the cluster's own counters say that
//! something fails, or one of its hosts is not fine; a look costs a few loads per host and shard.

mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(in crate::control) use self::watch::Outage;
use self::watch::{Event, Seen, Watched};
use super::counted;
use super::server::Running;
use crate::shard::clock::{Millis, millis};
use crate::stats::{ClusterStats, Scope};
use crate::upstream::cluster::Cluster;
use crate::upstream::host::Host;
use crate::upstream::host_set::HostSet;

const EVERY: Duration = Duration::from_secs(1);

/// Hosts of one cluster that get a line of their own in one look; the others are counted.
const LINES_MAX: usize = 16;

/// The hosts of all clusters.
#[derive(Debug, Default)]
pub(super) struct Outages {
    clusters: Vec<Watch>,
}

/// The hosts of one cluster.
#[derive(Debug, Default)]
struct Watch {
    hosts: Arc<HostSet>,
    /// Of each host, by its place in the set.
    watched: Vec<Watched>,
    /// What the cluster had counted at the last look.
    failures: u64,
    attention: Attention,
}

/// Whether a cluster's hosts are looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Attention {
    /// Nothing fails.
    #[default]
    None,
    /// Something did, or a host is not fine. A shard counts for the cluster first and for the host
    /// later, so there is always one more look.
    Looking,
}

/// Looks once a second, forever, and logs what there is to tell.
pub(super) async fn watch(running: Arc<Running>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let now = millis(running.identity.started.elapsed());
        for (index, cluster) in running.snapshot.clusters.iter().enumerate() {
            let told = running.change(|changing| {
                let hosts = changing.hosts.get(index).map(Arc::clone).unwrap_or_default();
                changing.outages.look(index, &cluster.stats, hosts, now)
            });
            log(cluster, &told);
        }
    }
}

fn log(cluster: &Cluster, told: &[(Arc<Host>, Event)]) {
    let cluster = &cluster.name;
    let (each, rest) = told.split_at(told.len().min(LINES_MAX));
    for (host, event) in each {
        let host = host.address;
        match event {
            Event::Back { .. } => {
                tracing::info!(target: "upstream", "cluster {cluster}: host {host} {event}");
            }
            Event::Failing { .. } | Event::StillFailing { .. } => {
                tracing::warn!(target: "upstream", "cluster {cluster}: host {host} {event}");
            }
        }
    }
    let back = rest.iter().filter(|(_, event)| matches!(event, Event::Back { .. })).count();
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
    /// Looks at the hosts of one cluster, if there is a reason to.
    fn look(
        &mut self,
        cluster: usize,
        stats: &Scope<ClusterStats>,
        hosts: Arc<HostSet>,
        now: Millis,
    ) -> Vec<(Arc<Host>, Event)> {
        if self.clusters.len() <= cluster {
            self.clusters.resize_with(cluster + 1, Watch::default);
        }
        let Some(watch) = self.clusters.get_mut(cluster) else { return Vec::new() };
        watch.follow(hosts);
        watch.look(failures(stats), now)
    }

    /// The outage of a host of a cluster, by its place in `hosts`.
    pub(super) fn of(&self, cluster: usize, hosts: &Arc<HostSet>, place: usize) -> Option<&Outage> {
        let watch = self.clusters.get(cluster)?;
        let watched = Arc::ptr_eq(&watch.hosts, hosts).then(|| watch.watched.get(place))?;
        watched?.outage()
    }
}

impl Watch {
    /// Takes over the cluster's hosts of now; those that stay keep what is known of them.
    fn follow(&mut self, hosts: Arc<HostSet>) {
        if Arc::ptr_eq(&self.hosts, &hosts) {
            return;
        }
        let known = self.hosts.hosts().iter().map(Arc::as_ptr).zip(self.watched.drain(..));
        let mut known: HashMap<_, _> = known.collect();
        let watched = |host| known.remove(&Arc::as_ptr(host)).unwrap_or_default();
        self.watched = hosts.hosts().iter().map(watched).collect();
        self.hosts = hosts;
    }

    fn look(&mut self, failures: u64, now: Millis) -> Vec<(Arc<Host>, Event)> {
        let fails = std::mem::replace(&mut self.failures, failures) != failures;
        if !fails && self.attention == Attention::None {
            return Vec::new();
        }
        let mut told = Vec::new();
        let mut all_fine = true;
        for (host, watched) in self.hosts.hosts().iter().zip(&mut self.watched) {
            let event = watched.look(Seen::of(&host.stats), now);
            told.extend(event.map(|event| (Arc::clone(host), event)));
            all_fine &= watched.is_fine();
        }
        self.attention = if fails || !all_fine { Attention::Looking } else { Attention::None };
        told
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
    use crate::upstream::host_set::HealthRules;
    use crate::upstream::host_set::tests::host;

    fn set(hosts: &[&Arc<Host>]) -> Arc<HostSet> {
        let hosts = hosts.iter().map(|host| Arc::clone(host)).collect();
        Arc::new(HostSet::new(hosts, &HealthRules::default()))
    }

    fn refuse(cluster: &Scope<ClusterStats>, host: &Host) {
        cluster.shard(0).upstream_cx_connect_fail.inc();
        let stats = host.stats.shard(0);
        stats.cx_connect_fail.inc();
        stats.connect_errno.set(u64::from(libc::ECONNREFUSED.unsigned_abs()));
        stats.connect_failed_ms.set(stats.connected_ms.value() + 1);
    }

    fn respond(host: &Host) {
        let stats = host.stats.shard(0);
        stats.connected_ms.set(stats.connect_failed_ms.value() + 1);
        stats.rq_success.inc();
    }

    #[test]
    fn a_host_that_stays_in_its_cluster_is_still_failing_and_one_that_leaves_is_forgotten() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let [one, two, three] = [1, 2, 3].map(|n| host(n, 0, 1, HealthFlags::EMPTY));
        let mut outages = Outages::default();
        let first = set(&[&one, &two]);
        refuse(&cluster, &one);
        refuse(&cluster, &two);
        assert_eq!(outages.look(0, &cluster, Arc::clone(&first), 1000).len(), 2);
        assert!(outages.of(0, &first, 0).is_some() && outages.of(0, &first, 1).is_some());

        let second = set(&[&three, &two]);
        assert!(outages.of(0, &second, 1).is_none(), "not looked at yet");
        assert_eq!(outages.look(0, &cluster, Arc::clone(&second), 2000).len(), 0);
        assert!(outages.of(0, &second, 0).is_none() && outages.of(0, &second, 1).is_some());

        respond(&two);
        let told = outages.look(0, &cluster, second, 3000);
        assert!(
            matches!(told.as_slice(), [(back, Event::Back { after: 2000 })] if Arc::ptr_eq(back, &two))
        );
    }

    #[test]
    fn a_host_that_counts_later_than_its_cluster_is_not_missed() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let host = host(1, 0, 1, HealthFlags::EMPTY);
        let hosts = set(&[&host]);
        let mut outages = Outages::default();
        cluster.shard(0).upstream_cx_connect_fail.inc();
        assert_eq!(outages.look(0, &cluster, Arc::clone(&hosts), 1000).len(), 0);
        host.stats.shard(0).cx_connect_fail.inc();
        host.stats.shard(0).connect_failed_ms.set(1);
        assert_eq!(outages.look(0, &cluster, hosts, 2000).len(), 1);
    }

    #[test]
    fn hosts_of_a_cluster_in_which_nothing_fails_are_not_looked_at() {
        let cluster = Scope::<ClusterStats>::unlisted(1);
        let host = host(1, 0, 1, HealthFlags::EMPTY);
        let hosts = set(&[&host]);
        let mut outages = Outages::default();
        outages.look(0, &cluster, Arc::clone(&hosts), 1000);
        host.stats.shard(0).cx_connect_fail.inc();
        host.stats.shard(0).connect_failed_ms.set(1);
        assert_eq!(outages.look(0, &cluster, Arc::clone(&hosts), 2000).len(), 0);
        cluster.shard(0).upstream_cx_connect_fail.inc();
        assert_eq!(outages.look(0, &cluster, hosts, 3000).len(), 1);
    }
}
