//! The listeners on one shard.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use super::filter_chains::LocalChains;
use crate::access_log::LocalLogs;
use crate::address::Address;
use crate::shard::Shard;
use crate::stats::ListenerStats;

/// The listeners of a shard.
#[derive(Debug)]
pub struct Listeners {
    shard: &'static Shard,
    current: RefCell<Vec<Rc<LocalListener>>>,
}

impl Listeners {
    /// Those of `shard`; none yet.
    pub fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|shard| Self { shard, current: RefCell::default() })
    }

    /// Replaces all listeners. An unchanged listener stays the same.
    pub fn install(&self, listeners: &[Arc<Listener>]) {
        let next = listeners.iter().map(|listener| self.local(listener)).collect();
        *self.current.borrow_mut() = next;
    }

    /// A listener on this shard; created if it is not part of the current configuration.
    #[must_use]
    pub fn local(&self, listener: &Arc<Listener>) -> Rc<LocalListener> {
        let current = self.current.borrow();
        let known = current.iter().find(|local| Arc::ptr_eq(local.listener(), listener));
        known.map_or_else(|| LocalListener::new(self.shard, Arc::clone(listener)), Rc::clone)
    }
}

impl Listeners {
    /// The listener for connections to `destination`: one with this address, else one with its port on
    /// all addresses.
    #[must_use]
    pub fn listening_on(&self, destination: Address) -> Option<Rc<LocalListener>> {
        let current = self.current.borrow();
        let with = |address: Address| {
            let mut all = current.iter();
            all.find(|local| local.listener.addresses.iter().any(|it| it.address == address))
        };
        let wildcard = match destination {
            Address::Ip(SocketAddr::V4(ip)) => Some((Ipv4Addr::UNSPECIFIED, ip.port()).into()),
            Address::Ip(SocketAddr::V6(ip)) => Some((Ipv6Addr::UNSPECIFIED, ip.port()).into()),
            Address::Pipe(_) => None,
        };
        with(destination).or_else(|| with(wildcard?)).map(Rc::clone)
    }
}

/// A listener on one shard. Connections count references to this: the reference count of the
/// listener itself is shared with other shards.
#[derive(Debug)]
pub struct LocalListener {
    shard: usize,
    listener: Arc<Listener>,
    chains: LocalChains,
    /// The logs of its connections.
    pub(super) access_logs: LocalLogs,
}

impl LocalListener {
    fn new(shard: &'static Shard, listener: Arc<Listener>) -> Rc<Self> {
        let chains = LocalChains::new(&listener, shard);
        let access_logs = LocalLogs::new(&listener.access_logs, shard);
        Rc::new(Self { shard: shard.id, listener, chains, access_logs })
    }

    /// The listener as configured.
    #[must_use]
    pub const fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// The filter chains of its connections.
    #[must_use]
    pub const fn chains(&self) -> &LocalChains {
        &self.chains
    }

    /// This shard's counters.
    #[must_use]
    pub fn stats(&self) -> &ListenerStats {
        self.listener.stats.shard(self.shard)
    }
}
