//! Commands as they stand in a format: names and parameters.

use super::coalesce::Coalesce;
use super::{Command, Fingerprint, Moment, ServerNameSource};
use crate::cel::Program;
use crate::format::address::{AddressPart, Hosts, Peer};
use crate::format::duration::Span;
use crate::format::heads::{GrpcStatusForm, HeadBytes, HeaderLookup, PathSource};
use crate::format::metadata::{MetadataPath, Source, StateObject};
use crate::format::names::ENVOYS_OTHERS;
use crate::format::stream_info::TimePoint;
use crate::format::time::{TimeFormat, Zone};
use crate::format::tls::TlsCommand;
use crate::format::{Extensions, Token};
use crate::metadata::MetadataOf;

/// The parameters that a command accepts.
enum Takes {
    Nothing,
    OptionalParameters,
    Parameters,
}

impl Command {
    pub(super) fn new(token: &Token<'_>, extensions: Extensions) -> Result<Self, String> {
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
        if let Some(command) = Self::with_parameters(token, extensions)? {
            return Ok(command);
        }
        let command = Self::of_network(token.name).or_else(|| Self::of_request(token.name));
        command.ok_or_else(|| {
            if ENVOYS_OTHERS.contains(&token.name) {
                format!("{} is a valid Envoy command, not implemented by Corvoy", token.name)
            } else {
                format!("Not supported field in StreamInfo: {}", token.name)
            }
        })
    }

    fn with_parameters(token: &Token<'_>, extensions: Extensions) -> Result<Option<Self>, String> {
        let parameters = token.parameters;
        if let Some(peer) = token.name.strip_suffix("_ADDRESS_WITHOUT_PORT").and_then(Peer::of) {
            return Ok(Some(Self::Address(peer, AddressPart::network(parameters))));
        }
        Ok(Some(match token.name {
            "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" => {
                Self::Request(HeaderLookup::new(parameters)?)
            }
            "RESP" | "RESPONSE_HEADER" => Self::Response(HeaderLookup::new(parameters)?),
            "TRAILER" | "RESPONSE_TRAILER" => Self::Trailer(HeaderLookup::new(parameters)?),
            "REQ_WITHOUT_QUERY" if extensions.req_without_query => {
                Self::RequestWithoutQuery(HeaderLookup::new(parameters)?)
            }
            "CEL" => Self::Cel { program: Program::new(parameters)?, typed: false },
            "TYPED_CEL" => Self::Cel { program: Program::new(parameters)?, typed: true },
            "CLUSTER_METADATA" => {
                let of = Source::Static(MetadataOf::Cluster);
                Self::Metadata(MetadataPath::new(of, parameters))
            }
            "COALESCE" => Self::Coalesce(Coalesce::new(parameters, token.bytes_max)?),
            "COMMON_DURATION" => Self::Duration(Span::common(parameters)?),
            "DYNAMIC_METADATA" => Self::Metadata(MetadataPath::new(Source::Dynamic, parameters)),
            "FILTER_STATE" => Self::FilterState(StateObject::new(parameters)?),
            "METADATA" => metadata(parameters)?,
            "EMIT_TIME" => Self::Time(Moment::Emit, TimeFormat::new(parameters, Zone::Utc)?),
            "EMIT_TIME_LOCAL" => {
                Self::Time(Moment::Emit, TimeFormat::new(parameters, Zone::Local)?)
            }
            "START_TIME" => Self::Time(Moment::Start, TimeFormat::new(parameters, Zone::Utc)?),
            "START_TIME_LOCAL" => {
                Self::Time(Moment::Start, TimeFormat::new(parameters, Zone::Local)?)
            }
            "RESPONSE_CODE_DETAILS" => {
                Self::ResponseCodeDetails { allow_whitespace: parameters == "ALLOW_WHITESPACES" }
            }
            "QUERY_PARAM" => Self::QueryParam(parameters.as_bytes().into()),
            "QUERY_PARAMS" => query_params(parameters)?,
            "PATH" => path(parameters)?,
            "REQUESTED_SERVER_NAME" => requested_server_name(parameters)?,
            "ENVIRONMENT" => Self::Fixed(environment(parameters)),
            "GRPC_STATUS" => Self::GrpcStatus(GrpcStatusForm::new(parameters)?),
            "UPSTREAM_FILTER_STATE" => {
                // Only filters that are refused set any.
                StateObject::check(parameters)?;
                Self::Unset
            }
            "UPSTREAM_METADATA" => {
                let of = Source::Static(MetadataOf::UpstreamHost);
                Self::Metadata(MetadataPath::new(of, parameters))
            }
            _ => return Ok(None),
        }))
    }

