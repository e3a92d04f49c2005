//! The resources that came from files and management servers, and what has become of them: for `/config_dump`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::dynamic_compile::{Dynamic, Failed, Kind, Loaded, without_chains_is_same};

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct LoadedResources {
    /// The last ones that were accepted. Those of them that are not in force warm.
    latest: Dynamic,
    /// Those in force.
    active: Dynamic,
    /// Listeners that are not in force any more, and whose connections drain.
    draining: Vec<Arc<Loaded>>,
    /// Routes, by their subscriptions.
    routes: BTreeMap<u64, Arc<Loaded>>,
}

impl LoadedResources {
    /// Resources are accepted.
    pub(super) fn accept(&mut self, latest: Dynamic) {
        self.latest = latest;
    }

    /// They are in force. Returns the listeners that drain from now on.
    pub(super) fn put_into_force(
        &mut self,
        mut dynamic: Dynamic,
        is_settled: impl Fn(Kind, &str) -> bool,
    ) -> Vec<Arc<Loaded>> {
        for kind in [Kind::Clusters, Kind::Listeners] {
            // Of what is not ready the former one is in force.
            let former: HashMap<&str, &Arc<Loaded>> =
                self.active(kind).map(|it| (it.name(), it)).collect();
            dynamic.change_list(kind, |it| {
                if is_settled(kind, it.name()) {
                    return Some(it);
                }
                former.get(it.name()).map(|it| Arc::clone(it))
            });
        }
        let before = std::mem::replace(&mut self.active, dynamic);
        let after = &self.active.listeners.list;
        let drains = |gone: &&Arc<Loaded>| {
            let next = after.iter().find(|it| it.name() == gone.name());
            next.is_none_or(|it| !Arc::ptr_eq(it, gone) && !without_chains_is_same(it, gone))
        };
        let gone: Vec<_> = before.listeners.list.iter().filter(drains).cloned().collect();
        self.draining.extend(gone.iter().cloned());
        gone
    }

    /// The connections of these listeners have ended.
    pub(super) fn drained(&mut self, gone: &[Arc<Loaded>]) {
        self.draining.retain(|it| !gone.iter().any(|gone| Arc::ptr_eq(gone, it)));
    }

    /// The routes of this subscription.
    pub(super) fn set_routes(&mut self, subscription: u64, routes: Arc<Loaded>) {
        self.routes.insert(subscription, routes);
    }

    /// A subscription to routes has ended.
    pub(super) fn forget_routes(&mut self, subscription: u64) {
        self.routes.remove(&subscription);
    }

    /// The version of the last response.
    pub(super) fn version(&self, kind: Kind) -> &str {
        &self.latest.of(kind).version
    }

    pub(super) fn active(&self, kind: Kind) -> impl Iterator<Item = &Arc<Loaded>> {
        self.active.of(kind).list.iter()
    }

    pub(super) fn warming(&self, kind: Kind) -> impl Iterator<Item = &Arc<Loaded>> {
        let active: BTreeMap<_, _> = self.active(kind).map(|it| (it.name(), it)).collect();
        let is_active =
            move |it: &&Arc<Loaded>| active.get(it.name()).is_some_and(|at| Arc::ptr_eq(at, it));
        self.latest.of(kind).list.iter().filter(move |it| !is_active(it))
    }

    pub(super) fn draining(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.draining.iter()
    }

    /// The listeners of the last response that were rejected.
    pub(super) fn failed(&self) -> &[Arc<Failed>] {
        &self.latest.listeners.failed
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.routes.values()
    }
}
