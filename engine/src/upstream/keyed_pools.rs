//! The pools of a host whose connections cannot serve every request: one for each PROXY header that they
//! begin with, and for each set of transport socket options, such as the server name.
//!
//! Invariant: the number of pools is bounded by a multiple of those in use.

use std::collections::HashMap;
use std::rc::Rc;

use super::pool::Pool;
use super::pool_key::PoolKey;
use crate::shard::clock::Millis;

/// The pools of one host, by key.
#[derive(Debug)]
pub(super) struct KeyedPools {
    pools: HashMap<PoolKey, Rc<Pool>>,
    /// At this number, unused pools are removed.
    most: usize,
}

/// So many unused pools may always stay.
const UNUSED_MAX: usize = 64;

impl Default for KeyedPools {
    fn default() -> Self {
        Self { pools: HashMap::new(), most: UNUSED_MAX }
    }
}

impl KeyedPools {
    /// The pool with this key.
    pub(super) fn get(
        &mut self,
        key: PoolKey,
        create: impl FnOnce(PoolKey) -> Rc<Pool>,
    ) -> &Rc<Pool> {
        if self.pools.len() >= self.most {
            self.pools.retain(|_, pool| is_used(pool));
            self.most = UNUSED_MAX.max(2 * self.pools.len());
        }
        self.pools.entry(key).or_insert_with_key(|key| create(key.clone()))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.pools.values()
    }

    /// See [`Pool::sweep`].
    pub(super) fn sweep(&mut self, now: Millis) -> Option<Millis> {
        let next = self.pools.values().filter_map(|pool| pool.sweep(now)).min();
        self.pools.retain(|_, pool| is_used(pool));
        next
    }
}

/// Whether it has a connection, or a request is about to use it.
fn is_used(pool: &Rc<Pool>) -> bool {
    pool.has_connections() || Rc::strong_count(pool) > 1
}