    /// About connections and the times of their bytes.
    fn of_network(name: &str) -> Option<Self> {
        let to_end_of = |point| Self::Duration(Span::between(TimePoint::DownstreamRxBegin, point));
        if let Some((peer, part)) = address(name) {
            return Some(Self::Address(peer, part));
        }
        if let Some(peer) = name.strip_suffix("_ADDRESS_ENDPOINT_ID").and_then(Peer::of) {
            return matches!(
                peer,
                Peer::DownstreamDirectLocal | Peer::DownstreamLocal | Peer::UpstreamRemote
            )
            .then_some(Self::EndpointId(peer));
        }
        Some(match name {
            "BYTES_RECEIVED" => Self::Bytes { sent: false },
            "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => Self::Zero,
            "BYTES_SENT" => Self::Bytes { sent: true },
            "CONNECTION_ID" => Self::ConnectionId,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTerminationDetails,
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Self::DownstreamTransportFailureReason,
            "DURATION" => Self::Duration(Span::ALL),
            "FILTER_CHAIN_NAME" => Self::FilterChainName,
            "LISTENER_NAME" => Self::ListenerName,
            "REQUEST_DURATION" => to_end_of(TimePoint::DownstreamRxEnd),
            "RESPONSE_DURATION" => to_end_of(TimePoint::UpstreamRxBegin),
            "RESPONSE_TX_DURATION" => Self::Duration(Span::between(
                TimePoint::UpstreamRxBegin,
                TimePoint::DownstreamTxEnd,
            )),
            // Only QUIC measures it.
            "ROUNDTRIP_DURATION" => Self::Unset,
            "TLS_JA3_FINGERPRINT" => Self::TlsFingerprint(Fingerprint::Ja3),
            "TLS_JA4_FINGERPRINT" => Self::TlsFingerprint(Fingerprint::Ja4),
            "UPSTREAM_CONNECTION_ID" => Self::UpstreamConnectionId,
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => Self::UpstreamConnectionIdsAttempted,
            "UPSTREAM_HOSTS_ATTEMPTED" => Self::UpstreamHostsAttempted(Hosts::Addresses),
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => Self::UpstreamHostsAttempted(Hosts::Ips),
            "UPSTREAM_HOST_NAME" => Self::UpstreamHostName { port: true },
            "UPSTREAM_HOST_NAMES_ATTEMPTED" => Self::UpstreamHostsAttempted(Hosts::Names),
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => {
                Self::UpstreamHostsAttempted(Hosts::NamesWithoutPort)
            }
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Self::UpstreamHostName { port: false },
            "UPSTREAM_PROTOCOL" => Self::UpstreamProtocol,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamTransportFailureReason,
            _ => return None,
        })
    }

    /// About a request, and what serves it.
    fn of_request(name: &str) -> Option<Self> {
        Some(match name {
            "ACCESS_LOG_TYPE" => Self::AccessLogType,
            // Only extensions that are refused set any.
            "CUSTOM_FLAGS" => Self::Fixed([].into()),
            "GRPC_STATUS_NUMBER" => Self::GrpcStatus(GrpcStatusForm::Number),
            "HOSTNAME" => Self::Fixed(host_name_of_machine()),
            "LOCAL_REPLY_BODY" => Self::LocalReplyBody,
            "PROTOCOL" => Self::Protocol,
            "REQUEST_HEADERS_BYTES" => Self::HeadBytes(HeadBytes::Request),
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags { long: false },
            "RESPONSE_FLAGS_LONG" => Self::ResponseFlags { long: true },
            "RESPONSE_HEADERS_BYTES" => Self::HeadBytes(HeadBytes::Response),
            "RESPONSE_TRAILERS_BYTES" => Self::HeadBytes(HeadBytes::Trailers),
            "ROUTE_NAME" => Self::RouteName,
            // Only tracing sets them, and it is refused.
            "SPAN_ID" | "TRACE_ID" => Self::Unset,
            "STREAM_ID" => Self::StreamId,
            "UNIQUE_ID" => Self::UniqueId,
            "UPSTREAM_CLUSTER" => Self::UpstreamCluster,
            "UPSTREAM_CLUSTER_RAW" => Self::UpstreamClusterRaw,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::UpstreamRequestAttemptCount,
            "VIRTUAL_CLUSTER_NAME" => Self::VirtualClusterName,
            _ => return None,
        })
    }
}

