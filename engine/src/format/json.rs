//! A format that is a JSON object: keys sorted, a command alone keeps its type.

use serde_json::Value;

use super::{Formatter, Inputs, Unset};

/// A compiled `json_format`.
#[derive(Clone, Debug)]
pub struct JsonFormatter {
    root: Node,
    /// `omit_empty_values`: members without a value are omitted.
    omit_empty: bool,
}

#[derive(Clone, Debug)]
enum Node {
    /// In order; each key is encoded, with its colon.
    Object(Vec<(Vec<u8>, Self)>),
    List(Vec<Self>),
    /// Written as it is.
    Constant(Vec<u8>),
    Format(Formatter),
}

impl JsonFormatter {
    /// Compiles a format; strings in it may have commands.
    ///
    /// # Errors
    /// What is wrong with a string, with Envoy's message.
    pub fn new(format: &Value, omit_empty: bool) -> Result<Self, String> {
        Ok(Self { root: Node::new(format)?, omit_empty })
    }

    /// Writes the object and a line end to `out`.
    pub fn format(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        self.write(&self.root, inputs, &mut value, out);
        out.push(b'\n');
    }

    /// `value` is room for one value before it is escaped.
    fn write(&self, node: &Node, inputs: &Inputs<'_>, value: &mut Vec<u8>, out: &mut Vec<u8>) {
        match node {
            Node::Object(members) => {
                out.push(b'{');
                let start = out.len();
                for (key, member) in members {
                    if self.omit_empty && member.is_empty(inputs, value) {
                        continue;
                    }
                    if out.len() > start {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    self.write(member, inputs, value, out);
                }
                out.push(b'}');
            }
            Node::List(items) => {
                out.push(b'[');
                let start = out.len();
                for item in items {
                    if self.omit_empty && item.is_empty(inputs, value) {
                        continue;
                    }
                    if out.len() > start {
                        out.push(b',');
                    }
                    self.write(item, inputs, value, out);
                }
                out.push(b']');
            }
            Node::Constant(text) => out.extend_from_slice(text),
            Node::Format(format) => self.write_format(format, inputs, value, out),
        }
    }

    fn write_format(
        &self,
        format: &Formatter,
        inputs: &Inputs<'_>,
        value: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        if !format.has_value(inputs, value) {
            out.extend_from_slice(b"null");
            return;
        }
        value.clear();
        let unset = if self.omit_empty { Unset::Empty } else { Unset::Dash };
        format.format(inputs, unset, value);
        if format.command().is_some_and(|command| command.is_number()) {
            out.extend_from_slice(value);
        } else {
            write_string(value, out);
        }
    }
}

impl Node {
    fn new(format: &Value) -> Result<Self, String> {
        Ok(match format {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                let member = |(key, value): (&String, &Value)| {
                    let mut name = Vec::with_capacity(key.len() + 3);
                    write_string(key.as_bytes(), &mut name);
                    name.push(b':');
                    Ok((name, Self::new(value)?))
                };
                Self::Object(members.into_iter().map(member).collect::<Result<_, String>>()?)
            }
            Value::Array(items) => {
                Self::List(items.iter().map(Self::new).collect::<Result<_, _>>()?)
            }
            Value::String(format) => Self::Format(Formatter::new(format)?),
            // The schema knows doubles only.
            Value::Number(number) => {
                let double = number.as_f64().map(shortest);
                Self::Constant(double.unwrap_or_else(|| number.to_string()).into_bytes())
            }
            constant => Self::Constant(constant.to_string().into_bytes()),
        })
    }

    fn is_empty(&self, inputs: &Inputs<'_>, value: &mut Vec<u8>) -> bool {
        match self {
            Self::Format(format) => !format.has_value(inputs, value),
            Self::Constant(text) => text == b"null",
            Self::Object(members) => members.iter().all(|(_, node)| node.is_empty(inputs, value)),
            Self::List(_) => false,
        }
    }
}

/// A number as Envoy writes it into JSON: `1e+05` is shorter than `100000`, and of two forms of
/// the same length the plain one is used.
pub(crate) fn shortest(number: f64) -> String {
    let plain = number.to_string();
    let scientific = format!("{number:e}");
    let scientific = scientific.split_once('e').and_then(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().ok()?;
        Some(format!("{digits}e{exponent:+03}"))
    });
    scientific.filter(|text| text.len() < plain.len()).unwrap_or(plain)
}

/// Writes a JSON string. If it is not valid UTF-8, each byte is a character, as in Envoy.
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    // Serialising a string into memory cannot fail.
    let _infallible = match std::str::from_utf8(text) {
        Ok(text) => serde_json::to_writer(out, text),
        Err(_) => {
            out.push(b'"');
            for &byte in text {
                match byte {
                    b' '..=b'~' if !b"\"\\".contains(&byte) => out.push(byte),
                    _ => super::write_display(&format_args!("\\u{byte:04x}"), out),
                }
            }
            out.push(b'"');
            Ok(())
        }
    };
}
