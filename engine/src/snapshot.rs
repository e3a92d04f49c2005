//! The compiled configuration: immutable, delivered to each shard and replaced as a whole.
//!
//! Invariant: every index in it (such as a route's cluster) is valid in the same snapshot.

use std::sync::Arc;

use crate::downstream::Listener;
use crate::downstream::local::Listeners;
use crate::shard::Shard;
use crate::upstream::cluster::Cluster;
use crate::upstream::clusters::Clusters;

/// The whole configuration of the data plane.
#[derive(Debug)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the configuration.
    pub clusters: Vec<Arc<Cluster>>,
}

impl Snapshot {
    /// Makes `shard` use this configuration for requests and connections that begin from now on.
    pub fn install(&self, shard: &'static Shard) {
        Clusters::of(shard).install(&self.clusters);
        Listeners::of(shard).install(&self.listeners);
    }
}
