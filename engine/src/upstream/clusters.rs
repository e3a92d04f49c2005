//! The clusters of one shard, and the check of their idle connections.
//!
//! Invariant: the clusters are in the order of the snapshot, so that a route's index finds its cluster.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::cluster::Cluster;
use super::local::LocalCluster;
use crate::limits;
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::shard::timers::Alarm;

/// The clusters of a shard.
#[derive(Debug)]
pub struct Clusters {
    shard: &'static Shard,
    current: RefCell<Rc<ClusterList>>,
    sweep: Sweep,
}

/// The clusters of one snapshot. A request keeps the list that it began with.
#[derive(Debug, Default)]
pub struct ClusterList {
    all: Vec<Rc<LocalCluster>>,
    /// Their indexes, ordered by their names.
    by_name: Vec<usize>,
}

/// When idle connections are checked next.
#[derive(Debug)]
pub(super) struct Sweep {
    alarm: Alarm,
    due: Cell<Millis>,
}

impl Clusters {
    /// Those of `shard`; none yet. The check of idle connections begins when they are first asked for.
    pub fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|shard| {
            let sweep = Sweep { alarm: shard.timers.alarm(), due: Cell::new(Millis::MAX) };
            shard.spawn(async move { Self::of(shard).sweep_forever().await });
            Self { shard, current: RefCell::default(), sweep }
        })
    }

    /// The clusters of the current configuration, for a request that begins now.
    #[must_use]
    pub fn current(&self) -> Rc<ClusterList> {
        Rc::clone(&self.current.borrow())
    }

    /// Replaces all clusters. An unchanged cluster keeps its pools.
    pub fn install(&self, clusters: &[Arc<Cluster>]) {
        let old = self.current();
        let kept: HashMap<_, _> =
            old.all.iter().map(|cluster| (Arc::as_ptr(cluster.cluster()), cluster)).collect();
        let clusters = clusters.iter().map(|cluster| {
            kept.get(&Arc::as_ptr(cluster)).map_or_else(
                || LocalCluster::new(self.shard, Arc::clone(cluster)),
                |kept| Rc::clone(kept),
            )
        });
        let next = Rc::new(ClusterList::new(clusters.collect()));
        for cluster in &old.all {
            // Idle connections and their pool hold each other.
            if !next.all.iter().any(|kept| Rc::ptr_eq(kept, cluster)) {
                cluster.replace_hosts(Arc::default());
            }
        }
        *self.current.borrow_mut() = next;
    }

    pub(super) const fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    async fn sweep_forever(&self) {
        loop {
            self.sweep.alarm.expired().await;
            let now = self.shard.clock.refresh();
            self.sweep.alarm.set(None, now);
            self.sweep.due.set(Millis::MAX);
            let clusters = self.current();
            if let Some(expires) = clusters.all.iter().filter_map(|each| each.sweep(now)).min() {
                self.sweep.schedule(expires, now);
            }
        }
    }
}

impl ClusterList {
    fn new(all: Vec<Rc<LocalCluster>>) -> Self {
        let name = |index: &usize| all.get(*index).map(|cluster| &*cluster.cluster().name);
        let mut by_name: Vec<usize> = (0..all.len()).collect();
        by_name.sort_unstable_by_key(name);
        Self { all, by_name }
    }

    /// A cluster by its index in the snapshot.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Rc<LocalCluster>> {
        self.all.get(index)
    }

    /// A cluster by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Rc<LocalCluster>> {
        let of = |index: &usize| self.get(*index).map(|cluster| &*cluster.cluster().name);
        let at = self.by_name.binary_search_by_key(&Some(name), of).ok()?;
        self.get(*self.by_name.get(at)?)
    }
}

impl Sweep {
    /// Schedules a check of the idle connections: at `expires`, when one that has just become idle
    /// expires, but neither too soon nor too late.
    pub(super) fn schedule(&self, expires: Millis, now: Millis) {
        let due = expires.clamp(now + limits::POOL_SWEEP_MIN_MS, now + limits::POOL_SWEEP_MS);
        if due < self.due.get() {
            self.due.set(due);
            self.alarm.set(Some(due), now);
        }
    }
}
