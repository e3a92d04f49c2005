//! One connection to a host, and its stats.
//!
//! Invariant: every connection that was counted as opened is counted as destroyed exactly once,
//! with the side that closed it.

use std::rc::Rc;

use super::circuit_breaker::Permit;
use super::establish::Established;
use super::origin::HeadReceived;
use super::pool::Pool;
use crate::address::Address;
use crate::http::{
    BodyLength, Fault, HeadLimits, Intake, More, Reject, ResponseHead, TrailerRules,
};
use crate::http1::framing;
use crate::limits;
use crate::pipe::heads::Heads;
use crate::pipe::inlet::{Inlet, Pulled};
use crate::pipe::lane::Lane;
use crate::shard::clock::Millis;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// Which side closed a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClosedBy {
    /// This proxy.
    Us,
    /// The host.
    Host,
}

/// How to check that an idle connection is still alive before it is reused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdleCheck {
    /// By the last events from the kernel. The connection may have been closed since: only for a
    /// request that can be sent again.
    Events,
    /// By peeking at its receive queue.
    Peek,
}

/// An established connection to a host.
#[derive(Debug)]
pub struct Connection {
    // Boxed: it moves often between its pool and the requests.
    open: Box<Open>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    local: Option<Address>,
    socket: Transport,
    pool: Rc<Pool>,
    /// Counts against `max_connections`.
    _permit: Permit,
    opened: Millis,
    /// Requests so far, the current one included.
    requests: u64,
    occupied: Occupied,
    closed_by: ClosedBy,
    /// The body of the response that is being received.
    inlet: Inlet,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// When it was opened.
    pub(super) opened: Millis,
    /// How many requests it has carried.
    pub(super) requests: u64,
    pub(super) by: ClosedBy,
    pub(super) occupied: Occupied,
}

/// Whether the connection has a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Occupied {
    Idle,
    Active,
}

impl Connection {
    /// A connection of HTTP/1 that has just been opened.
    pub(super) fn of(established: Established, pool: &Rc<Pool>, permit: Permit) -> Self {
        let Established { id, transport: socket, at: opened } = established;
        let open = Open {
            id,
            local: socket.local_address().ok().map(Address::Ip),
            socket,
            pool: Rc::clone(pool),
            _permit: permit,
            opened,
            requests: 0,
            occupied: Occupied::Idle,
            closed_by: ClosedBy::Us,
            inlet: Inlet::default(),
        };
        Self { open: Box::new(open) }
    }

