//! What a filter chain or cluster needs to speak TLS, compiled from its transport socket.
//!
//! It neither reads nor writes: a connection asks its shard's copy of the context for the configuration
//! that fits its client (`server.rs`) or its origin (`client.rs`), and rustls does the handshake with it.
//!
//! Invariant: a context is immutable; new certificates are a new context, for new connections.

pub mod certificate;
pub mod client;
pub mod compile;
pub mod generic_secret;
pub mod key;
pub mod key_log;
pub mod latest;
pub mod ocsp;
pub mod parameters;
mod parameters_compile;
pub mod pkcs12;
mod read_once;
mod sds_compile;
mod secret_files_compile;
mod secrets_compile;
pub mod select;
pub mod server;
pub mod sessions;
pub mod tickets;
pub mod verify;

#[cfg(test)]
pub(in crate::transport::tls) mod tests;

pub use client::{ClientContext, Connect, ResumedSession, ShardClientContext, Wanted};
pub use generic_secret::GenericSecret;
pub(crate) use latest::Follower;
pub use latest::{Latest, Listed, Owner};
pub use server::{Chosen, ServerContext, ShardServerContext};
