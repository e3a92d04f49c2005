//! The listening sockets that are open, and what becomes of them with another configuration.
//!
//! Invariant: an address that stays keeps its sockets, so no connection in their queues is lost.

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
    closed: Vec<u64>,
    new: Vec<(Open, Vec<OwnedFd>)>,
}

impl SocketsInUse {
    /// Opens the sockets of new addresses. From here on these are the sockets in use; the orders must be carried
    /// out, in turn.
    pub(super) fn change(
        &mut self,
        snapshot: &Snapshot,
        options: &Options,
    ) -> Result<Orders, StartError> {
        let mut orders = Orders::default();
        let (mut kept, mut missing) = (Vec::new(), Vec::new());
        let mut left: Vec<&Open> = self.open.iter().collect();
        for listener in snapshot.listeners.iter().filter(|listener| listener.binds) {
            for at in &listener.addresses {
                let Some(place) = left.iter().position(|open| open.serves(listener, at)) else {
                    missing.push((listener, at));
                    continue;
                };
                let open = left.remove(place);
                if !Arc::ptr_eq(&open.listener, listener) {
                    orders.given.push((open.id, Arc::clone(listener)));
                }
                kept.push(Open { listener: Arc::clone(listener), ..open.clone() });
            }
        }
        orders.closed = left.iter().map(|open| open.id).collect();
        if options.port_use == PortUse::Exclusive {
            // What this process has itself is replaced.
            let is_ours = |address| self.open.iter().any(|open| open.at.address == address);
            for (listener, at) in missing.iter().filter(|(_, at)| !is_ours(at.address)) {
                sockets::probe(at.address, &at.settings).map_err(failed(listener, at.address))?;
            }
        }
        let longest = sockets::backlog_max();
        for (id, (listener, at)) in (self.next_id..).zip(missing) {
            let (bound, sockets) =
                sockets::listen(at.address, &at.settings, options.concurrency, longest)
                    .map_err(failed(listener, at.address))?;
            let open = Open { id, listener: Arc::clone(listener), at: at.clone(), bound };
            orders.new.push((open, sockets));
        }
        self.next_id += orders.new.len() as u64;
        kept.extend(orders.new.iter().map(|(open, _)| open.clone()));
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
    /// Makes the shards do it. They have the listeners already.
    pub(super) fn carry_out(self, shards: &Shards) {
        let Self { given, closed, new } = self;
        for (id, listener) in given {
            shards.send_to_all(move |shard| Listeners::of(shard).give_socket(id, &listener));
        }
        for id in closed {
            shards.send_to_all(move |shard| Listeners::of(shard).close_socket(id));
        }
        for (Open { id, listener, at: _, bound }, sockets) in new {
            shards.send_to_each(sockets, |socket| {
                let listener = Arc::clone(&listener);
                Box::new(move |shard| listener::listen(shard, id, &listener, socket, bound))
            });
            tracing::info!(target: "main", "listening on {bound}");
        }
    }
}

impl Open {
    /// Whether these sockets can serve this address of a listener. With port 0 each listener has its own.
    fn serves(&self, listener: &Listener, at: &ListenAddress) -> bool {
        self.at.address == at.address
            && (at.address.port() != Some(0) || self.listener.name == listener.name)
            // The keep-alive of the socket2 crate has no equality.
            && format!("{:?}", self.at.settings) == format!("{:?}", at.settings)
    }
}

fn failed(listener: &Listener, address: Address) -> impl FnOnce(std::io::Error) -> StartError {
    let what = format!("listener {}", listener.name);
    move |error| StartError::Listen { address, what, error }
}
