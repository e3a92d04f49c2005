//! Follows the hosts of clusters of type `EDS`.
//!
//! A file may have the hosts of many clusters. Each cluster takes those of its own name, and only they are
//! compiled.
//!
//! Invariant: hosts that cannot be used change nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use super::counted;
use super::membership::{Members, Warming};
use super::resources::{Interest, Sources, Subscriber, Wanted};
use super::subscription::Counts;
use crate::config_source::compile::Response;
use crate::stats::Registry;
use crate::upstream::discovery::{Eds, eds_compile};

/// What follows them.
pub(super) struct Endpoints {
    registry: Arc<Registry>,
    sources: Rc<Sources>,
}

/// The hosts of one cluster.
struct Followed {
    members: Rc<Members>,
    shards: usize,
    /// Until the first answer.
    warming: RefCell<Option<Warming>>,
}

impl Endpoints {
    pub(super) const fn new(registry: Arc<Registry>, sources: Rc<Sources>) -> Self {
        Self { registry, sources }
    }

    /// Gives a cluster its hosts, and goes on as they change, in a task of its own.
    pub(super) fn follow(&self, members: &Rc<Members>, eds: &Eds, warming: Warming, shards: usize) {
        let cluster = Arc::clone(&members.cluster);
        let what = format!("the hosts of cluster {}", cluster.name);
        let prefix = format!("cluster.{}.", cluster.observability_name);
        let own = self.registry.scope(&prefix);
        let interest = Interest {
            kind: "envoy.config.endpoint.v3.ClusterLoadAssignment",
            wanted: Wanted::Names(BTreeSet::from([eds.name.clone()])),
            what: what.clone(),
            prefix,
            counts: Counts::OfCluster(Arc::clone(&cluster.stats), own),
        };
        let warming = RefCell::new(Some(warming));
        let followed = Rc::new(Followed { members: Rc::clone(members), shards, warming });
        match self.sources.subscribe(interest, &eds.source, followed) {
            Ok(subscription) => members.keep(subscription),
            Err(error) => {
                tracing::error!(target: "config", "{what}: files cannot be watched: {error}");
            }
        }
    }
}

impl Subscriber for Followed {
    fn replace(&self, response: Response) -> Result<(), String> {
        self.take(&response)
    }

    fn nothing_came(&self) {
        self.warming.take();
    }
}

impl Followed {
    fn take(&self, response: &Response) -> Result<(), String> {
        let cluster = &self.members.cluster;
        let crate::upstream::discovery::Discovery::Eds(eds) = &cluster.discovery else {
            return Ok(());
        };
        let warming = self.warming.take();
        //= envoy: a cluster that is not in the response stays as it is
        let Some(resource) = response.resources.iter().find(|it| it.name() == eds.name) else {
            cluster.stats.control().update_empty.inc();
            return Ok(());
        };
        let known = self.members.known_hosts();
        let assignment = eds_compile::assignment(resource, cluster, eds, &known, self.shards)?;
        let is_same = |it: &Arc<_>| known.iter().any(|known| Arc::ptr_eq(known, it));
        let changes =
            known.len() != assignment.hosts.len() || !assignment.hosts.iter().all(is_same);
        let is_policy_new = self.members.distribute(assignment.distribution);
        if changes || warming.is_some() {
            if !self.members.are_hosts(&assignment.hosts) {
                cluster.stats.control().membership_change.inc();
            }
            let total = counted(assignment.hosts.len(), "host");
            tracing::debug!("eds hosts have changed for cluster {}: {total}", cluster.name);
            self.members.set_hosts(&assignment.hosts, warming.as_ref());
        } else if is_policy_new {
            self.members.publish();
        } else {
            cluster.stats.control().update_no_rebuild.inc();
        }
        Ok(())
    }
}
