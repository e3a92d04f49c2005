//! The wait for the next request on a connection.
//!
//! Invariant: a waiting connection holds no buffer. The local variables that live across a wait here
//! are what an idle connection costs.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::{Connection, Waited, Want, head_limit, set_head_alarm};
use crate::downstream::connection::{Detected, Input};
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http1;
use crate::limits;
use crate::pipe::heads::Heads;
use crate::request::manager::IdleExpiry;
use crate::request::reply::HeadLimit;
use crate::shard::clock::{Millis, millis};
use crate::shard::drain::Draining;
use crate::shard::socket::Received;

/// How the wait for a request ended.
#[derive(Debug)]
pub(super) enum Next {
    Request(Box<Heads>),
    Refused(http1::Error),
    /// The head was not complete in time.
    TimedOut(HeadLimit),
    /// The client speaks HTTP/2; its bytes are in `early`.
    Preface,
    Closed,
}

/// Whether a head was received completely.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Head {
    Complete,
    Incomplete,
    /// It is none: the client speaks HTTP/2.
    Preface,
}

/// The wait of an idle connection. It is kept in the task, so it is small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    began: Millis,
    /// When it ends because the process drains.
    close_at: Option<Millis>,
    /// What was draining when the alarm was set.
    draining: Draining,
}

/// Whether an idle connection goes on waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GoesOn {
    Yes,
    No,
}

impl Idle {
    /// Ready with `None` when there is something to receive, else when the connection is to be closed.
    // On the path of every request, and called twice: the compiler would not inline it.
    #[inline(always)]
    pub(super) fn poll(&mut self, connection: &Connection, cx: &Context<'_>) -> Poll<Option<Next>> {
        let given = &connection.client.given;
        if connection.wire.transport.poll_readable(cx).is_ready() {
            return given.shard.poll_proceed(cx).map(|()| None);
        }
        while given.alarm.poll_expired(cx).is_ready() || given.shard.draining() != self.draining {
            if self.goes_on(connection) == GoesOn::No {
                return Poll::Ready(Some(Next::Closed));
            }
        }
        Poll::Pending
    }

    /// Sets the alarm to the first of the deadlines.
    #[inline(always)]
    fn arm(&mut self, connection: &Connection) {
        let given = &connection.client.given;
        let now = given.shard.clock.now();
        self.draining = given.shard.draining();
        if self.draining == Draining::Process && self.close_at.is_none() {
            // A request that is in flight already is still answered.
            self.close_at = Some(now + limits::DRAIN_IDLE_GRACE_MS);
        }
        let deadlines =
            [connection.idle_at(self.began), self.close_at, connection.idle_expires_at()];
        given.alarm.set(deadlines.into_iter().flatten().min(), now);
    }

    /// Counts the deadline that has passed, if one has; else sets the alarm again.
    #[cold]
    fn goes_on(&mut self, connection: &Connection) -> GoesOn {
        let given = &connection.client.given;
        let now = given.shard.clock.now();
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        let counter = if passed(connection.idle_at(self.began)) {
            &given.stats().downstream_cx_idle_timeout
        } else if passed(connection.idle_expires_at()) {
            &given.stats().downstream_cx_max_duration_reached
        } else if passed(self.close_at) {
            &given.stats().downstream_cx_drain_close
        } else {
            self.arm(connection);
            return GoesOn::Yes;
        };
        counter.inc();
        GoesOn::No
    }
}

impl Connection {
    /// Waits for a request head. Holds no buffer until the first bytes are received.
    pub(super) async fn next_request(&mut self) -> Next {
        if self.wire.early.is_empty() {
            if self.wire.early.capacity() > 0 {
                self.client.given.shard.buffers.give(std::mem::take(&mut self.wire.early));
            }
            if self.client.input() == Input::HalfClosed {
                return self.closed_by_client();
            }
        }
        let mut heads = match self.first_bytes().await {
            Ok(heads) => heads,
            Err(closed) => return closed,
        };
        let outcome = match self.begin_head(&mut heads) {
            Ok(Head::Complete) => Ok(()),
            // Rare; boxed, so that it does not make idle connections larger.
            Ok(Head::Incomplete) => Box::pin(self.receive_rest(&mut heads)).await,
            Ok(Head::Preface) => Err(self.begin_http2(&mut heads)),
            Err(error) => Err(Next::Refused(error)),
        };
        match outcome {
            Ok(()) => Next::Request(heads),
            Err(next) => {
                self.client.given.service.heads.give(heads);
                next
            }
        }
    }

    /// Waits for the first bytes of a head. Wake-ups may be spurious.
    async fn first_bytes(&mut self) -> Result<Box<Heads>, Next> {
        if !self.wire.early.is_empty() {
            // A client that pipelines requests must not starve the others.
            poll_fn(|cx| self.client.given.shard.poll_proceed(cx)).await;
            let mut heads = self.client.given.service.heads.take();
            heads.request.received().append(&mut self.wire.early);
            return Ok(heads);
        }
        loop {
            let mut idle = self.idle();
            if let Some(closed) = poll_fn(|cx| idle.poll(self, cx)).await {
                return Err(closed);
            }
            let mut heads = self.client.given.service.heads.take();
            let received = self.wire.transport.receive(heads.request.received());
            if let Ok(Received::Bytes(n)) = received {
                self.client.given.count_received(n);
                return Ok(heads);
            }
            self.client.given.service.heads.give(heads);
            if let Ok(Received::End) | Err(_) = received {
                return Err(self.closed_by_client());
            }
        }
    }

