//! TLS as in `engine/src/transport/mod.rs`, without sockets.

pub mod tls;
