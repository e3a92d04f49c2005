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
    /// In frames of HTTP/2, which are made when they are sent: only then is the window known.
    Frames,
}

/// Whether more of the body is to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Open,
    /// No. The sink has not been told yet, and nothing in `out` tells it.
    Ending,
    /// No.
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
    pub fn whole(out: Vec<u8>, framing: Framing, buffers: &'static Buffers) -> Self {
        let mut outlet = Self::new(BodyLength::None, framing, out, 0, buffers);
        if framing == Framing::Frames && outlet.has_unsent() {
            outlet.body = Body::Ending;
        }
        outlet
    }

    /// The whole body has been taken.
    #[must_use]
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.body != Body::Open
    }

    /// The whole body has been taken and sent.
    #[must_use]
    #[inline]
    pub fn is_done(&self) -> bool {
        self.has_ended() && !self.wants_sink()
    }

    /// There are bytes to send, or the end of the body.
    #[must_use]
    #[inline]
    pub fn wants_sink(&self) -> bool {
        self.has_unsent() || self.body == Body::Ending
    }

    #[inline]
    fn has_unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// The bytes to send.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// The sink has taken so many of them.
    pub const fn taken_by_sink(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// What the sink is still to be told behind the bytes: that the body ends, with these trailers.
    #[must_use]
    pub fn ending(&self) -> Option<&[u8]> {
        (self.body == Body::Ending).then_some(&*self.trailers)
    }

    /// The trailers of a body that has ended, as field lines; without those that are not passed on.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The sink has been told.
    pub const fn end_taken_by_sink(&mut self) {
        self.body = Body::Ended;
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
        debug_assert!(self.framing != Framing::Frames, "frames are sent by their connection");
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
    pub fn rewind(&mut self, out: Vec<u8>, framing: Framing) {
        self.sent = 0;
        self.framing = framing;
        if self.has_ended() {
            self.body = Body::Ended;
        }
        self.buffers.give(std::mem::replace(&mut self.out, out));
    }

    /// Puts a head before what was taken in frames, and frames that as `framing`: the origin turned out not
    /// to speak HTTP/2.
    #[cold]
    pub fn reframe(&mut self, head: Vec<u8>, framing: Framing) {
        let body = std::mem::replace(&mut self.out, head);
        let data = body.get(self.sent..).unwrap_or_default();
        self.sent = 0;
        self.framing = framing;
        if self.has_ended() {
            self.body = Body::Ended;
        }
        if !data.is_empty() {
            self.replay(data);
        }
        self.buffers.give(body);
    }

    /// Frames body data again that was taken in an earlier attempt.
    pub fn replay(&mut self, data: &[u8]) {
        self.clear_if_sent();
        match self.framing {
            Framing::Identity | Framing::Frames => self.out.extend_from_slice(data),
            Framing::Chunked => drop(chunked::encode_chunk(&mut self.out, data)),
        }
    }

    /// Frames the end of the body again, if it has been taken, including trailers.
    #[inline]
    pub fn replay_end(&mut self) {
        if !self.has_ended() {
            return;
        }
        match self.framing {
            Framing::Identity => {}
            Framing::Chunked => chunked::encode_end_with(&mut self.out, &self.trailers),
            // Without a body, it ends with the head.
            Framing::Frames if self.taken_bytes > 0 || !self.trailers.is_empty() => {
                self.body = Body::Ending;
            }
            Framing::Frames => {}
        }
    }

    /// Whether it has more memory than an ordinary message needs.
    #[must_use]
    #[inline]
    pub const fn is_bulk(&self) -> bool {
        self.out.capacity() > limits::BLOCK_BYTES
    }

    /// Returns the block to the pool if everything is sent, during a wait that may be long.
    pub fn give_block(&mut self) {
        if !self.has_unsent() {
            self.sent = 0;
            self.last_data = 0..0;
            self.buffers.give(std::mem::take(&mut self.out));
        }
    }

    /// Keeps what is not sent in no more memory than it takes, during a wait that many may have at once.
    #[cold]
    pub fn compact(&mut self) {
        self.give_block();
        if self.out.len() < self.out.capacity() / 4 {
            let exact = self.out.as_slice().to_vec();
            self.buffers.give(std::mem::replace(&mut self.out, exact));
        }
    }

    /// Returns the block to the pool.
    #[inline]
    pub fn recycle(self) {
        self.buffers.give(self.out);
    }

    #[inline]
    fn clear_if_sent(&mut self) {
        if !self.has_unsent() {
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
            Framing::Identity | Framing::Frames => {
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
        match self.framing {
            Framing::Identity => {}
            Framing::Chunked => {
                self.clear_if_sent();
                chunked::encode_end_with(&mut self.out, &trailers);
            }
            Framing::Frames => self.body = Body::Ending,
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
