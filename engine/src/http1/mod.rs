//! The HTTP/1 codec: heads, body framing, chunks, and their encoding.
//!
//! Heads, names and methods themselves are in `http/`, which both codecs share.
//!
//! It is pure: no I/O, no clock, no configuration, and no allocation per message once its
//! buffers are warm. The driver appends what it received to `RequestHead::received`, asks
//! `RequestHead::parse`, and asks [`framing`] where the body ends. It is not the policy of a
//! connection manager (`downstream/normalize.rs`), nor the choice of when to close.
//!
//! Invariant: what is sent on is what the parsed model says, byte for byte, also where received lines
//! are copied because they say just that; and a message whose end two readers could see differently
//! is refused.

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
