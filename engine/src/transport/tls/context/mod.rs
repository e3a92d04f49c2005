//! What a filter chain or cluster needs to speak TLS, compiled from its transport socket.
//!
//! Invariant: a context is immutable; new certificates are a new context, for new connections.

use std::sync::Arc;

/// The TLS of a filter chain.
#[derive(Debug)]
pub struct ServerContext {
    /// For rustls.
    pub config: Arc<rustls::ServerConfig>,
}

/// The TLS of a cluster.
#[derive(Debug)]
pub struct ClientContext {
    /// For rustls.
    pub config: Arc<rustls::ClientConfig>,
}
