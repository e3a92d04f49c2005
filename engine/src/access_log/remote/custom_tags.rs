//! `custom_tags`: names and values that the configuration adds to each entry.

use serde_json::Value;

use super::entry::utf8;
use crate::format::json_text::write_value;
use crate::format::{Formatter, Inputs, Unset};
use crate::metadata::MetadataOf;

/// One tag.
#[derive(Debug)]
pub(super) struct CustomTag {
    pub(super) name: String,
    pub(super) source: Source,
}

/// Where the value of a tag is from.
#[derive(Debug)]
pub(super) enum Source {
    /// The configuration, or the environment of the process.
    Fixed(String),
    /// A header of the request.
    Header { name: String, default: String },
    /// Metadata.
    Metadata { of: Whose, namespace: String, path: Box<[Box<str>]>, default: String },
    /// A format.
    Format(Formatter),
}

/// Whose metadata.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// What filters have noted about the request.
    Request,
    /// What the configuration says.
    Static(MetadataOf),
}

impl CustomTag {
    /// The value; none: there is none, or it is empty.
    pub(super) fn value(&self, inputs: &Inputs<'_>) -> Option<String> {
        let value = match &self.source {
            Source::Fixed(text) => text.clone(),
            Source::Header { name, default } => {
                let value = inputs.request.and_then(|head| head.fields.find(name.as_bytes()));
                value.map_or_else(|| default.clone(), utf8)
            }
            Source::Metadata { of, namespace, path, default } => {
                let metadata = match of {
                    Whose::Request => inputs.stream.dynamic_metadata(),
                    Whose::Static(of) => inputs.stream.static_metadata(*of),
                };
                let value = metadata.and_then(|metadata| metadata.find(namespace, path));
                value.and_then(text_of).unwrap_or_else(|| default.clone())
            }
            Source::Format(format) => {
                let mut out = Vec::new();
                format.format(inputs, Unset::Empty, &mut out);
                utf8(&out)
            }
        };
        Some(value).filter(|value| !value.is_empty())
    }
}

/// A text as it is, anything else as JSON.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => {
            let mut out = Vec::new();
            write_value(value, &mut out);
            Some(utf8(&out))
        }
    }
}
