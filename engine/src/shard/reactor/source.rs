//! One watched descriptor: its last known readiness, and its operations in the ring.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::Key;
use super::uring::InFlight;

/// A watched descriptor.
pub(in crate::shard) struct Source {
    fd: OwnedFd,
    key: Key,
    life: Cell<Life>,
    input: Cell<Input>,
    output: Cell<Output>,
    in_flight: Cell<InFlight>,
    /// The block being sent by the ring; empty if none is.
    posted: Cell<Vec<u8>>,
    /// The task to wake; a descriptor is used by one task at a time.
    waker: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Open,
    /// Dropped by its owner; operations may still be in the ring.
    Closed,
}

/// The last known state of the receive queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Input {
    /// Empty; the kernel reports when that changes.
    Drained,
    /// There may be bytes.
    Ready,
    /// The peer sends no more, or the connection is broken. Final: the kernel reports this only once.
    HungUp,
    /// A post has failed, so the connection is over; the kernel has forgotten why.
    Broken,
}

/// The last known state of the send buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Output {
    /// There may be room.
    Ready,
    /// Full, or not connected yet; the kernel reports when that changes.
    Full,
}

/// Whether an event woke a task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Woke {
    Task,
    NoTask,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("fd", &self.fd).field("life", &self.life).finish()
    }
}

impl Source {
    pub(super) fn new(fd: OwnedFd, key: Key) -> Self {
        Self {
            fd,
            key,
            life: Cell::new(Life::Open),
            input: Cell::new(Input::Drained),
            output: Cell::new(Output::Ready),
            in_flight: Cell::default(),
            posted: Cell::default(),
            waker: Cell::default(),
        }
    }

    /// The descriptor.
    pub(in crate::shard) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    // === for the socket ===

