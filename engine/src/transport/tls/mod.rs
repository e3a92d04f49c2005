//! TLS on both sides: contexts (what the configuration says), handshakes and records.
//!
//! Everything cryptographic is rustls; bytes move on the shard's reactor.

pub mod certificate;
pub mod context;
pub mod facts;
mod name;
#[cfg(test)]
pub(crate) mod recorded;
