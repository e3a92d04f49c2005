//! The commands of a format, and where each finds its value.
//!
//! `parse` reads them from a format. A value is a text, a number or JSON; that matters only where the format
//! is JSON and the command is all of a member.

mod coalesce;
mod parse;

use std::borrow::Cow;

use jiff::Timestamp;

use self::coalesce::Coalesce;
use super::address::{AddressPart, Hosts, Peer, host_name};
use super::duration::Span;
use super::heads::{
    GrpcStatusForm, HeadBytes, HeaderLookup, PathSource, percent_decode, query, query_param,
    stands_in_a_header, stands_in_a_query,
};
use super::json_text::escape;
use super::metadata::{MetadataPath, StateObject};
use super::time::TimeFormat;
use super::tls::TlsCommand;
use super::{Extensions, Inputs, Token};
use crate::cel::Program;
use crate::flags::{Flag, Flags};
use crate::http::FieldName;
use crate::listener_facts::ListenerFacts;
use crate::uuid;

pub(crate) use self::parse::host_name_of_machine;

/// A command with the length that its value is cut to.
#[derive(Clone, Debug)]
pub(super) struct Field {
    command: Command,
    /// The most bytes that are shown.
    bytes_max: Option<usize>,
}

/// One command with its parameters.
#[derive(Clone, Debug)]
enum Command {
    AccessLogType,
    Address(Peer, AddressPart),
    Bytes {
        sent: bool,
    },
    /// An expression; typed, its value keeps its type in JSON.
    Cel {
        program: Program,
        typed: bool,
    },
    Coalesce(Coalesce),
    ConnectionId,
    ConnectionTerminationDetails,
    DownstreamTransportFailureReason,
    Duration(Span),
    /// The id of an internal address. No other address has one, and there are no internal addresses.
    EndpointId(Peer),
    FilterChainName,
    FilterState(StateObject),
    /// The same for all requests.
    Fixed(Box<[u8]>),
    GrpcStatus(GrpcStatusForm),
    HeadBytes(HeadBytes),
    ListenerName,
    LocalReplyBody,
    Metadata(MetadataPath),
    Path {
        query: bool,
        original: PathSource,
    },
    Protocol,
    QueryParam(Box<[u8]>),
    QueryParams {
        decoded: bool,
    },
    Request(HeaderLookup),
    /// The value of a header up to its query.
    RequestWithoutQuery(HeaderLookup),
    RequestedServerName(ServerNameSource),
    Response(HeaderLookup),
    ResponseCode,
    ResponseCodeDetails {
        allow_whitespace: bool,
    },
    ResponseFlags {
        long: bool,
    },
    RouteName,
    StreamId,
    Time(Moment, TimeFormat),
    TlsFingerprint(Fingerprint),
    Tls(TlsCommand),
    Trailer(HeaderLookup),
    UniqueId,
    /// There is never a value: it belongs to a feature that is refused, tracing for example.
    Unset,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamConnectionId,
    UpstreamConnectionIdsAttempted,
    UpstreamHostName {
        port: bool,
    },
    UpstreamHostsAttempted(Hosts),
    UpstreamProtocol,
    UpstreamRequestAttemptCount,
    UpstreamTransportFailureReason,
    VirtualClusterName,
    /// A counter that only QUIC has.
    Zero,
}

/// Which time is shown.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When the value is written.
    Emit,
    /// When the request began.
    Start,
}

/// How the fingerprint of a TLS client is made.
#[derive(Clone, Copy, Debug)]
enum Fingerprint {
    Ja3,
    Ja4,
}

/// Where the name of the requested server is taken from.
#[derive(Clone, Copy, Debug)]
enum ServerNameSource {
    HostFirst,
    SniFirst,
    SniOnly,
}

impl Field {
    pub(super) fn new(token: &Token<'_>, extensions: Extensions) -> Result<Self, String> {
        Ok(Self { command: Command::new(token, extensions)?, bytes_max: token.bytes_max })
    }

