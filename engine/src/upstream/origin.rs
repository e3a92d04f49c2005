//! The origin's side of one request: a leased connection, whatever it speaks.
//!
//! An exchange knows the origin only through this. Every method is one `match`.
//!
//! The laws of every `poll_…` are those of the client's side (`request/end.rs`).

use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection::{ClosedBy, Connection};
use super::error::Error;
use super::http2::Stream;
use super::pool::Pool;
use crate::address::Address;
use crate::http::{
    BodyLength, EndStream, Fault, HeadLimits, Intake, More, Reject, ResponseHead, TrailerRules,
    Version,
};
use crate::pipe::heads::Heads;
use crate::pipe::lane::Lane;
use crate::pipe::outlet::Outlet;
use crate::transport::tls::facts::TlsFacts;

/// The origin's side of one request. It is dropped or closed when anything unexpected has happened.
#[derive(Debug)]
pub enum Origin {
    /// HTTP/1, or bytes without a head: the connection carries nothing else meanwhile.
    Http1(Connection),
    /// A stream of an HTTP/2 connection, which carries others too. Boxed, so that the state of every exchange
    /// stays small.
    Http2(Box<Stream>),
}

/// The outcome of receiving a part of a response head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadReceived {
    /// Something.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// The origin has closed, or the connection is broken.
    End,
    /// There will be none, for this reason.
    Failed(Error),
}

/// Whether an origin has taken the head of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadTaken {
    /// It has: heads keep their order on its connection.
    Yes,
    /// It has not: the head is sent in front of the body.
    No,
}

impl Origin {
    /// The version that it speaks.
    pub const fn protocol(&self) -> Version {
        match self {
            Self::Http1(_) => Version::Http11,
            Self::Http2(_) => Version::Http2,
        }
    }

    /// Begins a request.
    #[inline]
    pub fn begin_request(&mut self, heads: &Heads, end: EndStream) -> HeadTaken {
        match self {
            Self::Http1(_) => HeadTaken::No,
            Self::Http2(stream) => stream.begin_request(heads, end),
        }
    }

