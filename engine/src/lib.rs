//! The engine.

pub mod http1;

pub mod request;

pub mod flags;
pub mod format;
