//! All shards, as they and the control plane know of each other: the mailbox of each, how many
//! connections it has, and whether it listens, waits for descriptors, and turns.
//!
//! Not on the path of a request, except the first one of a connection that is handed over.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU64};

use super::mailbox::{Mailbox, Order};

/// The shards in their order, for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct ShardHandles {
    handles: &'static [ShardHandle],
    /// Client connections that there may be, all shards together.
    connections_max: u64,
}

/// A shard, seen from any thread.
#[derive(Debug)]
#[repr(align(128))] // its count is written with each connection: no other shard's stands beside it
pub struct ShardHandle {
    id: usize,
    mailbox: Mailbox,
    connections: AtomicU64,
    listening: AtomicU64,
    accept_pauses: AtomicU64,
    accept_error: AtomicI32,
    heartbeats: AtomicU64,
}

/// A socket that a shard accepts connections from; no longer when it is dropped.
#[derive(Debug)]
pub struct Listening(&'static ShardHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        // Whoever sees this sees every connection that was accepted.
        self.0.listening.fetch_sub(1, Release);
    }
}

impl ShardHandles {
    /// Shards with these mailboxes, and no connections yet. `connections_max`: as many as the file
    /// descriptors of the process are enough for.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox>, connections_max: u64) -> Self {
        let handles = mailboxes.into_iter().enumerate();
        let handles = handles.map(|(id, mailbox)| ShardHandle {
            id,
            mailbox,
            connections: AtomicU64::new(0),
            listening: AtomicU64::new(0),
            accept_pauses: AtomicU64::new(0),
            accept_error: AtomicI32::new(0),
            heartbeats: AtomicU64::new(0),
        });
        // Shards end with the process.
        Self { handles: Box::leak(handles.collect()), connections_max }
    }

    /// Client connections that may be accepted beyond those that are open.
    #[must_use]
    pub fn connections_left(self) -> usize {
        let open: u64 = self.handles.iter().map(ShardHandle::connections).sum();
        usize::try_from(self.connections_max.saturating_sub(open)).unwrap_or(usize::MAX)
    }

    /// Client connections that there may be, all shards together.
    #[must_use]
    pub const fn connections_max(self) -> u64 {
        self.connections_max
    }

    /// How many shards there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.handles.len()
    }

    /// One shard.
    #[must_use]
    pub fn get(self, shard: usize) -> Option<&'static ShardHandle> {
        self.handles.get(shard)
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = &'static ShardHandle> {
        self.handles.iter()
    }
}

impl ShardHandle {
    /// The number of the shard, from 0.
    #[must_use]
    pub const fn id(&self) -> usize {
        self.id
    }

    /// Leaves an order in the mailbox of the shard.
    pub fn send(&self, order: Order) {
        self.mailbox.send(order);
    }

    /// Client connections that the shard has, or is about to be handed.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Sockets that the shard accepts connections from.
    #[must_use]
    pub fn listening(&self) -> u64 {
        self.listening.load(Acquire)
    }

    pub(crate) fn begin_listening(&'static self) -> Listening {
        self.listening.fetch_add(1, Relaxed);
        Listening(self)
    }

    /// How often its listeners had to let clients wait for file descriptors.
    #[must_use]
    pub fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Relaxed)
    }

    /// What accept(2) said when they last did; none: nothing, descriptors are kept for upstreams.
    #[must_use]
    pub fn accept_error(&self) -> Option<i32> {
        Some(self.accept_error.load(Relaxed)).filter(|errno| *errno != 0)
    }

    pub(crate) fn count_accept_pause(&self, errno: Option<i32>) {
        self.accept_error.store(errno.unwrap_or(0), Relaxed);
        self.accept_pauses.fetch_add(1, Relaxed);
    }

    /// How many [`Order::Heartbeat`] it has answered.
    #[must_use]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Relaxed)
    }

    pub(crate) fn answer_heartbeat(&self) {
        self.heartbeats.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}
