//! The codec of HTTP/2 as in `engine/src/http2/mod.rs`, without what compiles its options.
#![expect(dead_code, unused_imports, reason = "the engine uses the rest")]

#[path = "../../src/http2/abuse.rs"]
mod abuse;
#[path = "../../src/http2/connection/mod.rs"]
mod connection;
#[path = "../../src/http2/error.rs"]
mod error;
#[path = "../../src/http2/flow.rs"]
mod flow;
#[path = "../../src/http2/frame.rs"]
mod frame;
#[path = "../../src/http2/head/mod.rs"]
pub mod head;
#[path = "../../src/http2/hpack/mod.rs"]
pub mod hpack;
#[path = "../../src/http2/options.rs"]
mod options;
#[path = "../../src/http2/outbound.rs"]
mod outbound;
#[path = "../../src/http2/stream.rs"]
mod stream;
#[path = "../../src/http2/streams.rs"]
mod streams;

pub use connection::{Block, Connection, Counts, Event, HeadRefused, Input, Last, RequestLimits};
pub use error::{Cause, ConnectionError, ErrorCode, Flood};
pub use options::{Keepalive, Options, StreamErrors};
pub use stream::StreamId;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
