//! The engine.

pub mod http1;
