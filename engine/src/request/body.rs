//! Moves the body of a message from one socket to the other. This is all the flow control there is.
//!
//! There is one bounded buffer per direction. Nothing is received before the buffered bytes are
//! sent, so a slow reader stops a fast writer through the kernel. The whole body is never held.
//!
//! Invariant: with a known length the source is never read beyond the end of the body; with chunks,
//! bytes beyond the end are in [`Pump::surplus`] and never sent to the sink.

use std::io;
use std::ops::Range;

use crate::http::{BodyLength, TrailerRules};
use crate::http1;
use crate::http1::chunked::{self, Decoder};
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// How the body is framed for the sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Not at all: the length was announced, or the close of the connection ends the body.
    Identity,
    /// In chunks.
    Chunked,
}

/// Why a body is incomplete.
#[derive(Debug)]
pub enum Fault {
    /// The source closed the connection in the middle.
    Truncated,
    /// The framing is invalid.
    Malformed(http1::Error),
    /// Receiving from the source failed.
    Source(io::Error),
    /// Sending to the sink failed.
    Sink(io::Error),
}

/// The result of one receive.
#[derive(Clone, Copy, Debug)]
pub struct Pulled {
    /// Bytes received, including framing.
    pub bytes: usize,
    /// The receive filled its block or reached the end: another one is worth a system call.
    pub more_likely: bool,
}

impl Pulled {
    const NOTHING: Self = Self { bytes: 0, more_likely: false };
}

/// What is still to be received.
#[derive(Debug)]
enum Source {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    Ended,
}

/// One direction of an exchange.
#[derive(Debug)]
pub struct Pump {
    source: Source,
    framing: Framing,
    /// The block to receive into if the bytes must be reframed; empty until the end.
    raw: Vec<u8>,
    /// Framed for the sink; `out[sent..]` is not sent yet.
    out: Vec<u8>,
    sent: usize,
    /// The position in `out` of the data received last, without framing.
    last_data: Range<usize>,
    /// Body bytes received so far, without framing.
    received_bytes: u64,
    /// The most bytes to receive before they are sent.
    limit: usize,
    /// The encoded trailers, once the body has ended.
    trailers: Vec<u8>,
    dropped_trailers: u64,
}

impl Pump {
    /// A body of `length` to be framed as `framing`. `out` may hold the message's head, which is
    /// sent with the first bytes of the body. At most `limit` bytes of the body are held, or one
    /// block if that is more: `per_connection_buffer_limit_bytes`, where 0 is no limit.
    #[must_use]
    pub fn new(length: &BodyLength, framing: Framing, out: Vec<u8>, limit: usize) -> Self {
        let source = match *length {
            BodyLength::None | BodyLength::Length(0) => Source::Ended,
            BodyLength::Length(length) => Source::Length(length),
            BodyLength::Chunked => Source::Chunked(Decoder::new()),
            BodyLength::UntilClose => Source::UntilClose,
        };
        let bound = limits::LARGE_BLOCK_BYTES;
        // As in Envoy the limit is soft: one block may always be received.
        let limit = if limit == 0 { bound } else { limit.clamp(limits::BLOCK_BYTES, bound) };
        Self {
            source,
            framing,
            raw: Vec::new(),
            out,
            sent: 0,
            last_data: 0..0,
            received_bytes: 0,
            limit,
            trailers: Vec::new(),
            dropped_trailers: 0,
        }
    }

    /// Sets the rules for trailers: those that are kept are forwarded if source and sink are
    /// chunked. To be called before anything is received.
    pub fn set_trailer_rules(&mut self, rules: TrailerRules) {
        if let Source::Chunked(decoder) = &mut self.source {
            *decoder = Decoder::new().with_trailers(rules);
        }
    }

    /// See [`Decoder::dropped_trailers`].
    #[must_use]
    pub const fn dropped_trailers(&self) -> u64 {
        self.dropped_trailers
    }

