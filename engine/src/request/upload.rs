//! The request on its way upstream: head, body, and the part of the body kept for retries.

use super::mirror::Mirrors;
use super::replay::Replay;
use crate::http::{BodyLength, EndStream, Fault, Intake};
use crate::pipe::outlet::{Framing, Outlet};
use crate::shard::buffers::Buffers;
use crate::upstream::origin::Origin;

/// The request of one exchange, over all attempts.
#[derive(Debug)]
pub(super) struct Upload {
    outlet: Outlet,
    /// How HTTP/1 frames the body.
    http1_framing: Framing,
    end: End,
    kept: Kept,
    /// What else gets the body.
    mirrors: Option<Box<Mirrors>>,
    /// The kept block that is sent next, if an attempt has not sent all that earlier ones kept. Until
    /// then the outlet always has bytes to send, and nothing is received.
    replay_at: Option<usize>,
}

/// How the origin learns that the request has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// By the framing of the body.
    Framed,
    /// By the end of its connection's direction: it gets the body alone.
    HalfClose,
    /// That has happened.
    HalfClosed,
}

/// What is kept of the body.
#[derive(Debug)]
enum Kept {
    /// Nothing: there will be no retry.
    Nothing,
    /// All of it so far.
    Body(Replay),
    /// Nothing: it exceeded the limit.
    TooMuch,
}

impl Upload {
    /// A request with a body of `length`, kept for retries in `replay`; for `limit` see
    /// [`Outlet::new`].
    #[must_use]
    #[inline]
    pub(super) fn new(
        length: BodyLength,
        replay: Option<Replay>,
        limit: usize,
        buffers: &'static Buffers,
    ) -> Self {
        let http1_framing = http1_framing(length);
        let outlet = Outlet::new(length, http1_framing, Vec::new(), limit, buffers);
        Self {
            outlet,
            http1_framing,
            end: End::Framed,
            kept: replay.map_or(Kept::Nothing, Kept::Body),
            mirrors: None,
            replay_at: None,
        }
    }

    /// The body has this length instead, as filters have held all of it.
    pub(super) fn set_length(&mut self, length: BodyLength) {
        self.http1_framing = http1_framing(length);
    }

    /// These get the body as well, from now on.
    pub(super) fn set_mirrors(&mut self, mirrors: Option<Box<Mirrors>>) {
        self.mirrors = mirrors;
    }

    /// Begins an attempt over HTTP/1 with an encoded head, followed by the body kept so far.
    #[inline(always)]
    pub(super) fn begin(&mut self, head: Vec<u8>) {
        self.outlet.rewind(head, self.http1_framing);
        self.replay_at = Some(0);
        self.replay_next();
    }

    /// Begins an attempt whose origin gets the body alone, and then the end of its direction.
    #[cold]
    pub(super) fn begin_raw(&mut self) {
        self.http1_framing = Framing::Identity;
        self.end = End::HalfClose;
        self.begin(Vec::new());
    }

    /// Ends the direction to an origin that gets the body alone, once it has all of it.
    pub(super) fn half_close(&mut self, origin: &mut Origin) {
        if self.end == End::HalfClose && self.is_done() {
            origin.end_sending();
            self.end = End::HalfClosed;
        }
    }

    /// Begins an attempt with the body kept so far. The origin takes the head by itself, unless it turns
    /// out to speak HTTP/1: see [`Self::put_head`].
    pub(super) fn begin_without_head(&mut self) {
        self.outlet.rewind(Vec::new(), Framing::Frames);
        self.replay_at = Some(0);
        self.replay_next();
    }

    /// Puts an encoded head in front of an attempt begun without one.
    #[cold]
    pub(super) fn put_head(&mut self, head: Vec<u8>) {
        self.outlet.reframe(head, self.http1_framing);
        if self.replay_at.is_none() {
            self.outlet.replay_end();
        }
    }

    /// Whether the request ends with its head.
    pub(super) fn end_stream(&self) -> EndStream {
        if self.is_done() { EndStream::Yes } else { EndStream::No }
    }

    /// Puts the next kept block into the outlet, and after the last one the end of the body, if it
    /// has been received.
    #[inline]
    fn replay_next(&mut self) {
        let Some(at) = self.replay_at else { return };
        self.replay_at = None;
        if let Kept::Body(replay) = &self.kept
            && let Some(block) = replay.block(at)
        {
            self.outlet.replay(block);
            self.replay_at = replay.block(at + 1).map(|_| at + 1);
        }
        if self.replay_at.is_none() {
            self.outlet.replay_end();
        }
    }

