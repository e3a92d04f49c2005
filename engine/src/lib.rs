//! The engine.

pub mod stats;
