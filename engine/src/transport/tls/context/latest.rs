//! Contexts that are replaced while shards use them.
//!
//! New secrets are a new context. The control plane publishes it; a shard takes it with its next
//! handshake, and drops the old one when the last connection of the old one has ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::stats::Registry;

/// The newest context of a filter chain or cluster; none as long as its secrets are missing.
#[derive(Debug)]
pub struct Latest<T> {
    /// How often it was replaced: shards read it with each handshake.
    version: AtomicU64,
    /// Locked by the control plane, and by each shard once per version.
    context: Mutex<Option<Arc<T>>>,
    owner: OnceLock<Owner>,
}

/// Whose context it is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// For the operator: `listener front`, `cluster echo`.
    pub name: String,
    /// What its stats begin with: `cluster.echo.`
    pub prefix: String,
}

/// A context whose certificates the operator sees.
pub trait Listed {
    /// What the stats of its socket factory begin with, after the prefix of the owner.
    const FACTORY: &'static str;

    /// Lists its certificates under the name of their owner, and sets their stats.
    fn list(&self, owner: &Owner, registry: &Registry);
}

impl<T: Listed> Latest<T> {
    /// Begins with this context.
    #[must_use]
    pub fn new(context: Option<Arc<T>>) -> Arc<Self> {
        let context = Mutex::new(context);
        Arc::new(Self { version: AtomicU64::new(0), context, owner: OnceLock::new() })
    }

    /// Lists the certificates of this context and of all later ones.
    pub fn list(&self, owner: Owner, registry: &Registry) {
        let owner = self.owner.get_or_init(|| owner);
        if let Some(context) = self.get() {
            context.list(owner, registry);
        }
    }

    /// Whose context it is, if it is listed.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.get()
    }

    /// New connections use `context` from now on.
    pub fn replace(&self, context: Arc<T>, registry: &Registry) {
        if let Some(owner) = self.owner.get() {
            context.list(owner, registry);
        }
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = Some(context);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The newest context.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The newest context on one shard, as `L`, which the shard derives from it.
#[derive(Debug)]
pub(crate) struct Follower<T, L> {
    latest: Arc<Latest<T>>,
    /// The version that was taken.
    version: Option<u64>,
    local: Option<L>,
}

impl<T: Listed, L: From<Arc<T>>> Follower<T, L> {
    pub(crate) const fn new(latest: Arc<Latest<T>>) -> Self {
        Self { latest, version: None, local: None }
    }

    /// The newest one; none as long as its secrets are missing.
    pub(crate) fn newest(&mut self) -> Option<&mut L> {
        // Read before the context: at worst the same context is taken twice.
        let version = Some(self.latest.version.load(Ordering::Acquire));
        if self.version != version {
            self.version = version;
            self.local = self.latest.get().map(L::from);
        }
        self.local.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context with a number.
    #[derive(Debug)]
    struct Numbered(u32);

    impl Listed for Numbered {
        const FACTORY: &'static str = "";

        fn list(&self, _owner: &Owner, _registry: &Registry) {}
    }

    #[derive(Debug)]
    struct Local {
        context: Arc<Numbered>,
        uses: u32,
    }

    impl From<Arc<Numbered>> for Local {
        fn from(context: Arc<Numbered>) -> Self {
            Self { context, uses: 0 }
        }
    }

    #[test]
    fn a_shard_takes_the_newest_context_and_frees_the_others() {
        let registry = Registry::new(1);
        let latest = Latest::new(None);
        let mut shard: Follower<_, Local> = Follower::new(Arc::clone(&latest));
        assert!(shard.newest().is_none());
        let first = Arc::new(Numbered(1));
        latest.replace(Arc::clone(&first), &registry);
        assert_eq!(shard.newest().unwrap().context.0, 1);
        latest.replace(Arc::new(Numbered(2)), &registry);
        latest.replace(Arc::new(Numbered(3)), &registry);
        assert_eq!(shard.newest().unwrap().context.0, 3);
        assert_eq!(latest.get().unwrap().0, 3);
        assert_eq!(Arc::strong_count(&first), 1, "nothing else holds the first one");
    }

    #[test]
    fn what_a_shard_derives_is_kept_until_the_next_version() {
        let latest = Latest::new(Some(Arc::new(Numbered(1))));
        let mut shard: Follower<_, Local> = Follower::new(Arc::clone(&latest));
        shard.newest().unwrap().uses += 1;
        assert_eq!(shard.newest().unwrap().uses, 1);
        latest.replace(Arc::new(Numbered(2)), &Registry::new(1));
        assert_eq!(shard.newest().unwrap().uses, 0);
    }
}
