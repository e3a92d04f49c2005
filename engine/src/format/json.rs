//! A format that is a JSON object: keys sorted, a command alone keeps its type.

use serde_json::Value;

use super::command::Field;
use super::json_text::{escape, write_string, write_value};
use super::{Extensions, Formatter, Inputs, Piece};

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
    pub fn new(format: &Value, omit_empty: bool, extensions: Extensions) -> Result<Self, String> {
        Ok(Self { root: Node::new(format, extensions)?, omit_empty })
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
    fn new(format: &Value, extensions: Extensions) -> Result<Self, String> {
        Ok(match format {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                let member = |(key, value): (&String, &Value)| {
                    let mut name = Vec::with_capacity(key.len() + 3);
                    write_string(key.as_bytes(), &mut name);
                    name.push(b':');
                    Ok((name, Self::new(value, extensions)?))
                };
                Self::Object(members.into_iter().map(member).collect::<Result<_, String>>()?)
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::new(item, extensions));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Value::String(format) => {
                let format = Formatter::with(format, extensions)?;
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
