//! The compiled configuration: immutable, delivered to each shard and replaced as a whole.
//!
//! Invariant: a number that its listeners hold (such as that of a route's cluster) belongs to the same
//! name in every snapshot. The cluster may be gone: then requests for it get a 503.

use std::sync::Arc;

use crate::downstream::Listener;
use crate::downstream::filter_chain_compile::RouteChange;
use crate::downstream::local::Listeners;
use crate::shard::Shard;
use crate::upstream::cluster::Cluster;
use crate::upstream::clusters::Clusters;
use crate::upstream::host_set::HostSet;

/// The whole configuration of the data plane.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the configuration.
    pub clusters: Vec<Arc<Cluster>>,
    /// The new routes of connection managers that stay.
    pub routes: Vec<RouteChange>,
}

impl Snapshot {
    /// Whether it changes nothing about the other one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        fn are_same<T>(ours: &[Arc<T>], theirs: &[Arc<T>]) -> bool {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| Arc::ptr_eq(a, b))
        }
        self.routes.is_empty()
            && are_same(&self.listeners, &other.listeners)
            && are_same(&self.clusters, &other.clusters)
    }

    /// Makes `shard` use this configuration for requests and connections that begin from now on. Clusters that
    /// are new to it begin with the hosts that `hosts` has of them.
    pub fn install(
        &self,
        shard: &'static Shard,
        hosts: impl Fn(&Arc<Cluster>) -> Option<Arc<HostSet>>,
    ) {
        Clusters::of(shard).install(&self.clusters, hosts);
        Listeners::of(shard).install(&self.listeners);
        for RouteChange { service, table } in &self.routes {
            Listeners::of(shard).set_routes(service, table);
        }
    }
}
