//! What is written to the peer.

use super::{Connection, Last, Role};
use crate::http::{EndStream, RequestHead, ResponseHead};
use crate::http2::PREFACE;
use crate::http2::error::ErrorCode;
use crate::http2::frame::{self, Kind, flag, setting};
use crate::http2::head;
use crate::http2::hpack::Encoder;
use crate::http2::streams::{Side, StreamId};

/// DATA is cut into frames of at most this size, also for a peer that would take longer ones: other streams
/// have their turn in between.
const DATA_MAX: usize = 16_384;

impl<S> Connection<S> {
    /// Writes what begins a connection. The order is Envoy's.
    pub fn start(&mut self) {
        let options = &self.options;
        let mut settings = vec![
            (setting::HEADER_TABLE_SIZE, options.hpack_table_size),
            (setting::ENABLE_CONNECT_PROTOCOL, options.allow_connect.into()),
        ];
        if self.role == Role::Client {
            self.out.extend_from_slice(PREFACE);
            settings.push((setting::ENABLE_PUSH, 0));
        }
        settings.push((setting::MAX_CONCURRENT_STREAMS, options.max_concurrent_streams));
        settings.push((setting::INITIAL_WINDOW_SIZE, options.initial_stream_window_size));
        settings.extend(options.custom_settings.iter().copied());
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(number, value)| {
                let ([a, b], [c, d, e, f]) = (number.to_be_bytes(), value.to_be_bytes());
                [a, b, c, d, e, f]
            })
            .collect();
        self.write(Kind::Settings, 0, StreamId::CONNECTION, &payload);
        let growth = self.receive_window.growth();
        if let Ok(growth @ 1..) = u32::try_from(growth) {
            self.write(Kind::WindowUpdate, 0, StreamId::CONNECTION, &growth.to_be_bytes());
        }
    }

    /// Writes the head of a request on a stream that was opened.
    pub fn send_request(&mut self, id: StreamId, request: &RequestHead, end: EndStream) {
        self.send_block(id, end, |encoder, out| head::write_request(encoder, request, out));
    }

    /// Writes the head of a response; 1xx ones are followed by another.
    pub fn send_response(&mut self, id: StreamId, response: &ResponseHead, end: EndStream) {
        self.send_block(id, end, |encoder, out| head::write_response(encoder, response, out));
    }

    /// Writes trailers, which are given as lines, and with them the end of the stream.
    pub fn send_trailers(&mut self, id: StreamId, lines: &[u8]) {
        self.send_block(id, EndStream::Yes, |encoder, out| {
            head::write_trailers(encoder, lines, out)
        });
    }

    fn send_block(
        &mut self,
        id: StreamId,
        end: EndStream,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_reset || stream.local == Side::Ended {
            return;
        }
        stream.local = Self::side_after(end);
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
            self.abuse.wrote();
        }
    }

    fn patch(&mut self, start: usize, length: usize, flags: u8) {
        self.abuse.wrote();
        let Some([a, b, c, _, at, ..]) = self.out.get_mut(start..) else { return };
        let [_, high, middle, low] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        (*a, *b, *c, *at) = (high, middle, low, flags);
    }

    /// Writes as much of `data` as the windows allow; returns how much. With all of it the stream ends, if
    /// `end` says so.
    pub fn send_data(&mut self, id: StreamId, mut data: &[u8], end: EndStream) -> usize {
        let mut taken = 0;
        loop {
            let most = self.capacity(id).min(DATA_MAX).min(data.len());
            let Some(stream) = self.streams.get_mut(&id) else { return taken };
            if stream.is_reset || stream.local == Side::Ended {
                return taken;
            }
            let (piece, rest) = data.split_at(most);
            let ends = rest.is_empty() && end == EndStream::Yes;
            if piece.is_empty() && !ends {
                return taken;
            }
            let bytes = i64::try_from(most).unwrap_or(i64::MAX);
            stream.send_window -= bytes;
            self.send_window -= bytes;
            if ends {
                stream.local = Side::Ended;
            }
            let flags = if ends { flag::END_STREAM } else { 0 };
            self.write(Kind::Data, flags, id, piece);
            self.abuse.wrote_data();
            taken += most;
            data = rest;
            if data.is_empty() {
                return taken;
            }
        }
    }

    /// So many bytes of a stream were read: gives their window back.
    pub fn consumed(&mut self, id: StreamId, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if let Some(stream) = self.streams.get_mut(&id) {
            let given = stream.receive_window.read(bytes);
            // Nothing more comes on a stream that has ended.
            if let Some(given) = given.filter(|_| stream.remote == Side::Open) {
                self.update_window(id, given);
            }
        }
        self.give_back(bytes);
    }

    /// Gives back the window that all streams share.
    pub(super) fn give_back(&mut self, bytes: i64) {
        if let Some(given) = self.receive_window.read(bytes) {
            self.update_window(StreamId::CONNECTION, given);
        }
    }

    fn update_window(&mut self, id: StreamId, bytes: i64) {
        let bytes = u32::try_from(bytes).unwrap_or(0);
        self.write(Kind::WindowUpdate, 0, id, &bytes.to_be_bytes());
        self.abuse.wrote();
    }

    /// Resets a stream, unless both sides have ended it.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_reset || (stream.local == Side::Ended && stream.remote == Side::Ended) {
            return;
        }
        stream.is_reset = true;
        self.write_reset(id, code);
    }

    /// Resets a stream that was not accepted, or whatever its sides have sent.
    pub(super) fn refuse(&mut self, id: StreamId, code: ErrorCode) {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.is_reset => return,
            Some(stream) => stream.is_reset = true,
            None => self.forget(id),
        }
        self.write_reset(id, code);
    }

    fn write_reset(&mut self, id: StreamId, code: ErrorCode) {
        self.counts.tx_reset += 1;
        self.write(Kind::RstStream, 0, id, &code.number().to_be_bytes());
        self.abuse.wrote_control();
    }

    /// Tells the peer to begin no more streams than `last` allows.
    pub fn go_away(&mut self, last: Last, code: ErrorCode) {
        let last = match (last, self.role) {
            (Last::Unlimited, _) => StreamId::MAX,
            (Last::Seen, Role::Server) => self.last_seen,
            (Last::Seen, Role::Client) => StreamId::CONNECTION,
        };
        if self.allowed.is_none() {
            self.counts.goaway_sent += 1;
        }
        let last = self.allowed.map_or(last, |before| before.min(last));
        self.allowed = Some(last);
        let payload = [last.number().to_be_bytes(), code.number().to_be_bytes()].concat();
        self.write(Kind::GoAway, 0, StreamId::CONNECTION, &payload);
        self.abuse.wrote();
    }

    /// Asks the peer to answer with the same number.
    pub fn ping(&mut self, opaque: u64) {
        self.write(Kind::Ping, 0, StreamId::CONNECTION, &opaque.to_be_bytes());
        self.abuse.wrote();
    }
}
