//! The two ends of an exchange, as the exchange sees them: the client's side of one request is behind
//! [`ClientEnd`]; the origin's is an [`Origin`](crate::upstream::origin::Origin).
//!
//! An exchange knows neither sockets nor codecs. Whatever it waits for is polled, and dropping a wait
//! loses nothing.
//!
//! The laws of every `poll_…`: it is ready until a call has found nothing to do; a spurious ready is
//! allowed, a missed one never; pending means that whatever changes wakes this waker.

use std::task::{Context, Poll};

use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, EndStream, Fault, Intake, More, TrailerRules};
use crate::pipe::heads::Heads;
use crate::pipe::outlet::{Framing, Outlet};

/// The client has disconnected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gone;

/// What the exchange knows when it finishes the head of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    /// Where the body of the response comes from.
    pub body: ResponseBody,
    /// Whether the response makes the connection a tunnel.
    pub tunnel: bool,
}

/// The body of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseBody {
    /// A host's, of this length.
    Relayed(BodyLength),
    /// A local reply's. Its length is in the head, if it has one.
    Local,
}

/// Whether the client's side can carry another request after this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closing {
    /// No: what follows on it may not be HTTP, or nobody would understand it.
    AfterResponse,
    /// No, and the client may still be sending: it gets time to read the response.
    Lingering,
}

/// How an exchange has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The response was sent completely.
    Whole,
    /// The response was sent completely, but the client may still be sending what nobody wants.
    Early,
    /// The response is incomplete, and the client must be able to tell.
    Cut,
    /// The client has disconnected, or both directions of a tunnel have ended.
    Over,
}

/// The client's side of one request. The answers that are given here are those of a side whose connection, if
/// there is one, is somebody else's business: a stream, or memory.
pub trait ClientEnd {
    /// What becomes of what the request came on.
    type After;

    /// Ready when there may be bytes of the client to take.
    fn poll_in(&self, cx: &Context<'_>) -> Poll<()>;
    /// Ready when the client may take bytes, or never will again.
    fn poll_out(&self, cx: &Context<'_>) -> Poll<()>;
    /// Ready when the client has disconnected; asked only during a wait for neither direction.
    fn poll_gone(&self, cx: &Context<'_>) -> Poll<()>;

    /// Whether all of the request's body has been received. Filters may end it earlier for the origin.
    fn has_received_all(&self) -> bool;

    /// Whether [`Self::receive_ahead`] can receive anything.
    fn listens_ahead(&self) -> bool {
        false
    }
    /// Receives what the client sends before its response is complete, which also detects that it
    /// disconnects.
    ///
    /// # Errors
    /// When the client has disconnected.
    fn receive_ahead(&mut self) -> Result<(), Gone> {
        Ok(())
    }
    /// Whether the client has announced that it sends no more, or is gone, and nobody has looked yet.
    fn has_hung_up(&self) -> bool {
        false
    }
    /// Whether the client has closed its sending side.
    fn has_half_closed(&self) -> bool {
        false
    }
    /// Notes that it has.
    fn half_close(&mut self) {}
    /// Notes that the client has disconnected.
    fn gone(&mut self);

    /// Whether the client has reset this request, and not its connection.
    fn was_reset(&self) -> bool;

    /// Makes this the last request of the connection.
    fn close_after(&mut self, closing: Closing) {
        _ = closing;
    }
    /// Whether the client's side carries another request after this one, as far as is known.
    fn stays(&self) -> bool {
        true
    }
    /// Adds what the codec says about connection and body to a head that is complete otherwise; returns
    /// how the body is framed. The decision whether the connection stays is final then.
    fn finish_head(&mut self, heads: &mut Heads, known: Known) -> Framing;
    /// Encodes `100 Continue`.
    fn encode_continue(&mut self, out: &mut Vec<u8>);
    /// Encodes the head of the response. As in Envoy, header names are written as the client's codec is
    /// configured, unless the upstream codec has preserved them. A codec whose heads must keep their order
    /// on the connection takes it at once, and leaves nothing in `out`.
    fn encode_head(
        &mut self,
        heads: &Heads,
        upstream: HeaderKeyFormat,
        end: EndStream,
        out: &mut Vec<u8>,
    );

    /// Sets the rules for the trailers of the request. To be called before its body is taken.
    fn set_trailer_rules(&mut self, rules: TrailerRules);
    /// How many trailers were dropped because of underscores in their names.
    fn dropped_trailers(&self) -> u64 {
        0
    }
    /// Takes what was received of the request's body already, without asking the kernel.
    ///
    /// # Errors
    /// If the framing is invalid.
    fn take_at_hand(&mut self, to: &mut impl Intake) -> Result<(), Fault>;
    /// Receives once of the request's body.
    ///
    /// # Errors
    /// If the body ends too early, its framing is invalid or receiving fails.
    fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault>;
    /// Sends once of `out`; returns the number of bytes, which may be 0. A whole short message may be
    /// sent later, with those of other connections.
    ///
    /// # Errors
    /// When the client has disconnected.
    fn push(&mut self, out: &mut Outlet) -> Result<usize, Fault>;
    /// Makes both directions bytes without framing; takes what was received already.
    fn become_tunnel(&mut self, to: &mut impl Intake);
    /// Ends the direction to the client; the other one goes on.
    fn end_sending(&self);
    /// Returns memory during a wait that may be long.
    fn give_blocks(&mut self) {}
    /// The exchange has ended.
    fn finish(&self, how: Ended) -> Self::After;
}
