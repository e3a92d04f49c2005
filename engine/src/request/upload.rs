//! The request on its way to the origin: head, body, and what is kept of it for another attempt.

use super::body::{Fault, Framing, Pulled, Pump};
use crate::http::BodyLength;
use crate::http::TrailerRules;
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Socket;

/// The request of one exchange, over all attempts.
#[derive(Debug)]
pub(super) struct Upload {
    pump: Pump,
    kept: Kept,
}

/// The body as it was framed so far.
#[derive(Debug)]
enum Kept {
    /// Nobody will ask for it again.
    Nothing,
    /// All of it, as long as it carries not more than `most`.
    Bytes { bytes: Vec<u8>, most: usize },
    /// It was too much to keep.
    TooMuch,
}

/// Whether the body is kept for another attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// A retry may need it.
    Body {
        /// More bytes than these are not kept.
        most: usize,
    },
    /// It is sent once.
    Nothing,
}

impl Upload {
    /// A request with a body of `length`; for `most` see [`Pump::new`].
    #[must_use]
    pub(super) fn new(length: &BodyLength, keep: Keep, most: usize) -> Self {
        let framing = match length {
            BodyLength::Chunked => Framing::Chunked,
            BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => Framing::Identity,
        };
        let kept = match keep {
            Keep::Body { most } => Kept::Bytes { bytes: Vec::new(), most },
            Keep::Nothing => Kept::Nothing,
        };
        Self { pump: Pump::new(length, framing, Vec::new(), most), kept }
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
    pub(super) fn begin(&mut self, mut head: Vec<u8>, buffers: &Buffers) {
        match &self.kept {
            Kept::Bytes { bytes, .. } => head.extend_from_slice(bytes),
            Kept::Nothing if self.pump.has_ended_chunks() => self.pump.encode_end(&mut head),
            Kept::Nothing | Kept::TooMuch => {}
        }
        buffers.give(self.pump.rewind(head));
    }

    /// Takes what was received together with the head; what does not belong to the body stays.
    ///
    /// # Errors
    /// When the chunks are malformed.
    #[inline]
    pub(super) fn take_early(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        if early.is_empty() { Ok(()) } else { self.take_some(early) }
    }

    fn take_some(&mut self, early: &mut Vec<u8>) -> Result<(), Fault> {
        let before = self.pump.unsent().len();
        let taken = self.pump.take_early(early)?;
        early.drain(..taken);
        self.keep_from(before);
        Ok(())
    }

    /// Receives once from the client.
    ///
    /// # Errors
    /// As [`Pump::pull`].
    pub(super) fn pull(&mut self, client: &Socket, buffers: &Buffers) -> Result<Pulled, Fault> {
        let pulled = self.pump.pull(client, buffers)?;
        self.keep_from(0);
        Ok(pulled)
    }

    /// See [`Pump::take_whole`].
    pub(super) fn take_whole(&mut self) -> Option<Vec<u8>> {
        self.pump.take_whole()
    }

    /// Sends once to the origin.
    ///
    /// # Errors
    /// As [`Pump::push`].
    pub(super) fn push(&mut self, origin: &Socket) -> Result<usize, Fault> {
        self.pump.push(origin)
    }

    /// Keeps what stands in the pump from `before` on.
    fn keep_from(&mut self, before: usize) {
        if let Kept::Bytes { bytes, most } = &mut self.kept {
            let fresh = self.pump.unsent().get(before..).unwrap_or_default();
            // Envoy: the limit is on what the chunks carry. Their framing may be as much again, and
            // a little more for a small limit; else they are too tiny to be kept.
            let framed_max = most.saturating_mul(2).saturating_add(limits::BLOCK_BYTES);
            if self.pump.received_bytes() > *most as u64 || bytes.len() + fresh.len() > framed_max {
                self.kept = Kept::TooMuch;
            } else {
                bytes.extend_from_slice(fresh);
            }
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
            Kept::Bytes { .. } => true,
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
