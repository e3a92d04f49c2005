//! A listener as one shard uses it.

use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use super::filter_chain::ConnectionChain;
use crate::stats::ListenerStats;

/// A listener on one shard. Its connections count their hold on this: the count of the listener
/// itself is shared with the other shards.
#[derive(Debug)]
pub struct LocalListener {
    shard: usize,
    listener: Arc<Listener>,
    chain: Rc<ConnectionChain>,
}

impl LocalListener {
    /// For the connections of shard `shard`.
    #[must_use]
    pub fn new(shard: usize, listener: Arc<Listener>) -> Rc<Self> {
        let chain = ConnectionChain::new(&listener.filter_chain);
        Rc::new(Self { shard, listener, chain })
    }

    /// What the configuration says of it.
    #[must_use]
    pub const fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// What its connections are given.
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
