//! Envoy's v3 configuration: read, checked, and handed over as plain structs.
//!
//! [`load`] turns text into a [`Bootstrap`]; what is wrong with the text is collected in [`Problems`],
//! all of it in one run, and [`render`] shows it to a person. The crate knows nothing of the engine.
//!
//! Invariant: a field that an operator sets is in a struct of [`schema`], listed there as harmless
//! with a reason, or an error that names its path. Nothing is dropped in silence.

/// Where a value stands in a configuration.
mod path;
/// What is wrong, collected.
mod problems;
/// What Corvoy reads of Envoy's API.
pub mod schema;

pub use path::Path;
pub use problems::{Problem, Problems, Severity, Spot};
pub use schema::*;
