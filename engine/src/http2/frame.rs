//! Frames: 9 bytes of header, and a payload (RFC 9113 §4.1, §6).

use super::error::ConnectionError;
use super::stream::StreamId;
use crate::http::EndStream;

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;
/// The longest payload that any peer accepts (§4.2).
pub(super) const PAYLOAD_MAX: usize = 16_384;
/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// §5.5: ignored.
    Unknown,
}

impl Kind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    const fn number(self) -> u8 {
        self as u8
    }
}

/// Flags of frames.
pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// SETTINGS by number (§6.5.2, RFC 8441 §3).
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: StreamId,
    /// Bytes of the payload.
    pub(super) length: usize,
}

impl Header {
    /// The header that `bytes` begin with; none if it is not complete.
    pub(super) fn first(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = StreamId::new(u32::from_be_bytes([d, e, f, g]));
        Some(Self { kind: Kind::of(kind), flags, stream, length })
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the message ends with it, if it is DATA or HEADERS.
    pub(super) const fn end(&self) -> EndStream {
        if self.has(flag::END_STREAM) { EndStream::Yes } else { EndStream::No }
    }

    /// How long the padding of a frame with this first byte of payload is, that byte included (§6.1).
    ///
    /// # Errors
    /// If it is longer than the payload.
    pub(super) fn padding(&self, first: Option<u8>) -> Result<usize, ConnectionError> {
        if !self.has(flag::PADDED) {
            return Ok(0);
        }
        let padding = first.map(|length| usize::from(length) + 1);
        let fits = padding.filter(|padding| *padding <= self.length);
        fits.ok_or(ConnectionError::protocol("the padding is longer than the frame"))
    }
}

/// Writes a frame's header.
pub(super) fn header(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: StreamId, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [_, a, b, c] = length.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind.number(), flags]);
    out.extend_from_slice(&stream.number().to_be_bytes());
}

/// Writes a frame.
pub(super) fn whole(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: StreamId, payload: &[u8]) {
    header(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

/// A number of 31 bits, the first bit being reserved.
pub(super) const fn u31(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & (u32::MAX >> 1)
}
