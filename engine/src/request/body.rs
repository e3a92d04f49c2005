//! Moves the body of a message from one socket to the other; the only flow control there is.
//!
//! One bounded buffer per direction: nothing is received before the last bytes are sent, so a slow
//! reader stops a fast writer through the kernel. The body is never held as a whole.
//!
//! Invariant: with a known length the source is never read beyond the end of the body; with chunks
//! what was read beyond it is in [`Pump::surplus`], and never sent to the sink.

use std::io;
use std::ops::Range;

use crate::http::{BodyLength, TrailerRules};
use crate::http1;
use crate::http1::chunked::{self, Decoder};
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::{Received, Socket};

/// How the body is framed towards the sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// The bytes as they are: the length was announced, or closing the connection ends them.
    Identity,
    /// In chunks.
    Chunked,
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum Fault {
    /// The source closed the connection in the middle.
    Truncated,
    /// The source broke the framing.
    Malformed(http1::Error),
    /// The source's connection broke.
    Source(io::Error),
    /// The sink's connection broke.
    Sink(io::Error),
}

/// What one receive brought.
#[derive(Clone, Copy, Debug)]
pub struct Pulled {
    /// Bytes from the connection, framing included.
    pub bytes: usize,
    /// The receive filled its block or met the end: looking again is worth a system call.
    pub more_likely: bool,
}

impl Pulled {
    const NOTHING: Self = Self { bytes: 0, more_likely: false };
}

/// What is still to come from the source.
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
    /// The block that is received into if the bytes have to be framed anew; empty until the end.
    raw: Vec<u8>,
    /// Framed for the sink; `out[sent..]` is still to be sent.
    out: Vec<u8>,
    sent: usize,
    /// Where in `out` the data is that came last, without framing.
    last_data: Range<usize>,
    /// Body bytes that came from the source so far, without framing.
    received_bytes: u64,
    /// Bytes that are received before they are sent on, at most.
    most: usize,
    /// The trailers of a body that has ended, encoded.
    trailers: Vec<u8>,
    dropped_trailers: u64,
}

impl Pump {
    /// A body of `length` to be framed as `framing`. `out` may hold the message's head: it leaves
    /// with the first bytes of the body. At most `most` bytes of the body are held, or one block if
    /// that is more: `per_connection_buffer_limit_bytes`, where 0 is no limit.
    #[must_use]
    pub fn new(length: &BodyLength, framing: Framing, out: Vec<u8>, most: usize) -> Self {
        let source = match *length {
            BodyLength::None | BodyLength::Length(0) => Source::Ended,
            BodyLength::Length(length) => Source::Length(length),
            BodyLength::Chunked => Source::Chunked(Decoder::new()),
            BodyLength::UntilClose => Source::UntilClose,
        };
        let bound = limits::LARGE_BLOCK_BYTES;
        // As in Envoy the limit is soft: what one block takes is received at once.
        let most = if most == 0 { bound } else { most.clamp(limits::BLOCK_BYTES, bound) };
        Self {
            source,
            framing,
            raw: Vec::new(),
            out,
            sent: 0,
            last_data: 0..0,
            received_bytes: 0,
            most,
            trailers: Vec::new(),
            dropped_trailers: 0,
        }
    }

    /// Has rules for trailers: those that are kept are passed on, if source and sink are chunked. To
    /// be said before anything has come.
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

