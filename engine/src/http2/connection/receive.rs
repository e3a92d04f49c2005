//! Frames of the peer.

use super::{Connection, Event, Input, Phase, Role};
use crate::http::EndStream;
use crate::http2::PREFACE;
use crate::http2::error::{ConnectionError, ErrorCode, Flood};
use crate::http2::flow::{Exceeded, WINDOW_DEFAULT, overflow};
use crate::http2::frame::{self, HEADER, Header, Kind, flag};
use crate::http2::stream::{Part, Reset, StreamId};

/// What a frame leads to: most lead to nothing that the owner has to know.
type Outcome = Result<Option<Event>, ConnectionError>;

impl<S> Connection<S> {
    /// The next event of the input; none: more bytes are needed. What is not handled has to be passed again,
    /// with what follows it: at most a frame, less one byte. `now_ms` is the time, from any beginning.
    ///
    /// # Errors
    /// When the connection has to end.
    pub fn next(&mut self, input: &mut Input<'_>, now_ms: u64) -> Outcome {
        self.now_ms = now_ms;
        if self.undecoded.is_some() {
            debug_assert!(false, "a header block was not decoded");
            return Err(ConnectionError::frame(ErrorCode::InternalError, "a block was left out"));
        }
        self.abuse.check_outbound(&self.options)?;
        if let Phase::Preface(seen) = self.phase {
            let seen = check_preface(input, seen)?;
            if seen < PREFACE.len() {
                self.phase = Phase::Preface(seen);
                return Ok(None);
            }
            self.phase = Phase::FirstSettings;
        }
        loop {
            if let Some(event) = self.continue_data(input) {
                return Ok(Some(event));
            }
            let header = Header::first(input.rest()).filter(|_| self.body.is_none());
            let Some(header) = header else { return Ok(None) };
            self.check_begin(&header)?;
            let is_whole = has_enough(&header, input);
            let is_head = header.kind == Kind::Headers && header.stream > self.last_seen;
            self.arriving = (is_head && !is_whole).then_some(header.stream);
            if !is_whole {
                return Ok(None);
            }
            self.check_order(&header)?;
            let event = self.take_frame(&header, input)?;
            self.abuse.check_outbound(&self.options)?;
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Checks what can be seen before the frame has arrived. A peer that speaks something else begins with
    /// what looks like a very long frame.
    fn check_begin(&self, header: &Header) -> Result<(), ConnectionError> {
        let is_first = self.phase == Phase::FirstSettings;
        if is_first && (header.kind != Kind::Settings || header.has(flag::ACK)) {
            return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
        }
        if header.length > self.options.max_frame_size as usize {
            return Err(size("a frame is longer than SETTINGS_MAX_FRAME_SIZE"));
        }
        // All others are kept until they are complete.
        if header.kind != Kind::Data && header.length > self.joined_max {
            return Err(ConnectionError::flood(Flood::HeaderBlock));
        }
        Ok(())
    }

    /// Whether a frame may come now, and whether it belongs to a stream if it is of a kind that does.
    fn check_order(&mut self, header: &Header) -> Result<(), ConnectionError> {
        self.phase = Phase::Open;
        //= rfc9113#section-6.10: nothing comes between the frames of a header block.
        if self.partial.is_some() && header.kind != Kind::Continuation {
            return Err(ConnectionError::protocol("a frame within a header block"));
        }
        let is_of_connection = header.stream == StreamId::CONNECTION;
        match header.kind {
            Kind::Data | Kind::Headers | Kind::Priority | Kind::RstStream | Kind::Continuation
                if is_of_connection =>
            {
                Err(ConnectionError::protocol("a frame of a stream on stream 0"))
            }
            Kind::Settings | Kind::Ping | Kind::GoAway if !is_of_connection => {
                Err(ConnectionError::protocol("a frame of the connection on a stream"))
            }
            // Push was refused by our SETTINGS, and a client cannot push.
            Kind::PushPromise => Err(ConnectionError::protocol("PUSH_PROMISE")),
            _ => Ok(()),
        }
    }

    fn take_frame(&mut self, header: &Header, input: &mut Input<'_>) -> Outcome {
        if header.kind == Kind::Data {
            return self.begin_data(header, input);
        }
        input.take(HEADER);
        let range = input.take(header.length);
        let payload = input.get(range.clone());
        match header.kind {
            Kind::Headers => self.take_headers(header, payload, range, input),
            Kind::Continuation => self.take_continuation(header, payload, input),
            Kind::Priority => self.take_priority(header, payload),
            Kind::RstStream => self.take_reset(header, payload),
            Kind::Settings => self.take_settings(header, payload),
            Kind::Ping => self.take_ping(header, payload),
            Kind::GoAway => self.take_go_away(payload),
            Kind::WindowUpdate => self.take_window_update(header, payload),
            Kind::Data | Kind::PushPromise | Kind::Unknown => Ok(None),
        }
    }

    fn take_priority(&mut self, header: &Header, payload: &[u8]) -> Outcome {
        let payload: [u8; 5] = exactly(payload, "PRIORITY has 5 bytes")?;
        self.abuse.priority(&self.options)?;
        check_dependency(header.stream, &payload)?;
        Ok(None)
    }

    fn take_reset(&mut self, header: &Header, payload: &[u8]) -> Outcome {
        let code = exactly(payload, "RST_STREAM has 4 bytes")?;
        let id = header.stream;
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("RST_STREAM on an idle stream"));
        }
        self.peer_has_ended(id);
        let Some(stream) = self.streams.get_mut(id) else { return Ok(None) };
        let (is_over, is_answered) =
            (stream.is_whole() || stream.is_reset(), stream.sending == Part::Ended);
        stream.reset = Reset::ByPeer;
        self.unread.note(stream);
        if is_over {
            return Ok(None);
        }
        self.counts.rx_reset += 1;
        // What is reset before it is answered was work for nothing.
        if !is_answered {
            self.count_reset()?;
        }
        Ok(Some(Event::Reset { stream: id, code: ErrorCode::of(u32::from_be_bytes(code)) }))
    }

