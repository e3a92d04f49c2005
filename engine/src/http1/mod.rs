//! The HTTP/1 codec: parsing and encoding of heads, body framing and chunks.
//!
//! The types of heads, names and methods are in `http/`.
//!
//! It is pure: no I/O, no clock, no configuration, and no allocation per message once its
//! buffers are warm. The driver appends received bytes to `RequestHead::received`, calls
//! `RequestHead::parse`, and [`framing`] says where the body ends. Not here: the connection manager's
//! header rules (`request/manager`), and the decision when to close.
//!
//! Invariant: what is sent is exactly what the parsed head says, also where received lines are copied
//! unchanged; and a message whose end two parsers could see differently is rejected.

pub mod chunked;
pub mod encode;
mod error;
pub mod framing;
mod parse;
mod plain;
mod scan;

pub use error::Error;

#[cfg(test)]
mod tests;
