//! The commands of a format, and where each finds its value.

use std::time::Duration;

use jiff::Timestamp;

use super::heads::{
    GrpcStatusForm, HeaderLookup, PathSource, percent_decode, query, query_param,
    stands_in_a_header, stands_in_a_query,
};
use super::metadata::Noted;
use super::names::ENVOYS_OTHERS;
use super::time::TimeFormat;
use super::tls::TlsCommand;
use super::{Inputs, Token, write_display, write_ip};
use crate::address::Address;
use crate::flags::Flag;
use crate::http::FieldName;
use crate::listener_facts::ListenerFacts;

/// One command with its parameters.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Address(Peer, AddressPart),
    Bytes {
        sent: bool,
    },
    ConnectionId,
    ConnectionTerminationDetails,
    DownstreamTransportFailureReason,
    Duration(Span),
    /// Looked up when the format is compiled: neither changes while the process runs.
    Fixed(Box<[u8]>),
    GrpcStatus(GrpcStatusForm),
    LocalReplyBody,
    Noted(Noted),
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
    StartTime(TimeFormat),
    StreamId,
    TlsFingerprint(Fingerprint),
    Tls(TlsCommand),
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamConnectionId,
    UpstreamHostName {
        port: bool,
    },
    UpstreamRequestAttemptCount,
    UpstreamTransportFailureReason,
    VirtualClusterName,
}

/// The side of an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    DownstreamDirectRemote,
    DownstreamLocal,
    DownstreamRemote,
    UpstreamHost,
    UpstreamLocal,
    UpstreamRemote,
}

/// The part of an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum AddressPart {
    All,
    Ip,
    Port,
}

/// The two points in time of a duration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    Request,
    Response,
    ResponseTx,
    Total,
}

/// How the fingerprint of a TLS client is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fingerprint {
    Ja3,
    Ja4,
}

/// Where the name of the requested server is taken from.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServerNameSource {
    HostFirst,
    SniFirst,
    SniOnly,
}

/// The parameters that a command accepts.
enum Takes {
    Nothing,
    OptionalParameters,
    Parameters,
}

impl Command {
    pub(super) fn new(token: &Token<'_>) -> Result<Self, String> {
        let (takes, takes_length) = accepted(token.name);
        match takes {
            Takes::Nothing if !token.parameters.is_empty() || token.bytes_max.is_some() => {
                return Err(format!("{} does not take any parameters or length", token.name));
            }
            Takes::Parameters if token.parameters.is_empty() => {
                return Err(format!("{} requires parameters", token.name));
            }
            _ if token.bytes_max.is_some() && !takes_length => {
                return Err(format!("{} does not allow length to be specified.", token.name));
            }
            _ => {}
        }
        if let Some(command) = TlsCommand::new(token.name, token.parameters)? {
            return Ok(Self::Tls(command));
        }
        if let Some(command) = Self::with_parameters(token)? {
            return Ok(command);
        }
        Self::without_parameters(token.name).ok_or_else(|| {
            if ENVOYS_OTHERS.contains(&token.name) {
                format!("{} is a valid Envoy command, not implemented by Corvoy", token.name)
            } else {
                format!("Not supported field in StreamInfo: {}", token.name)
            }
        })
    }

    /// Writes the value to `out`; `false` if there is none.
    pub(super) fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> bool {
        self.try_write(inputs, out).is_some()
    }

    /// The value as a number, if it is one.
    pub(super) fn number(&self, inputs: &Inputs<'_>) -> Option<u64> {
        let stream = inputs.stream;
        match self {
            Self::Address(peer, AddressPart::Port) => {
                peer.address(inputs).and_then(Address::port).map(u64::from)
            }
            Self::Bytes { sent: true } => Some(stream.bytes_sent()),
            Self::Bytes { sent: false } => Some(stream.bytes_received()),
            Self::ConnectionId => stream.connection_id(),
            Self::Duration(span) => {
                let duration = span.duration(inputs)?;
                Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            }
            // No response is shown as 0.
            Self::ResponseCode => Some(stream.response_code().unwrap_or(0).into()),
            Self::UpstreamConnectionId => Some(stream.upstream_connection_id().unwrap_or(0)),
            Self::UpstreamRequestAttemptCount => {
                Some(stream.upstream_request_attempt_count().into())
            }
            _ => None,
        }
    }