    /// Counts a stream that a client has reset, or made us reset. What an origin resets is no attack: there
    /// are no more of its streams than we begin.
    pub(super) fn count_reset(&mut self) -> Result<(), ConnectionError> {
        match self.role {
            Role::Client => Ok(()),
            Role::Server => self.abuse.reset(self.now_ms, &self.options),
        }
    }

    fn take_ping(&mut self, header: &Header, payload: &[u8]) -> Outcome {
        let opaque: [u8; 8] = exactly(payload, "PING has 8 bytes")?;
        if header.has(flag::ACK) {
            return Ok(Some(Event::PingAck(u64::from_be_bytes(opaque))));
        }
        self.answer(Kind::Ping, flag::ACK, StreamId::CONNECTION, &opaque);
        Ok(None)
    }

    fn take_go_away(&mut self, payload: &[u8]) -> Outcome {
        let Some(&[a, b, c, d, e, f, g, h]) = payload.first_chunk() else {
            return Err(size("GOAWAY has at least 8 bytes"));
        };
        let last = StreamId::new(u32::from_be_bytes([a, b, c, d]));
        //= rfc9113#section-6.8: "Endpoints MUST NOT increase the value they send".
        let is_increased = self.peer_allows.is_some_and(|before| last > before);
        if is_increased && self.role == Role::Client {
            return Err(ConnectionError::protocol("a GOAWAY that allows more than the last one"));
        }
        self.peer_allows = Some(last);
        let code = ErrorCode::of(u32::from_be_bytes([e, f, g, h]));
        Ok(Some(Event::GoAway { last, code }))
    }

