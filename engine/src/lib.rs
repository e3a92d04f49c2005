//! The engine.

pub mod downstream;
pub mod http1;
pub mod request;
