//! The engine.

pub mod control;
pub mod stats;