    /// Whether the value is a number whenever there is one.
    pub(super) const fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Address(_, AddressPart::Port)
                | Self::Bytes { .. }
                | Self::ConnectionId
                | Self::Duration(_)
                | Self::ResponseCode
                | Self::UpstreamConnectionId
                | Self::UpstreamRequestAttemptCount
        )
    }

    fn try_write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        if self.is_number() {
            let number = self.number(inputs)?;
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            return Some(());
        }
        let stream = inputs.stream;
        let text: &[u8] = match self {
            Self::Address(peer, part) => return part.write(peer.address(inputs)?, out),
            Self::ConnectionTerminationDetails => {
                stream.connection_termination_details()?.as_bytes()
            }
            Self::Fixed(value) => value,
            Self::GrpcStatus(form) => return form.write(inputs, stream.response_code(), out),
            Self::LocalReplyBody => inputs.local_reply_body,
            Self::Noted(noted) => return noted.write(stream, out),
            Self::Path { query, original } => original.path(inputs.request?, *query)?,
            Self::Protocol => stream.protocol()?.as_str().as_bytes(),
            Self::QueryParam(name) => {
                let value = query_param(query(inputs.request?)?, name)?;
                percent_decode(value, stands_in_a_header, out);
                return Some(());
            }
            Self::QueryParams { decoded: false } => query(inputs.request?)?,
            Self::QueryParams { decoded: true } => {
                percent_decode(query(inputs.request?)?, stands_in_a_query, out);
                return Some(());
            }
            Self::Request(header) => header.in_request(inputs.request?)?,
            Self::RequestedServerName(source) => source.name(inputs)?,
            Self::Response(header) => header.in_response(inputs, out)?,
            Self::ResponseCodeDetails { allow_whitespace } => {
                return write_details(stream.response_code_details()?, *allow_whitespace, out);
            }
            Self::ResponseFlags { long } => {
                let flags = stream.response_flags();
                flags.write(if *long { Flag::long } else { Flag::short }, out);
                // The value of a request without flags, also in headers.
                if flags.is_empty() {
                    out.push(b'-');
                }
                return Some(());
            }
            Self::RouteName => stream.route_name().filter(|name| !name.is_empty())?.as_bytes(),
            Self::StartTime(format) => {
                let time = Timestamp::try_from(stream.start_time());
                format.write(time.unwrap_or(Timestamp::UNIX_EPOCH), out);
                return Some(());
            }
            Self::StreamId => inputs.request?.fields.get(FieldName::XRequestId)?,
            Self::Tls(command) => return command.write(inputs, out),
            Self::TlsFingerprint(kind) => kind.of(stream.listener_facts()?)?.as_bytes(),
            Self::UpstreamCluster => stream.upstream_cluster()?.as_bytes(),
            Self::UpstreamClusterRaw => stream.upstream_cluster_raw()?.as_bytes(),
            Self::UpstreamHostName { port } => return host_name(inputs, *port, out),
            Self::UpstreamTransportFailureReason => {
                out.extend_from_slice(stream.upstream_transport_failure_reason()?.as_bytes());
                return Some(());
            }
            Self::DownstreamTransportFailureReason => {
                stream.downstream_transport_failure_reason()?.as_bytes()
            }
            Self::VirtualClusterName => stream.virtual_cluster_name()?.as_bytes(),
            Self::Bytes { .. }
            | Self::ConnectionId
            | Self::Duration(_)
            | Self::ResponseCode
            | Self::UpstreamConnectionId
            | Self::UpstreamRequestAttemptCount => return None,
        };
        out.extend_from_slice(text);
        Some(())
    }

    fn with_parameters(token: &Token<'_>) -> Result<Option<Self>, String> {
        let parameters = token.parameters;
        Ok(Some(match token.name {
            "REQ" | "REQUEST_HEADER" => Self::Request(HeaderLookup::new(parameters)?),
            "RESP" | "RESPONSE_HEADER" => Self::Response(HeaderLookup::new(parameters)?),
            "DYNAMIC_METADATA" => Self::Noted(Noted::metadata(parameters)),
            "FILTER_STATE" => Self::Noted(Noted::filter_state(parameters)?),
            "START_TIME" => Self::StartTime(TimeFormat::new(parameters)?),
            "RESPONSE_CODE_DETAILS" => {
                Self::ResponseCodeDetails { allow_whitespace: parameters == "ALLOW_WHITESPACES" }
            }
            "QUERY_PARAM" => Self::QueryParam(parameters.as_bytes().into()),
            "QUERY_PARAMS" => Self::QueryParams {
                decoded: match parameters {
                    "" | "ORIG" => false,
                    "DECODED" => true,
                    other => {
                        return Err(format!(
                            "Invalid QUERY_PARAMS option: '{other}', \
                             only 'ORIG'/'DECODED' are allowed"
                        ));
                    }
                },
            },
            "PATH" => path(parameters)?,
            "REQUESTED_SERVER_NAME" => Self::RequestedServerName(match parameters {
                "" | "SNI_ONLY" => ServerNameSource::SniOnly,
                "SNI_FIRST" => ServerNameSource::SniFirst,
                "HOST_FIRST" => ServerNameSource::HostFirst,
                other => {
                    return Err(format!(
                        "Invalid REQUESTED_SERVER_NAME option: '{other}', only \
                         'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
                    ));
                }
            }),
            "ENVIRONMENT" => {
                let value = std::env::var_os(parameters);
                Self::Fixed(
                    value
                        .map_or_else(|| b"-"[..].into(), |value| value.into_encoded_bytes().into()),
                )
            }
            "GRPC_STATUS" => Self::GrpcStatus(match parameters {
                "" | "CAMEL_STRING" => GrpcStatusForm::Camel,
                "SNAKE_STRING" => GrpcStatusForm::Snake,
                "NUMBER" => GrpcStatusForm::Number,
                other => {
                    return Err(format!(
                        "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. \
                         Got: {other}"
                    ));
                }
            }),
            _ => return Ok(None),
        }))
    }

    fn without_parameters(name: &str) -> Option<Self> {
        use AddressPart::{All, Ip, Port};
        use Peer::{
            DownstreamDirectRemote, DownstreamLocal, DownstreamRemote, UpstreamHost, UpstreamLocal,
            UpstreamRemote,
        };
        Some(match name {
            "BYTES_RECEIVED" => Self::Bytes { sent: false },
            "BYTES_SENT" => Self::Bytes { sent: true },
            "CONNECTION_ID" => Self::ConnectionId,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTerminationDetails,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Self::Address(DownstreamDirectRemote, All),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Self::Address(DownstreamDirectRemote, Ip)
            }
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => Self::Address(DownstreamDirectRemote, Port),
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::Address(DownstreamLocal, All),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::Address(DownstreamLocal, Ip),
            "DOWNSTREAM_LOCAL_PORT" => Self::Address(DownstreamLocal, Port),
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::Address(DownstreamRemote, All),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::Address(DownstreamRemote, Ip),
            "DOWNSTREAM_REMOTE_PORT" => Self::Address(DownstreamRemote, Port),
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Self::DownstreamTransportFailureReason,
            "DURATION" => Self::Duration(Span::Total),
            "GRPC_STATUS_NUMBER" => Self::GrpcStatus(GrpcStatusForm::Number),
            "HOSTNAME" => Self::Fixed(host_name_of_machine()),
            "LOCAL_REPLY_BODY" => Self::LocalReplyBody,
            "PROTOCOL" => Self::Protocol,
            "REQUEST_DURATION" => Self::Duration(Span::Request),
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_DURATION" => Self::Duration(Span::Response),
            "RESPONSE_FLAGS" => Self::ResponseFlags { long: false },
            "RESPONSE_FLAGS_LONG" => Self::ResponseFlags { long: true },
            "RESPONSE_TX_DURATION" => Self::Duration(Span::ResponseTx),
            "ROUTE_NAME" => Self::RouteName,
            "STREAM_ID" => Self::StreamId,
            "TLS_JA3_FINGERPRINT" => Self::TlsFingerprint(Fingerprint::Ja3),
            "TLS_JA4_FINGERPRINT" => Self::TlsFingerprint(Fingerprint::Ja4),
            "UPSTREAM_CLUSTER" => Self::UpstreamCluster,
            "UPSTREAM_CLUSTER_RAW" => Self::UpstreamClusterRaw,
            "UPSTREAM_CONNECTION_ID" => Self::UpstreamConnectionId,
            "UPSTREAM_HOST" => Self::Address(UpstreamHost, All),
            "UPSTREAM_REMOTE_ADDRESS" => Self::Address(UpstreamRemote, All),
            "UPSTREAM_HOST_NAME" => Self::UpstreamHostName { port: true },
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Self::UpstreamHostName { port: false },
            "UPSTREAM_LOCAL_ADDRESS" => Self::Address(UpstreamLocal, All),
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::Address(UpstreamLocal, Ip),
            "UPSTREAM_LOCAL_PORT" => Self::Address(UpstreamLocal, Port),
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::Address(UpstreamRemote, Ip),
            "UPSTREAM_REMOTE_PORT" => Self::Address(UpstreamRemote, Port),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::UpstreamRequestAttemptCount,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamTransportFailureReason,
            "VIRTUAL_CLUSTER_NAME" => Self::VirtualClusterName,
            _ => return None,
        })
    }
}

