//! Frames: 9 bytes of header, and a payload (RFC 9113 §4.1, §6).

use super::error::{ConnectionError, ErrorCode};
use super::streams::StreamId;

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;
/// The longest payload that we accept, and that any peer does.
pub(super) const PAYLOAD_MAX: usize = 16_384;
/// The largest window (§6.9.1).
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The window before anything is settled.
pub(super) const WINDOW_DEFAULT: i64 = 65_535;

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

/// A whole frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: StreamId,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes`; none if it is not complete.
    ///
    /// # Errors
    /// If it is longer than allowed, which shows before it is complete.
    pub(super) fn first(bytes: &'a [u8]) -> Result<Option<Self>, ConnectionError> {
        let Some((&[a, b, c, kind, flags, d, e, f, g], rest)) = bytes.split_first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > PAYLOAD_MAX {
            let what = "a frame is longer than SETTINGS_MAX_FRAME_SIZE";
            return Err(ConnectionError::frame(ErrorCode::FrameSizeError, what));
        }
        let stream = StreamId::new(u32::from_be_bytes([d, e, f, g]));
        let payload = rest.get(..length);
        Ok(payload.map(|payload| Self { kind: Kind::of(kind), flags, stream, payload }))
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding (§6.1).
    ///
    /// # Errors
    /// If the padding is as long as the payload, or longer.
    pub(super) fn unpadded(&self) -> Result<&'a [u8], ConnectionError> {
        if !self.has(flag::PADDED) {
            return Ok(self.payload);
        }
        let content = self.payload.split_first().and_then(|(&padding, rest)| {
            let end = rest.len().checked_sub(usize::from(padding))?;
            rest.get(..end)
        });
        content.ok_or(ConnectionError::protocol("the padding is longer than the frame"))
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
pub(super) fn u31(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & (u32::MAX >> 1))
}
