//! A format that is a JSON object: keys sorted, a command alone keeps its type.

use serde_json::Value;

use super::command::Field;
use super::{Formatter, Inputs, Piece};

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
    Field(Field),
    Text(Formatter),
}

/// Whether something was written other than `null` or an empty object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Written {
    Nothing,
    Value,
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
        self.write(&self.root, inputs, out);
        out.push(b'\n');
    }

    fn write(&self, node: &Node, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Written {
        match node {
            Node::Object(members) => {
                let members = members.iter().map(|(key, member)| (&**key, member));
                self.write_all(b'{', members, b'}', inputs, out)
            }
            Node::List(items) => {
                let items = items.iter().map(|item| (&[][..], item));
                self.write_all(b'[', items, b']', inputs, out);
                // As in Envoy: a list is never omitted.
                Written::Value
            }
            Node::Constant(text) => {
                out.extend_from_slice(text);
                if text == b"null" { Written::Nothing } else { Written::Value }
            }
            Node::Field(field) => {
                if field.write_json(inputs, out) {
                    return Written::Value;
                }
                out.extend_from_slice(b"null");
                Written::Nothing
            }
            Node::Text(format) => {
                self.write_text(format, inputs, out);
                Written::Value
            }
        }
    }

    /// Members with their keys, or items of a list.
    fn write_all<'a>(
        &self,
        open: u8,
        nodes: impl Iterator<Item = (&'a [u8], &'a Node)>,
        close: u8,
        inputs: &Inputs<'_>,
        out: &mut Vec<u8>,
    ) -> Written {
        out.push(open);
        let first = out.len();
        let mut written = Written::Nothing;
        for (key, node) in nodes {
            let start = out.len();
            if start > first {
                out.push(b',');
            }
            out.extend_from_slice(key);
            match self.write(node, inputs, out) {
                Written::Nothing if self.omit_empty => out.truncate(start),
                Written::Nothing => {}
                Written::Value => written = Written::Value,
            }
        }
        out.push(close);
        written
    }

    /// As in Envoy each piece is escaped for itself: bytes that are not UTF-8 do not change the others.
    fn write_text(&self, format: &Formatter, inputs: &Inputs<'_>, out: &mut Vec<u8>) {
        out.push(b'"');
        for piece in &format.pieces {
            let start = out.len();
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Value(field) => {
                    if !field.write(inputs, out) && !self.omit_empty {
                        out.push(b'-');
                    }
                }
            }
            escape(out, start);
        }
        out.push(b'"');
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
            Value::String(format) => {
                let format = Formatter::new(format)?;
                match format.only_field() {
                    Some(field) => Self::Field(field.clone()),
                    None => Self::Text(format),
                }
            }
            constant => {
                let mut text = Vec::new();
                write_value(constant, &mut text);
                Self::Constant(text)
            }
        })
    }
}

/// Writes a value of the configuration.
pub(super) fn write_value(value: &Value, out: &mut Vec<u8>) {
    let separate = |index: usize, out: &mut Vec<u8>| {
        if index > 0 {
            out.push(b',');
        }
    };
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        // The schema knows doubles only.
        Value::Number(number) => {
            let double = number.as_f64().map(shortest);
            out.extend_from_slice(double.unwrap_or_else(|| number.to_string()).as_bytes());
        }
        Value::String(text) => write_string(text.as_bytes(), out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(index, out);
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (key, member)) in members.iter().enumerate() {
                separate(index, out);
                write_string(key.as_bytes(), out);
                out.push(b':');
                write_value(member, out);
            }
            out.push(b'}');
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

/// Writes a JSON string.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    escape(out, start);
    out.push(b'"');
}

/// Escapes what was written from `start` on, for a JSON string. If it is not valid UTF-8, each byte is a
/// character, as in Envoy. Most texts need no escape, and are not moved.
pub(super) fn escape(out: &mut Vec<u8>, start: usize) {
    let needs_escape = |&byte: &u8| !matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    let text = out.get(start..).unwrap_or_default();
    let Some(clean) = text.iter().position(needs_escape) else { return };
    let is_utf_8 = std::str::from_utf8(text).is_ok();
    let rest = out.split_off(start + clean);
    for byte in rest {
        match byte {
            b' ' | b'!' | b'#'..=b'[' | b']'..=b'~' => out.push(byte),
            0x7f.. if is_utf_8 => out.push(byte),
            b'"' if is_utf_8 => out.extend_from_slice(b"\\\""),
            b'\\' if is_utf_8 => out.extend_from_slice(b"\\\\"),
            b'\n' if is_utf_8 => out.extend_from_slice(b"\\n"),
            b'\r' if is_utf_8 => out.extend_from_slice(b"\\r"),
            b'\t' if is_utf_8 => out.extend_from_slice(b"\\t"),
            0x08 if is_utf_8 => out.extend_from_slice(b"\\b"),
            0x0c if is_utf_8 => out.extend_from_slice(b"\\f"),
            _ => super::write_display(&format_args!("\\u{byte:04x}"), out),
        }
    }
}
