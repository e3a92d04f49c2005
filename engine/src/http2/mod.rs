//! HTTP/2 (RFC 9113): frames, header blocks, streams and their windows, for both roles.
//!
//! It has no I/O, no clock and no tasks: bytes come in, events and bytes to send come out. What a stream is
//! for is up to its owner (`session/`).
//!
//! Invariant: whatever a peer sends, what is kept for it is bounded by the limits that it was told, and how
//! the bytes were split makes no difference.

mod abuse;
pub(crate) mod compile;
mod connection;
mod error;
mod flow;
mod frame;
pub mod head;
pub mod hpack;
mod options;
mod outbound;
mod stream;
mod streams;

pub use connection::{Block, Connection, Counts, Event, HeadRefused, Input, Last, RequestLimits};
pub use error::{Cause, ConnectionError, ErrorCode, Flood};
pub use options::{Keepalive, Options, StreamErrors};
pub use stream::StreamId;

/// What a client sends first, in front of its SETTINGS (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
