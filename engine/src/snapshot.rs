//! The compiled configuration: immutable, delivered to each shard whole, swapped whole.
//!
//! Invariant: every index in it (a route's cluster) is valid in the same snapshot.

use std::sync::Arc;

use crate::downstream::Listener;
use crate::upstream::cluster::Cluster;

/// Everything that the data plane knows of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// In the order of the configuration.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the configuration.
    pub clusters: Vec<Arc<Cluster>>,
}
