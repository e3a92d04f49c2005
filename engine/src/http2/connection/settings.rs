//! SETTINGS, ours and the peer's (RFC 9113 §6.5).

use super::{Connection, Event, Role};
use crate::http2::PREFACE;
use crate::http2::error::{ConnectionError, ErrorCode};
use crate::http2::flow::{WINDOW_DEFAULT, WINDOW_MAX, overflow};
use crate::http2::frame::{Header, Kind, PAYLOAD_MAX, flag, setting};
use crate::http2::stream::StreamId;

/// What a peer has settled (RFC 9113 §6.5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    pub(super) initial_window: u32,
    pub(super) max_frame: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) connect_protocol: bool,
    /// Whether it has acknowledged ours.
    pub(super) knows_ours: bool,
    /// Whether its initial window has grown, so that any stream may have room now.
    pub(super) window_has_grown: bool,
    /// At least how far the window of the stream that was opened most is above the initial one.
    pub(super) widest: i64,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            initial_window: WINDOW_DEFAULT,
            max_frame: PAYLOAD_MAX,
            max_concurrent_streams: u32::MAX,
            connect_protocol: false,
            knows_ours: false,
            window_has_grown: false,
            widest: 0,
        }
    }
}

impl<S> Connection<S> {
    /// Writes what begins a connection. The order is Envoy's.
    pub fn start(&mut self) {
        let options = &self.options;
        let mut payload = Vec::with_capacity(64);
        let mut add = |number: u16, value: u32| {
            payload.extend_from_slice(&number.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        };
        if self.role == Role::Client {
            self.out.extend_from_slice(PREFACE);
            add(setting::ENABLE_PUSH, 0);
        }
        options.custom_settings.iter().for_each(|&(number, value)| add(number, value));
        add(setting::HEADER_TABLE_SIZE, options.hpack_table_size);
        add(setting::ENABLE_CONNECT_PROTOCOL, options.allow_connect.into());
        add(setting::MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
        add(setting::INITIAL_WINDOW_SIZE, options.initial_stream_window_size);
        self.write(Kind::Settings, 0, StreamId::CONNECTION, &payload);
        if let Some(growth) = self.receive_window.growth() {
            self.write(Kind::WindowUpdate, 0, StreamId::CONNECTION, &growth.to_be_bytes());
        }
    }

    pub(super) fn take_settings(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<Option<Event>, ConnectionError> {
        let size = |what| Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        if header.has(flag::ACK) {
            if !payload.is_empty() {
                return size("an acknowledgement of SETTINGS with content");
            }
            // As in Envoy.
            if self.peer.knows_ours {
                return Err(ConnectionError::protocol("an acknowledgement of SETTINGS never sent"));
            }
            self.decoder.set_limit(self.options.hpack_table_size as usize);
            self.peer.knows_ours = true;
            return Ok(None);
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return size("SETTINGS have 6 bytes each");
        }
        for &[a, b, c, d, e, f] in settings {
            self.set(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
        }
        self.answer(Kind::Settings, flag::ACK, StreamId::CONNECTION, &[]);
        Ok(Some(Event::PeerSettings))
    }

    /// Takes one setting.
    fn set(&mut self, number: u16, value: u32) -> Result<(), ConnectionError> {
        match number {
            setting::HEADER_TABLE_SIZE => self.encoder.set_limit(value as usize),
            setting::ENABLE_PUSH => {
                // A server must not offer what only it can do (RFC 9113 §6.5.2).
                let most = if self.role == Role::Server { 1 } else { 0 };
                if value > most {
                    return Err(ConnectionError::protocol("SETTINGS_ENABLE_PUSH"));
                }
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_concurrent_streams = value,
            setting::INITIAL_WINDOW_SIZE => self.set_initial_window(value)?,
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
        Ok(())
    }

    //= rfc9113#section-6.9.2: a change applies to all streams.
    fn set_initial_window(&mut self, value: u32) -> Result<(), ConnectionError> {
        if i64::from(value) > WINDOW_MAX {
            return Err(overflow("SETTINGS_INITIAL_WINDOW_SIZE above 2^31 - 1"));
        }
        let peer = &mut self.peer;
        peer.window_has_grown |= value > peer.initial_window;
        peer.initial_window = value;
        if i64::from(value) + peer.widest > WINDOW_MAX {
            // The streams that were opened so far may have ended.
            let changes = self.streams.all().map(|stream| stream.send_window.change());
            peer.widest = changes.fold(0, i64::max);
            if i64::from(value) + peer.widest > WINDOW_MAX {
                return Err(overflow("a change of the initial window made one exceed 2^31 - 1"));
            }
        }
        Ok(())
    }
}
