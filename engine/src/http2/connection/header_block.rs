//! Header blocks: joined from their frames, and decoded.

use std::ops::Range;

use super::receive::{check_dependency, size};
use super::{Connection, Event, Input, Role};
use crate::http::{
    BodyLength, EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::error::{ConnectionError, ErrorCode, Flood};
use crate::http2::frame::{Header, flag};
use crate::http2::head::{
    ExtendedConnect, Flaw, ObsText, RequestDecoder, RequestRules, ResponseDecoder, TrailerDecoder,
};
use crate::http2::hpack::Field;
use crate::http2::options::StreamErrors;
use crate::http2::stream::{Part, Reset, StreamId};

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
    pub(super) stream: StreamId,
    end: EndStream,
    continuations: usize,
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

/// The most bytes of a joined block, if heads of `head_bytes_max` have to be decoded. No encoder needs
/// twice the bytes, so that what is too long can be told from what is a flood.
pub(super) const fn joined_max(head_bytes_max: usize) -> usize {
    let twice = head_bytes_max.saturating_mul(2);
    if twice > JOINED_BYTES { twice } else { JOINED_BYTES }
}

const JOINED_BYTES: usize = 256 * 1024;
/// A block may have so many CONTINUATIONs, and one more for each KiB.
const CONTINUATIONS: usize = 128;

/// What becomes of a header block.
enum Fate {
    Head,
    Trailers,
    /// Nobody wants it; decoded it has to be all the same.
    Discarded,
    /// Its stream is one too many.
    Refused,
    /// It does not end its stream, as trailers have to.
    Misplaced,
}

impl<S> Connection<S> {
    pub(super) fn take_headers(
        &mut self,
        header: &Header,
        payload: &[u8],
        range: Range<usize>,
        input: &Input<'_>,
    ) -> Result<Option<Event>, ConnectionError> {
        let id = header.stream;
        let padding = header.padding(payload.first().copied())?;
        let mut start = usize::from(header.has(flag::PADDED));
        let end = payload.len() - (padding - start);
        if header.has(flag::PRIORITY) {
            let priority = payload.get(start..end).and_then(<[u8]>::first_chunk);
            check_dependency(id, priority.ok_or(size("HEADERS without its priority"))?)?;
            start += 5;
        }
        if self.role == Role::Server && !id.is_of_client() {
            return Err(ConnectionError::protocol("a stream with the number of a server's"));
        }
        let is_complete = header.has(flag::END_HEADERS);
        let is_empty = start == end && !is_complete && header.end() == EndStream::No;
        self.abuse.content(is_empty, &self.options)?;
        if is_complete {
            let range = range.start + start..range.start + end;
            return self.complete_block(id, header.end(), Some(range), input);
        }
        self.joined.clear();
        self.joined.extend_from_slice(payload.get(start..end).unwrap_or_default());
        self.partial = Some(Partial { stream: id, end: header.end(), continuations: 0 });
        Ok(None)
    }

    pub(super) fn take_continuation(
        &mut self,
        header: &Header,
        payload: &[u8],
        input: &Input<'_>,
    ) -> Result<Option<Event>, ConnectionError> {
        let Some(partial) = &mut self.partial else {
            return Err(ConnectionError::protocol("CONTINUATION without HEADERS"));
        };
        if partial.stream != header.stream {
            return Err(ConnectionError::protocol("CONTINUATION of another stream"));
        }
        let is_complete = header.has(flag::END_HEADERS);
        self.abuse.content(payload.is_empty() && !is_complete, &self.options)?;
        partial.continuations += 1;
        let length = self.joined.len() + payload.len();
        if length > self.joined_max || partial.continuations > CONTINUATIONS + length / 1024 {
            return Err(ConnectionError::flood(Flood::HeaderBlock));
        }
        self.joined.extend_from_slice(payload);
        if !is_complete {
            return Ok(None);
        }
        let (id, end) = (partial.stream, partial.end);
        self.partial = None;
        self.complete_block(id, end, None, input)
    }

    /// A block is complete: what it is depends on its stream.
    fn complete_block(
        &mut self,
        stream: StreamId,
        end: EndStream,
        range: Option<Range<usize>>,
        input: &Input<'_>,
    ) -> Result<Option<Event>, ConnectionError> {
        let fate = self.fate(stream, end)?;
        let block = Block { stream, end, range };
        match fate {
            Fate::Head => {
                self.undecoded = Some(stream);
                Ok(Some(Event::Head(block)))
            }
            Fate::Trailers => {
                self.undecoded = Some(stream);
                Ok(Some(Event::Trailers(block)))
            }
            Fate::Discarded => self.decode(&block, input, |_| {}).map(|()| None),
            Fate::Refused => {
                self.decode(&block, input, |_| {})?;
                self.counts.stream_refused_errors += 1;
                // It may not have known better before.
                if self.peer.knows_ours || !self.abuse.forgives_refusal() {
                    self.count_reset()?;
                }
                self.refuse(&block, ErrorCode::RefusedStream);
                Ok(None)
            }
            Fate::Misplaced => {
                self.decode(&block, input, |_| {})?;
                self.counts.trailers += 1;
                match self.flawed(&block, Flaw::Messaging) {
                    HeadRefused::Stream(flaw) => {
                        Ok(Some(Event::Reset { stream, code: code_of(flaw) }))
                    }
                    HeadRefused::Connection(error) => Err(error),
                }
            }
        }
    }

    fn fate(&mut self, id: StreamId, end: EndStream) -> Result<Fate, ConnectionError> {
        let is_new = self.role == Role::Server && id > self.last_seen;
        let Some(stream) = self.streams.get_mut(id) else {
            if !is_new {
                return self.check_closed(id, end).map(|()| Fate::Discarded);
            }
            self.last_seen = id;
            return Ok(if self.allowed.is_some_and(|last| id > last) {
                Fate::Discarded
            //= rfc9113#section-5.1.2: a stream beyond the limit is refused.
            } else if self.streams.len() >= self.options.max_concurrent_streams as usize {
                Fate::Refused
            } else {
                Fate::Head
            });
        };
        match (stream.reset, stream.receiving) {
            (Reset::ByPeer, _) | (_, Part::Ended) => {
                let what = "HEADERS behind the end of a stream";
                Err(ConnectionError::frame(ErrorCode::StreamClosed, what))
            }
            (Reset::ByUs, _) => {
                if end == EndStream::Yes {
                    stream.receiving = Part::Ended;
                }
                Ok(Fate::Discarded)
            }
            (Reset::No, Part::Head) => Ok(Fate::Head),
            //= rfc9113#section-8.1: trailers end the stream.
            (Reset::No, Part::Body) if end == EndStream::No => Ok(Fate::Misplaced),
            (Reset::No, Part::Body) => Ok(Fate::Trailers),
        }
    }

    const fn obs_text(&self) -> ObsText {
        if self.options.disallow_obs_text { ObsText::Refused } else { ObsText::Allowed }
    }

    /// Decodes the fields of a block.
    fn decode(
        &mut self,
        block: &Block,
        input: &Input<'_>,
        take: impl FnMut(Field<'_>),
    ) -> Result<(), ConnectionError> {
        self.undecoded = None;
        let bytes = match &block.range {
            Some(range) => input.get(range.clone()),
            None => &self.joined,
        };
        Ok(self.decoder.decode(bytes, take)?)
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
        let rules = RequestRules {
            field_max: self.options.max_header_field_size as usize,
            underscores: limits.underscores,
            extended_connect: match self.options.allow_connect {
                true => ExtendedConnect::Allowed,
                false => ExtendedConnect::Refused,
            },
            obs_text: self.obs_text(),
        };
        let mut taker = RequestDecoder::new(head, limits.head, rules);
        self.decode(block, input, |field| taker.take(field))?;
        match taker.finish(block.end) {
            Ok(decoded) => {
                self.counts.dropped_headers_with_underscores += decoded.dropped_for_underscores;
                Ok(decoded.body)
            }
            Err(flaw) => Err(self.flawed(block, flaw)),
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
        let mut taker = ResponseDecoder::new(head, limits, self.obs_text());
        self.decode(block, input, |field| taker.take(field))?;
        let length = match taker.finish(method, block.end) {
            Ok(length) => length,
            Err(flaw) => return Err(self.flawed(block, flaw)),
        };
        if let Some(stream) = self.streams.get_mut(block.stream)
            && !head.is_interim()
        {
            stream.receiving = Part::after(block.end);
            stream.expected = match length {
                BodyLength::Length(length) => Some(length),
                //= rfc9110#section-6.4.1: these have no content, whatever they announce.
                _ if method == Method::Head || matches!(head.status, 204 | 304) => Some(0),
                BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => None,
            };
        }
        Ok(length)
    }

    /// Decodes trailers, as lines.
    ///
    /// # Errors
    /// If they are refused: their stream was reset, or the connection has to end.
    pub fn decode_trailers(
        &mut self,
        block: &Block,
        input: &Input<'_>,
        rules: &TrailerRules,
    ) -> Result<Vec<u8>, HeadRefused> {
        let mut taker = TrailerDecoder::new(rules, self.obs_text());
        self.decode(block, input, |field| taker.take(field))?;
        self.counts.trailers += 1;
        if let Some(stream) = self.streams.get_mut(block.stream) {
            //= rfc9113#section-8.1.1: the content is as long as `content-length` announces.
            if stream.expected.is_some_and(|left| left > 0) {
                self.stream_error(block.stream, ErrorCode::ProtocolError)?;
                return Err(HeadRefused::Stream(Flaw::Messaging));
            }
            stream.receiving = Part::Ended;
            self.unread.note(stream);
        }
        match taker.finish() {
            Ok((lines, dropped)) => {
                self.counts.dropped_headers_with_underscores += dropped;
                Ok(lines)
            }
            Err(flaw) => Err(self.flawed(block, flaw)),
        }
    }

    /// A stream whose head was decoded is served.
    pub fn accept(&mut self, block: &Block, body: BodyLength, state: S) {
        let expected = match body {
            BodyLength::Length(length) => Some(length),
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        let receiving = Part::after(block.end);
        let stream = self.new_stream(state, receiving, Part::Head, expected);
        self.streams.insert(block.stream, stream);
    }

    /// Resets the stream of a message, or ends the connection, as is configured.
    fn flawed(&mut self, block: &Block, flaw: Flaw) -> HeadRefused {
        if flaw.is_malformed() {
            self.counts.rx_messaging_error += 1;
            if self.options.stream_errors == StreamErrors::EndTheConnection
                && self.role == Role::Server
            {
                return HeadRefused::Connection(flaw.into());
            }
        }
        match flaw {
            Flaw::Field | Flaw::Messaging => {}
            // As in Envoy, whatever a malformed message ends.
            Flaw::FieldTooLarge => {
                let code = ErrorCode::CompressionError;
                return HeadRefused::Connection(ConnectionError { code, cause: flaw.into() });
            }
            Flaw::Underscore => self.counts.requests_rejected_with_underscores_in_headers += 1,
            Flaw::TooMany => self.counts.header_overflow += 1,
            Flaw::TooLarge => self.counts.header_list_size_too_large += 1,
        }
        if let Err(error) = self.count_reset() {
            return HeadRefused::Connection(error);
        }
        self.refuse(block, code_of(flaw));
        HeadRefused::Stream(flaw)
    }
}

/// With what a stream is reset; as in Envoy.
const fn code_of(flaw: Flaw) -> ErrorCode {
    if flaw.is_malformed() { ErrorCode::ProtocolError } else { ErrorCode::InternalError }
}
