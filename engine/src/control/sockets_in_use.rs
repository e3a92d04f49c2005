//! The listening sockets that are open, and what becomes of them with another configuration.
//!
//! Invariant: an address that stays keeps its sockets, so no connection in their queues is lost.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::sockets::{self, PortUse};
use super::{Options, StartError};
use crate::address::Address;
use crate::downstream::local::Listeners;
use crate::downstream::{ListenAddress, Listener, listener};
use crate::snapshot::Snapshot;

use super::shards::Shards;

/// The open sockets of the process.
#[derive(Debug, Default)]
pub(super) struct SocketsInUse {
    open: Vec<Open>,
    next_id: u64,
    /// Addresses that it had: the shards may not have closed them yet.
    former: HashSet<Address>,
}

/// The sockets of one address, one on each shard.
#[derive(Clone, Debug)]
struct Open {
    /// Their number, by which the shards find them.
    id: u64,
    listener: Arc<Listener>,
    at: ListenAddress,
    /// With the port that the kernel has chosen, if it has.
    bound: Address,
}

/// What the shards have to do with another configuration. The sockets of new addresses are open already.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Sockets that accept for another listener.
    given: Vec<(u64, Arc<Listener>)>,
    /// Sockets, and the names of their listeners.
    closed: Vec<(u64, String)>,
    new: Vec<(Open, Vec<OwnedFd>)>,
    is_started: bool,
}

/// When clients may connect to new addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// At once: they wait until the process is ready.
    AtOnce,
    /// When the orders are carried out.
    Later,
}

impl SocketsInUse {
    /// Opens the sockets of new addresses. From here on these are the sockets in use; the orders must be carried
    /// out, in turn.
    pub(super) fn change(
        &mut self,
        snapshot: &Snapshot,
        options: &Options,
        start: Start,
    ) -> Result<Orders, StartError> {
        let mut orders = Orders { is_started: start == Start::AtOnce, ..Orders::default() };
        let (mut kept, mut missing) = (Vec::new(), Vec::new());
        let mut left: Vec<&Open> = self.open.iter().collect();
        for listener in snapshot.listeners.iter().filter(|listener| listener.binds) {
            for at in &listener.addresses {
                let Some(place) = left.iter().position(|open| open.serves(listener, at)) else {
                    missing.push((listener, at));
                    continue;
                };
                let open = left.remove(place);
                if !open.has_settings_of(at) {
                    tracing::warn!(target: "config", "listener {}: the socket options of {} take effect when the process starts again", listener.name, at.address);
                }
                if !Arc::ptr_eq(&open.listener, listener) {
                    orders.given.push((open.id, Arc::clone(listener)));
                }
                kept.push(Open { listener: Arc::clone(listener), ..open.clone() });
            }
        }
        orders.closed = left.iter().map(|open| (open.id, open.listener.name.clone())).collect();
        if options.port_use == PortUse::Exclusive {
            // What this process has itself is replaced.
            let is_ours = |address| {
                self.former.contains(&address)
                    || self.open.iter().any(|open| open.at.address == address)
            };
            for (listener, at) in missing.iter().filter(|(_, at)| !is_ours(at.address)) {
                sockets::probe(at.address, &at.settings).map_err(failed(listener, at.address))?;
            }
        }
        for (id, (listener, at)) in (self.next_id..).zip(missing) {
            let (bound, sockets) = sockets::open(at.address, &at.settings, options.concurrency)
                .map_err(failed(listener, at.address))?;
            if start == Start::AtOnce {
                sockets::start(&sockets, bound, &at.settings, sockets::backlog_max())
                    .map_err(failed(listener, at.address))?;
            }
            let open = Open { id, listener: Arc::clone(listener), at: at.clone(), bound };
            orders.new.push((open, sockets));
        }
        self.next_id += orders.new.len() as u64;
        kept.extend(orders.new.iter().map(|(open, _)| open.clone()));
        let former = self.open.iter().map(|open| open.at.address);
        self.former
            .extend(former.filter(|address| !kept.iter().any(|it| it.at.address == *address)));
        self.open = kept;
        Ok(orders)
    }

