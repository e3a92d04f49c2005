//! One descriptor that is watched: what is known of it, and what is under way for it.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::Key;
use super::uring::InFlight;

/// The state of a descriptor.
pub(in crate::shard) struct Source {
    fd: OwnedFd,
    key: Key,
    life: Cell<Life>,
    input: Cell<Input>,
    output: Cell<Output>,
    in_flight: Cell<InFlight>,
    /// Being sent by the kernel; empty when nothing is.
    posted: Cell<Vec<u8>>,
    /// Who is told; a descriptor has one task at a time.
    waker: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Open,
    /// Its owner has let it go; operations may still be under way.
    Closed,
}

/// What is known of the receive queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Input {
    /// Empty: the kernel will tell when that changes.
    Drained,
    /// Something may be there.
    Ready,
    /// The other side sends no more, or the connection is broken: nothing else will be told, so
    /// this stays.
    HungUp,
}

/// What is known of the room to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Output {
    /// There may be some.
    Ready,
    /// None, or the connection is not there yet: the kernel tells when that changes.
    Full,
}

/// Whether somebody waited for what the kernel told.
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

    // === asked by the socket ===

    /// Ready when a receive would bring something.
    pub(in crate::shard) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.input.get() != Input::Drained {
            return Poll::Ready(());
        }
        self.register_waker(cx);
        Poll::Pending
    }

    /// Ready when a send would take something. Pending: [`super::Reactor::watch_writable`] is due.
    pub(in crate::shard) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_posting() {
            self.mark_full(); // its end is told to whoever has found no room
        } else if self.output.get() == Output::Ready {
            return Poll::Ready(());
        }
        self.register_waker(cx);
        Poll::Pending
    }

    /// Ready when the other side sends no more, or the connection is broken; whoever is pending is
    /// told of everything that happens.
    pub(in crate::shard) fn poll_hung_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.register_waker(cx);
        if self.input.get() == Input::HungUp { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The other side sends no more, or the connection is broken, as far as was told.
    pub(in crate::shard) fn has_hung_up(&self) -> bool {
        self.input.get() == Input::HungUp
    }

    /// Nothing was told since the last receive.
    pub(in crate::shard) fn is_quiet(&self) -> bool {
        self.input.get() == Input::Drained
    }

    /// Receives into `room`, which is not empty, what is there.
    pub(in crate::shard) fn receive(&self, room: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        let asked = room.len();
        let received = rustix::net::recv(&self.fd, room, RecvFlags::DONTWAIT);
        match received {
            // That is all there was. The end comes behind it, and is told once only.
            Ok((_, n)) if 0 < n && n < asked && self.input.get() == Input::Ready => {
                self.input.set(Input::Drained);
            }
            Err(Errno::AGAIN) => self.mark_drained(),
            _ => {}
        }
        received.map(|(_, n)| n)
    }

    /// Sends what the kernel takes now. What is being posted must have left.
    pub(in crate::shard) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let sent = rustix::net::send(&self.fd, bytes, SEND_FLAGS);
        if matches!(sent, Ok(n) if n < bytes.len()) || sent == Err(Errno::AGAIN) {
            self.mark_full();
        }
        sent
    }

    /// There is nothing to receive.
    pub(in crate::shard) fn mark_drained(&self) {
        self.input.set(Input::Drained);
    }

    /// There is no room to send, or no connection yet.
    pub(in crate::shard) fn mark_full(&self) {
        self.output.set(Output::Full);
    }

    /// Whether posted bytes are still on their way into the socket: nothing may overtake them.
    pub(in crate::shard) fn is_posting(&self) -> bool {
        self.in_flight.get().sent
    }

    // === told by the kernel ===

    pub(super) fn became_readable(&self, hung_up: bool) -> Woke {
        if self.input.get() != Input::HungUp {
            self.input.set(if hung_up { Input::HungUp } else { Input::Ready });
        }
        self.wake()
    }

    pub(super) fn became_writable(&self) -> Woke {
        self.output.set(Output::Ready);
        self.in_flight.set(InFlight { writable: false, ..self.in_flight.get() });
        self.wake()
    }

    /// The posted block, now that the kernel is done with it.
    pub(super) fn sent(&self, taken: Option<usize>) -> (Vec<u8>, Woke) {
        let bytes = self.posted.take();
        self.in_flight.set(InFlight { sent: false, ..self.in_flight.get() });
        if taken != Some(bytes.len()) {
            // The kernel sends all or fails: then the connection is over, and whoever receives
            // next finds its end.
            let _gone = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
            return (bytes, self.became_readable(true));
        }
        (bytes, self.has_room())
    }

    /// Whoever has found no room, because something was being sent, has more to send.
    fn has_room(&self) -> Woke {
        match self.output.replace(Output::Ready) {
            Output::Ready => Woke::NoTask,
            Output::Full => self.wake(),
        }
    }

    // === kept by the reactor ===

    pub(super) fn begin_watch(&self) {
        self.in_flight.set(InFlight { readable: true, ..self.in_flight.get() });
    }

    pub(super) fn end_watch(&self) {
        self.in_flight.set(InFlight { readable: false, ..self.in_flight.get() });
    }

    /// Whether the watch has to begin.
    pub(super) fn begin_writable(&self) -> bool {
        let in_flight = self.in_flight.get();
        if in_flight.writable || in_flight.sent {
            return false; // what is being sent ends first, and tells
        }
        self.in_flight.set(InFlight { writable: true, ..in_flight });
        true
    }

    pub(super) fn begin_send(&self, bytes: Vec<u8>) {
        self.posted.set(bytes);
        self.in_flight.set(InFlight { sent: true, ..self.in_flight.get() });
    }

    /// Sends what was posted directly. `Some`: the kernel has taken all, and this is the block.
    pub(super) fn send_now(&self) -> Option<(Vec<u8>, Woke)> {
        let mut bytes = self.posted.take();
        let sent = rustix::net::send(&self.fd, &bytes, SEND_FLAGS);
        if sent == Ok(bytes.len()) {
            self.in_flight.set(InFlight { sent: false, ..self.in_flight.get() });
            return Some((bytes, self.has_room()));
        }
        // What is left waits in the ring for room, or finds the connection broken again.
        bytes.drain(..sent.unwrap_or(0));
        self.posted.set(bytes);
        None
    }

    /// Lends what was posted; it stays where it is.
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
