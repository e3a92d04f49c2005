//! What is ours of TLS, as in `engine/src/transport/tls/mod.rs`: the first message, the records of a session
//! around rustls, and certificates. Sockets and what compiles the configuration are left out.
#![expect(dead_code, unused_imports, unreachable_pub, reason = "the engine uses the rest")]

#[path = "../../../../src/transport/tls/certificate.rs"]
pub mod certificate;
#[path = "../../../../src/transport/tls/client_hello.rs"]
pub mod client_hello;
pub mod context;
#[path = "../../../../src/transport/tls/der.rs"]
pub mod der;
#[path = "../../../../src/transport/tls/facts.rs"]
pub mod facts;
#[path = "../../../../src/transport/tls/failure.rs"]
pub mod failure;
#[path = "../../../../src/transport/tls/handshake_observer.rs"]
mod handshake_observer;
#[path = "../../../../src/transport/tls/name.rs"]
mod name;
pub mod peers;
#[path = "../../../../src/transport/tls/queue.rs"]
mod queue;
#[path = "../../../../src/transport/tls/session.rs"]
mod session;

pub use failure::Failure;
