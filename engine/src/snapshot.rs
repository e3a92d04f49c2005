//! The compiled configuration: immutable, delivered to each shard and replaced as a whole.
//!
//! Invariant: every index in it (such as a route's cluster) is valid in the same snapshot.

use std::sync::Arc;

use crate::downstream::Listener;
use crate::upstream::cluster::Cluster;

/// The whole configuration of the data plane.
#[derive(Debug)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the configuration.
    pub clusters: Vec<Arc<Cluster>>,
}