impl Peer {
    fn address(self, inputs: &Inputs<'_>) -> Option<Address> {
        let stream = inputs.stream;
        match self {
            Self::DownstreamDirectRemote => stream.downstream_direct_remote_address(),
            Self::DownstreamLocal => stream.downstream_local_address(),
            Self::DownstreamRemote => stream.downstream_remote_address(),
            Self::UpstreamHost => stream.upstream_host(),
            Self::UpstreamLocal => stream.upstream_local_address(),
            Self::UpstreamRemote => stream.upstream_remote_address(),
        }
    }
}

impl AddressPart {
    fn write(self, address: Address, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::All => write_display(&address, out),
            Self::Ip => match address.ip() {
                Some(ip) => write_ip(ip, out),
                None => write_display(&address, out),
            },
            // A number, written as one.
            Self::Port => return None,
        }
        Some(())
    }
}

impl Span {
    fn duration(self, inputs: &Inputs<'_>) -> Option<Duration> {
        let stream = inputs.stream;
        match self {
            Self::Request => stream.request_duration(),
            Self::Response => stream.response_duration(),
            Self::ResponseTx => stream.response_tx_duration(),
            Self::Total => stream.duration(),
        }
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
    fn name<'a>(self, inputs: &Inputs<'a>) -> Option<&'a [u8]> {
        let sni = || inputs.stream.requested_server_name().map(str::as_bytes);
        let host = || inputs.request?.authority();
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

/// The parameters that a command accepts, and whether it accepts a length.
fn accepted(name: &str) -> (Takes, bool) {
    match name {
        "REQ" | "REQUEST_HEADER" | "RESP" | "RESPONSE_HEADER" | "QUERY_PARAM" | "ENVIRONMENT"
        | "DYNAMIC_METADATA" | "FILTER_STATE" => (Takes::Parameters, true),
        "START_TIME" => (Takes::OptionalParameters, false),
        name if TlsCommand::takes_parameters(name) => (Takes::OptionalParameters, false),
        "PATH" | "QUERY_PARAMS" | "REQUESTED_SERVER_NAME" => (Takes::OptionalParameters, true),
        "RESPONSE_CODE_DETAILS" | "GRPC_STATUS" => (Takes::OptionalParameters, false),
        name if ENVOYS_OTHERS.contains(&name) => (Takes::OptionalParameters, true),
        _ => (Takes::Nothing, false),
    }
}

fn path(parameters: &str) -> Result<Command, String> {
    // Envoy: the rest is ignored.
    let mut options = parameters.split(':');
    let query = match options.next().unwrap_or_default() {
        "" | "WQ" => true,
        "NQ" => false,
        other => {
            return Err(format!("Invalid PATH option: '{other}', only 'WQ'/'NQ' are allowed"));
        }
    };
    let original = match options.next().unwrap_or_default() {
        "" | "ORIG_OR_PATH" => PathSource::OriginalOrPath,
        "ORIG" => PathSource::Original,
        "PATH" => PathSource::Path,
        other => {
            return Err(format!(
                "Invalid PATH option: '{other}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"
            ));
        }
    };
    Ok(Command::Path { query, original })
}

/// The endpoint's hostname, or its address if it has none.
fn host_name(inputs: &Inputs<'_>, port: bool, out: &mut Vec<u8>) -> Option<()> {
    let address = inputs.stream.upstream_host();
    let name = inputs.stream.upstream_host_name().filter(|name| !name.is_empty());
    match (name, address) {
        (Some(name), _) => {
            let end = if port { None } else { name.rfind(':') };
            out.extend_from_slice(name.get(..end.unwrap_or(name.len()))?.as_bytes());
            Some(())
        }
        (None, Some(address)) if port => AddressPart::All.write(address, out),
        (None, Some(address)) => AddressPart::Ip.write(address, out),
        (None, None) => None,
    }
}

/// The kernel's name of this machine; `-` if it cannot be read.
pub(crate) fn host_name_of_machine() -> Box<[u8]> {
    let name = std::fs::read("/proc/sys/kernel/hostname");
    name.map_or_else(|_| b"-"[..].into(), |name| name.trim_ascii().into())
}
