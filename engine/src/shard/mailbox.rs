//! Orders for a shard, from the control plane or another shard.
//!
//! A queue and an eventfd that wakes the shard. Not on the path of a request, except the first one of
//! a connection that is handed over.
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

/// An order for a shard.
#[derive(Debug)]
pub enum Order {
    /// Use this configuration for requests that begin from now on.
    Snapshot(Arc<Snapshot>),
    /// The hosts of a cluster have changed.
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
        /// The listener that it belongs to.
        listener: Arc<Listener>,
        /// The connection.
        accepted_socket: AcceptedSocket,
    },
    /// Accept what is left in the queues of these listening sockets, then close them. Connections
    /// stay open.
    StopAccepting(Listeners),
    /// Begin, change or end a drain of connections.
    Draining(Draining),
    /// Count this heartbeat: it shows that the shard is running.
    Heartbeat,
}

/// Which listeners an order applies to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listeners {
    /// All listeners.
    All,
    /// Those with `traffic_direction: INBOUND`.
    Inbound,
}

impl Listeners {
    /// Whether a listener with this direction is included.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        self == Self::All || direction == Direction::Inbound
    }

    /// These and those of an earlier order.
    #[must_use]
    pub fn and(self, before: Option<Self>) -> Self {
        if before == Some(Self::All) { Self::All } else { self }
    }
}

/// What is draining.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draining {
    /// Nothing.
    No,
    /// The connections of these listeners: responses carry `connection: close`; idle connections
    /// stay open.
    Listeners(Listeners),
    /// The process, which is about to exit: responses carry `connection: close`, and idle connections
    /// are closed after [`limits::DRAIN_IDLE_GRACE_MS`](crate::limits::DRAIN_IDLE_GRACE_MS).
    Process,
}

impl Draining {
    /// Whether connections of a listener with this direction are draining.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        match self {
            Self::No => false,
            Self::Listeners(listeners) => listeners.includes(direction),
            Self::Process => true,
        }
    }
}

/// The sending end of a mailbox.
#[derive(Debug)]
pub struct Mailbox {
    orders: Sender<Order>,
    event: Arc<EventFd>,
}

/// Wakes the shard.
#[derive(Debug)]
struct EventFd {
    descriptor: OwnedFd,
    /// Whether it was signaled since the shard last began to empty its mailbox.
    signaled: AtomicBool,
}

impl Mailbox {
    /// Creates a mailbox and its receiving end.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<(Self, Inbox)> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created, and nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        let event = Arc::new(EventFd { descriptor, signaled: AtomicBool::new(false) });
        let (sender, receiver) = channel();
        let inbox = Inbox { orders: receiver, event: Arc::clone(&event) };
        Ok((Self { orders: sender, event }, inbox))
    }

    /// Sends an order and wakes the shard. An order to a shard that has ended is dropped.
    pub fn send(&self, order: Order) {
        // If the event is signaled already, the shard has yet to empty its mailbox and finds this order.
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

/// The receiving end, before it is on the shard's thread.
#[derive(Debug)]
pub struct Inbox {
    orders: Receiver<Order>,
    event: Arc<EventFd>,
}

impl Inbox {
    /// Opens the inbox; must be called on the shard's thread.
    ///
    /// # Errors
    /// When the eventfd cannot be registered with the reactor.
    pub fn open(self) -> io::Result<OpenInbox> {
        let descriptor = Socket::new(self.event.descriptor.try_clone()?)?;
        Ok(OpenInbox { orders: self.orders, event: self.event, descriptor })
    }
}

/// The receiving end, on the shard's thread.
#[derive(Debug)]
pub struct OpenInbox {
    orders: Receiver<Order>,
    event: Arc<EventFd>,
    descriptor: Socket,
}

impl OpenInbox {
    /// Executes orders forever; a task of its own.
    pub async fn run(self, shard: &'static Shard) {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                shard.execute(order);
                // Other shards may hand over many connections: serve existing ones in between.
                poll_fn(|cx| shard.poll_proceed(cx)).await;
            }
            poll_fn(|cx| self.descriptor.poll_readable(cx)).await;
            self.descriptor.take_counter();
            // Orders sent from here on signal again; those sent before are received above.
            self.event.signaled.swap(false, Ordering::AcqRel);
        }
    }
}
