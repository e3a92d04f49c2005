//! What is written to the peer.

use super::{Block, Connection, Last, Role};
use crate::http::{EndStream, RequestHead, ResponseHead};
use crate::http2::abuse::Cut;
use crate::http2::error::ErrorCode;
use crate::http2::flow::WINDOW_DEFAULT;
use crate::http2::frame::{self, Kind, flag};
use crate::http2::head;
use crate::http2::hpack::Encoder;
use crate::http2::stream::{Part, Reset, StreamId};

/// DATA is cut into frames of at most this size, also for a peer that would take longer ones: other streams
/// have their turn in between.
const DATA_MAX: usize = 16_384;

impl<S> Connection<S> {
    /// Writes the head of a request on a stream that was opened.
    pub fn send_request(&mut self, id: StreamId, request: &RequestHead, end: EndStream) {
        let after = Part::after(end);
        self.send_block(id, after, |encoder, out| head::write_request(encoder, request, out));
    }

    /// Writes the head of a response; 1xx ones are followed by another.
    pub fn send_response(&mut self, id: StreamId, response: &ResponseHead, end: EndStream) {
        let after = if response.is_interim() { Part::Head } else { Part::after(end) };
        self.send_block(id, after, |encoder, out| head::write_response(encoder, response, out));
    }

    /// Writes trailers, which are given as lines, and with them the end of the stream.
    pub fn send_trailers(&mut self, id: StreamId, lines: &[u8]) {
        self.send_block(id, Part::Ended, |encoder, out| head::write_trailers(encoder, lines, out));
    }

    fn send_block(
        &mut self,
        id: StreamId,
        after: Part,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.is_reset() || stream.sending == Part::Ended {
            return;
        }
        stream.sending = after;
        self.unread.note(stream);
        let end = if after == Part::Ended { EndStream::Yes } else { EndStream::No };
        let start = self.out.len();
        frame::header(&mut self.out, Kind::Headers, 0, id, 0);
        write(&mut self.encoder, &mut self.out);
        let ends = if end == EndStream::Yes { flag::END_STREAM } else { 0 };
        self.frame_block(start, id, ends);
    }

    /// Completes the header of a HEADERS frame that begins at `start`; cuts a block that is too long.
    fn frame_block(&mut self, start: usize, id: StreamId, ends: u8) {
        let block = start + frame::HEADER;
        let length = self.out.len() - block;
        if length <= self.peer.max_frame {
            return self.patch(start, length, ends | flag::END_HEADERS);
        }
        let rest = self.out.split_off(block + self.peer.max_frame);
        self.patch(start, self.peer.max_frame, ends);
        let pieces = rest.chunks(self.peer.max_frame);
        let count = pieces.len();
        for (number, piece) in pieces.enumerate() {
            let flags = if number + 1 == count { flag::END_HEADERS } else { 0 };
            self.write(Kind::Continuation, flags, id, piece);
        }
    }

    fn patch(&mut self, start: usize, length: usize, flags: u8) {
        self.abuse.wrote();
        let Some([a, b, c, _, at, ..]) = self.out.get_mut(start..) else { return };
        let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        (*a, *b, *c, *at) = (high, middle, low, flags);
    }

    /// What may be sent on a stream now. One that has to wait for the window of the connection is told by
    /// [`Self::wake_writers`].
    pub fn capacity(&mut self, id: StreamId) -> usize {
        let Some(stream) = self.streams.get_mut(id) else { return 0 };
        let shared = self.send_window.left(WINDOW_DEFAULT);
        if shared <= 0 && !stream.waits {
            stream.waits = true;
            self.waiting.push_back(id);
        }
        let own = stream.send_window.left(self.peer.initial_window);
        usize::try_from(own.min(shared)).unwrap_or(0)
    }

