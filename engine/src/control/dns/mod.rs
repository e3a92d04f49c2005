//! Keeps the hosts of the clusters up to date: queries DNS again and again and publishes changes.
//!
//! What an answer means, and when to ask again, is decided in `upstream/discovery`; which server is
//! asked, and how, in [`Resolver`]. Here is only the loop.
//!
//! Invariant: a host set is published only when it differs from the last one; when DNS fails, the
//! last one stays in force.

mod resolver;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

use crate::control::counted;
use crate::stats::ClusterStats;
use crate::upstream::discovery::{
    Answer, Discovery, Dns, DnsHosts, LookupFailed, Outcome, RefreshDelays,
};
use crate::upstream::{Cluster, HostSet};

pub(super) use resolver::Resolver;

/// Publishes the hosts of all clusters, by their index, and goes on publishing as DNS changes.
/// Never completes; dropping it ends all lookups.
///
/// `initialized` fires when every cluster has been resolved, or has failed to, once: a cluster with
/// several names waits for the first of them, as in Envoy. The shards may accept connections then.
pub(super) async fn run(
    clusters: Vec<Arc<Cluster>>,
    shards: usize,
    resolver: Resolver,
    publish: impl Fn(usize, Arc<HostSet>) + 'static,
    initialized: oneshot::Sender<()>,
) {
    let resolver = Rc::new(resolver);
    let publish: Rc<Publish> = Rc::new(publish);
    let initialized = Rc::new(NotifyOnDrop(Some(initialized)));
    let mut lookups = JoinSet::new();
    let lookups_of_all = async {
        for (index, cluster) in clusters.into_iter().enumerate() {
            let stats = cluster.stats.control();
            stats.warming_state.set(0);
            match &cluster.discovery {
                Discovery::Static(hosts) => {
                    stats.membership_change.add(hosts.priorities_in_use());
                    hosts.hosts().iter().for_each(|it| it.endpoint.transport_socket.count_hosts(1));
                    hosts.update_gauges(stats);
                    publish(index, hosts.clone());
                }
                Discovery::Dns(dns) if dns.targets.is_empty() => {}
                Discovery::Dns(dns) => {
                    stats.warming_state.set(1);
                    let hosts = RefCell::new(dns.hosts(shards));
                    let warming = RefCell::new(Some(initialized.clone()));
                    let targets = dns.targets.len();
                    let publish = publish.clone();
                    let followed = Followed { index, cluster, hosts, publish, warming };
                    let followed = Rc::new(followed);
                    for target in 0..targets {
                        lookups.spawn_local(followed.clone().follow(target, resolver.clone()));
                    }
                }
            }
        }
        drop(initialized);
        while lookups.join_next().await.is_some() {}
        std::future::pending().await
    };
    LocalSet::new().run_until(lookups_of_all).await
}

type Publish = dyn Fn(usize, Arc<HostSet>);

/// A DNS cluster and its hosts so far.
struct Followed {
    index: usize,
    cluster: Arc<Cluster>,
    hosts: RefCell<DnsHosts>,
    publish: Rc<Publish>,
    /// Until the first answer or failure.
    warming: RefCell<Option<Rc<NotifyOnDrop>>>,
}

impl Followed {
    /// Resolves one of the names, forever.
    async fn follow(self: Rc<Self>, target: usize, resolver: Rc<Resolver>) {
        let Discovery::Dns(dns) = &self.cluster.discovery else {
            return;
        };
        let Some(name) = dns.targets.get(target).map(|target| target.name.as_str()) else {
            return;
        };
        let mut delays = RefreshDelays::new(dns.refresh, Rng::new());
        loop {
            self.stats().update_attempt.inc();
            let answer = resolver.lookup(name, dns.lookup_family).await;
            let outcome = self.take_in(dns, target, answer.as_ref());
            let ttl = answer.map(|answer| answer.ttl).unwrap_or_default();
            tokio::time::sleep(delays.after(outcome, ttl)).await;
        }
    }

    fn take_in(&self, dns: &Dns, target: usize, answer: Result<&Answer, &LookupFailed>) -> Outcome {
        let mut hosts = self.hosts.borrow_mut();
        let outcome = hosts.update(dns, target, answer.map_err(|failed| *failed), self.stats());
        if outcome == Outcome::Changed {
            let hosts = Arc::new(hosts.host_set(&self.cluster.health_rules));
            hosts.update_gauges(self.stats());
            let (cluster, total) = (&self.cluster.name, hosts.hosts().len());
            let total = counted(total, "host");
            tracing::debug!("dns hosts have changed for cluster {cluster}: {total}");
            (self.publish)(self.index, hosts);
        }
        if let Some(warming) = self.warming.take() {
            self.stats().warming_state.set(0);
            drop(warming);
        }
        outcome
    }

    fn stats(&self) -> &ClusterStats {
        self.cluster.stats.control()
    }
}

/// Held by each cluster that is not ready yet.
struct NotifyOnDrop(Option<oneshot::Sender<()>>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // The receiver is gone: nothing waits for it any more.
            _ = sender.send(());
        }
    }
}

#[cfg(test)]
mod tests;