    /// The connection's id, unique in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.open.id
    }

    /// The local address.
    #[must_use]
    pub fn local(&self) -> Option<Address> {
        self.open.local
    }

    /// The socket, or TLS over it, while the connection is leased.
    #[must_use]
    #[inline]
    pub fn socket(&self) -> &Transport {
        &self.open.socket
    }

    /// The pool of the connection.
    #[must_use]
    #[inline]
    pub fn pool(&self) -> &Rc<Pool> {
        &self.open.pool
    }

    /// Whether it has carried a request before the current one.
    #[must_use]
    #[inline]
    pub fn is_reused(&self) -> bool {
        self.open.requests > 1
    }

    /// Requests so far, the current one included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.open.requests
    }

    /// When it was established.
    #[must_use]
    pub fn opened(&self) -> Millis {
        self.open.opened
    }

    #[inline(always)]
    pub(super) fn receive_head(&mut self, head: &mut ResponseHead) -> HeadReceived {
        let buffer = head.received();
        // The rest of the block is left for edits. The parser rejects a head beyond its limit, so
        // this grows only a few times.
        let room = limits::BLOCK_BYTES - limits::EDIT_BYTES;
        let limit = match room.checked_sub(buffer.len()) {
            None | Some(0) => limits::BLOCK_BYTES,
            Some(room) => room,
        };
        buffer.reserve(limit);
        match self.open.socket.receive_at_most(buffer, limit) {
            Ok(Received::Bytes(n)) => {
                self.open.pool.count_received(n);
                HeadReceived::Bytes
            }
            Ok(Received::Nothing) => HeadReceived::Nothing,
            Ok(Received::End) | Err(_) => HeadReceived::End,
        }
    }

    #[inline(always)]
    pub(super) fn next_head(
        &self,
        heads: &mut Heads,
        limits: &HeadLimits,
        keeps_case: bool,
    ) -> Result<Option<BodyLength>, Reject> {
        let head = &mut heads.response;
        if head.received().is_empty() {
            return Ok(None);
        }
        if keeps_case {
            heads.response_as_received.keep(head.received());
        }
        let Some(head_bytes) = head.parse(limits)? else { return Ok(None) };
        heads.response_as_received.end(head_bytes);
        let length = framing::response(heads.request.method, head)?;
        Ok(Some(length))
    }

    #[inline(always)]
    pub(super) fn begin_body(
        &mut self,
        length: BodyLength,
        trailers: Option<TrailerRules>,
        head: &ResponseHead,
        to: &mut impl Intake,
    ) -> Result<(), Fault> {
        let inlet = &mut self.open.inlet;
        debug_assert!(inlet.has_ended(), "one response after the other");
        // The usual case, and nothing is left to receive.
        if length == BodyLength::Length(head.surplus().len() as u64) {
            to.data(head.surplus());
            to.end(Vec::new());
            return Ok(());
        }
        *inlet = Inlet::new(length);
        if let Some(rules) = trailers {
            inlet.set_trailer_rules(rules);
        }
        let early = head.surplus();
        let taken = inlet.take(early, to)?;
        if let Some(surplus) = early.get(taken..)
            && !surplus.is_empty()
        {
            inlet.surplus_mut().extend_from_slice(surplus);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        let Open { inlet, socket, pool, .. } = &mut *self.open;
        let Pulled { bytes, more } = inlet.pull(socket, pool.buffers(), to)?;
        pool.count_received(bytes);
        Ok(more)
    }

    pub(super) fn pull_lane(&mut self, lane: &mut Lane) -> Result<More, Fault> {
        let Open { inlet, socket, pool, .. } = &mut *self.open;
        let Pulled { bytes, more } = inlet.pull_lane(socket, pool.buffers(), lane)?;
        pool.count_received(bytes);
        Ok(more)
    }

    pub(super) fn become_tunnel(&mut self, head: &ResponseHead, to: &mut impl Intake) {
        let taken = self.begin_body(BodyLength::UntilClose, None, head, to);
        debug_assert!(taken.is_ok(), "bytes without framing cannot be invalid");
    }

    #[inline]
    pub(super) fn give_blocks(&mut self) {
        self.open.inlet.give_block(self.open.pool.buffers());
    }

    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.open.inlet.has_ended()
    }

    #[inline]
    pub(super) fn has_surplus(&self) -> bool {
        !self.open.inlet.surplus().is_empty()
    }

    #[inline]
    pub(super) fn begin_request(&mut self) {
        self.open.requests += 1;
        let pool = &self.open.pool;
        let max = pool.cluster().http.max_requests_per_connection;
        if max.is_some_and(|max| self.open.requests == u64::from(max)) {
            pool.stats().upstream_cx_max_requests.inc();
        }
        self.open.occupied = Occupied::Active;
    }

    #[inline]
    pub(super) fn end_request(&mut self) {
        self.give_blocks();
        self.open.occupied = Occupied::Idle;
    }

    /// Closes the connection after a complete exchange; `by` is counted.
    pub fn finish(mut self, by: ClosedBy) {
        self.end_request();
        self.close(by);
    }

    /// Closes the connection; `by` is counted.
    pub fn close(mut self, by: ClosedBy) {
        self.open.closed_by = by;
        self.give_blocks();
        // `drop` counts it
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { opened, requests, closed_by: by, occupied, .. } = *self;
        if by == ClosedBy::Us && occupied == Occupied::Idle {
            self.socket.notify_close();
        }
        self.pool.connection_closed(Closed { opened, requests, by, occupied });
    }
}
