//! The configuration as one shard uses it: the snapshot, and what the shard itself keeps about
//! each cluster (pools, balancer).
//!
//! Invariant: `clusters` stands in the order of the snapshot's clusters.

use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::clock::Millis;
use crate::downstream::Listener;
use crate::snapshot::Snapshot;
use crate::upstream::local::LocalCluster;

/// One configuration on one shard.
#[derive(Debug, Default)]
pub struct World {
    snapshot: Option<Arc<Snapshot>>,
    clusters: Vec<Rc<LocalCluster>>,
}

impl World {
    /// The world of `snapshot`. A cluster that stays the same keeps its pools.
    #[must_use]
    pub fn next(shard: &'static Shard, old: &Self, snapshot: Arc<Snapshot>) -> Self {
        let clusters = snapshot.clusters.iter().map(|cluster| {
            let kept = old.clusters.iter().find(|old| Arc::ptr_eq(old.cluster(), cluster));
            kept.map_or_else(|| LocalCluster::new(shard, Arc::clone(cluster)), Rc::clone)
        });
        let clusters = clusters.collect();
        Self { snapshot: Some(snapshot), clusters }
    }

    /// A cluster by its index in the snapshot.
    #[must_use]
    pub fn cluster(&self, index: usize) -> Option<Rc<LocalCluster>> {
        self.clusters.get(index).map(Rc::clone)
    }

    /// A listener by its index in the snapshot.
    #[must_use]
    pub fn listener(&self, index: usize) -> Option<Arc<Listener>> {
        self.snapshot.as_ref()?.listeners.get(index).map(Arc::clone)
    }

    /// Looks at every idle upstream connection; `true` while there are any.
    #[must_use]
    pub fn sweep(&self, now: Millis) -> bool {
        self.clusters.iter().fold(false, |any, cluster| cluster.sweep(now) | any)
    }
}
