//! The control plane: what works for the shards and is never on the path of a request.

pub mod dns;
