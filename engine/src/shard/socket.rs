//! The seam to the kernel: what the data plane asks of a socket, and nothing else.
//!
//! Readiness comes from the [`Reactor`], bytes are received by direct non-blocking calls: no buffer
//! is pinned while a connection waits, and dropping a wait loses nothing. A message that is complete
//! is posted: it leaves with those of other connections.
//!
//! Invariant: a wait ends at once unless the last receive, or send, said that there is nothing, or
//! no room: so nothing that the kernel told while nobody waited is lost.
#![expect(unsafe_code, reason = "fills spare capacity")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket as RawSocket, Type};

use super::budget::Budget;
use super::reactor::{Reactor, Source};

/// A TCP connection, or another descriptor that becomes readable.
pub struct Socket {
    source: Rc<Source>,
    reactor: &'static Reactor,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.source.fd()).finish()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.remove(&self.source);
    }
}

/// Lets every TCP segment pass but those with SYN and without ACK. The kernel runs it with the TCP
/// header at offset 0.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 13), // the flags
    SockFilter::new(AND, 0, 0, SYN | ACK),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
    SockFilter::new(RETURN, 0, 0, 0),        // drop
    SockFilter::new(RETURN, 0, 0, u32::MAX), // pass, whole
];

const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// What a receive brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// So many bytes were appended; never 0.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side will send no more.
    End,
}

/// What a look into the receive queue showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peeked {
    /// At least one byte waits.
    Bytes,
    /// Open and silent.
    Silent,
    /// Closed or broken.
    Gone,
}

