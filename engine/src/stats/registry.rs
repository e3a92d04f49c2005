//! Every scope of the process.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::stats::reading::Listed;
use crate::stats::rules::Rules;
use crate::stats::summary::Merge;
use crate::stats::{Flush, Scope, StatSet};

/// Every scope of the process, by prefix. A handle. Used by the control plane, and by shards for stats whose names
/// come with traffic, when they first see one.
///
/// It does not keep scopes alive: when the last component that uses a scope is dropped, its lines disappear.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: usize,
    scopes: Mutex<Scopes>,
    /// What `stats_config` says; set once.
    rules: OnceLock<Arc<Rules>>,
}

impl Registry {
    /// For a process with this many shards.
    pub fn new(shards: usize) -> Self {
        Self(Arc::new(Inner { shards, scopes: Mutex::default(), rules: OnceLock::new() }))
    }

    /// Sets the rules of the configuration, once.
    pub fn set_rules(&self, rules: Rules) {
        let first = self.0.rules.set(Arc::new(rules));
        debug_assert!(first.is_ok(), "the configuration is compiled once");
    }

    /// The rules of the configuration.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(self.0.rules.get_or_init(Arc::default))
    }

    /// How many shards the process has.
    pub fn shards(&self) -> usize {
        self.0.shards
    }

    /// The stats `S` under the prefix (with its final dot). The same prefix returns the same scope as
    /// long as it is in use, so counters survive a reload.
    ///
    /// A `:` in the prefix (an address, a scheme) becomes `_`, as in Envoy.
    pub fn scope<S: StatSet>(&self, prefix: &str) -> Arc<Scope<S>> {
        let prefix = prefix.replace("://", "_").replace(":/", "_").replace(':', "_");
        let mut scopes = self.0.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (prefix.as_str().into(), TypeId::of::<S>());
        if let Some(scope) = scopes.get(&key).and_then(Weak::upgrade)
            && let Ok(scope) = scope.into_any().downcast::<Scope<S>>()
        {
            return scope;
        }
        let scope = Arc::new(Scope::<S>::new(&prefix, self.0.shards));
        let listed: Arc<dyn Listed> = scope.clone();
        scopes.insert(key, Arc::downgrade(&listed));
        scope
    }

    /// Resets all counters to zero.
    pub fn reset_counters(&self) {
        self.listed().iter().for_each(|scope| scope.reset_counters());
    }

    /// Ends the interval of every histogram; call it each `stats_flush_interval`.
    pub fn flush(&self) {
        if let Some(mut merge) = Merge::new() {
            self.listed().iter().for_each(|scope| scope.flush(&mut merge));
        }
    }

    /// What sinks get of the interval that [`Self::flush`] has ended.
    #[must_use]
    pub fn flushed(&self) -> Flush {
        Flush::new(self)
    }

    /// Every scope that is still in use, in the order of the prefixes.
    pub(super) fn listed(&self) -> Vec<Arc<dyn Listed>> {
        let mut scopes = self.0.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|_, scope| scope.strong_count() > 0);
        scopes.values().filter_map(Weak::upgrade).collect()
    }
}

/// By prefix and set of stats.
type Scopes = BTreeMap<(Box<str>, TypeId), Weak<dyn Listed>>;
