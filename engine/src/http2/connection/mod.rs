//! One connection: bytes to events, and what its owner decides to frames.
//!
//! `receive` handles frames, `header_block` their joined header blocks, `send` writes.

mod header_block;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::abuse::Abuse;
use super::error::{ConnectionError, ErrorCode};
use super::frame::{self, PAYLOAD_MAX, WINDOW_DEFAULT};
use super::hpack::{Decoder, Encoder};
use super::options::Options;
use super::streams::{ReceiveWindow, Side, Stream, StreamId, Streams};
use crate::http::EndStream;

pub use self::header_block::{Block, HeadRefused, RequestLimits};

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

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(*self.handled..).unwrap_or_default()
    }

    /// Where a part of the bytes is.
    fn range_of(&self, part: &[u8]) -> Range<usize> {
        let start = part.as_ptr() as usize - self.bytes.as_ptr() as usize;
        start..start + part.len()
    }
}

/// What has happened.
#[derive(Debug, Eq, PartialEq)]
pub enum Event {
    /// The head of a message. It must be decoded, or refused, before the next event.
    Head(Block),
    /// The trailers of a message; likewise.
    Trailers(Block),
    /// A part of a body. What is read is to be given back with [`Connection::consumed`].
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
    /// More may be sent.
    WindowOpened {
        /// On this stream; none: on any.
        stream: Option<StreamId>,
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

/// What happened, for the stats. Taken with [`Connection::take_counts`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// RST_STREAM frames received.
    pub rx_reset: u64,
    /// RST_STREAM frames sent.
    pub tx_reset: u64,
    /// Trailers received.
    pub trailers: u64,
    /// Malformed messages.
    pub rx_messaging_error: u64,
    /// Streams beyond the limit.
    pub stream_refused_errors: u64,
    /// Heads with too many fields, or too long ones.
    pub header_overflow: u64,
    /// Heads that are too long.
    pub header_list_size_too_large: u64,
    /// Fields dropped because of underscores in their names.
    pub dropped_headers_with_underscores: u64,
    /// Requests rejected for the same reason.
    pub requests_rejected_with_underscores_in_headers: u64,
    /// Connections that we have told to go away.
    pub goaway_sent: u64,
}

/// Which side we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Client,
    Server,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The client's preface, of which so many bytes have arrived.
    Preface(usize),
    /// The peer's first SETTINGS.
    FirstSettings,
    Open,
}

/// What a peer has settled (RFC 9113 §6.5.2).
#[derive(Clone, Copy, Debug)]
struct PeerSettings {
    initial_window: i64,
    max_frame: usize,
    max_concurrent_streams: u32,
    connect_protocol: bool,
}

/// A connection. `S` is what its owner keeps for each stream.
#[derive(Debug)]
pub struct Connection<S> {
    role: Role,
    options: Options,
    phase: Phase,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams<S>,
    /// Reset by us, while the peer may not know: what still comes of them is ignored.
    forgotten: std::collections::VecDeque<StreamId>,
    /// A header block whose CONTINUATIONs are still to come.
    partial: Option<header_block::Partial>,
    /// The last header block that needed joining.
    joined: Vec<u8>,
    peer: PeerSettings,
    send_window: i64,
    receive_window: ReceiveWindow,
    /// The highest stream that the peer has begun.
    last_seen: StreamId,
    /// The next stream that we begin.
    next: StreamId,
    /// The last stream that our GOAWAY allows.
    allowed: Option<StreamId>,
    /// The last stream that the peer's GOAWAY allows.
    peer_allows: Option<StreamId>,
    abuse: Abuse,
    counts: Counts,
    out: Vec<u8>,
}

impl<S> Connection<S> {
    /// The side of a server.
    #[must_use]
    pub fn server(options: &Options) -> Self {
        Self::new(Role::Server, options)
    }

    /// The side of a client.
    #[must_use]
    pub fn client(options: &Options) -> Self {
        Self::new(Role::Client, options)
    }

    fn new(role: Role, options: &Options) -> Self {
        let phase = match role {
            Role::Server => Phase::Preface(0),
            Role::Client => Phase::FirstSettings,
        };
        Self {
            role,
            options: options.clone(),
            phase,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            streams: Streams::default(),
            forgotten: std::collections::VecDeque::new(),
            partial: None,
            joined: Vec::new(),
            peer: PeerSettings {
                initial_window: WINDOW_DEFAULT,
                max_frame: PAYLOAD_MAX,
                max_concurrent_streams: u32::MAX,
                connect_protocol: false,
            },
            send_window: WINDOW_DEFAULT,
            receive_window: ReceiveWindow::new(options.initial_connection_window_size),
            last_seen: StreamId::CONNECTION,
            next: StreamId::new(1),
            allowed: None,
            peer_allows: None,
            abuse: Abuse::new(options),
            counts: Counts::default(),
            out: Vec::new(),
        }
    }

