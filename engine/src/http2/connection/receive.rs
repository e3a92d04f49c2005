//! Frames of the peer.

use super::header_block::Partial;
use super::{Connection, Event, Input, Phase, Role};
use crate::http2::PREFACE;
use crate::http2::error::{ConnectionError, ErrorCode};
use crate::http2::frame::{self, Frame, Kind, WINDOW_MAX, flag, setting};
use crate::http2::streams::{Expects, Side, StreamId};

/// What a frame leads to: most lead to nothing that the owner has to know.
type Outcome = Result<Option<Event>, ConnectionError>;

impl<S> Connection<S> {
    /// The next event of the input; none: more bytes are needed. `now_ms` is the time, from any beginning.
    ///
    /// # Errors
    /// When the connection has to end.
    pub fn next(&mut self, input: &mut Input<'_>, now_ms: u64) -> Outcome {
        if let Phase::Preface(seen) = self.phase {
            let seen = check_preface(input, seen)?;
            self.phase =
                if seen < PREFACE.len() { Phase::Preface(seen) } else { Phase::FirstSettings };
        }
        if matches!(self.phase, Phase::Preface(_)) {
            return Ok(None);
        }
        while let Some(frame) = Frame::first(input.rest())? {
            let event = self.handle(&frame, input, now_ms)?;
            *input.handled += frame::HEADER + frame.payload.len();
            self.abuse.check_outbound(&self.options)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn handle(&mut self, frame: &Frame<'_>, input: &Input<'_>, now_ms: u64) -> Outcome {
        if self.phase == Phase::FirstSettings {
            if frame.kind != Kind::Settings || frame.has(flag::ACK) {
                return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
            }
            self.phase = Phase::Open;
        }
        //= rfc9113#section-6.10: nothing comes between the frames of a header block.
        if self.partial.is_some() && frame.kind != Kind::Continuation {
            return Err(ConnectionError::protocol("a frame within a header block"));
        }
        let is_of_connection = frame.stream == StreamId::CONNECTION;
        match frame.kind {
            Kind::Data | Kind::Headers | Kind::Priority | Kind::RstStream | Kind::Continuation
                if is_of_connection =>
            {
                Err(ConnectionError::protocol("a frame of a stream on stream 0"))
            }
            Kind::Settings | Kind::Ping | Kind::GoAway if !is_of_connection => {
                Err(ConnectionError::protocol("a frame of the connection on a stream"))
            }
            Kind::Data => self.data(frame, input, now_ms),
            Kind::Headers => self.headers(frame, input, now_ms),
            Kind::Continuation => self.continuation(frame, now_ms),
            Kind::Priority => self.priority(frame),
            Kind::RstStream => self.rst_stream(frame, now_ms),
            Kind::Settings => self.settings(frame),
            // Push was refused by our SETTINGS, and a client cannot push.
            Kind::PushPromise => Err(ConnectionError::protocol("PUSH_PROMISE")),
            Kind::Ping => self.take_ping(frame),
            Kind::GoAway => self.take_go_away(frame),
            Kind::WindowUpdate => self.window_update(frame, now_ms),
            Kind::Unknown => Ok(None),
        }
    }

    //= rfc9113#section-6.1: DATA counts against both windows, with its padding.
    fn data(&mut self, frame: &Frame<'_>, input: &Input<'_>, now_ms: u64) -> Outcome {
        let bytes = i64::try_from(frame.payload.len()).unwrap_or(i64::MAX);
        if !self.receive_window.take(bytes) {
            let what = "more than the window of the connection";
            return Err(ConnectionError::frame(ErrorCode::FlowControlError, what));
        }
        let data = frame.unpadded()?;
        let end = frame.has(flag::END_STREAM);
        self.abuse.content(data.is_empty() && !end, &self.options)?;
        let id = frame.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            self.give_back(bytes);
            return self.on_closed(id);
        };
        // Reset by us, while the peer may not know.
        if stream.is_reset && stream.remote == Side::Open {
            self.give_back(bytes);
            return Ok(None);
        }
        if stream.remote == Side::Ended || stream.expects == Expects::Head {
            let what = "DATA on a stream that expects none";
            return Err(ConnectionError::frame(ErrorCode::StreamClosed, what));
        }
        if !stream.receive_window.take(bytes) {
            return self.stream_error(id, ErrorCode::FlowControlError, now_ms);
        }
        if end {
            stream.remote = Side::Ended;
        }
        //= rfc9113#section-8.1.1: the content has the length that `content-length` announces.
        if let Some(left) = stream.left {
            match left.checked_sub(data.len() as u64) {
                Some(left) if left == 0 || !end => stream.left = Some(left),
                _ => return self.stream_error(id, ErrorCode::ProtocolError, now_ms),
            }
        }
        let padding = frame.payload.len() - data.len();
        if padding > 0 {
            self.consumed(id, padding);
        }
        Ok(Some(Event::Data { stream: id, data: input.range_of(data), end }))
    }

    fn headers(&mut self, frame: &Frame<'_>, input: &Input<'_>, now_ms: u64) -> Outcome {
        let id = frame.stream;
        let mut block = frame.unpadded()?;
        if frame.has(flag::PRIORITY) {
            let priority = block.split_at_checked(5);
            let Some((priority, rest)) = priority else {
                let what = "HEADERS is too short for its priority";
                return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
            };
            if frame::u31(priority) == Some(id.number()) {
                return Err(ConnectionError::protocol("a stream that depends on itself"));
            }
            block = rest;
        }
        if self.role == Role::Server && !id.is_of_client() {
            return Err(ConnectionError::protocol("a stream with the number of a server's"));
        }
        let end = frame.has(flag::END_STREAM);
        let is_complete = frame.has(flag::END_HEADERS);
        self.abuse.content(block.is_empty() && !is_complete && !end, &self.options)?;
        if is_complete {
            let range = input.range_of(block);
            return self.complete_block(id, end, Some(range), now_ms);
        }
        self.joined.clear();
        self.joined.extend_from_slice(block);
        self.partial = Some(Partial::new(id, end));
        Ok(None)
    }

    fn priority(&mut self, frame: &Frame<'_>) -> Outcome {
        if frame.payload.len() != 5 {
            let what = "PRIORITY has 5 bytes";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        }
        self.abuse.priority(&self.options)?;
        if frame::u31(frame.payload) == Some(frame.stream.number()) {
            return Err(ConnectionError::protocol("a stream that depends on itself"));
        }
        Ok(None)
    }

    fn rst_stream(&mut self, frame: &Frame<'_>, now_ms: u64) -> Outcome {
        let Ok(code) = <[u8; 4]>::try_from(frame.payload) else {
            let what = "RST_STREAM has 4 bytes";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        };
        let id = frame.stream;
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("RST_STREAM on an idle stream"));
        }
        self.counts.rx_reset += 1;
        // From here on it may send nothing more on it.
        self.forgotten.retain(|it| *it != id);
        self.abuse.reset(now_ms, &self.options)?;
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_reset) else {
            return Ok(None);
        };
        stream.is_reset = true;
        stream.remote = Side::Ended;
        stream.local = Side::Ended;
        // A frame that follows is one behind the end.
        Ok(Some(Event::Reset { stream: id, code: ErrorCode::of(u32::from_be_bytes(code)) }))
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Outcome {
        let size = |what| Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        if frame.has(flag::ACK) {
            if !frame.payload.is_empty() {
                return size("an acknowledgement of SETTINGS with content");
            }
            self.decoder.set_limit(self.options.hpack_table_size as usize);
            return Ok(None);
        }
        let (settings, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return size("SETTINGS have 6 bytes each");
        }
        let mut opened = false;
        for &[a, b, c, d, e, f] in settings {
            let (number, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            opened |= self.set(number, value)?;
        }
        self.write(Kind::Settings, flag::ACK, StreamId::CONNECTION, &[]);
        self.abuse.wrote_control();
        Ok(Some(if opened { Event::WindowOpened { stream: None } } else { Event::PeerSettings }))
    }

    /// Takes a setting; returns whether more may be sent.
    fn set(&mut self, number: u16, value: u32) -> Result<bool, ConnectionError> {
        match number {
            setting::HEADER_TABLE_SIZE => self.encoder.set_limit(value as usize),
            setting::ENABLE_PUSH if value > 1 => {
                return Err(ConnectionError::protocol("SETTINGS_ENABLE_PUSH is 0 or 1"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_concurrent_streams = value,
            setting::INITIAL_WINDOW_SIZE => return self.set_initial_window(value.into()),
            setting::MAX_FRAME_SIZE => {
                if !(16_384..1 << 24).contains(&value) {
                    return Err(ConnectionError::protocol("SETTINGS_MAX_FRAME_SIZE"));
                }
                self.peer.max_frame = value as usize;
            }
            setting::ENABLE_CONNECT_PROTOCOL => {
                if value > 1 || (self.peer.connect_protocol && value == 0) {
                    return Err(ConnectionError::protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL"));
                }
                self.peer.connect_protocol = value == 1;
            }
            _ => {}
        }
        Ok(false)
    }

    //= rfc9113#section-6.9.2: a change applies to all streams, whose windows may become negative.
    fn set_initial_window(&mut self, value: i64) -> Result<bool, ConnectionError> {
        let overflow =
            ConnectionError::frame(ErrorCode::FlowControlError, "a window above 2^31 - 1");
        if value > WINDOW_MAX {
            return Err(overflow);
        }
        let change = value - self.peer.initial_window;
        self.peer.initial_window = value;
        for stream in self.streams.values_mut() {
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(overflow);
            }
        }
        Ok(change > 0)
    }

    fn take_ping(&mut self, frame: &Frame<'_>) -> Outcome {
        let Ok(opaque) = <[u8; 8]>::try_from(frame.payload) else {
            let what = "PING has 8 bytes";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        };
        if frame.has(flag::ACK) {
            return Ok(Some(Event::PingAck(u64::from_be_bytes(opaque))));
        }
        self.write(Kind::Ping, flag::ACK, StreamId::CONNECTION, &opaque);
        self.abuse.wrote_control();
        Ok(None)
    }

    fn take_go_away(&mut self, frame: &Frame<'_>) -> Outcome {
        let (Some(last), Some(code)) =
            (frame::u31(frame.payload), frame.payload.get(4..).and_then(<[u8]>::first_chunk))
        else {
            let what = "GOAWAY has at least 8 bytes";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        };
        let last = StreamId::new(last);
        //= rfc9113#section-6.8: "Endpoints MUST NOT increase the value they send".
        if self.peer_allows.is_some_and(|before| last > before) {
            return Err(ConnectionError::protocol("a GOAWAY that allows more than the last one"));
        }
        self.peer_allows = Some(last);
        let code = ErrorCode::of(u32::from_be_bytes(*code));
        Ok(Some(Event::GoAway { last, code }))
    }

    fn window_update(&mut self, frame: &Frame<'_>, now_ms: u64) -> Outcome {
        if frame.payload.len() != 4 {
            let what = "WINDOW_UPDATE has 4 bytes";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        }
        self.abuse.window_update(&self.options)?;
        let increment = i64::from(frame::u31(frame.payload).unwrap_or(0));
        let id = frame.stream;
        if id == StreamId::CONNECTION {
            if increment == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE of 0"));
            }
            self.send_window += increment;
            if self.send_window > WINDOW_MAX {
                let what = "the window of the connection exceeds 2^31 - 1";
                return Err(ConnectionError::frame(ErrorCode::FlowControlError, what));
            }
            return Ok(Some(Event::WindowOpened { stream: None }));
        }
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_reset) else {
            return Ok(None);
        };
        if increment == 0 {
            return self.stream_error(id, ErrorCode::ProtocolError, now_ms);
        }
        stream.send_window += increment;
        if stream.send_window > WINDOW_MAX {
            return self.stream_error(id, ErrorCode::FlowControlError, now_ms);
        }
        Ok(Some(Event::WindowOpened { stream: Some(id) }))
    }

    /// A frame for a stream that is not open any more: one that we have reset is ignored.
    pub(super) fn on_closed(&self, id: StreamId) -> Outcome {
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("a frame on an idle stream"));
        }
        if self.is_ignored(id) {
            return Ok(None);
        }
        Err(ConnectionError::frame(ErrorCode::StreamClosed, "a frame on a closed stream"))
    }

    /// Whether frames of this stream, which is not open, are still on their way.
    pub(super) fn is_ignored(&self, id: StreamId) -> bool {
        self.forgotten.contains(&id) || self.allowed.is_some_and(|last| id > last)
    }

    /// Whether nobody has begun the stream.
    pub(super) fn is_idle(&self, id: StreamId) -> bool {
        match self.role {
            Role::Server if id.is_of_client() => id > self.last_seen && self.allowed.is_none(),
            Role::Client if id.is_of_client() => id >= self.next,
            Role::Server | Role::Client => true,
        }
    }

    /// Resets a stream because of what the peer has done.
    pub(super) fn stream_error(&mut self, id: StreamId, code: ErrorCode, now_ms: u64) -> Outcome {
        // A peer could reset streams this way, too.
        self.abuse.reset(now_ms, &self.options)?;
        self.reset(id, code);
        Ok(Some(Event::Reset { stream: id, code }))
    }
}

/// Takes what has arrived of the preface; returns how much of it has arrived.
fn check_preface(input: &mut Input<'_>, seen: usize) -> Result<usize, ConnectionError> {
    let expected = PREFACE.get(seen..).unwrap_or_default();
    let bytes = input.rest();
    let here = expected.len().min(bytes.len());
    if bytes.get(..here) != expected.get(..here) {
        return Err(ConnectionError::protocol("the client does not speak HTTP/2"));
    }
    *input.handled += here;
    Ok(seen + here)
}
