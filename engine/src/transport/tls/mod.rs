//! TLS on both sides: contexts (what the configuration says), handshakes and records.
//!
//! Everything cryptographic is rustls; bytes move on the shard's reactor.

pub mod certificate;
pub mod client_hello;
mod connection;
pub mod context;
mod der;
pub mod facts;
pub mod failure;
mod handshake;
mod handshake_observer;
pub mod inventory;
mod name;
pub mod options;
mod queue;
#[cfg(test)]
pub(crate) mod recorded;
mod session;
#[cfg(test)]
mod tests;

pub use connection::Tls;
pub use context::server::Addresses;
pub use failure::Failure;
pub use handshake::ServerTls;
