//! The `%COMMAND%` formatter: text with values of a request in it, compiled once.
//!
//! Header values, local replies and access logs use it. [`StreamInfo`] provides the values; how they are
//! written is decided here, not what is logged or when.

mod address;
mod command;
pub(crate) mod compile;
mod duration;
pub(crate) mod heads;
mod json;
pub(crate) mod json_text;
mod metadata;
mod names;
pub(crate) mod number;
pub(crate) mod stream_info;
mod time;
mod tls;

use std::net::IpAddr;

use self::command::Field;

pub(crate) use self::command::host_name_of_machine;
pub(crate) use self::heads::grpc_status;
pub use self::json::JsonFormatter;
pub(crate) use self::json_text::shortest;
pub use self::stream_info::{Inputs, StreamInfo, TimePoint};

/// A compiled format.
#[derive(Clone, Debug, Default)]
pub struct Formatter {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Vec<u8>),
    Value(Field),
}

/// A compiled `SubstitutionFormatString`.
#[derive(Clone, Debug)]
pub enum Format {
    /// A text with commands.
    Text(Formatter, Unset),
    /// A JSON object with commands in its strings.
    Json(JsonFormatter),
}

impl Format {
    /// Writes the text with its values to `out`; JSON is a line.
    pub fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(text, unset) => text.format(inputs, *unset, out),
            Self::Json(json) => json.format(inputs, out),
        }
    }
}

/// Which commands `formatters` adds; those of the other extensions are always there, as in Envoy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// `REQ_WITHOUT_QUERY`
    pub req_without_query: bool,
}

/// What is written for a missing value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unset {
    /// `-`, as in logs.
    Dash,
    /// Nothing, as in headers.
    Empty,
}

impl Formatter {
    /// Compiles a format.
    ///
    /// # Errors
    /// What is wrong with it, with Envoy's message.
    pub fn new(format: &str) -> Result<Self, String> {
        Self::with(format, Extensions::default())
    }

    /// The same with commands that extensions add.
    ///
    /// # Errors
    /// What is wrong with it, with Envoy's message.
    pub fn with(format: &str, extensions: Extensions) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut rest = format;
        while let Some(percent) = rest.find('%') {
            let (before, from) = rest.split_at(percent);
            text.extend_from_slice(before.as_bytes());
            if let Some(behind) = from.strip_prefix("%%") {
                text.push(b'%');
                rest = behind;
                continue;
            }
            let Some((token, behind)) = Token::read(from) else {
                let position = format.len() - from.len();
                return Err(format!(
                    "Incorrect configuration: {format}. \
                     Couldn't find valid command at position {position}"
                ));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Value(Field::new(&token, extensions)?));
            rest = behind;
        }
        text.extend_from_slice(rest.as_bytes());
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces })
    }

    /// Writes the text with its values to `out`.
    pub fn format(&self, inputs: &Inputs<'_>, unset: Unset, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Value(field) => {
                    if !field.write(inputs, out) && unset == Unset::Dash {
                        out.push(b'-');
                    }
                }
            }
        }
    }

    /// Whether one command is all of the format.
    #[must_use]
    pub fn is_one_command(&self) -> bool {
        self.only_field().is_some()
    }

    /// The one command that is all of the format, if it is one.
    fn only_field(&self) -> Option<&Field> {
        match &*self.pieces {
            [Piece::Value(field)] => Some(field),
            _ => None,
        }
    }
}

/// `%NAME(parameters):length%`, taken apart.
struct Token<'a> {
    name: &'a str,
    parameters: &'a str,
    bytes_max: Option<usize>,
}

impl<'a> Token<'a> {
    /// Splits `text` after the command that it begins with.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let text = text.strip_prefix('%')?;
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let name_len = text.find(|c| !is_name(c)).filter(|len| *len > 0)?;
        let (name, mut text) = text.split_at(name_len);
        let mut parameters = "";
        if let Some(inside) = text.strip_prefix('(') {
            (parameters, text) = end_of_parameters(inside)?;
        }
        let (bytes_max, text) = end_of_token(text)?;
        Some((Self { name, parameters, bytes_max }, text))
    }
}

/// Splits at the first bracket with which a command can end; there may be others before it. As in Envoy,
/// parameters stand on one line.
fn end_of_parameters(text: &str) -> Option<(&str, &str)> {
    let line = text.find('\n').map_or(text, |end| text.get(..end).unwrap_or_default());
    let ends = |(at, _): (usize, &str)| {
        let (parameters, bracket) = text.split_at(at);
        let behind = bracket.get(1..)?;
        end_of_token(behind).map(|_| (parameters, behind))
    };
    line.match_indices(')').find_map(ends)
}

/// The length and the percent sign that end a command, and the text behind it.
fn end_of_token(text: &str) -> Option<(Option<usize>, &str)> {
    let Some(length) = text.strip_prefix(':') else {
        return Some((None, text.strip_prefix('%')?));
    };
    let digits = length.find(|c: char| !c.is_ascii_digit())?;
    let (digits, behind) = length.split_at(digits);
    Some((Some(digits.parse().ok()?), behind.strip_prefix('%')?))
}

fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    write_display(&ip, out);
}

fn write_display(value: &impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec does not fail.
    let _infallible = write!(out, "{value}");
}

#[cfg(test)]
mod tests;
