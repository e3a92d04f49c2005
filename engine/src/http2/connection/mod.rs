//! One connection: bytes to events, and what its owner decides to frames.
//!
//! `receive` handles frames, `body` what DATA carries, `header_block` what HEADERS and their CONTINUATIONs
//! carry, `settings` what both sides settle; `send` writes.

mod body;
mod event;
mod header_block;
mod receive;
mod send;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::body::Body;
use self::header_block::Partial;
use self::settings::PeerSettings;
use super::abuse::Abuse;
use super::error::{ConnectionError, ErrorCode};
use super::flow::{ReceiveWindow, SendWindow};
use super::hpack::{Decoder, Encoder, Strings};
use super::options::Options;
use super::stream::{Part, Reset, Stream, StreamId, Unread};
use super::streams::{Forgotten, Streams, Unended};

pub use self::event::{Counts, Event, Input, Last};
pub use self::header_block::{Block, HeadRefused, RequestLimits};

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

/// A connection. `S` is what its owner keeps for each stream.
#[derive(Debug)]
pub struct Connection<S> {
    role: Role,
    options: Options,
    phase: Phase,
    /// The time of the last call of [`Self::next`].
    now_ms: u64,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams<S>,
    unread: Unread,
    forgotten: Forgotten,
    unended: Unended,
    /// Streams that wait for the window of the connection, the one that has waited longest first.
    waiting: VecDeque<StreamId>,
    /// A DATA frame of which more is to come.
    body: Option<Body>,
    /// The stream that a HEADERS frame begins of which more is to come.
    arriving: Option<StreamId>,
    /// A header block whose CONTINUATIONs are still to come.
    partial: Option<Partial>,
    /// The last header block that needed joining.
    joined: Vec<u8>,
    /// The most bytes of a joined header block.
    joined_max: usize,
    /// A header block that has to be decoded before anything else.
    undecoded: Option<StreamId>,
    peer: PeerSettings,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    /// The highest stream that the peer has begun.
    last_seen: StreamId,
    /// The number of the next stream that we begin.
    next_number: u32,
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
        let strings = match options.enable_huffman_encoding {
            true => Strings::Huffman,
            false => Strings::Plain,
        };
        Self {
            role,
            options: options.clone(),
            phase,
            now_ms: 0,
            decoder: Decoder::default(),
            encoder: Encoder::new(strings),
            streams: Streams::default(),
            unread: Unread::default(),
            forgotten: Forgotten::default(),
            unended: Unended::default(),
            waiting: VecDeque::new(),
            body: None,
            arriving: None,
            partial: None,
            joined: Vec::new(),
            joined_max: header_block::joined_max(0),
            undecoded: None,
            peer: PeerSettings::default(),
            send_window: SendWindow::default(),
            receive_window: ReceiveWindow::new(options.initial_connection_window_size),
            last_seen: StreamId::CONNECTION,
            next_number: 1,
            allowed: None,
            peer_allows: None,
            abuse: Abuse::new(options),
            counts: Counts::default(),
            out: Vec::new(),
        }
    }

    /// Heads of so many bytes must be decoded: a header block may be a few times as long, never more.
    pub fn allow_heads_of(&mut self, bytes_max: usize) {
        self.joined_max = header_block::joined_max(bytes_max);
    }

    /// What its owner keeps for a stream.
    pub fn stream(&mut self, id: StreamId) -> Option<&mut S> {
        self.streams.get_mut(id).map(|stream| &mut stream.state)
    }

    /// How many streams are not released.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Visits what the owner keeps for every stream.
    pub fn each(&mut self, mut visit: impl FnMut(&mut S)) {
        self.streams.all_mut().for_each(|stream| visit(&mut stream.state));
    }

    /// The streams that are not released.
    pub fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.streams.ids()
    }

    /// How many streams have ended on both sides, but were not read to their end.
    #[must_use]
    pub const fn unread_streams(&self) -> u32 {
        self.unread.streams()
    }

    /// How many frames wait to be sent, and how many of them answer control frames.
    #[must_use]
    pub const fn outbound_frames(&self) -> (u32, u32) {
        self.abuse.outbound_frames()
    }

    /// The stream of the header block that has begun and is not complete: its CONTINUATIONs are still to come,
    /// or it begins a stream and not all of its HEADERS have arrived.
    #[must_use]
    pub fn unfinished_block(&self) -> Option<StreamId> {
        self.partial.as_ref().map(|block| block.stream).or(self.arriving)
    }

    /// Whether the head of a request has begun and is not complete.
    #[must_use]
    pub fn begins_request(&self) -> bool {
        self.partial.as_ref().is_some_and(|block| block.stream > self.last_seen)
    }

    /// What has happened since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Begins a stream. None if the peer allows no more now, goes away, or there are no more numbers.
    ///
    /// The head of its request has to be written before the next stream is begun: a peer takes a lower
    /// number behind a higher one for a violation (RFC 9113 §5.1.1).
    pub fn open(&mut self, state: S) -> Option<StreamId> {
        let most = self.peer.max_concurrent_streams.min(self.options.max_concurrent_streams);
        let is_full = self.streams.len() >= most as usize;
        if is_full || !self.may_open() {
            return None;
        }
        if self.streams.len() + self.unended.len() >= most as usize {
            self.reset_oldest_unended();
        }
        let id = StreamId::new(self.next_number);
        self.next_number += 2;
        let stream = self.new_stream(state, Part::Head, Part::Head, None);
        self.streams.insert(id, stream);
        Some(id)
    }

    /// Whether streams may be begun on this connection, now or when others have ended.
    #[must_use]
    pub fn may_open(&self) -> bool {
        let has_number = self.next_number <= StreamId::MAX.number();
        self.peer_allows.is_none() && self.allowed.is_none() && has_number
    }

    /// How many streams the peer allows at once.
    #[must_use]
    pub const fn peer_allows_streams(&self) -> u32 {
        self.peer.max_concurrent_streams
    }

    fn new_stream(
        &mut self,
        state: S,
        receiving: Part,
        sending: Part,
        expected: Option<u64>,
    ) -> Stream<S> {
        self.abuse.opened();
        let window = self.options.initial_stream_window_size;
        Stream::new(state, receiving, sending, expected, window)
    }

    /// The stream's task has ended: forgets the stream, and returns what was kept for it. One that is not
    /// complete is to be reset first.
    pub fn release(&mut self, id: StreamId) -> Option<S> {
        let mut stream = self.streams.remove(id)?;
        self.unread.forget(&mut stream);
        if stream.reset == Reset::ByUs && stream.may_receive() {
            self.forgotten.add(id);
        } else if stream.lacks_only_its_end() {
            if self.unended.len() >= UNENDED_MAX {
                self.reset_oldest_unended();
            }
            self.unended.add(id);
        }
        if stream.waits {
            self.waiting.retain(|waiting| *waiting != id);
        }
        // What nobody has read no longer fills the window of the others.
        self.give_back(stream.receive_window.unread());
        Some(stream.state)
    }

    /// Whether both sides of a stream have said everything: both have ended, or a response is as long as it
    /// was announced, though its end is still to come. A server that waits longer for a client would let it
    /// keep its streams.
    #[must_use]
    pub fn is_complete(&self, id: StreamId) -> bool {
        let is_client = self.role == Role::Client;
        let stream = self.streams.get(id);
        stream.is_some_and(|it| it.is_whole() || (is_client && it.lacks_only_its_end()))
    }

    /// A server that has not ended a stream for long gets it reset, so that it allows another.
    fn reset_oldest_unended(&mut self) {
        if let Some(id) = self.unended.oldest() {
            self.forgotten.add(id);
            self.write_reset(id, ErrorCode::InternalError);
        }
    }

    /// Bytes to send. As in Envoy, none to a client that may not speak HTTP/2.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        if self.awaits_preface() { &[] } else { &self.out }
    }

    const fn awaits_preface(&self) -> bool {
        matches!(self.phase, Phase::Preface(_))
    }

    /// So many bytes of [`Self::out`] were sent.
    pub fn sent(&mut self, bytes: usize) {
        let left = self.out.len().saturating_sub(bytes);
        self.abuse.sent(bytes, left);
        if left > 0 {
            self.out.drain(..bytes);
        } else if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }

    /// Gives it a block to write into, if it has none. Without one it allocates.
    pub fn provide(&mut self, block: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = block();
        }
    }

    /// Takes all bytes to send, which count as sent, with their block.
    #[must_use]
    pub fn take_out(&mut self) -> Vec<u8> {
        self.abuse.sent(self.out.len(), 0);
        std::mem::take(&mut self.out)
    }

    /// Returns memory while nothing is to be sent: the block that was written into.
    #[must_use]
    pub fn rest(&mut self) -> Vec<u8> {
        self.streams.rest();
        if self.partial.is_none() && self.undecoded.is_none() {
            self.joined = Vec::new();
        }
        if self.out.is_empty() { std::mem::take(&mut self.out) } else { Vec::new() }
    }

    /// Ends the connection because of an error: the peer is told with GOAWAY, unless it does not speak HTTP/2.
    pub fn fail(&mut self, error: &ConnectionError) {
        //= rfc9113#section-3.4: "A GOAWAY frame MAY be omitted in this case".
        if !self.awaits_preface() {
            self.go_away(Last::Seen, error.code);
        }
        // Nothing of a stream follows it.
        self.streams.all_mut().for_each(|stream| stream.reset = Reset::ByPeer);
    }
}

/// So many complete responses may lack their end.
const UNENDED_MAX: usize = 100;

/// The capacity that the buffer of bytes to send keeps when all is sent.
const OUT_BYTES_KEPT: usize = 16 * 1024;
