//! The engine.

pub mod stats;
pub mod upstream;
