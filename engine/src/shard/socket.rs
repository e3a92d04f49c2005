//! A socket of the data plane: all that the rest of it needs from the kernel.
//!
//! Readiness comes from the [`Reactor`], bytes are received by direct non-blocking calls: no buffer
//! is pinned while a connection waits, and dropping a wait loses nothing. A complete message can be
//! posted: it is submitted together with those of other connections.
//!
//! Invariant: a wait is over at once unless the last receive found nothing, or the last send no room.
//! So no event is lost that arrives while no task waits.
#![expect(unsafe_code, reason = "fills spare capacity")]

use crate::address::Address;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use socket2::{SockAddr, SockFilter, SockRef, Socket as RawSocket, Type};

use super::budget::Budget;
use super::buffers::Buffers;
use super::reactor::{Reactor, Source};
use super::socket_option::{LocalEnd, SocketState, set_all};

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

/// A socket filter that drops TCP segments with SYN and without ACK. The kernel runs it with the TCP
/// header at offset 0.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 13), // the flags
    SockFilter::new(AND, 0, 0, SYN | ACK),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
    SockFilter::new(RETURN, 0, 0, 0),        // drop
    SockFilter::new(RETURN, 0, 0, u32::MAX), // pass the whole segment
];

const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// The outcome of a receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// This many bytes were appended; never 0.
    Bytes(usize),
    /// Nothing has arrived yet.
    Nothing,
    /// The peer has closed its sending side.
    End,
}

/// The state of the receive queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peeked {
    /// There is at least one byte.
    Bytes,
    /// The queue is empty and the connection open.
    Silent,
    /// Closed or broken.
    Gone,
}