    /// The whole body has been received.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    /// The whole body has been received and sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.has_ended() && !self.wants_sink()
    }

    /// Frames body data again that was received in an earlier attempt.
    pub fn replay(&mut self, data: &[u8]) {
        if !self.wants_sink() {
            self.out.clear();
            self.sent = 0;
        }
        self.frame(data);
    }

    /// Frames the end of a chunked body again, including trailers.
    pub fn replay_end(&mut self) {
        if self.has_ended() && self.framing == Framing::Chunked {
            chunked::encode_end_with(&mut self.out, &self.trailers);
        }
    }

    /// There are bytes to send.
    #[must_use]
    pub fn wants_sink(&self) -> bool {
        self.sent < self.out.len()
    }

    /// There is more to receive, and room for it.
    #[must_use]
    pub fn wants_source(&self) -> bool {
        !self.has_ended() && !self.wants_sink()
    }

    /// Body bytes received so far, without framing.
    #[must_use]
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The framed bytes that are not sent yet.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// The data received last, without framing.
    #[must_use]
    pub fn last_data(&self) -> &[u8] {
        self.out.get(self.last_data.clone()).unwrap_or_default()
    }

    /// Takes the bytes of the body that were received together with the head. Returns how many of
    /// `early` belong to the body.
    ///
    /// # Errors
    /// If the chunks are invalid.
    pub fn take_early(&mut self, early: &[u8]) -> Result<usize, Fault> {
        self.last_data = 0..0;
        match &mut self.source {
            Source::Ended => Ok(0),
            Source::Length(remaining) => {
                let take = usize::try_from(*remaining).unwrap_or(usize::MAX).min(early.len());
                *remaining -= take as u64;
                self.received_bytes += take as u64;
                let ended = *remaining == 0;
                self.frame(early.get(..take).unwrap_or_default());
                if ended {
                    self.end();
                }
                Ok(take)
            }
            Source::UntilClose => {
                self.received_bytes += early.len() as u64;
                self.frame(early);
                Ok(early.len())
            }
            Source::Chunked(_) => self.decode(early).map(|decoded| decoded.bytes),
        }
    }

    /// Receives once; returns what was received, including framing.
    ///
    /// # Errors
    /// If the source ends too early, the framing is invalid or receiving fails.
    pub fn pull(&mut self, source: &Transport, buffers: &Buffers) -> Result<Pulled, Fault> {
        debug_assert!(self.wants_source(), "the buffered bytes are not sent yet");
        self.out.clear();
        self.sent = 0;
        self.last_data = 0..0;
        match &mut self.source {
            Source::Ended => Ok(Pulled::NOTHING),
            Source::Length(remaining) => {
                let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.limit);
                make_room(&mut self.out, wanted, self.limit, buffers);
                let received = source.receive_at_most(&mut self.out, wanted);
                match received.map_err(Fault::Source)? {
                    Received::Nothing => Ok(Pulled::NOTHING),
                    Received::End => Err(Fault::Truncated),
                    Received::Bytes(bytes) => {
                        *remaining -= bytes as u64;
                        self.received_bytes += bytes as u64;
                        self.last_data = 0..bytes;
                        if *remaining == 0 {
                            self.end();
                        }
                        let limit = self.limit.min(self.out.capacity());
                        Ok(Pulled { bytes, more_likely: bytes == limit })
                    }
                }
            }
            Source::UntilClose | Source::Chunked(_) => self.pull_unknown_length(source, buffers),
        }
    }

    fn pull_unknown_length(
        &mut self,
        source: &Transport,
        buffers: &Buffers,
    ) -> Result<Pulled, Fault> {
        make_room(&mut self.raw, limits::BLOCK_BYTES, self.limit, buffers);
        make_room(&mut self.out, limits::BLOCK_BYTES, self.limit, buffers);
        let received = source.receive_at_most(&mut self.raw, self.limit);
        let pulled = match received.map_err(Fault::Source)? {
            Received::Nothing => return Ok(Pulled::NOTHING),
            Received::Bytes(bytes) => {
                Pulled { bytes, more_likely: bytes == self.limit.min(self.raw.capacity()) }
            }
            Received::End if matches!(self.source, Source::UntilClose) => {
                self.end();
                return Ok(Pulled { bytes: 0, more_likely: true });
            }
            Received::End => return Err(Fault::Truncated),
        };
        if matches!(self.source, Source::UntilClose) {
            self.received_bytes += self.raw.len() as u64;
            let mut raw = std::mem::take(&mut self.raw);
            self.frame(&raw);
            raw.clear();
            self.raw = raw;
        } else {
            let raw = std::mem::take(&mut self.raw);
            let decoded = self.decode(&raw);
            self.raw = raw;
            let decoded = decoded?;
            source.budget().charge_chunks(decoded.chunks);
            self.raw.drain(..decoded.bytes);
        }
        Ok(pulled)
    }

    /// Sends what the sink accepts now; returns the number of bytes.
    ///
    /// # Errors
    /// If sending fails.
    pub fn push(&mut self, sink: &Transport) -> Result<usize, Fault> {
        let bytes = sink.send(self.unsent()).map_err(Fault::Sink)?;
        self.sent += bytes;
        Ok(bytes)
    }

    /// The rest of the message, if all of it is here and short enough to be sent at once.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        let whole = self.sent == 0 && self.has_ended() && self.out.len() <= limits::BLOCK_BYTES;
        (whole && self.wants_sink()).then(|| std::mem::take(&mut self.out))
    }

    /// Starts over with `out`, the head of another attempt; returns the old buffer.
    pub fn rewind(&mut self, out: Vec<u8>) -> Vec<u8> {
        self.sent = 0;
        std::mem::replace(&mut self.out, out)
    }

    fn frame(&mut self, data: &[u8]) {
        self.last_data = match self.framing {
            Framing::Identity => {
                self.out.extend_from_slice(data);
                self.out.len() - data.len()..self.out.len()
            }
            Framing::Chunked => chunked::encode_chunk(&mut self.out, data),
        };
    }

    /// Decodes all of `raw` into `out`, up to the end of the body. As in Envoy, the data of all
    /// chunks that were received together is sent as one chunk.
    ///
    /// As in Envoy, nothing that was received together with a violation is forwarded.
    fn decode(&mut self, raw: &[u8]) -> Result<Decoded, Fault> {
        let mut decoded = Decoded::default();
        let Source::Chunked(decoder) = &mut self.source else { return Ok(decoded) };
        let append = |out: &mut Vec<u8>| decoded.append(decoder, raw, out);
        let last_data = frame(&mut self.out, self.framing, raw.len(), append);
        self.last_data = last_data.map_err(Fault::Malformed)?;
        self.received_bytes += self.last_data.len() as u64;
        if decoded.end {
            self.end();
        }
        Ok(decoded)
    }

    fn end(&mut self) {
        if let Source::Chunked(decoder) = &mut self.source {
            self.dropped_trailers = decoder.dropped_trailers();
            self.trailers = decoder.take_trailers();
        }
        self.source = Source::Ended;
        if self.framing == Framing::Chunked {
            chunked::encode_end_with(&mut self.out, &self.trailers);
        }
    }

    /// Bytes received beyond the end of the body.
    #[must_use]
    pub fn surplus(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.has_ended(), "until the end every byte belongs to the body");
        &mut self.raw
    }

    /// Returns the blocks to the pool.
    pub fn recycle(self, buffers: &Buffers) {
        buffers.give(self.raw);
        buffers.give(self.out);
    }
}

