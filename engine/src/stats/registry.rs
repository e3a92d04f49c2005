//! Every scope of the process.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::stats::{Scope, StatSet};

/// Every scope of the process, by prefix. Used by the control plane only.
///
/// It does not keep scopes alive: when the last component that writes to a scope is gone, so are its lines.
#[derive(Debug)]
pub struct Registry {
    shards: usize,
    scopes: Mutex<BTreeMap<(Box<str>, TypeId), Weak<dyn Any + Send + Sync>>>,
}

impl Registry {
    /// For a process with so many shards.
    pub fn new(shards: usize) -> Self {
        Self { shards, scopes: Mutex::default() }
    }

    /// The stats `S` under the prefix (with its final dot). The same prefix gives the same scope as long as
    /// somebody holds it, so counters survive a reload.
    pub fn scope<S: StatSet>(&self, prefix: &str) -> Arc<Scope<S>> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (prefix.into(), TypeId::of::<S>());
        if let Some(scope) = scopes.get(&key).and_then(Weak::upgrade)
            && let Ok(scope) = scope.downcast::<Scope<S>>()
        {
            return scope;
        }
        let scope = Arc::new(Scope::<S>::new(prefix, self.shards));
        let listed: Arc<dyn Any + Send + Sync> = scope.clone();
        scopes.insert(key, Arc::downgrade(&listed));
        scope
    }
}
