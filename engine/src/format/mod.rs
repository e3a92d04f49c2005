//! The `%COMMAND%` formatter: text with values of a request in it, compiled once.
//!
//! Header values, local replies and access logs use it. [`StreamInfo`] provides the values; how they are
//! written is decided here, not what is logged or when.

mod command;
pub(crate) mod compile;
mod heads;
mod json;
mod metadata;
mod names;
mod time;
mod tls;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use self::command::Command;
use crate::access_log::EntryType;
use crate::address::Address;
use crate::flags::Flags;
use crate::http::{RequestHead, ResponseHead, Version};
use crate::listener_facts::{ListenerFacts, Metadata};
use crate::transport::tls::facts::TlsFacts;

pub(crate) use self::command::host_name_of_machine;
pub use self::json::JsonFormatter;
pub(crate) use self::json::shortest;

/// A compiled format.
#[derive(Clone, Debug, Default)]
pub struct Formatter {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Vec<u8>),
    Value {
        command: Command,
        /// The most bytes that are shown.
        bytes_max: Option<usize>,
    },
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

/// What is written for a missing value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unset {
    /// `-`, as in logs.
    Dash,
    /// Nothing, as in headers.
    Empty,
}

/// What the commands of a format read.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it only borrows, for the time of one call")]
pub struct Inputs<'a> {
    /// The request, if there is one.
    pub request: Option<&'a RequestHead>,
    /// The response, if there is one yet.
    pub response: Option<&'a ResponseHead>,
    /// Everything else.
    pub stream: &'a dyn StreamInfo,
    /// The body of the local reply that is being formatted.
    pub local_reply_body: &'a [u8],
    /// Why the text is written, if it is the entry of an access log.
    pub entry_type: EntryType,
}

/// What is known about a request besides its heads. What is not known yet, or does not exist,
/// is `None`.
#[expect(missing_docs, reason = "each is the operator of that name in Envoy's documentation")]
pub trait StreamInfo {
    /// When the first byte of the request was received.
    fn start_time(&self) -> SystemTime;

    /// The version that the client speaks.
    fn protocol(&self) -> Option<Version> {
        None
    }
    fn response_code(&self) -> Option<u16> {
        None
    }
    fn response_code_details(&self) -> Option<&str> {
        None
    }
    fn connection_termination_details(&self) -> Option<&str> {
        None
    }
    fn response_flags(&self) -> Flags {
        Flags::NONE
    }
    /// Bytes of the request body.
    fn bytes_received(&self) -> u64 {
        0
    }
    /// Bytes of the response body.
    fn bytes_sent(&self) -> u64 {
        0
    }
    /// From start to end.
    fn duration(&self) -> Option<Duration> {
        None
    }
    /// From start to the last byte of the request.
    fn request_duration(&self) -> Option<Duration> {
        None
    }
    /// From start to the first byte of the upstream's response.
    fn response_duration(&self) -> Option<Duration> {
        None
    }
    /// From the first byte of the upstream's response to the last byte sent to the client.
    fn response_tx_duration(&self) -> Option<Duration> {
        None
    }
    /// The host that was chosen, connected or not.
    fn upstream_host(&self) -> Option<Address> {
        None
    }
    /// The peer of the connection to it.
    fn upstream_remote_address(&self) -> Option<Address> {
        None
    }
    fn upstream_host_name(&self) -> Option<&str> {
        None
    }
    fn upstream_local_address(&self) -> Option<Address> {
        None
    }
    /// The name in its stats.
    fn upstream_cluster(&self) -> Option<&str> {
        None
    }
    fn upstream_cluster_raw(&self) -> Option<&str> {
        None
    }
    fn upstream_request_attempt_count(&self) -> u32 {
        0
    }
    fn upstream_transport_failure_reason(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn route_name(&self) -> Option<&str> {
        None
    }
    fn virtual_cluster_name(&self) -> Option<&str> {
        None
    }
    /// The address of the client, also as given by trusted headers.
    fn downstream_remote_address(&self) -> Option<Address> {
        None
    }
    /// The peer of the connection.
    fn downstream_direct_remote_address(&self) -> Option<Address> {
        None
    }
    fn downstream_local_address(&self) -> Option<Address> {
        None
    }
    /// The dynamic metadata of a connection without HTTP. As in Envoy a request does not see it: it has
    /// metadata of its own, which only HTTP filters set.
    fn dynamic_metadata(&self) -> Option<&Metadata> {
        None
    }
    /// What listener filters have found out about the client's connection.
    fn listener_facts(&self) -> Option<&ListenerFacts> {
        None
    }
    /// What is known of the TLS of the client's connection.
    fn downstream_tls(&self) -> Option<&TlsFacts> {
        None
    }
    fn downstream_transport_failure_reason(&self) -> Option<&str> {
        None
    }
    /// What is known of the TLS of the connection to the host.
    fn upstream_tls(&self) -> Option<&TlsFacts> {
        None
    }
    /// In lower case.
    fn requested_server_name(&self) -> Option<&str> {
        None
    }
    fn connection_id(&self) -> Option<u64> {
        None
    }
    fn upstream_connection_id(&self) -> Option<u64> {
        None
    }
}

impl<'a> Inputs<'a> {
    /// Only the stream; the rest is added with `..`.
    pub fn new(stream: &'a dyn StreamInfo) -> Self {
        Self {
            request: None,
            response: None,
            stream,
            local_reply_body: &[],
            entry_type: EntryType::NotSet,
        }
    }
}

impl Formatter {
    /// Compiles a format.
    ///
    /// # Errors
    /// What is wrong with it, with Envoy's message.
    pub fn new(format: &str) -> Result<Self, String> {
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
            let command = Command::new(&token)?;
            pieces.push(Piece::Value { command, bytes_max: token.bytes_max });
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
                Piece::Value { command, bytes_max } => {
                    let start = out.len();
                    if !command.write(inputs, out) {
                        out.truncate(start);
                        if unset == Unset::Dash {
                            out.push(b'-');
                        }
                    } else if let Some(max) = bytes_max {
                        out.truncate(start.saturating_add(*max));
                    }
                }
            }
        }
    }

    /// The one command that is all of the format, if it is one.
    fn command(&self) -> Option<&Command> {
        match &*self.pieces {
            [Piece::Value { command, bytes_max: _ }] => Some(command),
            _ => None,
        }
    }

    /// Whether there is a value, for a format that is a single command; `out` is scratch space.
    fn has_value(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let found = self.command().is_none_or(|command| command.write(inputs, out));
        out.truncate(start);
        found
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
            (parameters, text) = inside.split_once(')')?;
        }
        let mut bytes_max = None;
        if let Some(length) = text.strip_prefix(':') {
            let digits = length.find(|c: char| !c.is_ascii_digit())?;
            let (digits, behind) = length.split_at(digits);
            bytes_max = Some(digits.parse().ok()?);
            text = behind;
        }
        Some((Self { name, parameters, bytes_max }, text.strip_prefix('%')?))
    }
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
