//! A TLS connection: its socket, its session, and the verbs of a transport.
//!
//! A receive decrypts, a send encrypts; what the kernel does not take stays in the session and is sent
//! before anything else. Receiving may produce bytes to send (tickets, key updates, alerts), so every
//! wait sends them too.
//!
//! Invariant: while a task waits, the connection holds no block except for bytes that wait too.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::facts::TlsFacts;
use super::failure::Failure;
use super::handshake::ServerTls;
use super::session::{ENCRYPT_BYTES_MAX, Input, Output, Session};
use crate::limits;
use crate::shard::socket::{Peeked, Received, Socket};

/// Bytes to have room for before a receive: what a block has left behind the part of a record.
const ROOM_MIN: usize = limits::RECORD_BLOCK_BYTES / 16;

/// How often [`Tls::peek`] receives. A peer that has sent more is about to say something.
const PEEKS_MAX: usize = 4;

/// TLS over a socket.
pub struct Tls {
    /// Of a server's side.
    pub(super) server: Option<Rc<ServerTls>>,
    pub(super) socket: Socket,
    pub(super) session: RefCell<Session>,
    /// Set when the handshake is done.
    pub(super) facts: OnceCell<Rc<TlsFacts>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).field("facts", &self.facts).finish()
    }
}

impl Tls {
    pub(super) fn new(socket: Socket, session: Session, server: Option<Rc<ServerTls>>) -> Self {
        Self { server, socket, session: RefCell::new(session), facts: OnceCell::new() }
    }

    /// What the handshake has settled; none before it is done.
    pub fn facts(&self) -> Option<&Rc<TlsFacts>> {
        self.facts.get()
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// See [`Socket::poll_readable`]; also ready while decrypted bytes have not been received.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut session = self.session.borrow_mut();
        if session.is_at_hand() || self.socket.poll_readable(cx).is_ready() {
            return Poll::Ready(());
        }
        self.flush_or_watch(&mut session, cx);
        session.rest();
        Poll::Pending
    }

