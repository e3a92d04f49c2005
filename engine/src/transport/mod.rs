//! What carries the bytes of a connection: a plain socket, or TLS over one.
//!
//! It knows neither HTTP nor listeners nor clusters: `downstream` and `upstream` choose the transport
//! of their connections here.
//!
//! Invariant: a codec above cannot tell which transport it runs over, except by asking for the facts
//! of the handshake.

pub mod tls;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use self::tls::facts::TlsFacts;
use self::tls::{Failure, Tls};
use crate::shard::Shard;
use crate::shard::budget::Budget;
use crate::shard::socket::{Peeked, Received, Socket};
use crate::shard::splice::Pipe;
use crate::shard::timers::Alarm;

/// The transport of one connection. Its verbs are those of [`Socket`].
#[derive(Debug)]
pub enum Transport {
    /// The bytes as they are.
    Plain(Socket),
    /// In TLS records.
    Tls(Box<Tls>),
}

/// Keeps what TLS does out of the path of plain bytes.
#[cold]
#[inline(never)]
fn outlined<T>(verb: impl FnOnce() -> T) -> T {
    verb()
}

impl Transport {
    /// Ready when a receive would return bytes, the end or an error; sometimes spuriously.
    #[inline]
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(tls) => outlined(|| tls.poll_readable(cx)),
        }
    }

    /// Ready when a send would accept bytes or fail.
    #[inline]
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_writable(cx),
            Self::Tls(tls) => outlined(|| tls.poll_writable(cx)),
        }
    }

    /// Ready when the peer has reset the connection, for a task that does not receive. A half-close
    /// is not enough: the peer may still read.
    #[inline]
    pub fn poll_broken(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_broken(cx),
            Self::Tls(tls) => outlined(|| tls.poll_broken(cx)),
        }
    }

    /// Waits until the peer has reset the connection, see [`Self::poll_broken`], or `alarm` expires.
    pub async fn broken_or_expired(&self, alarm: &Alarm) {
        poll_fn(|cx| {
            if self.poll_broken(cx).is_ready() {
                return Poll::Ready(());
            }
            alarm.poll_expired(cx)
        })
        .await;
    }

    /// Ready when both sides have closed, or the connection is broken, for a task that does not receive.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_closed(cx),
            Self::Tls(tls) => outlined(|| tls.poll_closed(cx)),
        }
    }

    /// Appends what has arrived to `buffer`, at most its spare capacity. Without spare capacity this
    /// returns [`Received::Nothing`].
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        self.receive_at_most(buffer, usize::MAX)
    }

    /// As [`Self::receive`], but at most `most` bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub fn receive_at_most(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<Received> {
        match self {
            Self::Plain(socket) => socket.receive_at_most(buffer, most),
            Self::Tls(tls) => outlined(|| tls.receive_at_most(buffer, most)),
        }
    }

    /// Sends as much as is accepted now, and returns how much that was; it may be 0.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.send(bytes),
            Self::Tls(tls) => outlined(|| tls.send(bytes)),
        }
    }

    /// Whether its bytes can be moved through a pipe: those of TLS cannot.
    #[must_use]
    pub const fn can_splice(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Moves what has arrived into `pipe`, which is empty; `None` if it cannot, see [`Self::can_splice`].
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn splice_into(&self, pipe: &mut Pipe) -> io::Result<Option<Received>> {
        match self {
            Self::Plain(socket) => socket.splice_into(pipe).map(Some),
            Self::Tls(_) => Ok(None),
        }
    }

    /// Sends as much of `pipe` as is accepted now, and returns how much that was; it may be 0.
    ///
    /// # Errors
    /// When the connection is broken, or the transport cannot, see [`Self::can_splice`].
    pub fn splice_from(&self, pipe: &mut Pipe) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.splice_from(pipe),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether a message can be posted.
    #[inline]
    #[must_use]
    pub fn may_post(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.may_post(),
            Self::Tls(tls) => outlined(|| tls.may_post()),
        }
    }

    /// Sends all of `bytes`, one block at most, with the next submission to the ring; only if
    /// [`Self::may_post`]. The block is returned to the shard's pool. Later sends wait for these
    /// bytes. If this fails, the next receive reports the end.
    #[inline]
    pub fn post(&self, bytes: Vec<u8>) {
        match self {
            Self::Plain(socket) => socket.post(bytes),
            Self::Tls(tls) => outlined(|| tls.post(bytes)),
        }
    }

    /// Whether accepted bytes have not been sent yet.
    #[inline]
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_posting(),
            Self::Tls(tls) => outlined(|| tls.has_unsent()),
        }
    }

    /// Whether there is something to receive, without consuming it.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Peeked {
        match self {
            Self::Plain(socket) => socket.peek(),
            Self::Tls(tls) => outlined(|| tls.peek()),
        }
    }

    /// Whether nothing has arrived since the last receive, not even the end, as of a recent poll that
    /// took all pending events. [`Self::polls`] was `polls` at the time of that receive.
    #[inline]
    #[must_use]
    pub fn seems_silent(&self, polls: u64) -> bool {
        match self {
            Self::Plain(socket) => socket.seems_silent(polls),
            Self::Tls(tls) => outlined(|| tls.seems_silent(polls)),
        }
    }

    /// Whether no event has been reported since the last receive. One may be pending in the kernel.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(tls) => outlined(|| tls.is_quiet()),
        }
    }

    /// Whether the peer is known to send no more, or to have reset the connection. There may still be
    /// bytes to receive.
    #[inline]
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.has_hung_up(),
            Self::Tls(tls) => outlined(|| tls.has_hung_up()),
        }
    }

    /// Says that the connection is closed in order. Over a plain socket the close itself says it.
    pub fn notify_close(&self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.notify_close(),
        }
    }

    /// Performs the handshake; over a plain socket there is none.
    ///
    /// # Errors
    /// When it fails, or `alarm` expires first.
    pub async fn handshake(&self, shard: &Shard, alarm: &Alarm) -> Result<(), Failure> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.handshake(shard, alarm).await,
        }
    }

    /// What the handshake has settled; none over a plain socket, or before it is done.
    #[must_use]
    pub fn tls(&self) -> Option<&Rc<TlsFacts>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.facts(),
        }
    }

    /// Closes the sending side; accepted bytes are still sent.
    pub fn shutdown_write(&self) {
        match self {
            Self::Plain(socket) => socket.shutdown_write(),
            Self::Tls(tls) => outlined(|| tls.shutdown_write()),
        }
    }

    /// Makes the close a reset, so that the peer can tell that the message is incomplete.
    pub fn reset_on_close(&self) {
        self.socket().reset_on_close();
    }

    /// How many polls have taken all pending events from the kernel.
    #[inline]
    #[must_use]
    pub const fn polls(&self) -> u64 {
        self.socket().polls()
    }

    /// The local address of the connection.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket().local_address()
    }

    /// The budget of the running task.
    #[inline]
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        self.socket().budget()
    }

    const fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection and every task of one holds a transport.
    #[test]
    fn a_transport_is_as_small_as_a_socket() {
        assert_eq!(size_of::<Transport>(), size_of::<Socket>());
    }
}
