//! The clusters of one shard, and the check of their idle connections.
//!
//! Invariant: the clusters are in the order of their numbers, so that a route's number finds its cluster.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::cluster::Cluster;
use super::host_set::HostSet;
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
    /// By their numbers.
    all: Vec<Option<Rc<LocalCluster>>>,
    /// Their numbers, ordered by their names.
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

    /// The cluster that is in place of this one now, for a request that has begun before; the same one if it is
    /// gone.
    #[must_use]
    #[cold]
    pub fn successor(&self, cluster: &Rc<LocalCluster>) -> Rc<LocalCluster> {
        let current = self.current();
        let newest = current.get(cluster.cluster().number.index());
        Rc::clone(newest.unwrap_or(cluster))
    }

    /// Replaces all clusters. An unchanged cluster keeps its hosts and pools; a new one begins with the hosts
    /// that `hosts` has of it.
    pub fn install(
        &self,
        clusters: &[Arc<Cluster>],
        hosts: impl Fn(&Arc<Cluster>) -> Option<Arc<HostSet>>,
    ) {
        let old = self.current();
        let known = |cluster: &Arc<Cluster>| {
            let known = old.get(cluster.number.index())?;
            Arc::ptr_eq(known.cluster(), cluster).then(|| Rc::clone(known))
        };
        let clusters = clusters.iter().map(|cluster| {
            known(cluster).unwrap_or_else(|| {
                let new = LocalCluster::new(self.shard, Arc::clone(cluster));
                if let Some(hosts) = hosts(cluster) {
                    new.replace_hosts(hosts);
                }
                new
            })
        });
        let next = Rc::new(ClusterList::new(clusters));
        for cluster in old.all() {
            let kept = next.get(cluster.cluster().number.index());
            // Idle connections and their pool hold each other.
            if !kept.is_some_and(|kept| Rc::ptr_eq(kept, cluster)) {
                cluster.replace();
            }
        }
        *self.current.borrow_mut() = next;
    }

    /// Gives a cluster these hosts, if it is in use.
    pub fn set_hosts(&self, cluster: &Arc<Cluster>, hosts: Arc<HostSet>) {
        let current = self.current();
        let known = current.get(cluster.number.index());
        if let Some(known) = known.filter(|known| Arc::ptr_eq(known.cluster(), cluster)) {
            known.replace_hosts(hosts);
        }
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
            if let Some(expires) = clusters.all().filter_map(|each| each.sweep(now)).min() {
                self.sweep.schedule(expires, now);
            }
        }
    }
}

impl ClusterList {
    fn new(clusters: impl Iterator<Item = Rc<LocalCluster>>) -> Self {
        let mut all = Vec::new();
        let mut by_name = Vec::with_capacity(clusters.size_hint().0);
        for cluster in clusters {
            let number = cluster.cluster().number.index();
            by_name.push(number);
            if all.len() <= number {
                all.resize(number + 1, None);
            }
            if let Some(place) = all.get_mut(number) {
                *place = Some(cluster);
            }
        }
        let name = |number: &usize| Some(&*all.get(*number)?.as_ref()?.cluster().name);
        by_name.sort_unstable_by_key(name);
        Self { all, by_name }
    }

    /// A cluster by its number. None: it was removed.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Rc<LocalCluster>> {
        self.all.get(number)?.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = &Rc<LocalCluster>> {
        self.all.iter().flatten()
    }

    /// A cluster by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Rc<LocalCluster>> {
        let of = |number: &usize| self.get(*number).map(|cluster| &*cluster.cluster().name);
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
