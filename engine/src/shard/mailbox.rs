//! What the control plane, or another shard, tells a shard.
//!
//! A queue of orders and an event descriptor that wakes the shard. Not on the path of a request, except
//! the first one of a connection that is handed over.
#![expect(unsafe_code, reason = "eventfd has no safe wrapper here")]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Shard;
use super::socket::Socket;
use crate::downstream::listener::AcceptedSocket;
use crate::downstream::{Direction, Listener};
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
    Serve {
        /// Where it came to.
        listener: Arc<Listener>,
        /// The connection.
        accepted_socket: AcceptedSocket,
    },
    /// Close these listening sockets once nobody waits in them; connections stay as they are.
    StopAccepting(Listeners),
    /// Answer with `connection: close` from now on, or not any more.
    Draining(Draining),
    /// Count that this was heard: the shard turns.
    Heartbeat,
}

/// Which listeners an order is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listeners {
    /// Every one.
    All,
    /// Those with `traffic_direction: INBOUND`.
    Inbound,
}

impl Listeners {
    /// Whether one with this direction is among them.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        self == Self::All || direction == Direction::Inbound
    }

    /// These, and those of an order before.
    #[must_use]
    pub fn and(self, before: Option<Self>) -> Self {
        if before == Some(Self::All) { Self::All } else { self }
    }
}

/// How much a shard wants to be rid of its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draining {
    /// Not at all.
    No,
    /// Tell clients of these with `connection: close`; idle ones may stay.
    Listeners(Listeners),
    /// Tell clients, and close idle connections after a moment: the process is about to end.
    Process,
}

impl Draining {
    /// Whether clients of a listener with this direction are told to go.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        match self {
            Self::No => false,
            Self::Listeners(listeners) => listeners.includes(direction),
            Self::Process => true,
        }
    }
}

/// The end of those who tell.
#[derive(Debug)]
pub struct Mailbox {
    orders: Sender<Order>,
    event: Arc<EventFd>,
}

/// Wakes a shard.
#[derive(Debug)]
struct EventFd {
    descriptor: OwnedFd,
    /// Whether it was signaled since the shard last began to empty its mailbox.
    signaled: AtomicBool,
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
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        let event = Arc::new(EventFd { descriptor, signaled: AtomicBool::new(false) });
        let (sender, receiver) = channel();
        let inbox = Inbox { orders: receiver, event: Arc::clone(&event) };
        Ok((Self { orders: sender, event }, inbox))
    }

    /// Leaves an order and wakes the shard. A shard that has ended takes no orders.
    pub fn send(&self, order: Order) {
        // An order that was left before the event was seen to be signaled is found without another ring.
        if self.orders.send(order).is_err() || self.event.signaled.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `one` is valid for its length and the descriptor is open. The counter cannot
        // overflow in practice; if it did, the shard would be awake already.
        let _written = unsafe {
            libc::write(self.event.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len())
        };
    }
}

/// The shard's end, before it is on its thread.
#[derive(Debug)]
pub struct Inbox {
    orders: Receiver<Order>,
    event: Arc<EventFd>,
}

impl Inbox {
    /// To be called on the shard's thread.
    ///
    /// # Errors
    /// When the event cannot be registered with the ring.
    pub fn open(self) -> io::Result<OpenInbox> {
        let descriptor = Socket::new(self.event.descriptor.try_clone()?)?;
        Ok(OpenInbox { orders: self.orders, event: self.event, descriptor })
    }
}

/// The shard's end, on its thread.
#[derive(Debug)]
pub struct OpenInbox {
    orders: Receiver<Order>,
    event: Arc<EventFd>,
    descriptor: Socket,
}

impl OpenInbox {
    /// Carries out orders for ever; a task of its own.
    pub async fn run(self, shard: &'static Shard) {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                shard.execute(order);
                // Others may hand over many connections: those who came before are served meanwhile.
                poll_fn(|cx| shard.poll_proceed(cx)).await;
            }
            poll_fn(|cx| self.descriptor.poll_readable(cx)).await;
            self.descriptor.take_counter();
            // From here on whoever leaves an order rings again; all that was left before is found now.
            self.event.signaled.swap(false, Ordering::AcqRel);
        }
    }
}
