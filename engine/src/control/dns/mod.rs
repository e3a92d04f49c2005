//! Keeps the hosts of the clusters up to date: queries DNS again and again and publishes changes.
//!
//! What an answer means, and when to ask again, is decided in `upstream/discovery`; which server is
//! asked, and how, in [`Resolver`]. Here is only the loop.
//!
//! Invariant: hosts are replaced only when they differ from the last ones; when DNS fails, the last ones stay.

mod resolver;

use std::cell::RefCell;
use std::rc::Rc;

use fastrand::Rng;

use crate::control::counted;
use crate::control::membership::{Members, NotifyOnDrop, Warming};
use crate::stats::ClusterStats;
use crate::upstream::discovery::{
    Answer, Discovery, Dns, DnsHosts, LookupFailed, Outcome, RefreshDelays,
};

pub(super) use resolver::Resolver;

/// Gives a cluster its hosts, and goes on as DNS changes, in tasks of its own. `initialized` is held until the
/// cluster has been resolved, or has failed to, once, and its hosts have been checked.
pub(super) fn follow(
    members: &Rc<Members>,
    shards: usize,
    resolver: &Rc<Resolver>,
    initialized: &Rc<NotifyOnDrop>,
) {
    let stats = members.cluster.stats.control();
    stats.warming_state.set(0);
    match &members.cluster.discovery {
        Discovery::Static(hosts) => {
            stats.membership_change.add(hosts.priorities_in_use());
            hosts.hosts().iter().for_each(|it| it.endpoint.transport_socket.count_hosts(1));
            let is_checked = members.cluster.health_check.is_some();
            let warming = is_checked.then(|| Warming::new(&members.cluster, initialized));
            members.set_hosts(hosts.hosts(), warming.as_ref());
        }
        Discovery::Dns(dns) if dns.targets.is_empty() => {}
        // Others follow these, and a cluster of clusters has no hosts.
        Discovery::Eds(_)
        | Discovery::OriginalDst(_)
        | Discovery::DynamicForwardProxy(_)
        | Discovery::Aggregate(_) => {}
        Discovery::Dns(dns) => {
            let hosts = RefCell::new(dns.hosts(shards));
            let warming = RefCell::new(Some(Warming::new(&members.cluster, initialized)));
            let followed = Followed { members: Rc::clone(members), hosts, warming };
            let followed = Rc::new(followed);
            let resolver = resolver.for_its(dns.resolver.as_ref());
            for target in 0..dns.targets.len() {
                let lookup = Rc::clone(&followed).follow(target, Rc::clone(&resolver));
                members.add_lookup(tokio::task::spawn_local(lookup).abort_handle());
            }
        }
    }
}

/// A DNS cluster and its hosts so far.
struct Followed {
    members: Rc<Members>,
    hosts: RefCell<DnsHosts>,
    /// Until the first answer or failure.
    warming: RefCell<Option<Warming>>,
}

impl Followed {
    /// Resolves one of the names, forever.
    async fn follow(self: Rc<Self>, target: usize, resolver: Rc<Resolver>) {
        let Discovery::Dns(dns) = &self.members.cluster.discovery else {
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
        let warming = self.warming.take();
        if outcome == Outcome::Changed {
            let hosts = hosts.all();
            let (cluster, total) = (&self.members.cluster.name, counted(hosts.len(), "host"));
            tracing::debug!("dns hosts have changed for cluster {cluster}: {total}");
            self.members.set_hosts(&hosts, warming.as_ref());
        }
        outcome
    }

    fn stats(&self) -> &ClusterStats {
        self.members.cluster.stats.control()
    }
}

#[cfg(test)]
mod tests;