    /// Everything has come from the source.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    /// Everything has come and been sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.has_ended() && !self.wants_sink()
    }

    /// Frames data of the body that an earlier attempt has received.
    pub fn replay(&mut self, data: &[u8]) {
        if !self.wants_sink() {
            self.out.clear();
            self.sent = 0;
        }
        self.frame(data);
    }

    /// Frames the end of a body of chunks again, trailers included.
    pub fn replay_end(&mut self) {
        if self.has_ended() && self.framing == Framing::Chunked {
            chunked::encode_end_with(&mut self.out, &self.trailers);
        }
    }

    /// There is something to send.
    #[must_use]
    pub fn wants_sink(&self) -> bool {
        self.sent < self.out.len()
    }

    /// There is something to receive, and room for it.
    #[must_use]
    pub fn wants_source(&self) -> bool {
        !self.has_ended() && !self.wants_sink()
    }

    /// Body bytes received so far, without framing.
    #[must_use]
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The framed bytes waiting to be sent.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// The data that came last, without framing.
    #[must_use]
    pub fn last_data(&self) -> &[u8] {
        self.out.get(self.last_data.clone()).unwrap_or_default()
    }

    /// Takes the bytes of the body that were received together with the head. Tells how many of
    /// `early` these are: what follows does not belong to the body.
    ///
    /// # Errors
    /// When the chunks are malformed.
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

    /// Receives once; tells what the connection brought, framing included.
    ///
    /// # Errors
    /// When the source ends too early, breaks the framing or its connection.
    pub fn pull(&mut self, source: &Socket, buffers: &Buffers) -> Result<Pulled, Fault> {
        debug_assert!(self.wants_source(), "the last bytes are still to be sent");
        self.out.clear();
        self.sent = 0;
        self.last_data = 0..0;
        match &mut self.source {
            Source::Ended => Ok(Pulled::NOTHING),
            Source::Length(remaining) => {
                let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.most);
                make_room(&mut self.out, wanted, self.most, buffers);
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
                        let most = self.most.min(self.out.capacity());
                        Ok(Pulled { bytes, more_likely: bytes == most })
                    }
                }
            }
            Source::UntilClose | Source::Chunked(_) => self.pull_unknown_length(source, buffers),
        }
    }

    fn pull_unknown_length(&mut self, source: &Socket, buffers: &Buffers) -> Result<Pulled, Fault> {
        make_room(&mut self.raw, limits::BLOCK_BYTES, self.most, buffers);
        make_room(&mut self.out, limits::BLOCK_BYTES, self.most, buffers);
        let received = source.receive_at_most(&mut self.raw, self.most);
        let pulled = match received.map_err(Fault::Source)? {
            Received::Nothing => return Ok(Pulled::NOTHING),
            Received::Bytes(bytes) => {
                Pulled { bytes, more_likely: bytes == self.most.min(self.raw.capacity()) }
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

    /// Sends what the sink takes now; tells how many bytes it took.
    ///
    /// # Errors
    /// When the sink's connection is broken.
    pub fn push(&mut self, sink: &Socket) -> Result<usize, Fault> {
        let bytes = sink.send(self.unsent()).map_err(Fault::Sink)?;
        self.sent += bytes;
        Ok(bytes)
    }

    /// What is left of the message, if it is all here and short enough to leave as a whole.
    pub fn take_whole(&mut self) -> Option<Vec<u8>> {
        let whole = self.sent == 0 && self.has_ended() && self.out.len() <= limits::BLOCK_BYTES;
        (whole && self.wants_sink()).then(|| std::mem::take(&mut self.out))
    }

    /// Starts again with `out`: the head of another attempt and the body bytes so far.
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
    /// chunks that came together leaves as one chunk.
    ///
    /// Envoy: of what was read together with a misdeed, nothing is passed on.
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

    /// Bytes read beyond the end of the body.
    #[must_use]
    pub fn surplus(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.has_ended(), "before the end every byte belongs to the body");
        &mut self.raw
    }

    /// Gives the blocks back.
    pub fn recycle(self, buffers: &Buffers) {
        buffers.give(self.raw);
        buffers.give(self.out);
    }
}

/// What was decoded of a block.
#[derive(Debug, Default)]
struct Decoded {
    /// So many bytes are done with.
    bytes: usize,
    /// The chunks that they are of, or more.
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

/// Writes what `append` appends, at most `most` bytes, as `framing` says. Where the data is.
fn frame<E>(
    out: &mut Vec<u8>,
    framing: Framing,
    most: usize,
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
        Framing::Chunked => chunked::encode_joined(out, most, append),
    }
}

/// Gives `block` the size that `wanted` bytes deserve, as far as `most` allows; it must be empty to
/// be exchanged.
fn make_room(block: &mut Vec<u8>, wanted: usize, most: usize, buffers: &Buffers) {
    let bulk = wanted > limits::BLOCK_BYTES
        && most >= limits::LARGE_BLOCK_BYTES
        && block.capacity() < limits::LARGE_BLOCK_BYTES;
    if block.is_empty() && (bulk || block.capacity() == 0) {
        let fresh = if bulk { buffers.take_large() } else { buffers.take() };
        buffers.give(std::mem::replace(block, fresh));
    }
    if block.capacity() == block.len() {
        block.reserve(limits::BLOCK_BYTES);
    }
}
