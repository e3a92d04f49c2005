//! A configuration that is accepted, on its way into force.
//!
//! Each cluster and each listener in it is used as soon as it is ready: a cluster when it has its hosts and they
//! are checked, a listener when it has its routes, both when their secrets are there. Until then the former one of
//! its name is used, if there was one. A bootstrap that was read again is used as a whole, when all of it is ready or
//! nobody waits for it any longer: in a file routes come together with their clusters.
//!
//! Invariant: what is in force and stays is never taken away because something else is not ready.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::membership::key;
use super::reload::Read;
use super::sockets_in_use::Orders;
use crate::downstream::Listener;
use crate::dynamic_compile::Dynamic;
use crate::runtime::LayerSource;
use crate::snapshot::Snapshot;
use crate::upstream::Cluster;

/// Something that may have to wait, by its address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Item {
    Cluster(usize),
    Listener(usize),
}

impl Item {
    pub(super) fn cluster(cluster: &Arc<Cluster>) -> Self {
        Self::Cluster(key(cluster))
    }

    pub(super) fn listener(listener: &Arc<Listener>) -> Self {
        Self::Listener(Arc::as_ptr(listener).addr())
    }
}

/// What an item waits for: each completes, also with an error, when that is there or not waited for any longer.
pub(super) type Waits = HashMap<Item, Vec<oneshot::Receiver<()>>>;

/// Leaves out what is there already.
pub(super) fn still_waiting(waits: Waits) -> Waits {
    let is_open =
        |it: &mut oneshot::Receiver<()>| matches!(it.try_recv(), Err(TryRecvError::Empty));
    let left = waits.into_iter().map(|(item, mut all)| {
        all.retain_mut(is_open);
        (item, all)
    });
    left.filter(|(_, all)| !all.is_empty()).collect()
}

/// A configuration on its way into force.
#[derive(Debug)]
pub(super) struct Pending {
    /// All of it.
    pub(super) target: Arc<Snapshot>,
    /// The resources in it that did not come from the bootstrap.
    pub(super) dynamic: Dynamic,
    /// Where runtime values come from.
    pub(super) runtime: Vec<LayerSource>,
    /// Of it, and of those whose place it has taken.
    pub(super) orders: Orders,
    pub(super) unready: HashSet<Item>,
    /// What was in force when the first of them was accepted.
    pub(super) since: Arc<Snapshot>,
    /// The configurations that were read again, its own last.
    pub(super) reads: Vec<Read>,
}

impl Pending {
    /// A later configuration takes its place.
    pub(super) fn and_then(self, later: Self) -> Self {
        let Snapshot { listeners, clusters, routes } = &*later.target;
        let routes = self.target.routes.iter().chain(routes).cloned().collect();
        let (listeners, clusters) = (listeners.clone(), clusters.clone());
        let mut unready: HashSet<Item> = self.unready.union(&later.unready).copied().collect();
        let here: HashSet<Item> = clusters
            .iter()
            .map(Item::cluster)
            .chain(listeners.iter().map(Item::listener))
            .collect();
        unready.retain(|item| here.contains(item));
        Self {
            target: Arc::new(Snapshot { listeners, clusters, routes }),
            orders: self.orders.and_then(later.orders),
            reads: self.reads.into_iter().chain(later.reads).collect(),
            unready,
            since: self.since,
            ..later
        }
    }

    /// Whether any of it may be used.
    pub(super) fn may_be_used(&self) -> bool {
        self.reads.is_empty() || self.unready.is_empty()
    }

    /// What of it is used now, while `now` is in force.
    pub(super) fn usable(&self, now: &Snapshot) -> Snapshot {
        let routes = self.target.routes.clone();
        let mut clusters = ready(
            &self.target.clusters,
            &now.clusters,
            |it| self.unready.contains(&Item::cluster(it)),
            |it| &it.name,
        );
        if self.unready.iter().any(|item| matches!(item, Item::Listener(_))) {
            // A former listener that goes on may need clusters that are gone in the target.
            let names: HashSet<&str> = self.target.clusters.iter().map(|it| &*it.name).collect();
            let gone = now.clusters.iter().filter(|it| !names.contains(&*it.name));
            clusters.extend(gone.cloned());
        }
        Snapshot {
            clusters,
            listeners: ready(
                &self.target.listeners,
                &now.listeners,
                |it| self.unready.contains(&Item::listener(it)),
                |it| &it.name,
            ),
            routes,
        }
    }
}

/// Those of the target that are ready; of others the former ones.
fn ready<T>(
    target: &[Arc<T>],
    now: &[Arc<T>],
    is_unready: impl Fn(&Arc<T>) -> bool,
    name: impl Fn(&T) -> &str,
) -> Vec<Arc<T>> {
    let former: HashMap<&str, &Arc<T>> = now.iter().map(|it| (name(it), it)).collect();
    let usable = |it: &Arc<T>| {
        if is_unready(it) {
            former.get(name(it)).map(|it| Arc::clone(it))
        } else {
            Some(Arc::clone(it))
        }
    };
    target.iter().filter_map(usable).collect()
}

/// Whether the one of this name is as the target has it: the same, or gone.
pub(super) fn is_settled<T>(
    target: &[Arc<T>],
    used: &[Arc<T>],
    name: impl Fn(&T) -> String,
) -> impl Fn(&str) -> bool {
    let used: HashMap<String, usize> =
        used.iter().map(|it| (name(it), Arc::as_ptr(it).addr())).collect();
    let unsettled: HashSet<String> = target
        .iter()
        .filter(|it| used.get(&name(it)) != Some(&Arc::as_ptr(it).addr()))
        .map(|it| name(it))
        .collect();
    move |name| !unsettled.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[Arc<(&'static str, u8)>]) -> Vec<(&'static str, u8)> {
        all.iter().map(|it| **it).collect()
    }

    #[test]
    fn the_former_one_is_used_until_the_new_one_is_ready() {
        let now = [("a", 1), ("b", 1), ("gone", 1)].map(Arc::new);
        let target = [("a", 2), ("b", 2), ("new", 2)].map(Arc::new);
        let used = |unready: &[&str]| {
            ready(&target, &now, |it| unready.contains(&it.0), |it: &(&str, u8)| it.0)
        };
        assert_eq!(names(&used(&[])), [("a", 2), ("b", 2), ("new", 2)]);
        assert_eq!(names(&used(&["a", "new"])), [("a", 1), ("b", 2)]);
        let used = used(&["a", "new"]);
        let is_settled = is_settled(&target, &used, |it: &(&str, u8)| it.0.to_owned());
        assert_eq!(["a", "b", "new", "gone"].map(is_settled), [false, true, false, true]);
    }

    #[test]
    fn only_what_is_not_there_yet_is_waited_for() {
        let (open, waits) = oneshot::channel();
        let (done, is_there) = oneshot::channel();
        drop(done);
        let waits: Waits = [(Item::Cluster(1), vec![waits]), (Item::Cluster(2), vec![is_there])]
            .into_iter()
            .collect();
        let left = still_waiting(waits);
        assert_eq!(left.keys().copied().collect::<Vec<_>>(), [Item::Cluster(1)]);
        drop(open);
        assert!(still_waiting(left).is_empty());
    }
}
