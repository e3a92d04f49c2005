//! The configuration as one shard uses it: the snapshot, and what the shard itself keeps about
//! each cluster (pools, balancer) and listener.
//!
//! Invariant: `clusters` and `listeners` stand in the order of the snapshot's.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::clock::Millis;
use crate::downstream::Listener;
use crate::downstream::local::LocalListener;
use crate::snapshot::Snapshot;
use crate::upstream::local::LocalCluster;

/// One configuration on one shard.
#[derive(Debug, Default)]
pub struct LocalSnapshot {
    listeners: Vec<Rc<LocalListener>>,
    clusters: Vec<Rc<LocalCluster>>,
}

impl LocalSnapshot {
    /// The world of `snapshot`. A cluster that stays the same keeps its pools.
    #[must_use]
    pub fn next(shard: &'static Shard, old: &Self, snapshot: &Snapshot) -> Self {
        let kept: HashMap<_, _> =
            old.clusters.iter().map(|cluster| (Arc::as_ptr(cluster.cluster()), cluster)).collect();
        let clusters = snapshot.clusters.iter().map(|cluster| {
            kept.get(&Arc::as_ptr(cluster)).map_or_else(
                || LocalCluster::new(shard, Arc::clone(cluster)),
                |kept| Rc::clone(kept),
            )
        });
        let clusters = clusters.collect();
        let listeners = snapshot.listeners.iter();
        let listeners = listeners.map(|listener| old.local_listener(shard.id, listener)).collect();
        Self { listeners, clusters }
    }

    /// A cluster by its index in the snapshot.
    #[must_use]
    pub fn cluster(&self, index: usize) -> Option<Rc<LocalCluster>> {
        self.clusters.get(index).map(Rc::clone)
    }

    /// A listener by its index in the snapshot.
    #[must_use]
    pub fn listener(&self, index: usize) -> Option<Rc<LocalListener>> {
        self.listeners.get(index).map(Rc::clone)
    }

    /// A listener as shard `shard` uses it; made anew if it is none of this configuration.
    #[must_use]
    pub fn local_listener(&self, shard: usize, listener: &Arc<Listener>) -> Rc<LocalListener> {
        let known = self.listeners.iter().find(|local| Arc::ptr_eq(local.listener(), listener));
        known.map_or_else(|| LocalListener::new(shard, Arc::clone(listener)), Rc::clone)
    }

    /// Looks at every idle upstream connection. Tells when the next one expires, while there are
    /// any.
    #[must_use]
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        self.clusters.iter().filter_map(|cluster| cluster.sweep(now)).min()
    }
}