    /// Visits the streams that may send now and could not before. Those that have waited for the window of
    /// the connection have their turn in the order in which they began to wait; no more of them than the
    /// window is enough for. To be called before every send: who was woken may not have used it.
    pub fn wake_writers(&mut self, mut wake: impl FnMut(&mut S)) {
        if std::mem::take(&mut self.peer.window_has_grown) {
            self.streams.all_mut().for_each(|stream| wake(&mut stream.state));
        }
        let mut left = self.send_window.left(WINDOW_DEFAULT);
        while left > 0
            && let Some(id) = self.waiting.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.waits = false;
                let own = stream.send_window.left(self.peer.initial_window);
                left -= own.clamp(0, DATA_MAX as i64);
                wake(&mut stream.state);
            }
        }
    }

    /// Whether data may be sent on a stream, now or when its window opens.
    #[must_use]
    pub fn takes_data(&mut self, id: StreamId) -> bool {
        self.streams.get_mut(id).is_some_and(|stream| stream.may_send_data())
    }

    /// Writes as much of `data` as the windows allow; returns how much. With all of it the stream ends, if
    /// `end` says so.
    pub fn send_data(&mut self, id: StreamId, mut data: &[u8], end: EndStream) -> usize {
        let mut taken = 0;
        loop {
            // The end alone needs no window, and must not wait in line for it.
            let window = if data.is_empty() { 0 } else { self.capacity(id).min(data.len()) };
            let most = window.min(DATA_MAX);
            let stream = self.streams.get_mut(id);
            let Some(stream) = stream.filter(|stream| stream.may_send_data()) else {
                return taken;
            };
            let (piece, rest) = data.split_at(most);
            let ends = rest.is_empty() && end == EndStream::Yes;
            if piece.is_empty() && !ends {
                return taken;
            }
            let bytes = i64::try_from(most).unwrap_or(i64::MAX);
            stream.send_window.sent(bytes);
            self.send_window.sent(bytes);
            if ends {
                stream.sending = Part::Ended;
                self.unread.note(stream);
            }
            let flags = if ends { flag::END_STREAM } else { 0 };
            let cut = if window == most && !rest.is_empty() { Cut::ByWindow } else { Cut::No };
            frame::whole(&mut self.out, Kind::Data, flags, id, piece);
            self.abuse.wrote_data(most, cut);
            taken += most;
            data = rest;
            if data.is_empty() {
                return taken;
            }
        }
    }

    /// So many bytes of a stream were read: gives their window back.
    pub fn consumed(&mut self, id: StreamId, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // What a released stream has not read was given back with it.
        let Some(stream) = self.streams.get_mut(id) else { return };
        let bytes = bytes.min(stream.receive_window.unread());
        let given = stream.receive_window.read(bytes);
        self.unread.note(stream);
        // Nothing more comes on a stream that has ended.
        if let Some(given) = given.filter(|_| stream.may_receive() && !stream.is_reset()) {
            self.write(Kind::WindowUpdate, 0, id, &given.to_be_bytes());
        }
        self.give_back(bytes);
    }

    /// Gives back the window that all streams share.
    pub(super) fn give_back(&mut self, bytes: u32) {
        if let Some(given) = self.receive_window.read(bytes) {
            self.write(Kind::WindowUpdate, 0, StreamId::CONNECTION, &given.to_be_bytes());
        }
    }

    /// Resets a stream, unless it was, or both sides have ended it.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.is_reset() || stream.is_whole() {
            return;
        }
        stream.reset = Reset::ByUs;
        self.unread.note(stream);
        // NO_ERROR is for a message that is complete: a part must not look like one.
        let code = match code {
            ErrorCode::NoError if stream.sending != Part::Ended => ErrorCode::InternalError,
            code => code,
        };
        // A request that was not begun, by us or by a server that has gone away before, needs no end.
        let is_begun = match self.role {
            Role::Server => true,
            Role::Client => {
                stream.sending != Part::Head && self.peer_allows.is_none_or(|last| id <= last)
            }
        };
        if is_begun {
            self.write_reset(id, code);
        }
    }

    /// Resets the stream of a block that is not accepted.
    pub(super) fn refuse(&mut self, block: &Block, code: ErrorCode) {
        let id = block.stream();
        if self.streams.get(id).is_some() {
            return self.reset(id, code);
        }
        if block.end() == EndStream::No {
            self.forgotten.add(id);
        }
        self.write_reset(id, code);
    }

    pub(super) fn write_reset(&mut self, id: StreamId, code: ErrorCode) {
        self.counts.tx_reset += 1;
        self.answer(Kind::RstStream, 0, id, &code.number().to_be_bytes());
    }

    /// Tells the peer to begin no more streams than `last` allows.
    pub fn go_away(&mut self, last: Last, code: ErrorCode) {
        let last = match (last, self.role) {
            (Last::Unlimited, _) => StreamId::MAX,
            // As in Envoy, a stream is seen when its head begins.
            (Last::Seen, Role::Server) => {
                self.partial.as_ref().map_or(self.last_seen, |it| it.stream.max(self.last_seen))
            }
            (Last::Seen, Role::Client) => StreamId::CONNECTION,
        };
        if self.allowed.is_none() && code == ErrorCode::NoError {
            self.counts.goaway_sent += 1;
        }
        let last = self.allowed.map_or(last, |before| before.min(last));
        self.allowed = Some(last);
        let ([a, b, c, d], [e, f, g, h]) =
            (last.number().to_be_bytes(), code.number().to_be_bytes());
        self.write(Kind::GoAway, 0, StreamId::CONNECTION, &[a, b, c, d, e, f, g, h]);
    }

    /// Asks the peer to answer with the same number.
    pub fn ping(&mut self, opaque: u64) {
        self.write(Kind::Ping, 0, StreamId::CONNECTION, &opaque.to_be_bytes());
    }

    /// Writes a frame that answers nothing.
    pub(super) fn write(&mut self, kind: Kind, flags: u8, id: StreamId, payload: &[u8]) {
        frame::whole(&mut self.out, kind, flags, id, payload);
        self.abuse.wrote();
    }

    /// Writes a frame that answers one of the peer's.
    pub(super) fn answer(&mut self, kind: Kind, flags: u8, id: StreamId, payload: &[u8]) {
        frame::whole(&mut self.out, kind, flags, id, payload);
        self.abuse.wrote_control();
    }
}
