//! The client's side of one request over HTTP/1.
//!
//! It decides whether its connection stays: nothing else does.

use std::task::{Context, Poll};

use super::{After, Connection, Wire, set_head_alarm};
use crate::downstream::connection::{Client, Input};
use crate::http::header_key_format::{self, HeaderKeyFormat, ReasonPhrase};
use crate::http::{
    BodyLength, EndStream, Fault, FieldName, Intake, More, Reject, RequestHead, TrailerRules,
    Version,
};
use crate::http1::{encode, framing};
use crate::pipe::heads::Heads;
use crate::pipe::inlet::{Inlet, Pulled};
use crate::pipe::outlet::{Framing, Outlet};
use crate::request;
use crate::request::end::{ClientEnd, Closing, Ended, Gone, Known, ResponseBody};
use crate::request::reply::HeadLimit;

/// The client's side of one request.
#[derive(Debug)]
pub(super) struct End<'c> {
    client: &'c Client,
    wire: &'c mut Wire,
    persistence: Persistence,
    end_of_body: EndOfBody,
    /// The rest of the request's body.
    inlet: Inlet,
}

/// Whether the connection is kept after the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Persistence {
    KeepAlive,
    Close,
    /// Closed, after the client had time to read the response.
    Linger,
}

impl Persistence {
    /// As a head asks for it.
    #[inline]
    pub(super) fn of(head: &RequestHead) -> Self {
        if head.keep_alive() { Self::KeepAlive } else { Self::Close }
    }
}

/// How the client can tell that the response is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EndOfBody {
    /// By its framing.
    Framed,
    /// By the close of the connection: an orderly close would make a part look complete.
    Close,
}

impl<'c> End<'c> {
    /// That of the request whose head is in `heads`.
    #[inline]
    pub(super) fn new(
        client: &'c Client,
        wire: &'c mut Wire,
        persistence: Persistence,
        body: BodyLength,
    ) -> Self {
        Self { client, wire, persistence, end_of_body: EndOfBody::Framed, inlet: Inlet::new(body) }
    }

    /// Rejects a request whose head is invalid.
    pub(super) async fn refuse(connection: &'c mut Connection, reject: Reject) -> After {
        let Connection { client, wire } = connection;
        // The reply may take as long as a head.
        set_head_alarm(&client.given, client.given.shard.clock.now());
        let mut end = Self::of_last_request(client, wire);
        let ended = request::refuse(&mut end, &client.given, reject).await;
        end.finish(ended)
    }

    /// Answers a client that did not send the head in time.
    pub(super) async fn time_out_head(connection: &'c mut Connection, limit: HeadLimit) -> After {
        let Connection { client, wire } = connection;
        let mut end = Self::of_last_request(client, wire);
        let ended = request::time_out_head(&mut end, &client.given, limit).await;
        end.finish(ended)
    }

    fn of_last_request(client: &'c Client, wire: &'c mut Wire) -> Self {
        let persistence = Persistence::Linger;
        Self { client, wire, persistence, end_of_body: EndOfBody::Framed, inlet: Inlet::default() }
    }

    /// The `connection` field of the response; makes the final decision whether the connection is kept.
    #[inline(always)]
    fn connection_field(&mut self, version: Version) -> Option<&'static [u8]> {
        let stats = self.client.given.stats();
        if self.persistence == Persistence::KeepAlive && self.client.given.is_draining() {
            stats.downstream_cx_drain_close.inc();
            self.persistence = Persistence::Close;
        }
        if self.persistence == Persistence::KeepAlive && self.has_reached_limit() {
            self.persistence = Persistence::Close;
        }
        match (self.persistence, version) {
            (Persistence::Close | Persistence::Linger, _) => Some(b"close"),
            (Persistence::KeepAlive, Version::Http10) => Some(b"keep-alive"),
            (Persistence::KeepAlive, Version::Http11 | Version::Http2) => None,
        }
    }

    /// Whether the connection has reached `max_requests_per_connection` or `max_connection_duration`.
    fn has_reached_limit(&self) -> bool {
        let given = &self.client.given;
        let most = given.service.manager.max_requests_per_connection;
        if most.is_some_and(|most| self.client.requests() >= most) {
            given.stats().downstream_cx_max_requests_reached.inc();
            return true;
        }
        let expired = given.expires_at().is_some_and(|at| at <= given.shard.clock.now());
        if expired {
            given.stats().downstream_cx_max_duration_reached.inc();
        }
        expired
    }
}