impl Socket {
    /// Takes over a descriptor; must be called on the shard's thread.
    ///
    /// # Errors
    /// When the runtime cannot register it.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let reactor = Reactor::current()?;
        Ok(Self { source: reactor.add(fd)?, reactor })
    }

    /// Starts a connection; it is there when [`Self::connect_result`] says so after the socket
    /// became writable.
    ///
    /// # Errors
    /// When the address family is unknown here or no local port is free.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket =
            RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&SockAddr::from(address)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let socket = Self::new(socket.into())?;
        socket.source.mark_full();
        Ok(socket)
    }

    /// The outcome of a connection attempt.
    ///
    /// # Errors
    /// What the kernel says about the attempt.
    pub fn connect_result(&self) -> io::Result<()> {
        match self.raw().take_error()? {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Ready when a receive would bring bytes, the end, or an error; now and then without any.
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.source.poll_readable(cx)
    }

    /// Ready when a send would take bytes or fail.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let ready = self.source.poll_writable(cx);
        if ready.is_pending() {
            self.reactor.watch_writable(&self.source);
        }
        ready
    }

    /// Ready when the other side has reset the connection, though nobody wants to receive. That it
    /// sends no more is not enough: it may still read.
    pub fn poll_broken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.source.poll_hung_up(cx).is_ready() && self.is_broken() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_broken(&self) -> bool {
        // What is polled for is nothing: errors are told anyway.
        self.polled(PollFlags::empty()).intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// What poll(2) says now.
    fn polled(&self, events: PollFlags) -> PollFlags {
        let mut asked = [PollFd::new(self, events)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let result = rustix::event::poll(&mut asked, Some(&at_once));
        let [asked] = asked;
        if result.is_ok() { asked.revents() } else { PollFlags::empty() }
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity.
    ///
    /// # Errors
    /// When the connection is broken. `buffer` must have spare capacity: without any this answers
    /// [`Received::Nothing`].
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        self.receive_at_most(buffer, usize::MAX)
    }

    /// As [`Self::receive`], and not more than `most` bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn receive_at_most(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<Received> {
        let spare = buffer.spare_capacity_mut();
        let most = most.min(spare.len());
        let spare = spare.get_mut(..most).unwrap_or_default();
        if spare.is_empty() {
            return Ok(Received::Nothing);
        }
        let received = self.source.receive(spare);
        self.budget().charge_call(received.unwrap_or(0));
        match received {
            Ok(0) => Ok(Received::End),
            Ok(n) => {
                // SAFETY: the kernel has filled the first `n` bytes of the spare capacity.
                unsafe { buffer.set_len(buffer.len() + n) };
                Ok(Received::Bytes(n))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the kernel has told that the other side sends no more, or has reset the connection. What
    /// it sent before may still be there to receive.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.source.has_hung_up()
    }

    /// Whether the kernel has told nothing since the last receive. It may be about to.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.source.is_quiet()
    }

    /// How often the kernel has told all that had happened.
    #[must_use]
    pub const fn polls(&self) -> u64 {
        self.reactor.polls()
    }

    /// Whether nothing has come since the last receive, not even the end, as far as the kernel has told
    /// a moment ago. It must have told everything since that receive, in which it had been asked `turns`
    /// times.
    #[must_use]
    pub fn seems_silent(&self, polls: u64) -> bool {
        self.source.is_quiet() && self.reactor.polls() > polls && self.reactor.has_just_polled()
    }

    /// Looks into the receive queue without taking anything.
    #[must_use]
    pub fn peek(&self) -> Peeked {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        match rustix::net::recv(self, &mut [0_u8], flags) {
            Ok((_, 0)) => Peeked::Gone,
            Ok(_) => Peeked::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Peeked::Silent,
            Err(_) => Peeked::Gone,
        }
    }

    /// Sends as much as the kernel takes now; 0 when it takes nothing.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.source.is_posting() {
            return Ok(0);
        }
        let sent = self.source.send(bytes);
        self.budget().charge_call(sent.unwrap_or(0));
        match sent {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a message can be posted.
    #[must_use]
    pub fn may_post(&self) -> bool {
        self.reactor.sends_whole() && !self.source.is_posting()
    }

    /// Whether posted bytes are still on their way into the socket.
    #[must_use]
    pub fn is_posting(&self) -> bool {
        self.source.is_posting()
    }

    /// Sends all of `bytes` with the next turn of the ring, if [`Self::may_post`] says so; the block
    /// goes back to the shard's. What is sent next waits for them. A failure shows as the end of
    /// what can be received.
    pub fn post(&self, bytes: Vec<u8>) {
        self.budget().charge_call(bytes.len());
        self.reactor.post(&self.source, bytes);
    }

    /// Accepts one waiting connection from a listening socket.
    ///
    /// # Errors
    /// As accept(2): out of descriptors, memory, or a connection that is gone already.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        self.budget().charge_call(0);
        match self.raw().accept() {
            Ok((socket, address)) => match address.as_socket() {
                Some(address) => Ok(Some((socket.into(), address))),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.source.mark_drained();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a connection waits to be accepted.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let waiting = self.polled(PollFlags::IN).contains(PollFlags::IN);
        if !waiting {
            self.source.mark_drained();
        }
        waiting
    }

    /// From now on the kernel leaves SYNs to this listening socket unanswered. Handshakes that have
    /// begun still complete: their ACKs pass. Connections accepted from now on have the same filter,
    /// which never matters to them: a connection gets no SYN.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn drop_new_handshakes(&self) -> io::Result<()> {
        self.raw().attach_filter(&NO_SYN)
    }

    /// Ends a listening socket at once. Closing it takes a turn of the ring, and whoever connected
    /// meanwhile would be reset with it.
    pub fn stop_listening(&self) {
        // It cannot fail on a socket that listens.
        drop(self.raw().shutdown(std::net::Shutdown::Read));
    }

    /// Says that no more will be sent; what is queued still goes out.
    pub fn shutdown_write(&self) {
        // A connection that is gone already needs no goodbye.
        drop(self.raw().shutdown(std::net::Shutdown::Write));
    }

    /// Makes the coming close a reset, so that the other side sees that something is missing.
    pub fn reset_on_close(&self) {
        // Where it fails the connection is broken already.
        drop(self.raw().set_linger(Some(std::time::Duration::ZERO)));
    }

    /// The local address of the connection.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.raw()
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Takes the 8 byte counter of a timer or event descriptor, so that it falls silent.
    pub fn take_counter(&self) {
        self.source.mark_drained();
        // The descriptor is non-blocking; an empty one is no error here.
        let _count = rustix::io::read(self.source.fd(), &mut [0_u8; 8]);
    }

    /// What the task that runs now may still do.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        self.reactor.budget()
    }

    fn raw(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.fd().as_fd()
    }
}
