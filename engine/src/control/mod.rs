//! The control plane: one thread that works for the shards and is never on the path of a request.
//!
//! It binds the listening sockets, starts the shards, tells them about hosts and drains, serves
//! the admin endpoint, and adds up what the shards count. It can stall for a second and no client
//! notices.
//!
//! Invariant: the shards hear of a configuration before they hear of anything in it.

pub mod sockets;