    /// The addresses of each listener, as bound.
    pub(super) fn addresses(&self, snapshot: &Snapshot) -> Vec<Vec<Address>> {
        let of = |listener: &Arc<Listener>| {
            let bound = |at: &ListenAddress| {
                let is_it = |open: &&Open| open.serves(listener, at);
                self.open.iter().find(is_it).map_or(at.address, |open| open.bound)
            };
            listener.addresses.iter().map(bound).collect()
        };
        snapshot.listeners.iter().map(of).collect()
    }
}

impl Orders {
    /// These, then later ones. What was to be opened and is not wanted any more is closed at once.
    pub(super) fn and_then(mut self, later: Self) -> Self {
        for (id, listener) in later.given {
            match self.new.iter_mut().find(|(open, _)| open.id == id) {
                Some((open, _)) => open.listener = listener,
                None => {
                    self.given.retain(|(given, _)| *given != id);
                    self.given.push((id, listener));
                }
            }
        }
        for (id, name) in later.closed {
            let before = self.new.len();
            self.new.retain(|(open, _)| open.id != id);
            if self.new.len() == before {
                self.given.retain(|(given, _)| *given != id);
                self.closed.push((id, name));
            }
        }
        self.new.extend(later.new);
        self.is_started &= later.is_started;
        self
    }

    /// Takes those for listeners that are settled.
    pub(super) fn take(&mut self, is_settled: impl Fn(&str) -> bool) -> Self {
        let is_settled = &is_settled;
        Self {
            given: self.given.extract_if(.., |(_, it)| is_settled(&it.name)).collect(),
            closed: self.closed.extract_if(.., |(_, name)| is_settled(name)).collect(),
            new: self.new.extract_if(.., |(it, _)| is_settled(&it.listener.name)).collect(),
            is_started: self.is_started,
        }
    }

    /// Makes the shards do it. They have the listeners already.
    pub(super) fn carry_out(self, shards: &Shards) {
        let Self { given, closed, new, is_started } = self;
        for (id, listener) in given {
            shards.send_to_all(move |shard| Listeners::of(shard).give_socket(id, &listener));
        }
        for (id, _) in closed {
            shards.send_to_all(move |shard| Listeners::of(shard).close_socket(id));
        }
        for (Open { id, listener, at, bound }, sockets) in new {
            if !is_started
                && let Err(error) =
                    sockets::start(&sockets, bound, &at.settings, sockets::backlog_max())
            {
                tracing::error!(target: "main", "cannot listen on {bound} (listener {}): {error}", listener.name);
                continue;
            }
            shards.send_to_each(sockets, |socket| {
                let listener = Arc::clone(&listener);
                Box::new(move |shard| listener::listen(shard, id, &listener, socket, bound))
            });
            tracing::info!(target: "main", "listening on {bound}");
        }
    }
}

impl Open {
    /// Whether these sockets can serve this address of a listener. With port 0 each listener has its own. There
    /// cannot be two sockets of one path, or without `SO_REUSEPORT`: these stay whatever their settings are.
    fn serves(&self, listener: &Listener, at: &ListenAddress) -> bool {
        let is_only = !self.at.settings.reuse_port || matches!(at.address, Address::Pipe(_));
        self.at.address == at.address
            && (at.address.port() != Some(0) || self.listener.name == listener.name)
            && (is_only || self.has_settings_of(at))
    }

    fn has_settings_of(&self, at: &ListenAddress) -> bool {
        // The keep-alive of the socket2 crate has no equality.
        format!("{:?}", self.at.settings) == format!("{:?}", at.settings)
    }
}

fn failed(listener: &Listener, address: Address) -> impl FnOnce(std::io::Error) -> StartError {
    let what = format!("listener {}", listener.name);
    move |error| StartError::Listen { address, what, error }
}
