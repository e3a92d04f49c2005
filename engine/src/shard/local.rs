//! A snapshot as one shard uses it: the configuration, and the shard's own state for each cluster
//! (pools, load balancer) and listener.
//!
//! Invariant: `clusters` and `listeners` are in the order of the snapshot.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::clock::Millis;
use crate::downstream::Listener;
use crate::downstream::local::LocalListener;
use crate::snapshot::Snapshot;
use crate::upstream::local::LocalCluster;

/// A snapshot on one shard.
#[derive(Debug, Default)]
pub struct LocalSnapshot {
    listeners: Vec<Rc<LocalListener>>,
    clusters: Vec<Rc<LocalCluster>>,
}

impl LocalSnapshot {
    /// `snapshot` on `shard`, in place of `old`. An unchanged cluster keeps its pools.
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

    /// A listener on shard `shard`; created if it is not part of this snapshot.
    #[must_use]
    pub fn local_listener(&self, shard: usize, listener: &Arc<Listener>) -> Rc<LocalListener> {
        let known = self.listeners.iter().find(|local| Arc::ptr_eq(local.listener(), listener));
        known.map_or_else(|| LocalListener::new(shard, Arc::clone(listener)), Rc::clone)
    }

    /// Closes the idle upstream connections that have expired or were closed by their host. Returns
    /// when the next one expires, if any is left.
    #[must_use]
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        self.clusters.iter().filter_map(|cluster| cluster.sweep(now)).min()
    }
}
