//! One stream: its number, and the state of both its directions (RFC 9113 §5.1).

use super::flow::{ReceiveWindow, SendWindow};
use crate::http::EndStream;

/// The number of a stream, 31 bits; 0 is the connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u32);

impl StreamId {
    pub(super) const CONNECTION: Self = Self(0);
    pub(super) const MAX: Self = Self(u32::MAX >> 1);

    /// The first bit is reserved.
    pub(super) const fn new(number: u32) -> Self {
        Self(number & Self::MAX.0)
    }

    /// As on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether a client begins it.
    pub(super) const fn is_of_client(self) -> bool {
        self.0 % 2 == 1
    }
}

/// What comes next in one direction.
///
/// The states of RFC 9113 §5.1 are pairs of these: a stream with `Head` or `Body` in both directions is
/// "open", one with [`Part::Ended`] in one direction is "half-closed", in both "closed".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// A head: of a request that is not sent yet, or of a response, which may be an interim one.
    Head,
    /// DATA or trailers.
    Body,
    /// END_STREAM was the last.
    Ended,
}

impl Part {
    /// What follows a head or DATA.
    pub(super) const fn after(end: EndStream) -> Self {
        match end {
            EndStream::Yes => Self::Ended,
            EndStream::No => Self::Body,
        }
    }
}

/// Whether a stream was reset, and by whom. One that was is "closed".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reset {
    No,
    /// What still comes of it was on its way, and is ignored.
    ByUs,
    ByPeer,
}

/// A stream, from its begin until its owner releases it.
#[derive(Debug)]
pub(super) struct Stream<S> {
    /// What its owner keeps.
    pub(super) state: S,
    pub(super) receiving: Part,
    pub(super) sending: Part,
    pub(super) reset: Reset,
    /// What `content-length` leaves to come.
    pub(super) expected: Option<u64>,
    pub(super) send_window: SendWindow,
    pub(super) receive_window: ReceiveWindow,
    /// Whether it waits for the window of the connection.
    pub(super) waits: bool,
    /// Whether it is among [`Unread`].
    counted_unread: bool,
}

/// How many streams have ended on both sides, but were not read to their end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unread(u32);

impl Unread {
    /// Counts a stream as it is now.
    pub(super) fn note<S>(&mut self, stream: &mut Stream<S>) {
        let is_unread =
            stream.is_whole() && !stream.is_reset() && stream.receive_window.unread() > 0;
        self.count(stream, is_unread);
    }

    /// The stream is forgotten.
    pub(super) fn forget<S>(&mut self, stream: &mut Stream<S>) {
        self.count(stream, false);
    }

    fn count<S>(&mut self, stream: &mut Stream<S>, is_unread: bool) {
        match (std::mem::replace(&mut stream.counted_unread, is_unread), is_unread) {
            (false, true) => self.0 += 1,
            (true, false) => self.0 = self.0.saturating_sub(1),
            _ => {}
        }
    }

    /// How many there are.
    pub(super) const fn streams(self) -> u32 {
        self.0
    }
}

impl<S> Stream<S> {
    /// A stream that begins, with `initial_window` bytes to receive.
    pub(super) fn new(
        state: S,
        receiving: Part,
        sending: Part,
        expected: Option<u64>,
        initial_window: u32,
    ) -> Self {
        Self {
            state,
            receiving,
            sending,
            reset: Reset::No,
            expected,
            send_window: SendWindow::default(),
            receive_window: ReceiveWindow::new(initial_window),
            waits: false,
            counted_unread: false,
        }
    }

    /// Whether it was reset.
    pub(super) fn is_reset(&self) -> bool {
        self.reset != Reset::No
    }

    /// Whether both directions have ended.
    pub(super) fn is_whole(&self) -> bool {
        self.receiving == Part::Ended && self.sending == Part::Ended
    }

    /// Whether our side has ended, and of the peer's only the end is missing: all content that was announced
    /// has arrived.
    pub(super) fn lacks_only_its_end(&self) -> bool {
        self.reset == Reset::No
            && self.sending == Part::Ended
            && self.receiving == Part::Body
            && self.expected == Some(0)
    }

    /// Whether the peer may send more of it, because it has neither ended nor reset it.
    pub(super) fn may_receive(&self) -> bool {
        self.receiving != Part::Ended && self.reset != Reset::ByPeer
    }

    /// Whether DATA may be sent.
    pub(super) fn may_send_data(&self) -> bool {
        self.sending == Part::Body && self.reset == Reset::No
    }
}
