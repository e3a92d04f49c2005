//! Envoy's v3 configuration: read, checked, and returned as plain structs.
//!
//! [`load`] turns a [`Source`] into a [`Bootstrap`]. It collects everything that is wrong with the
//! text in [`Problems`], in one run, and [`render`] formats them for a terminal. The crate does not
//! know the engine, which adds its own problems by their [`Path`].
//!
//! Invariant: a field that an operator sets is in a struct of [`schema`], listed there as harmless
//! with a reason, or an error that names its path. No field is silently ignored.

/// The position of a value in a configuration.
mod path;

/// Errors and warnings.
mod problems;

/// The part of Envoy's API that Corvoy reads.
pub mod schema;

/// The configuration texts.
mod source;

/// All steps, in order.
mod load;

/// Protobuf to structs.
mod decode;

/// Envoy's descriptors.
mod descriptors;

/// The names of the features that Corvoy lacks.
mod features;

/// Text to message.
mod read;

/// Message to problems: Envoy's rules, and what Corvoy does not implement.
mod check;

/// Message to structs.
mod structs;

/// Secrets in what is shown.
mod redact;

/// The positions of the values of a text.
mod layout;

/// Problems to text.
mod render;

/// The coverage table as Markdown.
mod compatibility;

pub use compatibility::{RefusedValues, page as compatibility_page};
pub use decode::{Decoded, Decoder, Encoded};
pub use load::{Loaded, load, load_as, load_with_json};
pub use path::Path;
pub use problems::{Problem, Problems, Severity, Spot};
pub use render::{Locator, render, render_lines, render_styled};
pub use schema::*;
pub use source::Source;
