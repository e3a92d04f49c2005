//! The HTTP/2 codec (RFC 9113): pure bytes, for both sides.
//!
//! It has no I/O, no clock and no configuration, and knows nothing of shards.

pub mod hpack;
