//! Envoy's v3 configuration: read, checked, and handed over as plain structs.
//!
//! [`load`] turns a [`Source`] into a [`Bootstrap`]; what is wrong with the text is collected in
//! [`Problems`], all of it in one run, and [`render`] shows it to a person. The crate knows nothing of
//! the engine, which adds its own problems by their [`Path`].
//!
//! Invariant: a field that an operator sets is in a struct of [`schema`], listed there as harmless
//! with a reason, or an error that names its path. Nothing is dropped in silence.

/// Where a value stands in a configuration.
mod path;

/// What is wrong, collected.
mod problems;

/// What Corvoy reads of Envoy's API.
pub mod schema;

/// The texts.
mod source;

/// All the steps, in order.
mod load;

/// Envoy's descriptors.
mod descriptors;

/// Words for what Corvoy lacks.
mod features;

/// Text to message.
mod read;

/// Message to problems: Envoy's rules, and what Corvoy lacks.
mod check;

/// Message to structs.
mod structs;

/// Where the values of a text stand in it.
mod layout;

/// Problems to text.
mod render;

/// The coverage table as a page for people.
mod compatibility;

pub use compatibility::{RefusedValues, page as compatibility_page};
pub use load::{Loaded, load, load_as};
pub use path::Path;
pub use problems::{Problem, Problems, Severity, Spot};
pub use render::{render, render_styled};
pub use schema::*;
pub use source::Source;
