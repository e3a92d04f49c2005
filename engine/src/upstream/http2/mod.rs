//! The HTTP/2 connections of a pool: each carries many requests at once.
//!
//! While one is being opened, requests wait and share the attempt. Another is opened only when the streams
//! of all others are in use. A connection that the host wants to leave, or that has reached a limit of its
//! own, takes no more requests and ends with its last one.
//!
//! What the streams of a connection share is in `crate::session`, frames are `crate::http2`'s.
//!
//! Invariant: `open` has only connections that take more requests, now or when others have ended.

mod connection;
mod stream;
mod task;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use self::connection::Connection;
pub(super) use self::stream::Stream;
use super::circuit_breaker::Permit;
use super::connection::Connection as Http1Connection;
use super::error::Error;
use super::establish::Established;
use super::origin::Origin;
use super::pool::{IdleCheck, Pending, Pool, begin};
use super::pool_key::Speaks;
use super::waiting::WaitOutcome;
use crate::transport::Transport;

/// The HTTP/2 connections of a pool, and those that may become some.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The oldest first.
    open: RefCell<Vec<Rc<Connection>>>,
    /// Connections being opened, which all waiting requests share.
    attempts: Cell<usize>,
    /// What the last TLS handshake negotiated, if that decides.
    negotiated: Cell<Option<Negotiated>>,
}

/// Which version of HTTP a host has chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Negotiated {
    Http1,
    Http2,
}

impl Shared {
    pub(super) fn retire(&self) {
        for connection in self.open.take() {
            connection.drain();
        }
    }

    /// How many connections have no request.
    pub(super) fn idle(&self) -> usize {
        self.open.borrow().iter().filter(|connection| connection.is_idle()).count()
    }

    /// Whether a connection is being opened, or will be in this round.
    pub(super) const fn has_attempts(&self) -> bool {
        self.attempts.get() > 0
    }

    fn remove(&self, connection: &Connection) {
        self.open.borrow_mut().retain(|it| !std::ptr::eq(&raw const **it, connection));
    }
}

impl Pool {
    /// A stream of an open connection, or an idle connection to a host that has chosen HTTP/1. No request
    /// overtakes those that wait.
    #[cold]
    pub(super) fn lease_ready_shared(self: &Rc<Self>, check: IdleCheck) -> Option<Origin> {
        if self.has_waiting() {
            return None;
        }
        self.lease_stream().or_else(|| self.lease_idle(check).map(Origin::Http1))
    }

    /// Room for a request on an open connection.
    fn lease_stream(self: &Rc<Self>) -> Option<Origin> {
        let open = self.shared.open.borrow();
        let connection = open.iter().find(|connection| connection.room() > 0)?;
        Some(Origin::Http2(Box::new(Stream::new(connection))))
    }

    /// Leases room on a connection, which may have to be opened, as [`Self::lease`] does for a pool of HTTP/1.
    ///
    /// # Errors
    /// A circuit breaker is open, or the attempt to connect failed.
    pub async fn lease_shared(self: &Rc<Self>) -> Result<Origin, Error> {
        let pending = Pending::enter(self)?;
        let origin = self.wait_for_room().await;
        pending.end();
        origin.map(|origin| match origin {
            Origin::Http1(connection) => Origin::Http1(begin(connection)),
            Origin::Http2(stream) => Origin::Http2(stream),
        })
    }

    async fn wait_for_room(self: &Rc<Self>) -> Result<Origin, Error> {
        loop {
            if let Some(origin) = self.lease_stream() {
                return Ok(origin);
            }
            // One may have been released while this request was woken and not in the queue.
            if let Some(connection) = self.take_idle(IdleCheck::Peek) {
                return Ok(Origin::Http1(connection));
            }
            if self.shared.negotiated.get() == Some(Negotiated::Http1) {
                if let Some(permit) = self.may_connect()
                    && let Some(connection) = self.connect_negotiated(permit).await?
                {
                    return Ok(Origin::Http1(connection));
                }
            } else if self.waiting_requests() >= self.expected_room()
                && let Some(permit) = self.may_connect()
            {
                self.begin_attempt(permit);
            }
            match self.wait().await {
                WaitOutcome::Connection(connection) => return Ok(Origin::Http1(connection)),
                WaitOutcome::Failed(error) => return Err(error),
                WaitOutcome::Capacity => {}
            }
        }
    }