impl Socket {
    /// Takes ownership of a descriptor; must be called on the shard's thread.
    ///
    /// # Errors
    /// When the reactor cannot register it.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let reactor = Reactor::current()?;
        Ok(Self { source: reactor.add(fd)?, reactor })
    }

    /// Opens the local end of a connection to `address`.
    ///
    /// # Errors
    /// When the address family is not supported, or the local end cannot be as wanted.
    pub fn open(address: Address, local: &LocalEnd) -> io::Result<RawSocket> {
        let (domain, local) = (address.domain(), local.toward(address));
        let socket = RawSocket::new(domain, Type::STREAM, None)?;
        if matches!(address, Address::Ip(_)) {
            socket.set_tcp_nodelay(true)?;
        }
        socket.set_nonblocking(true)?;
        set_all(&local.options, SocketState::Prebind, domain, &socket)?;
        if let Some(source) = local.address {
            socket.bind(&SockAddr::from(source))?;
            set_all(&local.options, SocketState::Bound, domain, &socket)?;
        }
        Ok(socket)
    }

    /// Starts to connect. When the socket is writable, [`Self::connect_result`] returns the outcome.
    ///
    /// # Errors
    /// When the connection fails at once, or no local port is free.
    pub fn connect(local: RawSocket, address: Address) -> io::Result<Self> {
        match local.connect(&address.to_socket_address()?) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let socket = Self::new(local.into())?;
        socket.source.mark_full();
        Ok(socket)
    }

    /// The outcome of a connection attempt.
    ///
    /// # Errors
    /// When the attempt failed.
    pub fn connect_result(&self) -> io::Result<()> {
        match self.raw().take_error()? {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Ready when a receive would return bytes, the end or an error; sometimes spuriously.
    #[inline]
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.source.poll_readable(cx)
    }

    /// Ready when a send would accept bytes or fail.
    #[inline]
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let ready = self.source.poll_writable(cx);
        if ready.is_pending() {
            self.reactor.watch_writable(&self.source);
        }
        ready
    }

    /// Ready when the peer has reset the connection, for a task that does not receive. A half-close
    /// is not enough: the peer may still read, and what it has sent may not have been received yet.
    pub fn poll_broken(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_for(PollFlags::ERR, cx)
    }

    /// Ready when both sides have closed, or the connection is broken, for a task that does not receive.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_for(PollFlags::ERR | PollFlags::HUP, cx)
    }

    fn poll_for(&self, ends: PollFlags, cx: &Context<'_>) -> Poll<()> {
        // poll(2) reports these even when no event is requested.
        let hung_up = self.source.poll_hung_up(cx).is_ready();
        if hung_up && (self.source.is_broken() || self.polled(PollFlags::empty()).intersects(ends))
        {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The result of a poll(2) that does not block.
    fn polled(&self, events: PollFlags) -> PollFlags {
        let mut polled = [PollFd::new(self, events)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let result = rustix::event::poll(&mut polled, Some(&at_once));
        let [polled] = polled;
        if result.is_ok() { polled.revents() } else { PollFlags::empty() }
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity. Without spare capacity this
    /// returns [`Received::Nothing`].
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        self.receive_at_most(buffer, usize::MAX)
    }

    /// As [`Self::receive`], but at most `most` bytes.
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

    /// Whether the kernel has reported that the peer sends no more, or has reset the connection. There
    /// may still be bytes to receive.
    #[must_use]
    #[inline]
    pub fn has_hung_up(&self) -> bool {
        self.source.has_hung_up()
    }

    /// Whether no event has been reported since the last receive. One may be pending in the kernel.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.source.is_quiet()
    }

    /// How many polls have taken all pending events from the kernel.
    #[must_use]
    pub const fn polls(&self) -> u64 {
        self.reactor.polls()
    }

    /// Whether nothing has arrived since the last receive, not even the end, as of a recent poll that
    /// took all pending events. [`Self::polls`] was `polls` at the time of that receive.
    #[must_use]
    pub fn seems_silent(&self, polls: u64) -> bool {
        self.source.is_quiet() && self.reactor.polls() > polls && self.reactor.has_just_polled()
    }

    /// Checks the receive queue and consumes nothing.
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

    /// Sends as much as the kernel accepts now, and returns how much that was; it may be 0.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline(always)]
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

    /// Whether posted bytes have not been sent yet.
    #[must_use]
    pub fn is_posting(&self) -> bool {
        self.source.is_posting()
    }

    /// Sends all of `bytes` with the next submission to the ring; only if [`Self::may_post`]. The
    /// block is returned to the shard's pool. Later sends wait for these bytes. If this fails, the
    /// next receive reports the end.
    pub fn post(&self, bytes: Vec<u8>) {
        self.budget().charge_call(bytes.len());
        self.reactor.post(&self.source, bytes);
    }

    /// Accepts one waiting connection from a listening socket. A client on a unix socket has no address.
    ///
    /// # Errors
    /// As accept(2): out of descriptors or memory, or the connection is gone already.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        self.budget().charge_call(0);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::acceptfrom_with(self, flags) {
            Ok((socket, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                Ok(Some((socket, address)))
            }
            Err(Errno::AGAIN) => {
                self.source.mark_drained();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn mark_drained(&self) {
        self.source.mark_drained();
    }

    pub(super) fn mark_full(&self) {
        self.source.mark_full();
    }

    /// Whether the accept queue is not empty.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let waiting = self.polled(PollFlags::IN).contains(PollFlags::IN);
        if !waiting {
            self.source.mark_drained();
        }
        waiting
    }

    /// Makes the kernel ignore new SYNs to this listening socket. Handshakes in progress still
    /// complete: their ACKs pass. Connections accepted from now on inherit the filter, which has no
    /// effect on them: an established connection receives no SYN.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn drop_new_handshakes(&self) -> io::Result<()> {
        self.raw().attach_filter(&NO_SYN)
    }

    /// Stops listening at once. The descriptor is closed only with the next poll of the ring, and
    /// clients that connected until then would be reset.
    pub fn stop_listening(&self) {
        // Cannot fail on a listening socket.
        drop(self.raw().shutdown(std::net::Shutdown::Read));
    }

    /// Closes the sending side; queued bytes are still sent.
    pub fn shutdown_write(&self) {
        // Fails only if the connection is gone already.
        drop(self.raw().shutdown(std::net::Shutdown::Write));
    }

    /// Makes the close a reset, so that the peer can tell that the message is incomplete.
    pub fn reset_on_close(&self) {
        // Fails only if the connection is broken already.
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

    /// The destination of the connection before the kernel redirected it (iptables REDIRECT); `local`
    /// is its local address.
    ///
    /// # Errors
    /// When it was not redirected.
    pub fn original_destination(&self, local: SocketAddr) -> io::Result<SocketAddr> {
        let raw = self.raw();
        let address = if local.is_ipv4() { raw.original_dst_v4()? } else { raw.original_dst_v6()? };
        address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Reads the 8-byte counter of a timerfd or eventfd, which makes it unreadable again.
    pub fn take_counter(&self) {
        self.source.mark_drained();
        // The descriptor is non-blocking; EAGAIN is not an error here.
        let _count = rustix::io::read(self.source.fd(), &mut [0_u8; 8]);
    }

    /// The budget of the running task.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        self.reactor.budget()
    }

    /// The blocks of this socket's shard.
    #[must_use]
    pub const fn buffers(&self) -> &'static Buffers {
        self.reactor.buffers()
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
