//! The client's side of a call.

use std::task::{Context, Poll};

use super::channel::{Channel, Taken};
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, EndStream, Fault, Intake, More, TrailerRules};
use crate::pipe::heads::Heads;
use crate::pipe::outlet::{Framing, Outlet};
use crate::request::end::{ClientEnd, Ended, Known};

/// The client's side of a call: the memory that it shares with its caller.
#[derive(Debug)]
pub(super) struct End<'a> {
    channel: &'a Channel,
    body: Body,
}

/// Whether the request's body has been taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Open,
    Ended,
}

impl<'a> End<'a> {
    /// That of a request with this body.
    pub(super) const fn new(channel: &'a Channel, length: BodyLength) -> Self {
        let body = match length {
            BodyLength::None | BodyLength::Length(0) => Body::Ended,
            BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => Body::Open,
        };
        Self { channel, body }
    }
}

impl ClientEnd for End<'_> {
    type After = ();

    fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        self.channel.poll_request(cx)
    }

    fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        self.channel.poll_room(cx)
    }

    fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.channel.poll_cancelled(cx)
    }

    fn gone(&mut self) {}

    fn was_reset(&self) -> bool {
        self.channel.is_cancelled()
    }

    // There is no connection.
    fn finish_head(&mut self, _heads: &mut Heads, _known: Known) -> Framing {
        Framing::Frames
    }

    // A call never asks for it.
    fn encode_continue(&mut self, _out: &mut Vec<u8>) {}

    fn encode_head(
        &mut self,
        heads: &Heads,
        _upstream: HeaderKeyFormat,
        _end: EndStream,
        _out: &mut Vec<u8>,
    ) {
        if !heads.response.is_interim() {
            self.channel.set_head(&heads.response);
        }
    }

    fn set_trailer_rules(&mut self, _rules: TrailerRules) {}

    fn has_received_all(&self) -> bool {
        self.body == Body::Ended
    }

    fn take_at_hand(&mut self, to: &mut impl Intake) -> Result<(), Fault> {
        self.pull(to).map(drop)
    }

    fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        if self.body == Body::Ended {
            return Ok(More::Unlikely);
        }
        Ok(match self.channel.take_request(to)? {
            Taken::Nothing => More::Unlikely,
            Taken::Something => More::Likely,
            Taken::End => {
                self.body = Body::Ended;
                More::Likely
            }
        })
    }

    fn push(&mut self, out: &mut Outlet) -> Result<usize, Fault> {
        let bytes = out.unsent().len();
        if !self.channel.take_response(out.unsent())? {
            return Ok(0);
        }
        out.taken_by_sink(bytes);
        if let Some(trailers) = out.ending() {
            self.channel.set_trailers(trailers);
            out.end_taken_by_sink();
        }
        Ok(bytes)
    }

    // A call never asks for one.
    fn become_tunnel(&mut self, _to: &mut impl Intake) {}

    fn end_sending(&self) {}

    fn finish(&self, how: Ended) {
        self.channel.set_ended(how);
    }
}

/// A call whose task has panicked has ended as well.
impl Drop for End<'_> {
    fn drop(&mut self) {
        self.channel.set_ended(Ended::Cut);
    }
}
