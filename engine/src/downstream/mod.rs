//! The client's side: what a connection manager makes of the requests of a connection.

pub mod connection_manager;
pub mod normalize;
mod path;

#[cfg(test)]
mod tests;