impl ClientEnd for End<'_> {
    type After = After;

    #[inline]
    fn poll_in(&self, cx: &Context<'_>) -> Poll<()> {
        self.wire.transport.poll_readable(cx)
    }

    #[inline]
    fn poll_out(&self, cx: &Context<'_>) -> Poll<()> {
        self.wire.transport.poll_writable(cx)
    }

    #[inline]
    fn has_received_all(&self) -> bool {
        self.inlet.has_ended()
    }

    #[inline]
    fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.wire.transport.poll_broken(cx)
    }

    #[inline]
    fn listens_ahead(&self) -> bool {
        self.wire.listens_ahead(self.client)
    }

    fn receive_ahead(&mut self) -> Result<(), Gone> {
        self.wire.receive_ahead(self.client)
    }

    #[inline]
    fn has_hung_up(&self) -> bool {
        self.wire.transport.has_hung_up()
    }

    #[inline]
    fn has_half_closed(&self) -> bool {
        self.client.input() == Input::HalfClosed
    }

    fn half_close(&mut self) {
        self.client.half_close();
    }

    fn gone(&mut self) {
        self.client.gone();
    }

    fn was_reset(&self) -> bool {
        false
    }

    fn close_after(&mut self, closing: Closing) {
        self.persistence = match (closing, self.persistence) {
            (Closing::AfterResponse, Persistence::KeepAlive | Persistence::Close) => {
                Persistence::Close
            }
            (Closing::Lingering, _) | (_, Persistence::Linger) => Persistence::Linger,
        };
    }

    #[inline]
    fn stays(&self) -> bool {
        self.persistence == Persistence::KeepAlive
    }

    #[inline(always)]
    fn finish_head(&mut self, heads: &mut Heads, known: Known) -> Framing {
        let Heads { request, response, .. } = heads;
        // RFC 9112 §2.3: the version in a message is the sender's own; an HTTP/1.0 client gets its own
        // back.
        response.version = request.version;
        let by_close = matches!(
            known.body,
            ResponseBody::Relayed(BodyLength::Chunked | BodyLength::UntilClose)
        );
        if by_close && request.version == Version::Http10 && self.stays() {
            self.persistence = Persistence::Close;
        }
        let connection = self.connection_field(request.version);
        // With an upgrade the `connection` field names it, and is not available for anything else.
        if let Some(connection) = connection
            && !known.tunnel
            && response.upgrade().is_none()
        {
            response.fields.set(FieldName::Connection, connection);
        }
        let framing = match known.body {
            ResponseBody::Local => {
                framing::announce_local_response(request.method, request.version, response);
                Framing::Identity
            }
            ResponseBody::Relayed(length) => {
                let length =
                    framing::announce_response(request.method, request.version, response, length);
                match length {
                    BodyLength::Chunked => Framing::Chunked,
                    BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => {
                        Framing::Identity
                    }
                }
            }
        };
        if framing == Framing::Identity && !response.fields.has(FieldName::ContentLength) {
            self.end_of_body = EndOfBody::Close;
        }
        framing
    }

    fn encode_continue(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(encode::CONTINUE);
    }

    #[inline]
    fn encode_head(
        &mut self,
        heads: &Heads,
        upstream: HeaderKeyFormat,
        _end: EndStream,
        out: &mut Vec<u8>,
    ) {
        encode::response(&heads.response, out);
        match upstream {
            HeaderKeyFormat::PreserveCase(preserved) => {
                header_key_format::write(out, upstream, Some(&heads.response_as_received));
                if preserved.reason_phrase == ReasonPhrase::Forwarded {
                    header_key_format::write_reason(out, heads.response.reason());
                }
            }
            HeaderKeyFormat::LowerCase | HeaderKeyFormat::ProperCaseWords => {
                let format = self.client.given.service.manager.header_key_format;
                header_key_format::write(out, format, None);
            }
        }
    }

    fn set_trailer_rules(&mut self, rules: TrailerRules) {
        self.inlet.set_trailer_rules(rules);
    }

    fn dropped_trailers(&self) -> u64 {
        self.inlet.dropped_trailers()
    }

    #[inline(always)]
    fn take_at_hand(&mut self, to: &mut impl Intake) -> Result<(), Fault> {
        if self.wire.early.is_empty() || self.inlet.has_ended() {
            return Ok(());
        }
        let taken = self.inlet.take(&self.wire.early, to)?;
        self.wire.early.drain(..taken);
        Ok(())
    }

    #[inline]
    fn pull(&mut self, to: &mut impl Intake) -> Result<More, Fault> {
        let given = &self.client.given;
        let Pulled { bytes, more } =
            self.inlet.pull(&self.wire.transport, given.shard.buffers, to)?;
        given.count_received(bytes);
        if self.inlet.has_ended() && !self.inlet.surplus().is_empty() {
            // The beginning of the next request.
            self.wire.early.append(self.inlet.surplus_mut());
        }
        Ok(more)
    }

    // On the path of every request, and called more than once: the compiler would not inline it.
    #[inline(always)]
    fn push(&mut self, out: &mut Outlet) -> Result<usize, Fault> {
        // A connection that closes after this response would have to wait for the turn of the ring
        // first.
        let may_post = self.inlet.has_ended() && self.stays();
        let sent = out.send(&self.wire.transport, may_post).map_err(|_| Fault::Sink)?;
        self.client.given.count_sent(sent);
        Ok(sent)
    }

    fn become_tunnel(&mut self, to: &mut impl Intake) {
        self.inlet.become_tunnel();
        let taken = self.take_at_hand(to);
        debug_assert!(taken.is_ok(), "bytes without framing cannot be invalid");
    }

    fn end_sending(&self) {
        self.wire.transport.shutdown_write();
    }

    fn give_blocks(&mut self) {
        self.inlet.give_block(self.client.given.shard.buffers);
    }

    #[inline]
    fn finish(&self, ended: Ended) -> After {
        match (ended, self.persistence, self.end_of_body) {
            // The next request begins after this one, and never within it.
            (Ended::Whole, Persistence::KeepAlive, _) if self.inlet.has_ended() => After::Next,
            (Ended::Whole, Persistence::KeepAlive, _) => After::Linger,
            (Ended::Whole, Persistence::Close, _) => After::Close,
            (Ended::Whole, Persistence::Linger, _) | (Ended::Early, ..) => After::Linger,
            (Ended::Cut, _, EndOfBody::Close) => After::Reset,
            (Ended::Cut, _, EndOfBody::Framed) | (Ended::Over, ..) => After::Close,
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.give_blocks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every exchange in progress holds its state, and blocks of this size are reused.
    #[test]
    fn an_exchange_is_a_small_future() {
        fn size_of_future<F: Future>(
            _serve: impl Fn(&'static Client, &'static mut Wire, &'static mut Heads) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(|client, wire, heads| {
            request::serve(
                move || End::new(client, wire, Persistence::KeepAlive, BodyLength::None),
                &client.given,
                heads,
                BodyLength::None,
            )
        });
        assert!(size <= 2408, "{size} bytes");
    }
}