    /// What its owner keeps for a stream.
    pub fn stream(&mut self, id: StreamId) -> Option<&mut S> {
        self.streams.get_mut(&id).map(|stream| &mut stream.state)
    }

    /// How many streams are not released.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Visits what the owner keeps for every stream.
    pub fn each(&mut self, mut visit: impl FnMut(&mut S)) {
        self.streams.values_mut().for_each(|stream| visit(&mut stream.state));
    }

    /// The streams that are not released.
    pub fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }

    /// Whether a header block has begun and is not complete.
    #[must_use]
    pub const fn expects_continuation(&self) -> bool {
        self.partial.is_some()
    }

    /// What has happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Begins a stream: the head of its request follows. None if the peer allows no more now, goes away, or
    /// there are no more numbers.
    pub fn open(&mut self, state: S) -> Option<StreamId> {
        let most = self.peer.max_concurrent_streams.min(self.options.max_concurrent_streams);
        let is_full = self.streams.len() >= most as usize;
        if is_full || !self.may_open() {
            return None;
        }
        let id = self.next;
        self.next = StreamId::new(id.number() + 2);
        self.insert(id, state, Side::Open, None);
        Some(id)
    }

    /// Whether streams may be begun on this connection, now or when others have ended.
    #[must_use]
    pub fn may_open(&self) -> bool {
        self.peer_allows.is_none() && self.allowed.is_none() && self.next < StreamId::MAX
    }

    /// How many streams the peer allows at once.
    #[must_use]
    pub const fn peer_allows_streams(&self) -> u32 {
        self.peer.max_concurrent_streams
    }

    /// Whether the peer accepts extended CONNECT (RFC 8441).
    #[must_use]
    pub const fn peer_accepts_extended_connect(&self) -> bool {
        self.peer.connect_protocol
    }

    fn insert(&mut self, id: StreamId, state: S, remote: Side, left: Option<u64>) {
        self.abuse.opened();
        let stream = Stream {
            state,
            local: Side::Open,
            remote,
            is_reset: false,
            expects: match self.role {
                Role::Client => super::streams::Expects::Head,
                Role::Server => super::streams::Expects::Trailers,
            },
            left,
            send_window: self.peer.initial_window,
            receive_window: ReceiveWindow::new(self.options.initial_stream_window_size),
        };
        self.streams.insert(id, stream);
    }

    /// The stream's task has ended: forgets the stream, and returns what was kept for it. One that has not
    /// ended on both sides is to be reset first.
    pub fn release(&mut self, id: StreamId) -> Option<S> {
        let stream = self.streams.remove(&id)?;
        if stream.is_reset && stream.remote == Side::Open {
            self.forget(id);
        }
        // What nobody has read no longer fills the window of the others.
        let unread = stream.receive_window.unread();
        self.give_back(unread);
        Some(stream.state)
    }

    fn forget(&mut self, id: StreamId) {
        if self.forgotten.len() >= self.options.max_concurrent_streams.clamp(16, 1024) as usize {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(id);
    }

    /// What may be sent on a stream now.
    #[must_use]
    pub fn capacity(&self, id: StreamId) -> usize {
        let window = self.streams.get(&id).map_or(0, |stream| stream.send_window);
        usize::try_from(window.min(self.send_window)).unwrap_or(0)
    }

    /// Whether both sides of a stream have ended.
    #[must_use]
    pub fn is_whole(&self, id: StreamId) -> bool {
        self.streams
            .get(&id)
            .is_some_and(|stream| stream.local == Side::Ended && stream.remote == Side::Ended)
    }

    /// Bytes to send.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// So many bytes of [`Self::out`] were sent.
    pub fn sent(&mut self, bytes: usize) {
        if bytes >= self.out.len() {
            self.abuse.all_sent();
            if self.out.capacity() > crate::limits::BLOCK_BYTES {
                self.out = Vec::new();
            }
            self.out.clear();
        } else {
            self.out.drain(..bytes);
        }
    }

    /// Returns memory while nothing is to be sent.
    pub fn rest(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        self.joined = Vec::new();
    }

    /// How a message whose last part this was ends on our side.
    const fn side_after(end: EndStream) -> Side {
        match end {
            EndStream::Yes => Side::Ended,
            EndStream::No => Side::Open,
        }
    }

    fn write(&mut self, kind: frame::Kind, flags: u8, id: StreamId, payload: &[u8]) {
        frame::whole(&mut self.out, kind, flags, id, payload);
    }

    /// Ends the connection because of an error: the peer is told with GOAWAY.
    pub fn fail(&mut self, error: &ConnectionError) {
        self.go_away(Last::Seen, error.code);
    }
}
