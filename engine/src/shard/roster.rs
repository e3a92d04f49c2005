//! All shards, as they and the control plane know of each other: the mailbox of each, and how many
//! connections it has.
//!
//! Not on the path of a request, except the first one of a connection that is handed over.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::mailbox::{Mailbox, Order};

/// The shards in their order, for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Roster(&'static [Post]);

/// A shard, seen from any thread.
#[derive(Debug)]
#[repr(align(128))] // its count is written with each connection: no other shard's stands beside it
pub struct Post {
    id: usize,
    mailbox: Mailbox,
    connections: AtomicU64,
}

impl Roster {
    /// Shards with these mailboxes, and no connections yet.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox>) -> Self {
        let posts = mailboxes.into_iter().enumerate();
        let posts = posts.map(|(id, mailbox)| Post { id, mailbox, connections: AtomicU64::new(0) });
        // Shards end with the process.
        Self(Box::leak(posts.collect()))
    }

    /// How many shards there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.len()
    }

    /// One shard.
    #[must_use]
    pub fn post(self, shard: usize) -> Option<&'static Post> {
        self.0.get(shard)
    }

    /// All of them.
    pub fn posts(self) -> impl Iterator<Item = &'static Post> {
        self.0.iter()
    }
}

impl Post {
    /// The number of the shard, from 0.
    #[must_use]
    pub const fn id(&self) -> usize {
        self.id
    }

    /// Leaves an order in the mailbox of the shard.
    pub fn tell(&self, order: Order) {
        self.mailbox.send(order);
    }

    /// Client connections that the shard has, or is about to be handed.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}
