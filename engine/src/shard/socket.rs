//! The seam to the kernel: what the data plane asks of a socket, and nothing else.
//!
//! Readiness comes through the ring, bytes move by direct non-blocking calls: no buffer is pinned
//! while a connection waits, and dropping a wait loses nothing. This is the one file to replace
//! when another way of talking to the ring proves cheaper.
//!
//! Invariant: a poll that was armed stays in the ring until it fires, whoever stops waiting for it;
//! so a connection costs one poll per request, not one per look.
#![expect(unsafe_code, reason = "borrows the descriptor that monoio owns; fills spare capacity")]

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use monoio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as RawSocket, Type};

/// A TCP connection, or another descriptor that becomes readable.
pub struct Socket {
    stream: Rc<TcpStream>,
    readable: RefCell<Pin<Box<dyn Watch>>>,
    writable: OnceCell<RefCell<Pin<Box<dyn Watch>>>>,
    broken: OnceCell<Option<RefCell<Pin<Box<dyn Watch>>>>>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.stream.as_raw_fd()).finish()
    }
}

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
        // The runtime only needs a descriptor to poll; a listener, timer or event descriptor
        // passes through this type as well as a connection.
        let stream = Rc::new(TcpStream::from_std(fd.into())?);
        let readable = RefCell::new(watch_readable(&stream));
        Ok(Self { stream, readable, writable: OnceCell::new(), broken: OnceCell::new() })
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
        Self::new(socket.into())
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

    /// Ready when a receive would bring bytes, the end, or an error.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readable.borrow_mut().as_mut().poll_fired(cx)
    }

    /// Ready when a send would take bytes or fail.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let watch = self.writable.get_or_init(|| RefCell::new(watch_writable(&self.stream)));
        watch.borrow_mut().as_mut().poll_fired(cx)
    }

    /// Ready when the other side has reset the connection, though nobody wants to receive.
    ///
    /// A socket with bytes that wait is always readable, so readiness does not tell. What the kernel
    /// tells unasked are errors, through an epoll instance that wants nothing of the socket; it is
    /// made when first asked for. Without descriptors left nothing is told.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let watch = self.broken.get_or_init(|| watch_broken(&self.stream).ok());
        watch.as_ref().map_or(Poll::Pending, |watch| watch.borrow_mut().as_mut().poll_fired(cx))
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
        match self.raw().recv_with_flags(spare, libc::MSG_DONTWAIT) {
            Ok(0) => Ok(Received::End),
            Ok(n) => {
                // SAFETY: the kernel has filled the first `n` bytes of the spare capacity.
                unsafe { buffer.set_len(buffer.len() + n) };
                Ok(Received::Bytes(n))
            }
            Err(error) if retry_later(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Looks into the receive queue without taking anything.
    #[must_use]
    pub fn peek(&self) -> Peeked {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        match self.raw().recv_with_flags(&mut byte, libc::MSG_DONTWAIT | libc::MSG_PEEK) {
            Ok(0) => Peeked::Gone,
            Ok(_) => Peeked::Bytes,
            Err(error) if retry_later(&error) => Peeked::Silent,
            Err(_) => Peeked::Gone,
        }
    }

    /// Sends as much as the kernel takes now; 0 when it takes nothing.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        none_if_later(self.raw().send_with_flags(bytes, SEND_FLAGS))
    }

    /// Sends two pieces in one call, as much as the kernel takes now.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if second.is_empty() {
            return self.send(first);
        }
        if first.is_empty() {
            return self.send(second);
        }
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        none_if_later(self.raw().send_vectored_with_flags(&pieces, SEND_FLAGS))
    }

    /// Accepts one waiting connection from a listening socket.
    ///
    /// # Errors
    /// As accept(2): out of descriptors, memory, or a connection that is gone already.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        match self.raw().accept() {
            Ok((socket, address)) => match address.as_socket() {
                Some(address) => Ok(Some((socket.into(), address))),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
            Err(error) if retry_later(&error) => Ok(None),
            Err(error) => Err(error),
        }
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
        let mut counter = [0_u8; 8];
        let fd = self.stream.as_raw_fd();
        // SAFETY: `counter` is valid for 8 bytes and `fd` is open while `self.stream` lives.
        // The descriptor is non-blocking; an empty one is no error here.
        let _taken = unsafe { libc::read(fd, counter.as_mut_ptr().cast(), counter.len()) };
    }

    fn raw(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `self.stream`, which `self` owns.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

fn retry_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn none_if_later(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if retry_later(&error) => Ok(0),
        sent => sent,
    }
}

/// A poll in the ring that is armed when somebody asks and stays armed until it fires.
trait Watch {
    fn poll_fired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// `arm` makes the poll; the place of the future is used again each time, so that waiting does
/// not allocate.
struct Rearmed<A, F> {
    arm: A,
    armed: Option<F>,
}

impl<A: Fn() -> F, F: Future<Output = io::Result<()>>> Watch for Rearmed<A, F> {
    fn poll_fired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `armed` is never moved: it is written and dropped in its place only.
        let this = unsafe { self.get_unchecked_mut() };
        let armed = this.armed.get_or_insert_with(&this.arm);
        // SAFETY: as above; `this` is pinned and so is its field.
        let armed = unsafe { Pin::new_unchecked(armed) };
        // An error of the poll itself shows again in the receive or send that follows.
        let fired = armed.poll(cx).map(drop);
        if fired.is_ready() {
            this.armed = None;
        }
        fired
    }
}

fn watch_readable(stream: &Rc<TcpStream>) -> Pin<Box<dyn Watch>> {
    let stream = Rc::clone(stream);
    let arm = move || {
        let stream = Rc::clone(&stream);
        async move { stream.readable(false).await }
    };
    Box::pin(Rearmed { arm, armed: None })
}

fn watch_broken(stream: &TcpStream) -> io::Result<RefCell<Pin<Box<dyn Watch>>>> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut nothing = libc::epoll_event { events: 0, u64: 0 };
    let (of, add) = (stream.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: `nothing` lives during the call, and both descriptors are open.
    if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, of, &raw mut nothing) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(RefCell::new(watch_readable(&Rc::new(TcpStream::from_std(epoll.into())?))))
}

fn watch_writable(stream: &Rc<TcpStream>) -> Pin<Box<dyn Watch>> {
    let stream = Rc::clone(stream);
    let arm = move || {
        let stream = Rc::clone(&stream);
        async move { stream.writable(false).await }
    };
    Box::pin(Rearmed { arm, armed: None })
}
