//! The request on its way to the origin: head, body, and what is kept of it for another attempt.

use super::body::{Fault, Framing, Pulled, Pump};
use super::replay::Replay;
use crate::http::{BodyLength, TrailerRules};
use crate::shard::buffers::Buffers;
use crate::shard::socket::Socket;

/// The request of one exchange, over all attempts.
#[derive(Debug)]
pub(super) struct Upload {
    pump: Pump,
    kept: Kept,
    /// The next block of what was kept that this attempt sends again, while there is one. Until then
    /// the pump always has something to send, and nothing is received.
    again: Option<usize>,
}

/// The body so far.
#[derive(Debug)]
enum Kept {
    /// Nobody will ask for it again.
    Nothing,
    /// All of it.
    Body(Replay),
    /// It was too much to keep.
    TooMuch,
}

impl Upload {
    /// A request with a body of `length`, which `replay` keeps for another attempt; for `most` see
    /// [`Pump::new`].
    #[must_use]
    pub(super) fn new(length: &BodyLength, replay: Option<Replay>, most: usize) -> Self {
        let framing = match length {
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => Framing::Identity,
        };
        let kept = replay.map_or(Kept::Nothing, Kept::Body);
        Self { pump: Pump::new(length, framing, Vec::new(), most), kept, again: None }
    }

    /// See [`Pump::mind_trailers`].
    pub(super) fn mind_trailers(&mut self, rules: TrailerRules) {
        self.pump.mind_trailers(rules);
    }

    /// See [`Pump::dropped_trailers`].
    pub(super) const fn dropped_trailers(&self) -> u64 {
        self.pump.dropped_trailers()
    }

    /// Begins an attempt with this encoded head, and sends again what was sent before.
    pub(super) fn begin(&mut self, head: Vec<u8>, buffers: &Buffers) {
        buffers.give(self.pump.rewind(head));
        self.again = Some(0);
        self.send_again();
    }

    /// Puts the next block that is sent again into the pump, and behind the last one the end of the
    /// body, if that has come.
    fn send_again(&mut self) {
        let Some(at) = self.again else { return };
        self.again = None;
        if let Kept::Body(replay) = &self.kept
            && let Some(block) = replay.block(at)
        {
            self.pump.frame_again(block);
            self.again = replay.block(at + 1).map(|_| at + 1);
        }
        if self.again.is_none() {
            self.pump.end_again();
        }
    }

    /// Takes what was received together with the head; what does not belong to the body stays.
    ///
    /// # Errors
    /// When the chunks are malformed.
    #[inline]
    pub(super) fn take_early(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        if early.is_empty() || self.has_ended() { Ok(()) } else { self.take_some(early) }
    }

    fn take_some(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        // It goes behind what is sent again.
        while self.again.is_some() {
            self.send_again();
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
    pub(super) fn pull(&mut self, client: &Socket, buffers: &Buffers) -> Result<Pulled, Fault> {
        let pulled = self.pump.pull(client, buffers)?;
        self.keep();
        Ok(pulled)
    }

    /// See [`Pump::take_whole`].
    pub(super) fn take_whole(&mut self) -> Option<Vec<u8>> {
        if self.again.is_some() { None } else { self.pump.take_whole() }
    }

    /// Sends once to the origin.
    ///
    /// # Errors
    /// As [`Pump::push`].
    pub(super) fn push(&mut self, origin: &Socket) -> Result<usize, Fault> {
        let sent = self.pump.push(origin)?;
        if !self.pump.wants_sink() {
            self.send_again();
        }
        Ok(sent)
    }

    /// Keeps what has come last.
    fn keep(&mut self) {
        if let Kept::Body(replay) = &mut self.kept
            && replay.keep(self.pump.fresh()).is_err()
        {
            self.kept = Kept::TooMuch;
        }
    }

    /// There will be no other attempt.
    pub(super) fn forget(&mut self) {
        if self.again.is_none() {
            self.kept = Kept::Nothing;
        }
    }

    /// The client has sent everything.
    #[must_use]
    pub(super) fn has_ended(&self) -> bool {
        self.pump.has_ended()
    }

    /// Everything has been sent to the origin.
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
    pub(super) fn can_repeat(&self) -> bool {
        match &self.kept {
            Kept::Body(_) => true,
            Kept::TooMuch => false,
            Kept::Nothing => self.pump.received_bytes() == 0,
        }
    }

    /// Bytes of the body so far, without framing.
    #[must_use]
    pub(super) const fn received_bytes(&self) -> u64 {
        self.pump.received_bytes()
    }

    /// The body was more than is kept.
    #[must_use]
    pub(super) const fn outgrew(&self) -> bool {
        matches!(self.kept, Kept::TooMuch)
    }

    /// What was received beyond the end of the request; the next request begins with it.
    pub(super) fn surplus(&mut self) -> Option<&mut Vec<u8>> {
        self.pump.has_ended().then(|| self.pump.surplus())
    }

    /// Gives the blocks back.
    pub(super) fn recycle(self, buffers: &Buffers) {
        self.pump.recycle(buffers);
    }
}
