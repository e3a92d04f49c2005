//! The client's side of one request over HTTP/2.

use std::cell::Cell;
use std::task::{Context, Poll};

use super::active::ActiveRequest;
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{
    BodyLength, EndStream, Fault, FieldName, HOP_BY_HOP_OF_RESPONSES, Intake, More, ResponseHead,
    TrailerRules, Version,
};
use crate::http2::ErrorCode;
use crate::pipe::heads::Heads;
use crate::pipe::outlet::{Framing, Outlet};
use crate::request::end::{ClientEnd, Ended, Known};
use crate::session::{Broken, Pulled, Stream, Trailers};

/// The client's side of one request.
#[derive(Debug)]
pub(super) struct End<'a> {
    stream: &'a Stream,
    active: &'a ActiveRequest,
    body: Body,
    trailers: Trailers,
    client: Cell<Client>,
}

/// Whether the request's body has been taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Open,
    Ended,
}

/// Whether the client still waits for the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Client {
    Waits,
    Gone,
}

impl<'a> End<'a> {
    /// That of a request with this body.
    pub(super) fn new(stream: &'a Stream, active: &'a ActiveRequest, length: BodyLength) -> Self {
        let body = match length {
            BodyLength::None => Body::Ended,
            BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => Body::Open,
        };
        let client = Cell::new(Client::Waits);
        Self { stream, active, body, trailers: Trailers::Dropped, client }
    }

    fn take(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        if self.body == Body::Ended {
            return Ok(More::Unlikely);
        }
        let Pulled { more, end } = self.stream.pull(to, self.trailers)?;
        if end == EndStream::Yes {
            self.body = Body::Ended;
        }
        Ok(more)
    }

    fn send_head(&self, head: &ResponseHead, end: EndStream) {
        if !head.is_interim() {
            self.active.answer();
        }
        self.stream.session().write(|codec| codec.send_response(self.stream.id(), head, end));
    }
}

impl ClientEnd for End<'_> {
    type After = ();

    fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.poll_in(cx)
    }

    fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.poll_out(cx)
    }

    fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.poll_gone(cx)
    }

    // What a client sends on other streams is theirs.
    fn gone(&mut self) {
        self.client.set(Client::Gone);
    }

    fn was_reset(&self) -> bool {
        matches!(self.stream.broken(), Some(Broken::Reset(_)))
    }

    // Only the stream ends, as in Envoy.
    fn finish_head(&mut self, heads: &mut Heads, known: Known) -> Framing {
        let response = &mut heads.response;
        response.version = Version::Http2;
        //= rfc9113#section-8.2.2: no fields of a connection.
        response.fields.remove_set(HOP_BY_HOP_OF_RESPONSES);
        if matches!(response.status, 100..=199 | 204) || known.tunnel {
            response.fields.remove(FieldName::ContentLength);
        }
        Framing::Frames
    }

    fn encode_continue(&mut self, _out: &mut Vec<u8>) {
        let head = ResponseHead { status: 100, ..ResponseHead::default() };
        self.send_head(&head, EndStream::No);
    }

    fn encode_head(
        &mut self,
        heads: &Heads,
        _upstream: HeaderKeyFormat,
        end: EndStream,
        _out: &mut Vec<u8>,
    ) {
        self.send_head(&heads.response, end);
    }

    // The session has checked them against the connection manager's limits.
    fn set_trailer_rules(&mut self, rules: TrailerRules) {
        self.trailers = if rules.kept { Trailers::Kept } else { Trailers::Dropped };
    }

    fn has_received_all(&self) -> bool {
        self.body == Body::Ended
    }

    fn take_at_hand(&mut self, to: &mut impl Intake) -> Result<(), Fault> {
        self.take(to).map(drop)
    }

    fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        self.take(to)
    }

    fn push(&mut self, out: &mut Outlet) -> Result<usize, Fault> {
        self.stream.push(out)
    }

    fn become_tunnel(&mut self, to: &mut impl Intake) {
        // Until now the request had no body; from here on the stream carries bytes.
        self.body = Body::Open;
        // A reset is noticed with the next receive.
        let _taken = self.take(to);
    }

    fn end_sending(&self) {
        self.stream.end();
    }

    fn finish(&self, how: Ended) {
        //= rfc9113#section-8.1: "a server MAY request that the client abort transmission of a request
        // without error by sending a RST_STREAM with an error code of NO_ERROR after sending a complete
        // response".
        self.stream.set_code(match how {
            Ended::Whole | Ended::Early => ErrorCode::NoError,
            Ended::Cut | Ended::Over => ErrorCode::InternalError,
        });
        if self.client.get() == Client::Waits {
            self.active.end();
        }
    }
}
