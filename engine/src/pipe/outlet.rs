//! A message on its way to its sink: what is framed and not sent yet.
//!
//! It is one block: the encoded head and the body received so far. Nothing more is received for it
//! before it is sent, so a slow reader stops a fast writer through the kernel.
//!
//! Invariant: the block holds at most one receive beyond the head, or what was received with the head.

use std::io;
use std::ops::Range;

use crate::http::{BodyLength, Intake};
use crate::http1::chunked;
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::transport::Transport;

/// How the body is framed for the sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Not at all: the length was announced, or the end of the connection ends the body.
    Identity,
    /// In chunks.
    Chunked,
}

/// Whether more of the body is to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Open,
    Ended,
}

/// One direction of an exchange.
#[derive(Debug)]
pub struct Outlet {
    framing: Framing,
    body: Body,
    /// `out[sent..]` is not sent yet.
    out: Vec<u8>,
    sent: usize,
    /// The position in `out` of the data taken last, without framing.
    last_data: Range<usize>,
    /// Body bytes taken so far, without framing.
    taken_bytes: u64,
    /// The most bytes to receive before they are sent.
    limit: usize,
    /// The trailers, once the body has ended.
    trailers: Vec<u8>,
    buffers: &'static Buffers,
}

impl Outlet {
    /// For a body of `length` to be framed as `framing`. `out` may hold the message's head, which is
    /// sent with the first bytes of the body. At most `limit` bytes of the body are held, or one
    /// block if that is more: `per_connection_buffer_limit_bytes`, where 0 is no limit.
    #[must_use]
    #[inline]
    pub fn new(
        length: BodyLength,
        framing: Framing,
        out: Vec<u8>,
        limit: usize,
        buffers: &'static Buffers,
    ) -> Self {
        let body = match length {
            BodyLength::None | BodyLength::Length(0) => Body::Ended,
            BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => Body::Open,
        };
        let bound = limits::LARGE_BLOCK_BYTES;
        // As in Envoy the limit is soft: one block may always be received.
        let limit = if limit == 0 { bound } else { limit.clamp(limits::BLOCK_BYTES, bound) };
        Self {
            framing,
            body,
            out,
            sent: 0,
            last_data: 0..0,
            taken_bytes: 0,
            limit,
            trailers: Vec::new(),
            buffers,
        }
    }

    /// A message that is complete.
    #[must_use]
    #[inline]
    pub fn whole(out: Vec<u8>, buffers: &'static Buffers) -> Self {
        Self::new(BodyLength::None, Framing::Identity, out, 0, buffers)
    }

    /// The whole body has been taken.
    #[must_use]
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.body == Body::Ended
    }

    /// The whole body has been taken and sent.
    #[must_use]
    #[inline]
    pub fn is_done(&self) -> bool {
        self.has_ended() && !self.wants_sink()
    }

    /// There are bytes to send.
    #[must_use]
    #[inline]
    pub fn wants_sink(&self) -> bool {
        self.sent < self.out.len()
    }

    /// There is more to take, and room for it.
    #[must_use]
    #[inline]
    pub fn wants_source(&self) -> bool {
        !self.has_ended() && !self.wants_sink()
    }

    /// Body bytes taken so far, without framing.
    #[must_use]
    #[inline]
    pub const fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// The data taken last, without framing.
    #[must_use]
    #[inline]
    pub fn last_data(&self) -> &[u8] {
        self.out.get(self.last_data.clone()).unwrap_or_default()
    }

    /// Sends what the transport accepts now, or posts the message if all of it is here, it is short and
    /// `may_post` allows it. Returns the number of bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline(always)]
    pub fn send(&mut self, transport: &Transport, may_post: bool) -> io::Result<usize> {
        let is_whole = self.sent == 0 && self.has_ended() && self.out.len() <= limits::BLOCK_BYTES;
        if may_post && is_whole && transport.may_post() {
            let bytes = self.out.len();
            transport.post(std::mem::take(&mut self.out));
            return Ok(bytes);
        }
        let bytes = transport.send(self.out.get(self.sent..).unwrap_or_default())?;
        self.sent += bytes;
        Ok(bytes)
    }

    /// Starts over with `out`, the head of another attempt.
    #[inline]
    pub fn rewind(&mut self, out: Vec<u8>) {
        self.sent = 0;
        self.buffers.give(std::mem::replace(&mut self.out, out));
    }

    /// Frames body data again that was taken in an earlier attempt.
    pub fn replay(&mut self, data: &[u8]) {
        self.clear_if_sent();
        match self.framing {
            Framing::Identity => self.out.extend_from_slice(data),
            Framing::Chunked => drop(chunked::encode_chunk(&mut self.out, data)),
        }
    }

    /// Frames the end of a chunked body again, including trailers.
    #[inline]
    pub fn replay_end(&mut self) {
        if self.has_ended() && self.framing == Framing::Chunked {
            chunked::encode_end_with(&mut self.out, &self.trailers);
        }
    }

    /// Returns the block to the pool if everything is sent, during a wait that may be long.
    pub fn give_block(&mut self) {
        if !self.wants_sink() {
            self.sent = 0;
            self.last_data = 0..0;
            self.buffers.give(std::mem::take(&mut self.out));
        }
    }

    /// Returns the block to the pool.
    #[inline]
    pub fn recycle(self) {
        self.buffers.give(self.out);
    }

    #[inline]
    fn clear_if_sent(&mut self) {
        if !self.wants_sink() {
            self.out.clear();
            self.sent = 0;
        }
    }
}

impl Intake for Outlet {
    #[inline]
    fn most(&self) -> usize {
        self.limit
    }

    #[inline]
    fn direct(&mut self, wanted: usize) -> Option<&mut Vec<u8>> {
        if self.framing == Framing::Chunked {
            return None;
        }
        self.clear_if_sent();
        make_room(&mut self.out, wanted, self.limit, self.buffers);
        Some(&mut self.out)
    }

    #[inline]
    fn landed(&mut self, bytes: usize) {
        self.last_data = self.out.len() - bytes..self.out.len();
        self.taken_bytes += bytes as u64;
    }

    /// As in Envoy, what is written at once is sent as one chunk.
    #[inline(always)]
    fn write<E>(
        &mut self,
        most: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.clear_if_sent();
        if self.out.capacity() == 0 {
            self.out = self.buffers.take();
        }
        self.last_data = match self.framing {
            Framing::Identity => {
                let start = self.out.len();
                let appended = append(&mut self.out);
                if appended.is_err() {
                    self.out.truncate(start);
                }
                appended.map(|()| start..self.out.len())?
            }
            Framing::Chunked => chunked::encode_joined(&mut self.out, most, append)?,
        };
        self.taken_bytes += self.last_data.len() as u64;
        Ok(())
    }

    fn end(&mut self, trailers: Vec<u8>) {
        self.body = Body::Ended;
        if self.framing == Framing::Chunked {
            self.clear_if_sent();
            chunked::encode_end_with(&mut self.out, &trailers);
        }
        self.trailers = trailers;
    }
}

/// Sizes `block` for `wanted` bytes, as far as `limit` allows. Only an empty block is replaced.
pub(super) fn make_room(block: &mut Vec<u8>, wanted: usize, limit: usize, buffers: &Buffers) {
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