    /// Begins to wait for the first byte of the next request.
    #[inline(always)]
    pub(super) fn idle(&self) -> Idle {
        let shard = self.client.given.shard;
        let mut idle = Idle { began: shard.clock.now(), close_at: None, draining: Draining::No };
        idle.arm(self);
        idle
    }

    /// When `idle_timeout` ends a connection that has been idle since `began`.
    fn idle_at(&self, began: Millis) -> Option<Millis> {
        let timeouts = &self.client.given.service.manager.timeouts;
        timeouts.idle.map(|idle| began.saturating_add(millis(idle + timeouts.drain)))
    }

    /// When `max_connection_duration` ends the connection while it is idle.
    fn idle_expires_at(&self) -> Option<Millis> {
        match self.client.given.service.manager.timeouts.idle_expiry {
            IdleExpiry::AfterNextResponse if self.client.requests() > 0 => None,
            IdleExpiry::AfterNextResponse | IdleExpiry::Close => self.client.given.expires_at(),
        }
    }

    /// Parses the first bytes of a head.
    fn begin_head(&mut self, heads: &mut Heads) -> Result<Head, http1::Error> {
        heads.began = self.client.given.shard.clock.now();
        self.parse_head(heads)
    }

    /// Parses what was received of a head; moves what follows it to `early`.
    fn parse_head(&mut self, heads: &mut Heads) -> Result<Head, http1::Error> {
        if !self.client.has_codec() {
            match self.client.detect(heads.request.received()) {
                Detected::Http1 => {}
                Detected::Http2 => return Ok(Head::Preface),
                Detected::Incomplete => return Ok(Head::Incomplete),
            }
        }
        let Heads { request: head, request_as_received: as_received, .. } = heads;
        let manager = &self.client.given.service.manager;
        if matches!(manager.header_key_format, HeaderKeyFormat::PreserveCase(_)) {
            as_received.keep(head.received());
        }
        let Some(head_bytes) = head.parse(&manager.limits)? else { return Ok(Head::Incomplete) };
        as_received.end(head_bytes);
        self.client.given.shard.budget().charge_request(head_bytes);
        if head.received().len() > head_bytes {
            if self.wire.early.capacity() == 0 {
                self.wire.early = self.client.given.shard.buffers.take();
            }
            head.split_off(head_bytes, &mut self.wire.early);
        }
        Ok(Head::Complete)
    }

    /// Receives the rest of a head. The alarm is set once: a client that sends a byte at a time does
    /// not postpone it.
    async fn receive_rest(&mut self, heads: &mut Heads) -> Result<(), Next> {
        set_head_alarm(&self.client.given, heads.began);
        loop {
            self.receive_some(heads.request.received()).await?;
            match self.parse_head(heads) {
                Ok(Head::Complete) => return Ok(()),
                Ok(Head::Preface) => return Err(self.begin_http2(heads)),
                Ok(Head::Incomplete) => {
                    poll_fn(|cx| self.client.given.shard.poll_proceed(cx)).await
                }
                Err(error) => return Err(Next::Refused(error)),
            }
        }
    }

    /// Hands what was received over to HTTP/2.
    fn begin_http2(&mut self, heads: &mut Heads) -> Next {
        self.wire.early.append(heads.request.received());
        Next::Preface
    }

    /// Receives at least one more byte of a head.
    async fn receive_some(&mut self, buffer: &mut Vec<u8>) -> Result<(), Next> {
        if buffer.len() == buffer.capacity() {
            // The parser rejects a head beyond its limit, so this grows at most a few times.
            let bytes_max = self.client.given.service.manager.limits.bytes_max;
            buffer.reserve(limits::BLOCK_BYTES.min(bytes_max.max(1)));
        }
        loop {
            match self.wire.transport.receive(buffer) {
                Ok(Received::Bytes(n)) => {
                    self.client.given.count_received(n);
                    return Ok(());
                }
                Ok(Received::End) | Err(_) => {
                    self.begin_exchange(); // it ends with the connection
                    return Err(self.closed_by_client());
                }
                Ok(Received::Nothing) => {}
            }
            if self.wait(Want::In).await == Waited::TimedOut {
                let limit =
                    head_limit(&self.client.given).map_or(HeadLimit::Head, |(_, limit)| limit);
                match limit {
                    HeadLimit::Head => self.client.given.stats().downstream_rq_header_timeout.inc(),
                    HeadLimit::Request => self.client.given.stats().downstream_rq_timeout.inc(),
                    HeadLimit::Idle => self.client.given.stats().downstream_rq_idle_timeout.inc(),
                    HeadLimit::Duration => {
                        self.client.given.stats().downstream_rq_max_duration_reached.inc()
                    }
                }
                return Err(Next::TimedOut(limit));
            }
        }
    }

    fn closed_by_client(&mut self) -> Next {
        self.client.gone();
        Next::Closed
    }
}