/// The parameters that a command accepts, and whether it accepts a length.
fn accepted(name: &str) -> (Takes, bool) {
    match name {
        "REQ" | "REQUEST_HEADER" | "STREAM_INFO_REQ" | "RESP" | "RESPONSE_HEADER" | "TRAILER"
        | "RESPONSE_TRAILER" | "QUERY_PARAM" | "ENVIRONMENT" | "DYNAMIC_METADATA"
        | "FILTER_STATE" | "COALESCE" => (Takes::Parameters, true),
        "CLUSTER_METADATA" | "COMMON_DURATION" | "UPSTREAM_METADATA" => (Takes::Parameters, false),
        "EMIT_TIME" | "EMIT_TIME_LOCAL" | "START_TIME" | "START_TIME_LOCAL" => {
            (Takes::OptionalParameters, false)
        }
        name if TlsCommand::takes_parameters(name) => (Takes::OptionalParameters, false),
        "CEL"
        | "TYPED_CEL"
        | "METADATA"
        | "PATH"
        | "QUERY_PARAMS"
        | "REQUESTED_SERVER_NAME"
        | "UPSTREAM_FILTER_STATE" => (Takes::OptionalParameters, true),
        "REQ_WITHOUT_QUERY" => (Takes::OptionalParameters, true),
        "RESPONSE_CODE_DETAILS" | "GRPC_STATUS" => (Takes::OptionalParameters, false),
        name if name.ends_with("_ADDRESS_WITHOUT_PORT") => (Takes::OptionalParameters, false),
        name if ENVOYS_OTHERS.contains(&name) => (Takes::OptionalParameters, true),
        _ => (Takes::Nothing, false),
    }
}

fn address(name: &str) -> Option<(Peer, AddressPart)> {
    if name == "UPSTREAM_HOST" {
        return Some((Peer::UpstreamHost, AddressPart::All));
    }
    let (peer, part) = match name.strip_suffix("_ADDRESS") {
        Some(peer) => (peer, AddressPart::All),
        None => (name.strip_suffix("_PORT")?, AddressPart::Port),
    };
    Some((Peer::of(peer)?, part))
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

fn query_params(parameters: &str) -> Result<Command, String> {
    let decoded = match parameters {
        "" | "ORIG" => false,
        "DECODED" => true,
        other => {
            return Err(format!(
                "Invalid QUERY_PARAMS option: '{other}', only 'ORIG'/'DECODED' are allowed"
            ));
        }
    };
    Ok(Command::QueryParams { decoded })
}

fn requested_server_name(parameters: &str) -> Result<Command, String> {
    Ok(Command::RequestedServerName(match parameters {
        "" | "SNI_ONLY" => ServerNameSource::SniOnly,
        "SNI_FIRST" => ServerNameSource::SniFirst,
        "HOST_FIRST" => ServerNameSource::HostFirst,
        other => {
            return Err(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{other}', only \
                 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
            ));
        }
    }))
}

/// `METADATA(TYPE:namespace:key…)`
fn metadata(parameters: &str) -> Result<Command, String> {
    let (kind, path) = parameters.split_once(':').unwrap_or((parameters, ""));
    let of = match kind {
        "CLUSTER" => Source::Static(MetadataOf::Cluster),
        "DYNAMIC" => Source::Dynamic,
        "LISTENER" => Source::Static(MetadataOf::Listener),
        "LISTENER_FILTER_CHAIN" => Source::Static(MetadataOf::FilterChain),
        "ROUTE" => Source::Static(MetadataOf::Route),
        "UPSTREAM_HOST" => Source::Static(MetadataOf::UpstreamHost),
        "VIRTUAL_HOST" => Source::Static(MetadataOf::VirtualHost),
        other => return Err(format!("{other} is not supported type of metadata")),
    };
    Ok(Command::Metadata(MetadataPath::new(of, path)))
}

/// The value of a variable, which never changes; `-` if it is not set.
fn environment(name: &str) -> Box<[u8]> {
    let value = std::env::var_os(name);
    value.map_or_else(|| b"-"[..].into(), |value| value.into_encoded_bytes().into())
}

/// The kernel's name of this machine; `-` if it cannot be read.
pub(crate) fn host_name_of_machine() -> Box<[u8]> {
    let name = std::fs::read("/proc/sys/kernel/hostname");
    name.map_or_else(|_| b"-"[..].into(), |name| name.trim_ascii().into())
}
