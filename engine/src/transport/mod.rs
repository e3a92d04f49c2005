//! What carries the bytes of a connection: a plain socket, or TLS over one.
//!
//! It knows neither HTTP nor listeners nor clusters: `downstream` and `upstream` choose the transport
//! of their connections here.
//!
//! Invariant: a codec above cannot tell which transport it runs over, except by asking for the facts
//! of the handshake.

pub mod tls;