    /// How many requests the connections that are being opened will carry.
    fn expected_room(&self) -> usize {
        let http = &self.cluster().http;
        let requests = http.max_requests_per_connection.unwrap_or(u32::MAX);
        let each = http.http2.max_concurrent_streams.min(requests).max(1) as usize;
        self.shared.attempts.get().saturating_mul(each)
    }

    fn begin_attempt(self: &Rc<Self>, permit: Permit) {
        let (pool, counted) = (Rc::clone(self), CountedAttempt::new(self));
        self.shard().spawn(async move { pool.attempt(permit, counted).await });
    }

    /// Opens a connection for all that wait, and serves it if it is one of HTTP/2.
    async fn attempt(self: Rc<Self>, permit: Permit, counted: CountedAttempt) {
        let established = self.establish().await;
        drop(counted);
        match established {
            Ok(established) => match self.negotiated(&established.transport) {
                Negotiated::Http2 => task::serve(self.begin(established, permit)).await,
                Negotiated::Http1 => {
                    self.hand_out(Http1Connection::of(established, &self, permit));
                    // Each of the others needs a connection of its own.
                    self.wake_waiting(usize::MAX);
                }
            },
            Err(error) => self.eject(error),
        }
    }

    /// Opens a connection to a host that has chosen HTTP/1 before. None: it has chosen HTTP/2 this time.
    async fn connect_negotiated(
        self: &Rc<Self>,
        permit: Permit,
    ) -> Result<Option<Http1Connection>, Error> {
        let established = self.establish().await.inspect_err(|_| {
            self.stats().upstream_rq_pending_failure_eject.inc();
        })?;
        if self.negotiated(&established.transport) == Negotiated::Http1 {
            return Ok(Some(Http1Connection::of(established, self, permit)));
        }
        let connection = self.begin(established, permit);
        self.shard().spawn(task::serve(connection));
        Ok(None)
    }

    fn begin(self: &Rc<Self>, established: Established, permit: Permit) -> Rc<Connection> {
        let connection = Connection::new(established, Rc::clone(self), permit);
        self.shared.open.borrow_mut().push(Rc::clone(&connection));
        let is_wanted = self.has_waiting();
        self.wake_waiting(connection.room());
        // Whoever waited when the host was removed is still served.
        if self.is_retired() && !is_wanted {
            connection.drain();
        }
        connection
    }

    /// What a new connection speaks.
    fn negotiated(&self, transport: &Transport) -> Negotiated {
        if self.speaks() == Speaks::Http2 {
            return Negotiated::Http2;
        }
        let alpn = transport.tls().and_then(|tls| tls.alpn.as_deref());
        let (negotiated, total) = if alpn == Some(b"h2".as_slice()) {
            (Negotiated::Http2, &self.stats().upstream_cx_http2_total)
        } else {
            (Negotiated::Http1, &self.stats().upstream_cx_http1_total)
        };
        total.inc();
        self.shared.negotiated.set(Some(negotiated));
        negotiated
    }
}

/// An attempt that waiting requests share, from when it is decided until it has ended.
struct CountedAttempt(Rc<Pool>);

impl CountedAttempt {
    fn new(pool: &Rc<Pool>) -> Self {
        let attempts = &pool.shared.attempts;
        attempts.set(attempts.get() + 1);
        Self(Rc::clone(pool))
    }
}

impl Drop for CountedAttempt {
    fn drop(&mut self) {
        let attempts = &self.0.shared.attempts;
        attempts.set(attempts.get().saturating_sub(1));
    }
}