    /// Ready when there may be bytes of the origin to take.
    #[inline]
    pub fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(connection) => connection.socket().poll_readable(cx),
            Self::Http2(stream) => stream.poll_in(cx),
        }
    }

    /// Ready when the origin may take bytes, or never will again.
    #[inline]
    pub fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(connection) => connection.socket().poll_writable(cx),
            Self::Http2(stream) => stream.poll_out(cx),
        }
    }

    /// Ready when the origin has reset the connection; asked only during a wait for neither direction.
    #[inline]
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(connection) => connection.socket().poll_broken(cx),
            Self::Http2(stream) => stream.poll_gone(cx),
        }
    }

    /// Sends once of `out`; a whole short message may be sent later, with those of other connections, if
    /// `may_post` allows it. Returns the number of bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    // On the path of every request, and called more than once: the compiler would not inline it.
    #[inline(always)]
    pub fn push(&mut self, out: &mut Outlet, may_post: bool) -> Result<usize, Fault> {
        match self {
            Self::Http1(connection) => {
                let sent = out.send(connection.socket(), may_post).map_err(|_| Fault::Sink)?;
                connection.pool().count_sent(sent);
                Ok(sent)
            }
            Self::Http2(stream) => stream.push(out),
        }
    }

    /// As [`Self::push`], also of what is in the lane's pipe.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn push_lane(&mut self, lane: &mut Lane) -> Result<usize, Fault> {
        match self {
            Self::Http1(connection) => {
                let sent = lane.send(connection.socket()).map_err(|_| Fault::Sink)?;
                connection.pool().count_sent(sent);
                Ok(sent)
            }
            Self::Http2(stream) => stream.push(&mut lane.outlet),
        }
    }

    /// Receives a part of the response's head.
    #[inline(always)]
    pub fn receive_head(&mut self, heads: &mut Heads) -> HeadReceived {
        match self {
            Self::Http1(connection) => connection.receive_head(&mut heads.response),
            Self::Http2(stream) => stream.receive_head(),
        }
    }

    /// The next head of what was received, an interim one or the final one: how its body ends; `None` if
    /// it is not complete. `keeps_case`: field names are passed on as received.
    ///
    /// # Errors
    /// If the head is invalid.
    #[inline(always)]
    pub fn next_head(
        &mut self,
        heads: &mut Heads,
        limits: &HeadLimits,
        keeps_case: bool,
    ) -> Result<Option<BodyLength>, Reject> {
        match self {
            Self::Http1(connection) => connection.next_head(heads, limits, keeps_case),
            // The limits were applied when it was decoded.
            Self::Http2(stream) => Ok(stream.next_head(heads)),
        }
    }

    /// Begins the body of the response: takes what was received together with its head.
    ///
    /// # Errors
    /// If the chunks are invalid.
    #[inline(always)]
    pub fn begin_body(
        &mut self,
        length: BodyLength,
        trailers: Option<TrailerRules>,
        head: &ResponseHead,
        to: &mut impl Intake,
    ) -> Result<(), Fault> {
        match self {
            Self::Http1(connection) => connection.begin_body(length, trailers, head, to),
            Self::Http2(stream) => {
                stream.begin_body(length, trailers, to);
                Ok(())
            }
        }
    }

    /// Receives once of the body.
    ///
    /// # Errors
    /// If the body ends too early, its framing is invalid or receiving fails.
    #[inline]
    pub fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        match self {
            Self::Http1(connection) => connection.pull(to),
            Self::Http2(stream) => stream.pull(to),
        }
    }

    /// As [`Self::pull`]; bulk bytes without framing go through the lane's pipe, if it may have one.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn pull_lane(&mut self, lane: &mut Lane) -> Result<More, Fault> {
        match self {
            Self::Http1(connection) => connection.pull_lane(lane),
            Self::Http2(stream) => stream.pull(&mut lane.outlet),
        }
    }

    /// Whether its bytes can be moved through a pipe.
    #[must_use]
    pub fn can_splice(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.socket().can_splice(),
            Self::Http2(_) => false,
        }
    }

    /// Makes both directions bytes without framing; takes what was received already.
    pub fn become_tunnel(&mut self, head: &ResponseHead, to: &mut impl Intake) {
        match self {
            Self::Http1(connection) => connection.become_tunnel(head, to),
            // What has arrived already is taken as the rest is.
            Self::Http2(_) => {}
        }
    }

    /// Ends the direction to the origin; the other one goes on.
    pub fn end_sending(&self) {
        match self {
            Self::Http1(connection) => connection.socket().shutdown_write(),
            Self::Http2(stream) => stream.end_sending(),
        }
    }

    /// Makes the close a reset, so that the origin can tell that bytes are missing.
    pub fn reset_on_close(&self) {
        match self {
            Self::Http1(connection) => connection.socket().reset_on_close(),
            // It is reset in any case.
            Self::Http2(_) => {}
        }
    }

    /// Whether bytes that were taken for the origin, or the end, have not been sent yet.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.socket().has_unsent(),
            // Its connection sends it.
            Self::Http2(_) => false,
        }
    }

    /// Returns memory during a wait that may be long.
    pub fn give_blocks(&mut self) {
        match self {
            Self::Http1(connection) => connection.give_blocks(),
            Self::Http2(_) => {}
        }
    }

    /// Whether the origin has sent more than the response: what it sends next cannot be trusted.
    #[must_use]
    #[inline]
    pub fn has_surplus(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_surplus(),
            Self::Http2(_) => false,
        }
    }

    /// Whether all of the response has been received. Filters may end it earlier for the client.
    #[must_use]
    #[inline]
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_ended(),
            // A stream that has not ended is reset when it is given back.
            Self::Http2(_) => true,
        }
    }

    /// Whether the connection has carried a request before the current one.
    #[must_use]
    #[inline]
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reused(),
            Self::Http2(_) => false,
        }
    }

    /// The id of the connection, unique in this process.
    #[must_use]
    #[inline]
    pub fn id(&self) -> u64 {
        match self {
            Self::Http1(connection) => connection.id(),
            Self::Http2(stream) => stream.id(),
        }
    }

    /// The local address.
    #[must_use]
    #[inline]
    pub fn local(&self) -> Option<Address> {
        match self {
            Self::Http1(connection) => connection.local(),
            Self::Http2(stream) => stream.local(),
        }
    }

    /// What the TLS handshake has settled; `None` on a plain connection.
    #[must_use]
    #[inline]
    pub fn tls(&self) -> Option<&Rc<TlsFacts>> {
        match self {
            Self::Http1(connection) => connection.socket().tls(),
            Self::Http2(stream) => stream.tls(),
        }
    }

    /// The pool.
    #[must_use]
    #[inline]
    pub fn pool(&self) -> &Rc<Pool> {
        match self {
            Self::Http1(connection) => connection.pool(),
            Self::Http2(stream) => stream.pool(),
        }
    }

    /// Returns it to its pool after a complete exchange.
    #[inline]
    pub fn give_back(self) {
        match self {
            Self::Http1(connection) => {
                let pool = Rc::clone(connection.pool());
                let now = pool.now();
                pool.release(connection, now);
            }
            Self::Http2(stream) => drop(stream),
        }
    }

    /// Why the host has ended this exchange, if that can be told from the end of its connection.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(stream) => stream.failure(),
        }
    }

    /// Counts a response that is not valid, or not whole. Of a connection that carries other streams too only
    /// what ends it is counted, by itself.
    pub fn count_protocol_error(&self) {
        match self {
            Self::Http1(connection) => connection.pool().stats().upstream_cx_protocol_error.inc(),
            Self::Http2(_) => {}
        }
    }

    /// Ends it after a complete exchange; `by` is counted.
    #[inline]
    pub fn finish(self, by: ClosedBy) {
        match self {
            Self::Http1(connection) => connection.finish(by),
            Self::Http2(stream) => drop(stream),
        }
    }

    /// Ends it; `by` is counted.
    #[inline]
    pub fn close(self, by: ClosedBy) {
        match self {
            Self::Http1(connection) => connection.close(by),
            Self::Http2(stream) => drop(stream),
        }
    }
}
