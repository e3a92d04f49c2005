//! Header blocks: joined from their frames, and decoded.

use std::ops::Range;

use super::{Connection, Event, Input, Role};
use crate::http::{
    BodyLength, EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::error::{ConnectionError, ErrorCode, Flood};
use crate::http2::frame::{Frame, flag};
use crate::http2::head::{ExtendedConnect, Flaw, RequestDecoder, ResponseDecoder, TrailerDecoder};
use crate::http2::options::StreamErrors;
use crate::http2::streams::{Expects, Side, StreamId};

/// A header block that has arrived completely. Blocks have to be decoded in order, because each one
/// depends on all before.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub struct Block {
    stream: StreamId,
    end: EndStream,
    /// Where it is in the input; none: it was joined.
    range: Option<Range<usize>>,
}

impl Block {
    /// Its stream.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the message ends with it.
    pub const fn end(&self) -> EndStream {
        self.end
    }
}

/// A header block whose CONTINUATIONs are still to come.
#[derive(Debug)]
pub(super) struct Partial {
    stream: StreamId,
    end: bool,
}

impl Partial {
    pub(super) const fn new(stream: StreamId, end: bool) -> Self {
        Self { stream, end }
    }
}

/// The rules for the heads of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits<'a> {
    /// How long they may be.
    pub head: &'a HeadLimits,
    /// What happens to a field with an underscore in its name.
    pub underscores: Underscores,
}

/// Why a head was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadRefused {
    /// Its stream was reset; nothing else happens.
    Stream(Flaw),
    /// The connection has to end.
    Connection(ConnectionError),
}

impl From<ConnectionError> for HeadRefused {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// The most bytes of a joined block: no list of fields within its limits takes so many.
const JOINED_BYTES_MAX: usize = 1 << 20;

impl<S> Connection<S> {
    pub(super) fn continuation(
        &mut self,
        frame: &Frame<'_>,
        now_ms: u64,
    ) -> Result<Option<Event>, ConnectionError> {
        let Some(Partial { stream, end }) = self.partial else {
            return Err(ConnectionError::protocol("CONTINUATION without HEADERS"));
        };
        if stream != frame.stream {
            return Err(ConnectionError::protocol("CONTINUATION of another stream"));
        }
        let is_complete = frame.has(flag::END_HEADERS);
        self.abuse.content(frame.payload.is_empty() && !is_complete, &self.options)?;
        if self.joined.len() + frame.payload.len() > JOINED_BYTES_MAX {
            return Err(ConnectionError::flood(Flood::HeaderBlock));
        }
        self.joined.extend_from_slice(frame.payload);
        if !is_complete {
            return Ok(None);
        }
        self.partial = None;
        self.complete_block(stream, end, None, now_ms)
    }

    /// A block is complete: what it is depends on its stream.
    pub(super) fn complete_block(
        &mut self,
        id: StreamId,
        end: bool,
        range: Option<Range<usize>>,
        _now_ms: u64,
    ) -> Result<Option<Event>, ConnectionError> {
        let end = if end { EndStream::Yes } else { EndStream::No };
        let block = Block { stream: id, end, range };
        let Some(stream) = self.streams.get(&id) else { return self.new_stream(block) };
        if stream.is_reset && stream.remote == Side::Open {
            return Ok(Some(Event::Trailers(block)));
        }
        if stream.remote == Side::Ended {
            let what = "HEADERS behind the end of a stream";
            return Err(ConnectionError::frame(ErrorCode::StreamClosed, what));
        }
        Ok(Some(match stream.expects {
            Expects::Head => Event::Head(block),
            //= rfc9113#section-8.1: trailers end the stream.
            Expects::Trailers if end == EndStream::No => return Err(Flaw::Messaging.into()),
            Expects::Trailers => Event::Trailers(block),
        }))
    }

    /// A block for a stream that is not open.
    fn new_stream(&mut self, block: Block) -> Result<Option<Event>, ConnectionError> {
        let id = block.stream;
        let is_new = self.role == Role::Server && id > self.last_seen;
        if !is_new || self.allowed.is_some_and(|last| id > last) {
            if !is_new {
                self.on_closed(id)?;
            }
            // It has to be decoded all the same.
            return Ok(Some(Event::Trailers(block)));
        }
        self.last_seen = id;
        Ok(Some(Event::Head(block)))
    }

