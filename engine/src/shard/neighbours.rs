//! The shards as they know of each other: how many connections each has, and its mailbox.
//!
//! Not on the path of a request. Invariant: a connection that is handed over is counted on its new
//! shard all the time, so that a process does not end while one is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mailbox::{Mailbox, Order};
use crate::downstream::listener::Arrival;

/// All shards, in their order.
#[derive(Clone, Debug)]
pub struct Neighbours(Arc<[Neighbour]>);

/// A shard, seen from another thread.
#[derive(Debug)]
#[repr(align(128))] // its count is written with each connection: no other shard's stands beside it
pub struct Neighbour {
    mailbox: Mailbox,
    connections: AtomicU64,
}

impl Neighbours {
    /// Shards with these mailboxes, and no connections yet.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox>) -> Self {
        let neighbour = |mailbox| Neighbour { mailbox, connections: AtomicU64::new(0) };
        Self(mailboxes.into_iter().map(neighbour).collect())
    }

    /// How many shards there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Leaves an order in the mailbox of a shard.
    pub fn tell(&self, shard: usize, order: Order) {
        if let Some(neighbour) = self.0.get(shard) {
            neighbour.mailbox.send(order);
        }
    }

    /// Lets another shard serve a connection, which counts there already.
    pub(crate) fn hand_over(&self, shard: usize, arrival: Arrival) {
        self.tell(shard, Order::Serve(arrival));
    }

    /// A client connection has its place on a shard.
    pub(crate) fn connection_opened(&self, shard: usize) {
        if let Some(neighbour) = self.0.get(shard) {
            neighbour.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A client connection of a shard has ended.
    pub(super) fn connection_closed(&self, shard: usize) {
        if let Some(neighbour) = self.0.get(shard) {
            neighbour.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Client connections that a shard has, or is about to be handed.
    #[must_use]
    pub fn connections(&self, shard: usize) -> u64 {
        self.0.get(shard).map_or(0, |neighbour| neighbour.connections.load(Ordering::Relaxed))
    }
}
