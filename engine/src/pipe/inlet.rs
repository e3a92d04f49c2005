//! What is still to be received of a message's body.
//!
//! Invariant: with a known length the transport is never read beyond the end of the body; with chunks,
//! bytes beyond the end are in [`Inlet::surplus`] and never passed on.

use super::lane::Lane;
use super::outlet::make_room;
use crate::http::{BodyLength, Fault, Intake, More, TrailerRules};
use crate::http1::Error;
use crate::http1::chunked::Decoder;
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// The rest of a body.
#[derive(Debug, Default)]
pub struct Inlet {
    source: Source,
    /// The block to receive into if the bytes must be reframed.
    raw: Vec<u8>,
    dropped_trailers: u64,
}

/// How it ends.
#[derive(Debug, Default)]
enum Source {
    Length(u64),
    Chunked(Decoder),
    UntilClose(Rate),
    #[default]
    Ended,
}

/// How fast the bytes of a body without a length come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Rate {
    #[default]
    Slow,
    /// The last receive filled its block: a large one is worth it.
    Fast,
}

impl Inlet {
    /// For a body of `length`.
    #[must_use]
    #[inline]
    pub fn new(length: BodyLength) -> Self {
        let source = match length {
            BodyLength::None | BodyLength::Length(0) => Source::Ended,
            BodyLength::Length(length) => Source::Length(length),
            BodyLength::Chunked => Source::Chunked(Decoder::new()),
            BodyLength::UntilClose => Source::UntilClose(Rate::Slow),
        };
        Self { source, raw: Vec::new(), dropped_trailers: 0 }
    }

    /// Sets the rules for trailers: those that are kept are passed on. To be called before any is received.
    #[inline]
    pub fn set_trailer_rules(&mut self, rules: TrailerRules) {
        if let Source::Chunked(decoder) = &mut self.source {
            decoder.set_trailer_rules(rules);
        }
    }

    /// See [`Decoder::dropped_trailers`].
    #[must_use]
    pub const fn dropped_trailers(&self) -> u64 {
        self.dropped_trailers
    }

    /// The whole body has been received.
    #[must_use]
    #[inline]
    pub const fn has_ended(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    /// From here on everything that is received belongs to the body.
    pub fn become_tunnel(&mut self) {
        self.source = Source::UntilClose(Rate::Slow);
    }

    /// Takes what was received already, together with the head; returns how many bytes of `early` belong
    /// to the body.
    ///
    /// # Errors
    /// If the chunks are invalid.
    #[inline]
    pub fn take(&mut self, early: &[u8], to: &mut impl Intake) -> Result<usize, Fault> {
        Ok(match &mut self.source {
            Source::Ended => 0,
            Source::Length(remaining) => {
                let taken = usize::try_from(*remaining).unwrap_or(usize::MAX).min(early.len());
                *remaining -= taken as u64;
                let ended = *remaining == 0;
                to.data(early.get(..taken).unwrap_or_default());
                if ended {
                    self.end(to);
                }
                taken
            }
            Source::UntilClose(_) => {
                to.data(early);
                early.len()
            }
            Source::Chunked(_) => self.decode(early, to)?.bytes,
        })
    }

    /// Receives once.
    ///
    /// # Errors
    /// If the source ends too early, the framing is invalid or receiving fails.
    pub fn pull(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        to: &mut impl Intake,
    ) -> Result<Pulled, Fault> {
        let (left, wanted) = match &self.source {
            Source::Ended => return Ok(Pulled::NOTHING),
            Source::Length(remaining) => {
                let remaining = usize::try_from(*remaining).unwrap_or(usize::MAX);
                (remaining, remaining)
            }
            Source::UntilClose(Rate::Slow) => (usize::MAX, limits::BLOCK_BYTES),
            Source::UntilClose(Rate::Fast) => (usize::MAX, limits::LARGE_BLOCK_BYTES),
            Source::Chunked(_) => return self.pull_chunks(transport, buffers, to),
        };
        let most = to.most();
        let Some(block) = to.direct(wanted.min(most)) else {
            return self.pull_to_be_framed(transport, buffers, left, to);
        };
        let room = most.min(block.capacity());
        match transport.receive_at_most(block, left.min(most)).map_err(|_| Fault::Source)? {
            Received::Nothing => Ok(Pulled::NOTHING),
            Received::Bytes(bytes) => {
                to.landed(bytes);
                let pulled = Pulled::bytes(bytes, room);
                self.received(pulled, to);
                Ok(pulled)
            }
            Received::End => self.closed(to),
        }
    }

    /// As [`Self::pull`]; bulk bytes go through the lane's pipe, if it may have one.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub fn pull_lane(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        lane: &mut Lane,
    ) -> Result<Pulled, Fault> {
        if matches!(self.source, Source::UntilClose(Rate::Fast))
            && let Some(pipe) = lane.pipe()
            && let Some(received) = transport.splice_into(pipe).map_err(|_| Fault::Source)?
        {
            if let Received::Bytes(bytes) = received {
                return Ok(self.spliced(bytes));
            }
            // splice(2) stops before urgent data, which looks like nothing, or like the end if a FIN has
            // arrived. Only a receive can tell.
            self.source = Source::UntilClose(Rate::Slow);
        }
        self.pull(transport, buffers, &mut lane.outlet)
    }

