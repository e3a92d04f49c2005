//! What the control plane, or another shard, tells a shard.
//!
//! A queue of orders and an event descriptor that wakes the shard; never on the path of a request.
#![expect(unsafe_code, reason = "eventfd has no safe wrapper here")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::socket::Socket;
use crate::downstream::listener::Arrival;
use crate::snapshot::Snapshot;
use crate::upstream::host_set::HostSet;

/// One thing for a shard to do.
#[derive(Debug)]
pub enum Order {
    /// Use this configuration for requests that begin from now on.
    Snapshot(Arc<Snapshot>),
    /// A cluster, by its place in the snapshot, has other hosts now.
    Hosts {
        /// Index in [`Snapshot::clusters`].
        cluster: usize,
        /// All hosts of the cluster.
        hosts: Arc<HostSet>,
    },
    /// Accept connections from this socket.
    Listen {
        /// Index in [`Snapshot::listeners`].
        listener: usize,
        /// The shard's own listening socket.
        socket: OwnedFd,
        /// Its address.
        address: SocketAddr,
    },
    /// Serve this connection, which another shard has accepted.
    Serve(Arrival),
    /// Close the listening sockets once nobody waits in them; connections stay as they are.
    StopAccepting,
    /// Answer with `connection: close` from now on, or not any more.
    Draining(Draining),
}

/// How much a shard wants to be rid of its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draining {
    /// Not at all.
    No,
    /// Tell clients with `connection: close`; idle ones may stay.
    Tell,
    /// Tell clients, and close idle connections after a moment: the process is about to end.
    Leave,
}

/// The end of those who tell.
#[derive(Debug)]
pub struct Mailbox {
    orders: Sender<Order>,
    bell: Arc<OwnedFd>,
}

impl Mailbox {
    /// Makes a mailbox and its shard's end.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<(Self, Inbox)> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just made, owned by nobody else.
        let bell = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let (sender, receiver) = channel();
        let inbox = Inbox { orders: receiver, bell: Arc::clone(&bell) };
        Ok((Self { orders: sender, bell }, inbox))
    }

    /// Leaves an order and wakes the shard. A shard that has ended takes no orders.
    pub fn send(&self, order: Order) {
        if self.orders.send(order).is_err() {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `one` is valid for its length and the descriptor is open. The counter cannot
        // overflow in practice; if it did, the shard would be awake already.
        let _written =
            unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// The shard's end, before it is on its thread.
#[derive(Debug)]
pub struct Inbox {
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
}

impl Inbox {
    /// To be called on the shard's thread.
    ///
    /// # Errors
    /// When the bell cannot be registered with the ring.
    pub fn open(self) -> io::Result<OpenInbox> {
        Ok(OpenInbox { bell: Socket::new(self.bell.try_clone()?)?, orders: self.orders })
    }
}

/// The shard's end, on its thread.
#[derive(Debug)]
pub struct OpenInbox {
    orders: Receiver<Order>,
    bell: Socket,
}

impl OpenInbox {
    /// Carries out orders for ever; a task of its own.
    pub async fn run(self, mut carry_out: impl FnMut(Order)) {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                carry_out(order);
            }
            std::future::poll_fn(|cx| self.bell.poll_readable(cx)).await;
            self.bell.take_counter();
        }
    }
}
