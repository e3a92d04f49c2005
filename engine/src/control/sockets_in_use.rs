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

/// What becomes of the sockets with another configuration. Those of new addresses are open already.
#[derive(Debug)]
pub(super) struct Plan {
    after: Vec<Open>,
    /// Of new addresses, by their numbers.
    new: Vec<(u64, Vec<OwnedFd>)>,
    next_id: u64,
}

impl SocketsInUse {
    /// Opens the sockets of new addresses.
    pub(super) fn plan(&self, snapshot: &Snapshot, options: &Options) -> Result<Plan, StartError> {
        let mut plan = Plan { after: Vec::new(), new: Vec::new(), next_id: self.next_id };
        let mut left: Vec<&Open> = self.open.iter().collect();
        let mut missing = Vec::new();
        for listener in snapshot.listeners.iter().filter(|listener| listener.binds) {
            for at in &listener.addresses {
                match left.iter().position(|open| open.serves(listener, at)) {
                    Some(place) => {
                        let open = left.remove(place).clone();
                        plan.after.push(Open { listener: Arc::clone(listener), ..open });
                    }
                    None => missing.push((listener, at)),
                }
            }
        }
        if options.port_use == PortUse::Exclusive {
            // What this process has itself is replaced.
            let is_ours = |address| self.open.iter().any(|open| open.at.address == address);
            for (listener, at) in missing.iter().filter(|(_, at)| !is_ours(at.address)) {
                sockets::probe(at.address, &at.settings).map_err(failed(listener, at.address))?;
            }
        }
        let longest = sockets::backlog_max();
        for (listener, at) in missing {
            let (bound, sockets) =
                sockets::listen(at.address, &at.settings, options.concurrency, longest)
                    .map_err(failed(listener, at.address))?;
            let (listener, id) = (Arc::clone(listener), plan.next_id);
            plan.next_id += 1;
            plan.after.push(Open { id, listener, at: at.clone(), bound });
            plan.new.push((id, sockets));
        }
        Ok(plan)
    }

    /// Makes the shards listen as planned. They have the listeners already. Returns the new addresses.
    pub(super) fn carry_out(&mut self, plan: Plan, shards: &Shards) -> Vec<Address> {
        let Plan { after, new, next_id } = plan;
        for open in &self.open {
            let id = open.id;
            match after.iter().find(|after| after.id == id) {
                None => shards.send_to_all(move |shard| Listeners::of(shard).close_socket(id)),
                Some(after) if !Arc::ptr_eq(&after.listener, &open.listener) => {
                    let listener = Arc::clone(&after.listener);
                    shards.send_to_all(move |shard| {
                        Listeners::of(shard).give_socket(id, &listener);
                    });
                }
                Some(_) => {}
            }
        }
        let mut addresses = Vec::with_capacity(new.len());
        for (id, sockets) in new {
            let Some(open) = after.iter().find(|open| open.id == id) else { continue };
            let bound = open.bound;
            addresses.push(bound);
            shards.send_to_each(sockets, |socket| {
                let listener = Arc::clone(&open.listener);
                Box::new(move |shard| listener::listen(shard, id, &listener, socket, bound))
            });
        }
        (self.open, self.next_id) = (after, next_id);
        addresses
    }
}

impl Plan {
    /// The addresses of each listener, as bound.
    pub(super) fn addresses(&self, snapshot: &Snapshot) -> Vec<Vec<Address>> {
        let of = |listener: &Arc<Listener>| {
            let bound = |at: &ListenAddress| {
                let is_it = |open: &&Open| open.serves(listener, at);
                self.after.iter().find(is_it).map_or(at.address, |open| open.bound)
            };
            listener.addresses.iter().map(bound).collect()
        };
        snapshot.listeners.iter().map(of).collect()
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
