//! Sends the request upstream: head, body, and the part of the body kept for retries.

use super::body::{Fault, Framing, Pulled, Pump};
use super::replay::Replay;
use crate::http::{BodyLength, TrailerRules};
use crate::shard::buffers::Buffers;
use crate::transport::Transport;

/// The request of one exchange, over all attempts.
#[derive(Debug)]
pub(super) struct Upload {
    pump: Pump,
    kept: Kept,
    /// The index of the next kept block that this attempt sends again, while there is one. Until
    /// then the pump always has bytes to send, and nothing is received.
    replay_at: Option<usize>,
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
    /// [`Pump::new`].
    #[must_use]
    pub(super) fn new(length: &BodyLength, replay: Option<Replay>, limit: usize) -> Self {
        let framing = match length {
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => Framing::Identity,
        };
        let kept = replay.map_or(Kept::Nothing, Kept::Body);
        Self { pump: Pump::new(length, framing, Vec::new(), limit), kept, replay_at: None }
    }

    /// See [`Pump::set_trailer_rules`].
    pub(super) fn set_trailer_rules(&mut self, rules: TrailerRules) {
        self.pump.set_trailer_rules(rules);
    }

    /// See [`Pump::dropped_trailers`].
    pub(super) const fn dropped_trailers(&self) -> u64 {
        self.pump.dropped_trailers()
    }

    /// Begins an attempt with an encoded head, followed by the body kept so far.
    pub(super) fn begin(&mut self, head: Vec<u8>, buffers: &Buffers) {
        buffers.give(self.pump.rewind(head));
        self.replay_at = Some(0);
        self.replay_next();
    }

    /// Puts the next kept block into the pump, and after the last one the end of the body, if it
    /// has been received.
    fn replay_next(&mut self) {
        let Some(at) = self.replay_at else { return };
        self.replay_at = None;
        if let Kept::Body(replay) = &self.kept
            && let Some(block) = replay.block(at)
        {
            self.pump.replay(block);
            self.replay_at = replay.block(at + 1).map(|_| at + 1);
        }
        if self.replay_at.is_none() {
            self.pump.replay_end();
        }
    }

    /// Takes the bytes of the body that were received together with the head. The rest stays in
    /// `early`.
    ///
    /// # Errors
    /// If the chunks are invalid.
    #[inline]
    pub(super) fn take_early(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        if early.is_empty() || self.has_ended() { Ok(()) } else { self.take_some(early) }
    }

    fn take_some(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        // The kept blocks are sent first.
        while self.replay_at.is_some() {
            self.replay_next();
        }
        let taken = self.pump.take_early(early)?;
        early.drain(..taken);
        self.keep();
        Ok(())
    }

    /// Receives once from the client.
    ///
    /// # Errors
    /// As [`Pump::pull`].
    pub(super) fn pull(&mut self, client: &Transport, buffers: &Buffers) -> Result<Pulled, Fault> {
        let pulled = self.pump.pull(client, buffers)?;
        self.keep();
        Ok(pulled)
    }

    /// See [`Pump::take_whole`].
    pub(super) fn take_whole(&mut self) -> Option<Vec<u8>> {
        if self.replay_at.is_some() { None } else { self.pump.take_whole() }
    }

    /// Sends once to the origin.
    ///
    /// # Errors
    /// As [`Pump::push`].
    pub(super) fn push(&mut self, origin: &Transport) -> Result<usize, Fault> {
        let sent = self.pump.push(origin)?;
        if !self.pump.wants_sink() {
            self.replay_next();
        }
        Ok(sent)
    }

    /// Keeps the data received last.
    fn keep(&mut self) {
        if let Kept::Body(replay) = &mut self.kept
            && replay.keep(self.pump.last_data()).is_err()
        {
            self.kept = Kept::TooMuch;
        }
    }

    /// Drops the kept body: there will be no further attempt.
    pub(super) fn drop_replay(&mut self) {
        if self.replay_at.is_none() {
            self.kept = Kept::Nothing;
        }
    }

    /// The whole request has been received.
    #[must_use]
    pub(super) fn has_ended(&self) -> bool {
        self.pump.has_ended()
    }

    /// The whole request has been sent.
    #[must_use]
    pub(super) fn is_done(&self) -> bool {
        self.pump.is_done()
    }

    /// See [`Pump::wants_source`].
    #[must_use]
    pub(super) fn wants_client(&self) -> bool {
        self.pump.wants_source()
    }

    /// See [`Pump::wants_sink`].
    #[must_use]
    pub(super) fn wants_origin(&self) -> bool {
        self.pump.wants_sink()
    }

    /// Another attempt could send the same request.
    #[must_use]
    pub(super) fn can_replay(&self) -> bool {
        match &self.kept {
            Kept::Body(_) => true,
            Kept::TooMuch => false,
            Kept::Nothing => self.pump.received_bytes() == 0,
        }
    }

    /// Bytes of the body received so far, without framing.
    #[must_use]
    pub(super) const fn received_bytes(&self) -> u64 {
        self.pump.received_bytes()
    }

    /// The body exceeded the replay limit.
    #[must_use]
    pub(super) const fn exceeded_replay_limit(&self) -> bool {
        matches!(self.kept, Kept::TooMuch)
    }

    /// Bytes received beyond the end of the request: the beginning of the next one.
    pub(super) fn surplus(&mut self) -> Option<&mut Vec<u8>> {
        self.pump.has_ended().then(|| self.pump.surplus())
    }

    /// Returns the blocks to the pool.
    pub(super) fn recycle(self, buffers: &Buffers) {
        self.pump.recycle(buffers);
    }
}
