//! A listener on one shard.

use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use super::filter_chain::ConnectionChain;
use crate::stats::ListenerStats;

/// A listener on one shard. Connections count references to this: the reference count of the
/// listener itself is shared with other shards.
#[derive(Debug)]
pub struct LocalListener {
    shard: usize,
    listener: Arc<Listener>,
    chain: Rc<ConnectionChain>,
}

impl LocalListener {
    /// `listener` for the connections of shard `shard`.
    #[must_use]
    pub fn new(shard: usize, listener: Arc<Listener>) -> Rc<Self> {
        let chain = ConnectionChain::new(&listener.filter_chain);
        Rc::new(Self { shard, listener, chain })
    }

    /// The listener as configured.
    #[must_use]
    pub const fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// The filter chain of its connections.
    #[must_use]
    pub const fn chain(&self) -> &Rc<ConnectionChain> {
        &self.chain
    }

    /// This shard's counters.
    #[must_use]
    pub fn stats(&self) -> &ListenerStats {
        self.listener.stats.shard(self.shard)
    }
}