    fn take_window_update(&mut self, header: &Header, payload: &[u8]) -> Outcome {
        let increment = frame::u31(exactly(payload, "WINDOW_UPDATE has 4 bytes")?);
        self.abuse.window_update(&self.options)?;
        let id = header.stream;
        if id == StreamId::CONNECTION {
            if increment == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE of 0"));
            }
            return match self.send_window.open(increment, WINDOW_DEFAULT) {
                Ok(()) => Ok(None),
                Err(Exceeded) => Err(overflow("the window of the connection exceeds 2^31 - 1")),
            };
        }
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let stream = self.streams.get_mut(id);
        let Some(stream) = stream.filter(|stream| !stream.is_reset()) else { return Ok(None) };
        if increment == 0 {
            return self.stream_error(id, ErrorCode::ProtocolError).map(Some);
        }
        let was_open = stream.send_window.left(self.peer.initial_window) > 0;
        if stream.send_window.open(increment, self.peer.initial_window) == Err(Exceeded) {
            return self.stream_error(id, ErrorCode::FlowControlError).map(Some);
        }
        self.peer.widest = self.peer.widest.max(stream.send_window.change());
        let is_open = stream.send_window.left(self.peer.initial_window) > 0;
        // Only who waits has to know.
        let opened = is_open && !was_open && stream.sending != Part::Ended;
        Ok(opened.then_some(Event::WindowOpened { stream: id }))
    }

    /// Checks a frame for a stream that is not open any more: one that we have reset is ignored.
    pub(super) fn check_closed(
        &mut self,
        id: StreamId,
        end: EndStream,
    ) -> Result<(), ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("a frame on an idle stream"));
        }
        // Beyond our GOAWAY, nothing was begun.
        if self.allowed.is_some_and(|last| id > last) {
            return Ok(());
        }
        if !self.forgotten.has(id) && !self.unended.has(id) {
            return Err(ConnectionError::frame(
                ErrorCode::StreamClosed,
                "a frame on a closed stream",
            ));
        }
        if end == EndStream::Yes {
            self.peer_has_ended(id);
        }
        Ok(())
    }

    /// Nothing more comes on a stream that is released.
    fn peer_has_ended(&mut self, id: StreamId) {
        self.forgotten.end(id);
        self.unended.end(id);
    }

    /// Whether nobody has begun the stream.
    fn is_idle(&self, id: StreamId) -> bool {
        match self.role {
            Role::Server if id.is_of_client() => id > self.last_seen,
            Role::Client if id.is_of_client() => id.number() >= self.next_number,
            Role::Server | Role::Client => true,
        }
    }

    /// Resets a stream because of what the peer has done, which is how a peer could make us reset many.
    pub(super) fn stream_error(
        &mut self,
        id: StreamId,
        code: ErrorCode,
    ) -> Result<Event, ConnectionError> {
        self.count_reset()?;
        self.reset(id, code);
        Ok(Event::Reset { stream: id, code })
    }
}

/// Whether as much of a frame has arrived as is handled at once: all of it, but of DATA only what is in
/// front of the data.
fn has_enough(header: &Header, input: &Input<'_>) -> bool {
    let payload = match header.kind {
        Kind::Data => header.length.min(header.has(flag::PADDED).into()),
        _ => header.length,
    };
    input.rest().len() >= HEADER + payload
}

/// A stream that depends on itself, in HEADERS or PRIORITY. RFC 9113 ignores priorities; this was an error
/// before, and no peer does it.
pub(super) fn check_dependency(id: StreamId, priority: &[u8; 5]) -> Result<(), ConnectionError> {
    let &[a, b, c, d, _weight] = priority;
    if frame::u31([a, b, c, d]) == id.number() {
        return Err(ConnectionError::protocol("a stream that depends on itself"));
    }
    Ok(())
}

pub(super) const fn size(what: &'static str) -> ConnectionError {
    ConnectionError::frame(ErrorCode::FrameSizeError, what)
}

fn exactly<const N: usize>(payload: &[u8], what: &'static str) -> Result<[u8; N], ConnectionError> {
    payload.try_into().map_err(|_length| size(what))
}

/// Takes what has arrived of the preface; returns how much of it has arrived.
fn check_preface(input: &mut Input<'_>, seen: usize) -> Result<usize, ConnectionError> {
    let expected = PREFACE.get(seen..).unwrap_or_default();
    let here = input.take(expected.len());
    let count = here.len();
    if !expected.starts_with(input.get(here)) {
        return Err(ConnectionError::protocol("the client does not speak HTTP/2"));
    }
    Ok(seen + count)
}
