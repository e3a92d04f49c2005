//! What goes into a connection, and what comes out.

use std::ops::Range;

use super::Block;
use crate::http2::error::ErrorCode;
use crate::http2::stream::StreamId;

/// What was received, from the first byte that was not handled.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    handled: &'a mut usize,
}

impl<'a> Input<'a> {
    /// `handled` is how many of the bytes were handled; it is advanced.
    pub const fn new(bytes: &'a [u8], handled: &'a mut usize) -> Self {
        Self { bytes, handled }
    }

    /// The bytes that are not handled.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(*self.handled..).unwrap_or_default()
    }

    /// Handles up to `most` bytes; returns where they are.
    pub(super) fn take(&mut self, most: usize) -> Range<usize> {
        let start = *self.handled;
        let end = self.bytes.len().min(start.saturating_add(most));
        *self.handled = end;
        start..end
    }

    /// A part of the bytes.
    pub(super) fn get(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

/// What has happened.
#[derive(Debug, Eq, PartialEq)]
pub enum Event {
    /// The head of a message. It must be decoded before the next event.
    Head(Block),
    /// The trailers of a message; likewise.
    Trailers(Block),
    /// A part of a body, of a frame that may not have arrived completely. What is read is to be given back
    /// with [`Connection::consumed`](super::Connection::consumed).
    Data {
        /// Of this stream.
        stream: StreamId,
        /// Where it is in the input.
        data: Range<usize>,
        /// Whether it is the last one.
        end: bool,
    },
    /// A stream was reset, by the peer or because of an error of the peer.
    Reset {
        /// This stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// More may be sent on a stream. What opens the windows of many is told by
    /// [`Connection::wake_writers`](super::Connection::wake_writers).
    WindowOpened {
        /// This stream.
        stream: StreamId,
    },
    /// The peer goes away.
    GoAway {
        /// It has handled, or will handle, streams up to this one.
        last: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The peer has changed its settings.
    PeerSettings,
    /// The answer to a PING.
    PingAck(u64),
}

/// The streams that a GOAWAY still allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Last {
    /// All.
    Unlimited,
    /// Those that were seen.
    Seen,
}

/// What happened, for the stats. Taken with [`Connection::take_counts`](super::Connection::take_counts).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// RST_STREAM frames received, on streams that were open.
    pub rx_reset: u64,
    /// RST_STREAM frames sent.
    pub tx_reset: u64,
    /// Trailers received.
    pub trailers: u64,
    /// Malformed messages.
    pub rx_messaging_error: u64,
    /// Streams beyond the limit.
    pub stream_refused_errors: u64,
    /// Heads and trailers with too many fields.
    pub header_overflow: u64,
    /// Those that were too long.
    pub header_list_size_too_large: u64,
    /// Fields dropped because of underscores in their names.
    pub dropped_headers_with_underscores: u64,
    /// Requests rejected for the same reason.
    pub requests_rejected_with_underscores_in_headers: u64,
    /// Connections that we have told to go away, but for errors, as in Envoy.
    pub goaway_sent: u64,
}
