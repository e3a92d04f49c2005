//! The sets of stats that more than one component writes. A component's own set stands at its own top.

mod cluster;
mod http;
mod listener;
mod server;

pub use cluster::*;
pub use http::*;
pub use listener::*;
pub use server::*;