    /// Decodes the head of a request. One that is accepted is to be passed to [`Self::accept`].
    ///
    /// # Errors
    /// If it is refused.
    pub fn decode_request(
        &mut self,
        block: &Block,
        input: &Input<'_>,
        head: &mut RequestHead,
        limits: RequestLimits<'_>,
    ) -> Result<BodyLength, HeadRefused> {
        let connect = match self.options.allow_connect {
            true => ExtendedConnect::Allowed,
            false => ExtendedConnect::Refused,
        };
        let field_max = self.options.max_header_field_size as usize;
        let mut taker =
            RequestDecoder::new(head, limits.head, field_max, limits.underscores, connect);
        let bytes = block_bytes(block, input, &self.joined);
        self.decoder.decode(bytes, |field| taker.take(field)).map_err(ConnectionError::from)?;
        //= rfc9113#section-5.1.2: a stream beyond the limit is refused.
        if self.streams.len() >= self.options.max_concurrent_streams as usize {
            self.counts.stream_refused_errors += 1;
            self.refuse(block.stream, ErrorCode::RefusedStream);
            return Err(HeadRefused::Stream(Flaw::TooMany));
        }
        match taker.finish(block.end) {
            Ok(decoded) => {
                self.counts.dropped_headers_with_underscores += decoded.dropped_for_underscores;
                Ok(decoded.body)
            }
            Err(flaw) => Err(self.flawed(block.stream, flaw)),
        }
    }

    /// Decodes the head of a response to a request with this method; 1xx ones are followed by another.
    ///
    /// # Errors
    /// If it is refused: its stream was reset, or the connection has to end.
    pub fn decode_response(
        &mut self,
        block: &Block,
        input: &Input<'_>,
        head: &mut ResponseHead,
        method: Method,
        limits: &HeadLimits,
    ) -> Result<BodyLength, HeadRefused> {
        let mut taker = ResponseDecoder::new(head, limits);
        let bytes = block_bytes(block, input, &self.joined);
        self.decoder.decode(bytes, |field| taker.take(field)).map_err(ConnectionError::from)?;
        let length = match taker.finish(method, block.end) {
            Ok(length) => length,
            Err(flaw) => return Err(self.flawed(block.stream, flaw)),
        };
        if let Some(stream) = self.streams.get_mut(&block.stream) {
            if !head.is_interim() {
                stream.expects = Expects::Trailers;
            }
            if block.end == EndStream::Yes {
                stream.remote = Side::Ended;
            }
            if let BodyLength::Length(length) = length {
                stream.left = Some(length);
            }
        }
        Ok(length)
    }

    /// Decodes trailers, as lines; none: nobody wants them.
    ///
    /// # Errors
    /// If they are refused: their stream was reset, or the connection has to end.
    pub fn decode_trailers(
        &mut self,
        block: &Block,
        input: &Input<'_>,
        rules: &TrailerRules,
    ) -> Result<Option<Vec<u8>>, HeadRefused> {
        let mut taker = TrailerDecoder::new(rules);
        let bytes = block_bytes(block, input, &self.joined);
        self.decoder.decode(bytes, |field| taker.take(field)).map_err(ConnectionError::from)?;
        let stream = self.streams.get_mut(&block.stream);
        let Some(stream) = stream.filter(|stream| !stream.is_reset) else { return Ok(None) };
        stream.remote = Side::Ended;
        self.counts.trailers += 1;
        if stream.left.is_some_and(|left| left > 0) {
            return Err(self.flawed(block.stream, Flaw::Messaging));
        }
        match taker.finish() {
            Ok((lines, dropped)) => {
                self.counts.dropped_headers_with_underscores += dropped;
                Ok(Some(lines))
            }
            Err(flaw) => Err(self.flawed(block.stream, flaw)),
        }
    }

    /// A stream whose head was decoded is served.
    pub fn accept(&mut self, block: &Block, body: BodyLength, state: S) {
        let left = match body {
            BodyLength::Length(length) => Some(length),
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        self.insert(block.stream, state, Self::side_after(block.end), left);
    }

    /// Resets the stream of a message, or ends the connection, as is configured.
    fn flawed(&mut self, id: StreamId, flaw: Flaw) -> HeadRefused {
        if flaw.is_malformed() {
            self.counts.rx_messaging_error += 1;
            if self.options.stream_errors == StreamErrors::EndTheConnection
                && self.role == Role::Server
            {
                return HeadRefused::Connection(flaw.into());
            }
            self.refuse(id, ErrorCode::ProtocolError);
            return HeadRefused::Stream(flaw);
        }
        match flaw {
            // As in Envoy, whatever a malformed message ends.
            Flaw::FieldTooLarge => {
                let code = ErrorCode::CompressionError;
                return HeadRefused::Connection(ConnectionError { code, cause: flaw.into() });
            }
            Flaw::Underscore => self.counts.requests_rejected_with_underscores_in_headers += 1,
            Flaw::TooLarge => {
                self.counts.header_overflow += 1;
                self.counts.header_list_size_too_large += 1;
            }
            _ => self.counts.header_overflow += 1,
        }
        // As in Envoy.
        self.refuse(id, ErrorCode::InternalError);
        HeadRefused::Stream(flaw)
    }
}

fn block_bytes<'a>(block: &Block, input: &Input<'a>, joined: &'a [u8]) -> &'a [u8] {
    match &block.range {
        Some(range) => input.bytes.get(range.clone()).unwrap_or_default(),
        None => joined,
    }
}