    /// Sends once to the origin. Returns the number of bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    #[inline]
    pub(super) fn push(&mut self, origin: &mut Origin) -> Result<usize, Fault> {
        // What is sent later would come after the end of the direction.
        let may_post = self.replay_at.is_none() && self.end == End::Framed;
        let sent = origin.push(&mut self.outlet, may_post)?;
        if !self.outlet.wants_sink() {
            self.replay_next();
        }
        Ok(sent)
    }

    /// Keeps the data taken last.
    #[inline]
    fn keep(&mut self) {
        if let Kept::Body(replay) = &mut self.kept
            && replay.keep(self.outlet.last_data()).is_err()
        {
            self.kept = Kept::TooMuch;
        }
        if let Some(mirrors) = &mut self.mirrors {
            mirrors.send(self.outlet.last_data());
        }
    }

    /// Drops the kept body: there will be no further attempt.
    #[inline]
    pub(super) fn drop_replay(&mut self) {
        if self.replay_at.is_none() {
            self.kept = Kept::Nothing;
        }
    }

    /// Takes out all of the body, and its trailers, if it was received and kept.
    pub(super) fn take_replay(&mut self) -> Option<(Replay, Vec<u8>)> {
        if !self.has_ended() || !matches!(self.kept, Kept::Body(_)) {
            return None;
        }
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Body(replay) => Some((replay, self.outlet.trailers().to_vec())),
            Kept::Nothing | Kept::TooMuch => None,
        }
    }

    /// The whole request has been received.
    #[must_use]
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.outlet.has_ended()
    }

    /// The whole request has been sent.
    #[must_use]
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.outlet.is_done()
    }

    /// See [`Outlet::wants_source`].
    #[must_use]
    #[inline]
    pub(super) fn wants_client(&self) -> bool {
        self.outlet.wants_source()
    }

    /// Returns the block to the pool while the client sends nothing, and a large one as soon as all of the
    /// request is sent.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.wants_client() || (self.outlet.is_bulk() && self.is_done()) {
            self.outlet.give_block();
        }
    }

    /// See [`Outlet::compact`].
    pub(super) fn compact(&mut self) {
        self.outlet.compact();
    }

    /// See [`Outlet::wants_sink`].
    #[must_use]
    #[inline]
    pub(super) fn wants_origin(&self) -> bool {
        self.outlet.wants_sink()
    }

    /// Another attempt could send the same request.
    #[must_use]
    pub(super) fn can_replay(&self) -> bool {
        match &self.kept {
            Kept::Body(_) => true,
            Kept::TooMuch => false,
            Kept::Nothing => self.outlet.taken_bytes() == 0,
        }
    }

    /// Bytes of the body received so far, without framing.
    #[must_use]
    #[inline]
    pub(super) const fn received_bytes(&self) -> u64 {
        self.outlet.taken_bytes()
    }

    /// The body exceeded the replay limit.
    #[must_use]
    #[inline]
    pub(super) const fn exceeded_replay_limit(&self) -> bool {
        matches!(self.kept, Kept::TooMuch)
    }

    /// Returns the blocks to the pool.
    #[inline]
    pub(super) fn recycle(self) {
        self.outlet.recycle();
    }
}

/// How HTTP/1 frames a request's body of this length.
#[inline]
const fn http1_framing(length: BodyLength) -> Framing {
    match length {
        BodyLength::Chunked => Framing::Chunked,
        BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => Framing::Identity,
    }
}

/// What is taken is kept as it is, without framing: another attempt may need another one.
impl Intake for Upload {
    #[inline]
    fn most(&self) -> usize {
        self.outlet.most()
    }

    #[inline]
    fn direct(&mut self, wanted: usize) -> Option<&mut Vec<u8>> {
        self.outlet.direct(wanted)
    }

    #[inline]
    fn landed(&mut self, bytes: usize) {
        self.outlet.landed(bytes);
        self.keep();
    }

    fn write<E>(
        &mut self,
        most: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The kept blocks are sent first.
        while self.replay_at.is_some() {
            self.replay_next();
        }
        self.outlet.write(most, append)?;
        self.keep();
        Ok(())
    }

    fn end(&mut self, trailers: Vec<u8>) {
        if let Some(mirrors) = self.mirrors.take() {
            mirrors.end(&trailers);
        }
        self.outlet.end(trailers);
    }
}