    /// Ready when a receive would return something.
    #[inline(always)]
    pub(in crate::shard) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.input.get() != Input::Drained {
            return Poll::Ready(());
        }
        self.register_waker(cx);
        Poll::Pending
    }

    /// Ready when a send would accept something. If pending, [`super::Reactor::watch_writable`] must
    /// be called.
    pub(in crate::shard) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_posting() {
            self.mark_full(); // so that its completion wakes this task
        } else if self.output.get() == Output::Ready {
            return Poll::Ready(());
        }
        self.register_waker(cx);
        Poll::Pending
    }

    /// Ready when the peer sends no more, or the connection is broken. While pending, the task is woken
    /// by every event.
    pub(in crate::shard) fn poll_hung_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.register_waker(cx);
        if self.has_hung_up() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the kernel has reported that the peer sends no more, or that the connection is broken.
    pub(in crate::shard) fn has_hung_up(&self) -> bool {
        matches!(self.input.get(), Input::HungUp | Input::Broken)
    }

    /// Whether a post has failed.
    pub(in crate::shard) fn is_broken(&self) -> bool {
        self.input.get() == Input::Broken
    }

    /// Whether no event has been reported since the last receive.
    pub(in crate::shard) fn is_quiet(&self) -> bool {
        self.input.get() == Input::Drained
    }

    /// Receives what has arrived into `buffer`, which is not empty.
    pub(in crate::shard) fn receive(&self, buffer: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        let most = buffer.len();
        let received = rustix::net::recv(&self.fd, buffer, RecvFlags::DONTWAIT);
        match received {
            // The queue is empty now. `HungUp` stays: the end follows, and is reported only once.
            Ok((_, n)) if 0 < n && n < most && self.input.get() == Input::Ready => {
                self.input.set(Input::Drained);
            }
            // A splice has stopped before urgent data, and found nothing behind it.
            Ok((_, n)) if n == most && self.input.get() == Input::Drained => {
                self.input.set(Input::Ready);
            }
            Err(Errno::AGAIN) => self.mark_drained(),
            _ => {}
        }
        received.map(|(_, n)| n)
    }

    /// Sends what the kernel accepts now. No posted bytes may be pending.
    pub(in crate::shard) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let sent = rustix::net::send(&self.fd, bytes, SEND_FLAGS);
        if matches!(sent, Ok(n) if n < bytes.len()) || sent == Err(Errno::AGAIN) {
            self.mark_full();
        }
        sent
    }

    /// A receive found nothing.
    pub(in crate::shard) fn mark_drained(&self) {
        self.input.set(Input::Drained);
    }

    /// A send found no room, or the socket is not connected yet.
    pub(in crate::shard) fn mark_full(&self) {
        self.output.set(Output::Full);
    }

    /// Whether posted bytes are still in the ring: nothing may overtake them.
    pub(in crate::shard) fn is_posting(&self) -> bool {
        self.in_flight.get().sent
    }

    // === events ===

    #[inline]
    pub(super) fn became_readable(&self, hung_up: bool) -> Woke {
        if !self.has_hung_up() {
            self.input.set(if hung_up { Input::HungUp } else { Input::Ready });
        }
        self.wake()
    }

    #[inline]
    pub(super) fn became_writable(&self) -> Woke {
        self.output.set(Output::Ready);
        self.in_flight.set(InFlight { writable: false, ..self.in_flight.get() });
        self.wake()
    }

    /// A post has completed: returns its block.
    pub(super) fn sent(&self, taken: Option<usize>) -> (Vec<u8>, Woke) {
        let bytes = self.posted.take();
        self.in_flight.set(InFlight { sent: false, ..self.in_flight.get() });
        if taken != Some(bytes.len()) {
            // The kernel sends all or fails. If it fails, the connection is over: the next receive
            // returns the end.
            let _gone = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
            self.input.set(Input::Broken);
            return (bytes, self.wake());
        }
        (bytes, self.has_room())
    }

    /// Wakes a task that found no room because a post was in the ring.
    fn has_room(&self) -> Woke {
        match self.output.replace(Output::Ready) {
            Output::Ready => Woke::NoTask,
            Output::Full => self.wake(),
        }
    }

    // === for the reactor ===

    pub(super) fn begin_watch(&self) {
        self.in_flight.set(InFlight { readable: true, ..self.in_flight.get() });
    }

    pub(super) fn end_watch(&self) {
        self.in_flight.set(InFlight { readable: false, ..self.in_flight.get() });
    }

    /// Whether a watch must be started.
    pub(super) fn begin_writable(&self) -> bool {
        let in_flight = self.in_flight.get();
        if in_flight.writable || in_flight.sent {
            return false; // the completion of the post wakes the task
        }
        self.in_flight.set(InFlight { writable: true, ..in_flight });
        true
    }

    pub(super) fn begin_send(&self, bytes: Vec<u8>) {
        self.posted.set(bytes);
        self.in_flight.set(InFlight { sent: true, ..self.in_flight.get() });
    }

    /// Sends what was posted directly. Returns the block if the kernel accepted all of it.
    pub(super) fn send_now(&self) -> Option<(Vec<u8>, Woke)> {
        let mut bytes = self.posted.take();
        let sent = rustix::net::send(&self.fd, &bytes, SEND_FLAGS);
        if sent == Ok(bytes.len()) {
            self.in_flight.set(InFlight { sent: false, ..self.in_flight.get() });
            return Some((bytes, self.has_room()));
        }
        // The remainder is sent through the ring, which waits for room or reports the error again.
        bytes.drain(..sent.unwrap_or(0));
        self.posted.set(bytes);
        None
    }

    /// Lends the posted bytes; they do not move.
    pub(super) fn with_posted(&self, lend: impl FnOnce(&[u8])) {
        let bytes = self.posted.take();
        lend(&bytes);
        self.posted.set(bytes);
    }

    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.get()
    }

    pub(super) fn close(&self) {
        self.life.set(Life::Closed);
        self.waker.set(None);
    }

    pub(super) fn is_open(&self) -> bool {
        self.life.get() == Life::Open
    }

    fn register_waker(&self, cx: &Context<'_>) {
        let known = self.waker.take();
        let same = known.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        self.waker.set(if same { known } else { Some(cx.waker().clone()) });
    }

    fn wake(&self) -> Woke {
        let Some(waker) = self.waker.take() else { return Woke::NoTask };
        waker.wake();
        Woke::Task
    }
}

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