    fn spliced(&mut self, bytes: usize) -> Pulled {
        if bytes < limits::BLOCK_BYTES {
            self.source = Source::UntilClose(Rate::Slow);
            return Pulled { bytes, more: More::Unlikely };
        }
        Pulled { bytes, more: More::Likely }
    }

    /// Receives bytes of the body that cannot be passed on as they are.
    fn pull_to_be_framed(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        left: usize,
        to: &mut impl Intake,
    ) -> Result<Pulled, Fault> {
        let most = to.most();
        make_room(&mut self.raw, limits::BLOCK_BYTES, most, buffers);
        let room = most.min(self.raw.capacity());
        let received = transport.receive_at_most(&mut self.raw, left.min(most));
        let pulled = match received.map_err(|_| Fault::Source)? {
            Received::Nothing => Pulled::NOTHING,
            Received::Bytes(bytes) => {
                to.data(&self.raw);
                self.raw.clear();
                let pulled = Pulled::bytes(bytes, room);
                self.received(pulled, to);
                pulled
            }
            Received::End => self.closed(to)?,
        };
        if pulled.more == More::Unlikely {
            // The wait may be long.
            self.give_block(buffers);
        }
        Ok(pulled)
    }

    fn pull_chunks(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
        to: &mut impl Intake,
    ) -> Result<Pulled, Fault> {
        let most = to.most();
        make_room(&mut self.raw, limits::BLOCK_BYTES, most, buffers);
        let room = most.min(self.raw.capacity());
        let received = transport.receive_at_most(&mut self.raw, most);
        let bytes = match received.map_err(|_| Fault::Source)? {
            Received::Nothing => return Ok(Pulled::NOTHING),
            Received::Bytes(bytes) => bytes,
            Received::End => return Err(Fault::Truncated),
        };
        let raw = std::mem::take(&mut self.raw);
        let decoded = self.decode(&raw, to);
        self.raw = raw;
        let decoded = decoded?;
        transport.budget().charge_chunks(decoded.chunks);
        self.raw.drain(..decoded.bytes);
        Ok(Pulled::bytes(bytes, room))
    }

    /// Counts bytes that were passed on.
    #[inline]
    fn received(&mut self, pulled: Pulled, to: &mut impl Intake) {
        match &mut self.source {
            Source::Length(remaining) => {
                *remaining = remaining.saturating_sub(pulled.bytes as u64);
                if *remaining == 0 {
                    self.end(to);
                }
            }
            Source::UntilClose(rate) => {
                *rate = if pulled.more == More::Likely { Rate::Fast } else { Rate::Slow };
            }
            Source::Chunked(_) | Source::Ended => {}
        }
    }

    /// The peer has closed its sending side.
    fn closed(&mut self, to: &mut impl Intake) -> Result<Pulled, Fault> {
        if !matches!(self.source, Source::UntilClose(_)) {
            return Err(Fault::Truncated);
        }
        self.end(to);
        Ok(Pulled { bytes: 0, more: More::Likely })
    }

    /// Decodes all of `raw`, up to the end of the body.
    ///
    /// As in Envoy, nothing that was received together with a violation is passed on.
    fn decode(&mut self, raw: &[u8], to: &mut impl Intake) -> Result<Decoded, Fault> {
        let mut decoded = Decoded::default();
        let Source::Chunked(decoder) = &mut self.source else { return Ok(decoded) };
        let written = to.write(raw.len(), |out| decoded.append(decoder, raw, out));
        written.map_err(|error| Fault::Malformed(error.into()))?;
        if decoded.end {
            self.end(to);
        }
        Ok(decoded)
    }

    fn end(&mut self, to: &mut impl Intake) {
        let mut trailers = Vec::new();
        if let Source::Chunked(decoder) = &mut self.source {
            self.dropped_trailers = decoder.dropped_trailers();
            trailers = decoder.take_trailers();
        }
        self.source = Source::Ended;
        to.end(trailers);
    }

    /// Bytes received beyond the end of the body.
    #[must_use]
    #[inline]
    pub const fn surplus(&self) -> &Vec<u8> {
        &self.raw
    }

    /// The same, to be taken or added to.
    #[must_use]
    pub fn surplus_mut(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.has_ended(), "until the end every byte belongs to the body");
        &mut self.raw
    }

    /// Returns the block to the pool.
    #[inline]
    pub fn give_block(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.raw));
    }
}

/// The result of one receive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pulled {
    /// Bytes received, including framing.
    pub bytes: usize,
    /// Whether another receive is worth a system call.
    pub more: More,
}

impl Pulled {
    const NOTHING: Self = Self { bytes: 0, more: More::Unlikely };

    const fn bytes(bytes: usize, room: usize) -> Self {
        Self { bytes, more: if bytes == room { More::Likely } else { More::Unlikely } }
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
    ) -> Result<(), Error> {
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
