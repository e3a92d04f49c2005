//! The listeners on one shard.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use super::filter_chain::LocalChain;
use super::filter_chains::{KnownChains, LocalChains};
use crate::access_log::LocalLogs;
use crate::address::Address;
use crate::request::route::RouteTable;
use crate::request::service::Service;
use crate::shard::Shard;
use crate::shard::drain::Phase;
use crate::stats::ListenerStats;

/// The listeners of a shard.
#[derive(Debug)]
pub struct Listeners {
    shard: &'static Shard,
    current: RefCell<Vec<Rc<LocalListener>>>,
    /// What is left of former configurations.
    draining: RefCell<Vec<Gone>>,
    /// The open sockets.
    accepting: RefCell<Vec<Rc<Accepting>>>,
}

/// A listener of a former configuration, whose connections are still served.
#[derive(Debug)]
struct Gone {
    listener: Rc<LocalListener>,
    /// Those of its filter chains that are gone with it.
    chains: Vec<Rc<LocalChain>>,
}

/// A listening socket of the shard, as long as it is open.
#[derive(Debug)]
pub(super) struct Accepting {
    /// Its number, the same on all shards.
    id: u64,
    /// Whose connections it accepts: another listener after a change of the configuration.
    listener: RefCell<Rc<LocalListener>>,
    is_closed: Cell<bool>,
}

impl Accepting {
    /// The listener of the next connections.
    pub(super) fn listener(&self) -> Rc<LocalListener> {
        Rc::clone(&self.listener.borrow())
    }

    /// Whether no more connections are to be accepted.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }
}

impl Listeners {
    /// Those of `shard`; none yet.
    pub fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|shard| Self {
            shard,
            current: RefCell::default(),
            draining: RefCell::default(),
            accepting: RefCell::default(),
        })
    }

    /// Replaces all listeners. Unchanged listeners and filter chains stay the same; the connections of those that
    /// are gone drain from now on.
    pub fn install(&self, listeners: &[Arc<Listener>]) {
        let before = self.current.take();
        let chains = |all: &[Rc<LocalListener>]| -> KnownChains {
            let chains = all.iter().flat_map(|local| local.chains.all());
            chains.map(|chain| (chain.key(), Rc::clone(chain))).collect()
        };
        let known = chains(&before);
        let current: Vec<_> = listeners
            .iter()
            .map(|listener| {
                let same = before.iter().find(|local| Arc::ptr_eq(local.listener(), listener));
                same.map_or_else(
                    || LocalListener::new(self.shard, Arc::clone(listener), &known),
                    Rc::clone,
                )
            })
            .collect();
        let kept = chains(&current);
        let is_current = |local: &Rc<LocalListener>| current.iter().any(|it| Rc::ptr_eq(it, local));
        for listener in before.into_iter().filter(|local| !is_current(local)) {
            let gone =
                listener.chains.all().iter().filter(|chain| !kept.contains_key(&chain.key()));
            let chains: Vec<_> = gone.map(Rc::clone).collect();
            chains.iter().for_each(|chain| chain.phase().set(Phase::Draining));
            if !chains.is_empty() {
                self.draining.borrow_mut().push(Gone { listener, chains });
            }
        }
        *self.current.borrow_mut() = current;
    }

    /// A listener on this shard. One that is not part of the current configuration drains.
    #[must_use]
    pub fn local(&self, listener: &Arc<Listener>) -> Rc<LocalListener> {
        let is_it = |local: &&Rc<LocalListener>| Arc::ptr_eq(local.listener(), listener);
        if let Some(known) = self.current.borrow().iter().find(is_it) {
            return Rc::clone(known);
        }
        let draining = self.draining.borrow();
        let known = draining.iter().map(|gone| &gone.listener).find(is_it).map(Rc::clone);
        known.unwrap_or_else(|| {
            // A connection that was handed over has come too late.
            let new = LocalListener::new(self.shard, Arc::clone(listener), &KnownChains::new());
            new.chains.all().iter().for_each(|chain| chain.phase().set(Phase::Draining));
            new
        })
    }

    /// Closes the connections of listeners that are no longer part of the configuration, but for those whose
    /// filter chain still is.
    pub fn close(&self, listeners: &[Arc<Listener>]) {
        let is_it = |gone: &mut Gone| {
            listeners.iter().any(|listener| Arc::ptr_eq(gone.listener.listener(), listener))
        };
        for gone in self.draining.borrow_mut().extract_if(.., is_it) {
            gone.chains.iter().for_each(|chain| chain.phase().set(Phase::Closed));
        }
        self.shard.timers.wake_all();
    }

    /// The requests of this connection manager that begin from now on have these routes.
    pub fn set_routes(&self, service: &Arc<Service>, table: &Arc<RouteTable>) {
        for local in self.current.borrow().iter() {
            local.chains.set_routes(service, table);
        }
    }

    /// A socket is open.
    pub(super) fn begin_accepting(&self, id: u64, listener: &Arc<Listener>) -> Rc<Accepting> {
        let listener = RefCell::new(self.local(listener));
        let accepting = Rc::new(Accepting { id, listener, is_closed: Cell::new(false) });
        self.accepting.borrow_mut().push(Rc::clone(&accepting));
        accepting
    }

    /// A socket is closed.
    pub(super) fn end_accepting(&self, ended: &Rc<Accepting>) {
        self.accepting.borrow_mut().retain(|accepting| !Rc::ptr_eq(accepting, ended));
    }

    /// The connections of this socket belong to another listener from now on.
    pub fn give_socket(&self, id: u64, listener: &Arc<Listener>) {
        if let Some(accepting) = self.accepting.borrow().iter().find(|it| it.id == id) {
            *accepting.listener.borrow_mut() = self.local(listener);
        }
    }

    /// This socket accepts what is left in its queue, then it is closed.
    pub fn close_socket(&self, id: u64) {
        if let Some(accepting) = self.accepting.borrow().iter().find(|it| it.id == id) {
            accepting.is_closed.set(true);
            self.shard.timers.wake_all();
        }
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
    fn new(shard: &'static Shard, listener: Arc<Listener>, known: &KnownChains) -> Rc<Self> {
        let chains = LocalChains::new(&listener, shard, known);
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