    /// See [`Socket::poll_writable`]; ready when everything encrypted has been sent.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.flush(&mut self.session.borrow_mut());
        self.socket.poll_writable(cx)
    }

    /// See [`Socket::poll_broken`].
    pub(crate) fn poll_broken(&self, cx: &Context<'_>) -> Poll<()> {
        self.waits_for(self.socket.poll_broken(cx), cx)
    }

    /// See [`Socket::poll_closed`].
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.waits_for(self.socket.poll_closed(cx), cx)
    }

    /// Sends and gives back what there is before a wait for anything but bytes.
    fn waits_for(&self, ends: Poll<()>, cx: &Context<'_>) -> Poll<()> {
        if ends.is_pending() {
            let mut session = self.session.borrow_mut();
            self.flush_or_watch(&mut session, cx);
            session.rest();
        }
        ends
    }

    /// See [`Socket::receive_at_most`]. The end is reported only after `close_notify`.
    pub(crate) fn receive_at_most(
        &self,
        buffer: &mut Vec<u8>,
        most: usize,
    ) -> io::Result<Received> {
        let most = most.min(buffer.capacity() - buffer.len());
        if most == 0 {
            return Ok(Received::Nothing);
        }
        let mut session = self.session.borrow_mut();
        let before = buffer.len();
        if session.plain.read(buffer, most, self.socket.buffers()) == 0 {
            self.receive_records(&mut session, buffer, most);
        }
        match (buffer.len() - before, session.input) {
            (0, Input::Open) => Ok(Received::Nothing),
            (0, Input::Ended) => Ok(Received::End),
            (0, Input::Failed(failure)) => Err(failure.into()),
            (received, _) => Ok(Received::Bytes(received)),
        }
    }

    /// Receives and decrypts until there are bytes, or nothing more has arrived. A peer that sends
    /// records without any bytes is left for the next turn.
    fn receive_records(&self, session: &mut Session, buffer: &mut Vec<u8>, most: usize) {
        let before = buffer.len();
        while session.input == Input::Open {
            match self.receive_some(session, most) {
                Received::Bytes(_) => {
                    session.process(buffer, most);
                    self.flush(session);
                }
                Received::Nothing => return,
                Received::End => session.input = Input::Failed(Failure::Truncated),
            }
            if buffer.len() > before || self.socket.budget().is_spent() {
                return;
            }
        }
    }

    /// Receives once, as many bytes as `most` bytes of plaintext take, or one record.
    pub(super) fn receive_some(&self, session: &mut Session, most: usize) -> Received {
        let bulk = most > limits::RECORD_BLOCK_BYTES;
        // With the part of a record that is already there, a block always has room for the rest.
        let wanted = if bulk { most.min(limits::LARGE_BLOCK_BYTES / 2) } else { ROOM_MIN };
        let block = session.incoming.room(wanted, self.socket.buffers());
        let received = self.socket.receive_at_most(block, most.max(limits::RECORD_BLOCK_BYTES));
        session.incoming.settle(self.socket.buffers());
        match received {
            Ok(received) => {
                if let Received::Bytes(bytes) = received {
                    self.socket.budget().charge_crypto(bytes);
                }
                received
            }
            Err(error) => {
                session.input = Input::Failed(Failure::Broken(error.kind()));
                Received::Nothing
            }
        }
    }

    /// See [`Socket::send`]: bytes that were encrypted count as sent.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        self.flush(&mut session);
        if session.output == Output::Closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if bytes.is_empty() || !session.outgoing.is_empty() || self.socket.is_posting() {
            return Ok(0);
        }
        let bytes = bytes.get(..ENCRYPT_BYTES_MAX).unwrap_or(bytes);
        self.socket.budget().charge_crypto(bytes.len());
        session.encrypt(bytes)?;
        self.flush(&mut session);
        Ok(bytes.len())
    }

    /// See [`Socket::may_post`].
    pub(crate) fn may_post(&self) -> bool {
        self.socket.may_post() && self.session.borrow().outgoing.is_empty()
    }

    /// See [`Socket::post`].
    pub(crate) fn post(&self, bytes: Vec<u8>) {
        let mut session = self.session.borrow_mut();
        self.socket.budget().charge_crypto(bytes.len());
        // If that fails, so does the next receive.
        if session.encrypt(&bytes).is_ok() {
            self.socket.post(session.outgoing.take());
        }
        self.socket.buffers().give(bytes);
    }

    /// Whether accepted bytes, or the end of the sending side, have not been sent yet.
    pub(crate) fn has_unsent(&self) -> bool {
        let session = self.session.borrow();
        self.socket.is_posting()
            || !session.outgoing.is_empty()
            || session.output == Output::Closing
    }

    /// Whether there is something to receive. Tickets and key updates that have arrived are processed;
    /// the part of a record may be anything.
    pub(crate) fn peek(&self) -> Peeked {
        let mut session = self.session.borrow_mut();
        for _ in 0..PEEKS_MAX {
            if session.is_at_hand() {
                break;
            }
            match self.receive_some(&mut session, 0) {
                // Nothing has room here: what arrives is kept for the next receive.
                Received::Bytes(_) => session.process(&mut Vec::new(), 0),
                Received::End => session.input = Input::Failed(Failure::Truncated),
                Received::Nothing
                    if session.input == Input::Open && session.incoming.is_empty() =>
                {
                    self.flush(&mut session);
                    return Peeked::Silent;
                }
                Received::Nothing => break,
            }
        }
        self.flush(&mut session);
        session.rest();
        if session.plain.is_empty() && session.input != Input::Open {
            Peeked::Gone
        } else {
            Peeked::Bytes
        }
    }

    /// See [`Socket::is_quiet`].
    pub(crate) fn is_quiet(&self) -> bool {
        self.socket.is_quiet() && !self.session.borrow().is_at_hand()
    }

    /// See [`Socket::seems_silent`].
    pub(crate) fn seems_silent(&self, polls: u64) -> bool {
        let session = self.session.borrow();
        self.socket.seems_silent(polls) && !session.is_at_hand() && session.incoming.is_empty()
    }

    /// See [`Socket::has_hung_up`].
    pub(crate) fn has_hung_up(&self) -> bool {
        self.socket.has_hung_up() || self.session.borrow().input != Input::Open
    }

    /// Sends `close_notify`, as far as there is room for it: the connection is closed in order.
    pub(crate) fn notify_close(&self) {
        let mut session = self.session.borrow_mut();
        session.notify_close();
        self.flush(&mut session);
    }

    /// Sends `close_notify`, then closes the sending side. The other direction goes on.
    pub(crate) fn shutdown_write(&self) {
        let mut session = self.session.borrow_mut();
        session.notify_close();
        if session.output != Output::Closed {
            session.output = Output::Closing;
        }
        self.flush(&mut session);
    }

    /// Sends what is encrypted, as far as there is room. If the connection is broken, the next receive
    /// says so.
    pub(super) fn flush(&self, session: &mut Session) {
        if self.socket.is_posting() {
            return;
        }
        if !session.outgoing.is_empty() {
            match self.socket.send(session.outgoing.bytes()) {
                Ok(sent) => session.outgoing.advance(sent, self.socket.buffers()),
                Err(_) => {
                    session.outgoing.clear(self.socket.buffers());
                    session.output = Output::Closed;
                }
            }
        }
        if session.outgoing.is_empty() && session.output == Output::Closing {
            self.socket.shutdown_write();
            session.output = Output::Closed;
        }
    }

    /// As [`Self::flush`]; what there is no room for wakes the task when there is.
    fn flush_or_watch(&self, session: &mut Session, cx: &Context<'_>) {
        self.flush(session);
        if (!session.outgoing.is_empty() || session.output == Output::Closing)
            && self.socket.poll_writable(cx).is_ready()
        {
            // The send was interrupted, or the posted bytes have just been sent.
            cx.waker().wake_by_ref();
        }
    }
}
