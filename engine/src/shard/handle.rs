//! Handles to the shards, for other threads: the mailbox of each shard, how many connections it has,
//! how many sockets it accepts from, its accept pauses and its heartbeats.
//!
//! Not on the path of a request, except the first one of a connection that is handed over.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU64};

use super::mailbox::{Errand, Mailbox};

/// Handles to all shards by their number, for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct ShardHandles {
    handles: &'static [ShardHandle],
    /// The limit on client connections of all shards together.
    connections_max: u64,
}

/// A handle to one shard, usable from any thread.
#[derive(Debug)]
#[repr(align(128))] // written with each connection: it shares no cache line with another shard's
pub struct ShardHandle {
    id: usize,
    mailbox: Mailbox,
    connections: AtomicU64,
    listening: AtomicU64,
    accept_pauses: AtomicU64,
    accept_error: AtomicI32,
    heartbeats: AtomicU64,
}

/// Counts a socket that a shard accepts connections from until it is dropped.
#[derive(Debug)]
pub struct Listening(&'static ShardHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        // Release: who reads this count also sees the count of every accepted connection.
        self.0.listening.fetch_sub(1, Release);
    }
}

impl ShardHandles {
    /// Shards with these mailboxes and no connections. `connections_max`: how many client
    /// connections the file descriptors of the process are enough for.
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

    /// How many more client connections may be accepted.
    #[must_use]
    pub fn connections_left(self) -> usize {
        let open: u64 = self.handles.iter().map(ShardHandle::connections).sum();
        usize::try_from(self.connections_max.saturating_sub(open)).unwrap_or(usize::MAX)
    }

    /// The limit on client connections of all shards together.
    #[must_use]
    pub const fn connections_max(self) -> u64 {
        self.connections_max
    }

    /// The number of shards.
    #[must_use]
    pub const fn count(self) -> usize {
        self.handles.len()
    }

    /// One shard.
    #[must_use]
    pub fn get(self, shard: usize) -> Option<&'static ShardHandle> {
        self.handles.get(shard)
    }

    /// All shards.
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

    /// Puts an errand into the shard's mailbox.
    pub fn send(&self, errand: Errand) {
        self.mailbox.send(errand);
    }

    /// Client connections that are assigned to the shard.
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

    /// How often its listeners paused accepting because file descriptors ran short.
    #[must_use]
    pub fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Relaxed)
    }

    /// The error of accept(2) that caused the last pause; `None`: `connections_max` was reached, and
    /// the remaining descriptors are reserved for upstream connections.
    #[must_use]
    pub fn accept_error(&self) -> Option<i32> {
        Some(self.accept_error.load(Relaxed)).filter(|errno| *errno != 0)
    }

    pub(crate) fn count_accept_pause(&self, errno: Option<i32>) {
        self.accept_error.store(errno.unwrap_or(0), Relaxed);
        self.accept_pauses.fetch_add(1, Relaxed);
    }

    /// How many heartbeats it has answered.
    #[must_use]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Relaxed)
    }

    /// Counts an errand that shows that the shard is running.
    pub fn answer_heartbeat(&self) {
        self.heartbeats.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}