    /// Writes the value as text to `out`; `false`, and nothing is written, if there is none.
    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let written = self.command.write(inputs, out).is_some();
        let bytes_max = if written { self.bytes_max } else { Some(0) };
        if let Some(max) = bytes_max {
            out.truncate(start.saturating_add(max));
        }
        written
    }

    /// Writes the value as JSON of its type; `false`, and nothing is written, if there is none.
    pub(super) fn write_json(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let written = match &self.command {
            Command::Cel { program, typed: true } => {
                program.write_json(inputs, self.bytes_max, out)
            }
            Command::Cel { program, typed: false } => {
                program.write_text_as_json(inputs, self.bytes_max, out)
            }
            Command::Coalesce(coalesce) => coalesce.write_json(inputs, out),
            Command::FilterState(object) => object.write_json(inputs.stream, self.bytes_max, out),
            Command::Metadata(metadata) => metadata.write_json(inputs, self.bytes_max, out),
            command if command.is_number() => command.write(inputs, out),
            _ => {
                out.push(b'"');
                let value = out.len();
                let written = self.write(inputs, out);
                escape(out, value);
                out.push(b'"');
                written.then_some(())
            }
        };
        if written.is_none() {
            out.truncate(start);
        }
        written.is_some()
    }
}

impl Command {
    /// The value as a number, if it is one.
    fn number(&self, inputs: &Inputs<'_>) -> Option<u64> {
        let stream = inputs.stream;
        match self {
            Self::Address(peer, AddressPart::Port) => peer.port(inputs),
            Self::Bytes { sent: true } => Some(stream.bytes_sent()),
            Self::Bytes { sent: false } => Some(stream.bytes_received()),
            Self::ConnectionId => stream.connection_id(),
            Self::Duration(span) => span.count(stream),
            Self::HeadBytes(of) => Some(of.count(inputs)),
            // No response is shown as 0.
            Self::ResponseCode => Some(stream.response_code().unwrap_or(0).into()),
            Self::UpstreamConnectionId => Some(stream.upstream_connection_id().unwrap_or(0)),
            Self::UpstreamRequestAttemptCount => {
                Some(stream.upstream_request_attempt_count().into())
            }
            Self::Zero => Some(0),
            _ => None,
        }
    }

    /// Whether the value is a number whenever there is one.
    const fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Address(_, AddressPart::Port)
                | Self::Bytes { .. }
                | Self::ConnectionId
                | Self::Duration(_)
                | Self::GrpcStatus(GrpcStatusForm::Number)
                | Self::HeadBytes(_)
                | Self::ResponseCode
                | Self::UpstreamConnectionId
                | Self::UpstreamRequestAttemptCount
                | Self::Zero
        )
    }

    /// Writes the value; none, perhaps after a part of it, if there is no value.
    fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        if let Some(number) = self.number(inputs) {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            return Some(());
        }
        let stream = inputs.stream;
        match self {
            Self::Address(peer, part) => return part.write(peer.address(inputs)?, out),
            Self::Cel { program, typed: _ } => return program.write(inputs, out),
            Self::Coalesce(coalesce) => return coalesce.write(inputs, out),
            Self::FilterState(object) => return object.write(stream, out),
            Self::GrpcStatus(form) => return form.write(inputs, out),
            Self::Metadata(metadata) => return metadata.write(inputs, out),
            Self::QueryParam(name) => {
                let value = query_param(query(inputs.request?)?, name)?;
                percent_decode(value, stands_in_a_header, out);
            }
            Self::QueryParams { decoded: true } => {
                percent_decode(query(inputs.request?)?, stands_in_a_query, out);
            }
            Self::RequestedServerName(source) => out.extend_from_slice(&source.name(inputs)?),
            Self::Response(header) => return header.write_response(inputs.response?, out),
            Self::ResponseCodeDetails { allow_whitespace } => {
                return write_details(stream.response_code_details()?, *allow_whitespace, out);
            }
            Self::ResponseFlags { long } => write_flags(stream.response_flags(), *long, out),
            Self::Time(moment, format) => return moment.write(inputs, format, out),
            Self::Tls(command) => return command.write(inputs, out),
            Self::UniqueId => write_unique_id(out),
            Self::UpstreamConnectionIdsAttempted => {
                let id = stream.upstream_connection_id()?;
                out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
            }
            Self::UpstreamHostName { port } => return host_name(inputs, *port, out),
            Self::UpstreamHostsAttempted(hosts) => return hosts.write(inputs, out),
            Self::UpstreamTransportFailureReason => {
                out.extend_from_slice(stream.upstream_transport_failure_reason()?.as_bytes());
            }
            _ => out.extend_from_slice(self.text(inputs)?),
        }
        Some(())
    }

    /// The value, where it is found as it is shown.
    fn text<'a>(&'a self, inputs: &Inputs<'a>) -> Option<&'a [u8]> {
        let stream = inputs.stream;
        let text = match self {
            Self::AccessLogType => inputs.entry_type.name(),
            Self::ConnectionTerminationDetails => stream.connection_termination_details()?,
            Self::DownstreamTransportFailureReason => {
                stream.downstream_transport_failure_reason()?
            }
            Self::EndpointId(peer) => peer.address(inputs).map(|_| "")?,
            Self::FilterChainName => stream.filter_chain_name()?,
            Self::ListenerName => stream.listener_name()?,
            Self::Protocol => stream.protocol()?.as_str(),
            Self::RouteName => stream.route_name().filter(|name| !name.is_empty())?,
            Self::TlsFingerprint(kind) => kind.of(stream.listener_facts()?)?,
            Self::UpstreamCluster => stream.upstream_cluster()?,
            Self::UpstreamClusterRaw => stream.upstream_cluster_raw()?,
            Self::UpstreamProtocol => stream.upstream_protocol()?.as_str(),
            Self::VirtualClusterName => stream.virtual_cluster_name()?,
            _ => return self.bytes(inputs),
        };
        Some(text.as_bytes())
    }

    /// The value, where it need not be UTF-8.
    fn bytes<'a>(&'a self, inputs: &Inputs<'a>) -> Option<&'a [u8]> {
        Some(match self {
            Self::Fixed(value) => value,
            Self::LocalReplyBody => inputs.local_reply_body,
            Self::Path { query, original } => original.path(inputs.request?, *query)?,
            Self::QueryParams { decoded: false } => query(inputs.request?)?,
            Self::Request(header) => header.in_request(inputs.request?)?,
            Self::RequestWithoutQuery(header) => without_query(header.in_request(inputs.request?)?),
            // As in Envoy, a request to a host has none.
            Self::StreamId if inputs.entry_type.is_upstream() => return None,
            Self::StreamId => inputs.request?.fields.get(FieldName::XRequestId)?,
            Self::Trailer(header) => header.in_fields(inputs.trailers?)?,
            _ => return None,
        })
    }
}