/// The result of decoding a block.
#[derive(Debug, Default)]
struct Decoded {
    /// The number of bytes decoded.
    bytes: usize,
    /// The number of chunks these belong to, or more.
    chunks: usize,
    /// The body has ended.
    end: bool,
}

impl Decoded {
    fn append(
        &mut self,
        decoder: &mut Decoder,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), http1::Error> {
        while self.bytes < raw.len() && !self.end {
            let rest = raw.get(self.bytes..).unwrap_or_default();
            let next = decoder.decode(rest)?;
            out.extend_from_slice(rest.get(next.data).unwrap_or_default());
            self.bytes += next.consumed;
            self.chunks += 1;
            self.end = next.end;
        }
        Ok(())
    }
}

/// Writes what `append` appends, at most `limit` bytes, framed as `framing`. Returns the position
/// of the data.
fn frame<E>(
    out: &mut Vec<u8>,
    framing: Framing,
    limit: usize,
    append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    match framing {
        Framing::Identity => {
            let start = out.len();
            let appended = append(out);
            if appended.is_err() {
                out.truncate(start);
            }
            appended.map(|()| start..out.len())
        }
        Framing::Chunked => chunked::encode_joined(out, limit, append),
    }
}

/// Sizes `block` for `wanted` bytes, as far as `limit` allows. Only an empty block is replaced.
fn make_room(block: &mut Vec<u8>, wanted: usize, limit: usize, buffers: &Buffers) {
    let bulk = wanted > limits::BLOCK_BYTES
        && limit >= limits::LARGE_BLOCK_BYTES
        && block.capacity() < limits::LARGE_BLOCK_BYTES;
    if block.is_empty() && (bulk || block.capacity() == 0) {
        let new = if bulk { buffers.take_large() } else { buffers.take() };
        buffers.give(std::mem::replace(block, new));
    }
    if block.capacity() == block.len() {
        block.reserve(limits::BLOCK_BYTES);
    }
}
