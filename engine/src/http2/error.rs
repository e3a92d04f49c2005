//! What goes wrong on a connection, and how the peer is told.

use std::fmt;

use super::head::Flaw;
use super::hpack;

/// RFC 9113 §7.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum ErrorCode {
    NoError,
    ProtocolError,
    InternalError,
    FlowControlError,
    SettingsTimeout,
    StreamClosed,
    FrameSizeError,
    RefusedStream,
    Cancel,
    CompressionError,
    ConnectError,
    EnhanceYourCalm,
    InadequateSecurity,
    Http11Required,
    /// RFC 9113 §7: an unknown code is no special error.
    Unknown(u32),
}

impl ErrorCode {
    /// All that have a name, by their number.
    const ALL: [Self; 14] = [
        Self::NoError,
        Self::ProtocolError,
        Self::InternalError,
        Self::FlowControlError,
        Self::SettingsTimeout,
        Self::StreamClosed,
        Self::FrameSizeError,
        Self::RefusedStream,
        Self::Cancel,
        Self::CompressionError,
        Self::ConnectError,
        Self::EnhanceYourCalm,
        Self::InadequateSecurity,
        Self::Http11Required,
    ];

    /// The code of this number.
    #[must_use]
    pub fn of(number: u32) -> Self {
        let known = usize::try_from(number).ok().and_then(|index| Self::ALL.get(index));
        known.copied().unwrap_or(Self::Unknown(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Unknown(number) => number,
            known => {
                let index = Self::ALL.iter().position(|code| *code == known);
                index.and_then(|index| u32::try_from(index).ok()).unwrap_or_default()
            }
        }
    }
}

/// Too much of something that costs a peer nothing. Envoy's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flood {
    /// Frames are waiting to be sent.
    Outbound,
    /// Answers to PINGs, SETTINGS and the like are waiting to be sent.
    OutboundControl,
    /// Frames without content, one after the other.
    InboundEmpty,
    /// PRIORITY frames.
    InboundPriority,
    /// WINDOW_UPDATE frames.
    InboundWindowUpdate,
    /// Streams that are reset.
    Resets,
    /// Requests that are reset before their responses begin.
    PrematureResets,
    /// CONTINUATION frames: a header block without end.
    HeaderBlock,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionError {
    /// For GOAWAY.
    pub code: ErrorCode,
    /// What happened.
    pub cause: Cause,
}

/// What the peer did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// It violated the rules for frames and streams.
    Frame(&'static str),
    /// It sent a header block that cannot be decoded.
    Block(hpack::Error),
    /// It sent a malformed message.
    Message(Flaw),
    /// It sent too much of something.
    Flood(Flood),
}

impl ConnectionError {
    pub(super) const fn frame(code: ErrorCode, what: &'static str) -> Self {
        Self { code, cause: Cause::Frame(what) }
    }

    pub(super) const fn protocol(what: &'static str) -> Self {
        Self::frame(ErrorCode::ProtocolError, what)
    }

    pub(super) const fn flood(flood: Flood) -> Self {
        let code = match flood {
            // As in Envoy.
            Flood::Resets => ErrorCode::InternalError,
            _ => ErrorCode::EnhanceYourCalm,
        };
        Self { code, cause: Cause::Flood(flood) }
    }

    /// The peer resets most of its requests before they are answered.
    #[must_use]
    pub const fn premature_resets() -> Self {
        Self::flood(Flood::PrematureResets)
    }

    /// A head was not complete in time.
    #[must_use]
    pub const fn slow_head() -> Self {
        Self::protocol("a header block was not complete in time")
    }
}

impl From<Flaw> for Cause {
    fn from(flaw: Flaw) -> Self {
        Self::Message(flaw)
    }
}

impl From<hpack::Error> for ConnectionError {
    fn from(error: hpack::Error) -> Self {
        Self { code: ErrorCode::CompressionError, cause: Cause::Block(error) }
    }
}

impl From<Flaw> for ConnectionError {
    fn from(flaw: Flaw) -> Self {
        Self { code: ErrorCode::ProtocolError, cause: Cause::Message(flaw) }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Frame(what) => f.write_str(what),
            Cause::Block(error) => error.fmt(f),
            Cause::Message(flaw) => flaw.fmt(f),
            Cause::Flood(flood) => f.write_str(match flood {
                Flood::Outbound => "too many frames wait to be sent",
                Flood::OutboundControl => "too many control frames wait to be sent",
                Flood::InboundEmpty => "too many frames without content",
                Flood::InboundPriority => "too many PRIORITY frames",
                Flood::InboundWindowUpdate => "too many WINDOW_UPDATE frames",
                Flood::Resets => "too many streams are reset",
                Flood::PrematureResets => "too many requests are reset before they are answered",
                Flood::HeaderBlock => "a header block is too long",
            }),
        }
    }
}