impl Moment {
    fn write(self, inputs: &Inputs<'_>, format: &TimeFormat, out: &mut Vec<u8>) -> Option<()> {
        let time = match self {
            Self::Emit => Timestamp::now(),
            Self::Start => {
                Timestamp::try_from(inputs.stream.start_time()).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        };
        format.write(time, out);
        Some(())
    }
}

impl Fingerprint {
    fn of(self, facts: &ListenerFacts) -> Option<&str> {
        match self {
            Self::Ja3 => facts.ja3.as_deref(),
            Self::Ja4 => facts.ja4.as_deref(),
        }
    }
}

impl ServerNameSource {
    fn name<'a>(self, inputs: &Inputs<'a>) -> Option<Cow<'a, [u8]>> {
        let sni = || match crate::untrusted::server_name(inputs.stream.requested_server_name()?) {
            Cow::Borrowed(name) => Some(Cow::Borrowed(name.as_bytes())),
            Cow::Owned(name) => Some(Cow::Owned(name.into_bytes())),
        };
        let host = || inputs.request?.authority().map(Cow::Borrowed);
        match self {
            Self::HostFirst => host().or_else(sni),
            Self::SniFirst => sni().or_else(host),
            Self::SniOnly => sni(),
        }
    }
}

fn write_details(details: &str, allow_whitespace: bool, out: &mut Vec<u8>) -> Option<()> {
    let space = |byte: u8| if byte.is_ascii_whitespace() { b'_' } else { byte };
    out.extend(details.bytes().map(|byte| if allow_whitespace { byte } else { space(byte) }));
    Some(())
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'?').next().unwrap_or_default()
}

/// A request without flags has a value too, also in headers.
fn write_flags(flags: Flags, long: bool, out: &mut Vec<u8>) {
    flags.write(if long { Flag::long } else { Flag::short }, out);
    if flags.is_empty() {
        out.push(b'-');
    }
}

/// Another one each time.
fn write_unique_id(out: &mut Vec<u8>) {
    let mut text = *b"00000000-0000-4000-8000-000000000000";
    uuid::v4(fastrand::u64(..), fastrand::u64(..), &mut text);
    out.extend_from_slice(&text);
}
