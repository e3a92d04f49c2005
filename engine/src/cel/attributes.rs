//! The attributes of Envoy that an expression can read, and where each finds its value.

use std::borrow::Cow;
use std::collections::HashMap;

use cel::Context;
use cel::common::types::{
    CelBool, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
    CelTimestamp,
};
use cel::common::value::Val;
use serde_json::Value;

use super::check::{Attributes, Fields};
use crate::address::Address;
use crate::flags::{Flag, Flags};
use crate::format::heads::{HeadBytes, grpc_status};
use crate::format::stream_info::Inputs;
use crate::http::{self, FieldName, RequestHead};
use crate::metadata::{Metadata, MetadataOf};
use crate::transport::tls::certificate::{Certificate, Details};
use crate::transport::tls::facts::TlsFacts;
use crate::untrusted;

type Any<'a> = Box<dyn Val + 'a>;

/// The names that an expression can begin with.
pub(super) const ROOTS: [&str; 8] =
    ["connection", "destination", "metadata", "request", "response", "source", "upstream", "xds"];

/// Names that Envoy has besides.
pub(super) const LACKING_ROOTS: [&str; 2] = ["filter_state", "upstream_filter_state"];

/// Attributes that Envoy has and Corvoy does not.
pub(super) const LACKING: &[(&str, &str)] = &[
    ("response", "backend_latency"),
    ("upstream", "cx_pool_ready_duration"),
    ("upstream", "locality"),
    ("upstream", "num_endpoints"),
    ("xds", "listener_direction"),
    ("xds", "node"),
    ("xds", "virtual_host_name"),
];

/// Makes the values of these attributes known to an expression.
pub(super) fn bind<'a>(
    attributes: &Attributes,
    inputs: &Inputs<'a>,
    context: &mut Context<'_, 'a>,
) {
    for (root, fields) in attributes {
        let mut map = HashMap::new();
        let mut add = |name: &'static str| {
            if let Some(value) = value(root, name, inputs) {
                map.insert(CelMapKey::from(name), value);
            }
        };
        match fields {
            Fields::All => {
                FIELDS.iter().filter(|(of, _)| of == root).for_each(|(_, name)| add(name));
            }
            Fields::Some(names) => names.iter().for_each(|name| add(name)),
        }
        context.add_variable_as_val(*root, Box::new(CelMap::from(map)));
    }
}

/// All attributes, by root and name.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("connection", "dns_san_local_certificate"),
    ("connection", "dns_san_peer_certificate"),
    ("connection", "id"),
    ("connection", "mtls"),
    ("connection", "requested_server_name"),
    ("connection", "sha256_peer_certificate_digest"),
    ("connection", "subject_local_certificate"),
    ("connection", "subject_peer_certificate"),
    ("connection", "termination_details"),
    ("connection", "tls_version"),
    ("connection", "transport_failure_reason"),
    ("connection", "uri_san_local_certificate"),
    ("connection", "uri_san_peer_certificate"),
    ("destination", "address"),
    ("destination", "port"),
    ("metadata", "filter_metadata"),
    ("request", "duration"),
    ("request", "headers"),
    ("request", "host"),
    ("request", "id"),
    ("request", "method"),
    ("request", "path"),
    ("request", "protocol"),
    ("request", "query"),
    ("request", "referer"),
    ("request", "scheme"),
    ("request", "size"),
    ("request", "time"),
    ("request", "total_size"),
    ("request", "url_path"),
    ("request", "useragent"),
    ("response", "code"),
    ("response", "code_details"),
    ("response", "flags"),
    ("response", "grpc_status"),
    ("response", "headers"),
    ("response", "size"),
    ("response", "total_size"),
    ("response", "trailers"),
    ("source", "address"),
    ("source", "port"),
    ("upstream", "address"),
    ("upstream", "dns_san_local_certificate"),
    ("upstream", "dns_san_peer_certificate"),
    ("upstream", "local_address"),
    ("upstream", "port"),
    ("upstream", "request_attempt_count"),
    ("upstream", "sha256_peer_certificate_digest"),
    ("upstream", "subject_local_certificate"),
    ("upstream", "subject_peer_certificate"),
    ("upstream", "tls_version"),
    ("upstream", "transport_failure_reason"),
    ("upstream", "uri_san_local_certificate"),
    ("upstream", "uri_san_peer_certificate"),
    ("xds", "cluster_metadata"),
    ("xds", "cluster_name"),
    ("xds", "filter_chain_name"),
    ("xds", "listener_metadata"),
    ("xds", "route_metadata"),
    ("xds", "route_name"),
    ("xds", "upstream_host_metadata"),
    ("xds", "virtual_host_metadata"),
];

fn value<'a>(root: &str, name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    match root {
        "connection" => connection(name, inputs),
        "destination" => end(name, inputs.stream.downstream_local_address()?),
        "metadata" => Some(dynamic_metadata(inputs)),
        "request" => request(name, inputs),
        "response" => response(name, inputs),
        "source" => end(name, inputs.stream.downstream_remote_address()?),
        "upstream" => upstream(name, inputs),
        "xds" => configured(name, inputs),
        _ => None,
    }
}

fn request<'a>(name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    let stream = inputs.stream;
    match name {
        "duration" => return Some(duration(stream.duration()?)),
        "protocol" => return Some(text(stream.protocol()?.as_str())),
        "size" => return Some(number(stream.bytes_received())),
        "time" => return time(stream.start_time()),
        "total_size" => {
            return Some(number(
                HeadBytes::Request.count(inputs).saturating_add(stream.bytes_received()),
            ));
        }
        _ => {}
    }
    let head = inputs.request?;
    let (path, query) = split(head.path_and_query().unwrap_or_default());
    Some(match name {
        "headers" => return Some(request_headers(head)),
        "host" => bytes(head.authority()?),
        "id" => bytes(head.fields.get(FieldName::XRequestId)?),
        "method" => bytes(head.method_name()),
        "path" => bytes(head.path_and_query()?),
        "query" => bytes(query),
        "referer" => bytes(head.fields.find(b"referer")?),
        "scheme" => text(head.scheme?.as_str()),
        "url_path" => bytes(path),
        "useragent" => bytes(head.fields.find(b"user-agent")?),
        _ => return None,
    })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    (path.get(..end).unwrap_or_default(), path.get(end + 1..).unwrap_or_default())
}

fn response<'a>(name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    let stream = inputs.stream;
    Some(match name {
        "code" => number(stream.response_code()?.into()),
        "code_details" => text(stream.response_code_details()?),
        "flags" => number(bits(stream.response_flags())),
        "grpc_status" => Box::new(CelInt::from(grpc_status(inputs)?)),
        "headers" => fields(inputs.response.map(|head| &head.fields)),
        "size" => number(stream.bytes_sent()),
        "total_size" => {
            number(HeadBytes::Response.count(inputs).saturating_add(stream.bytes_sent()))
        }
        "trailers" => fields(inputs.trailers),
        _ => return None,
    })
}

fn connection<'a>(name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    let stream = inputs.stream;
    Some(match name {
        "id" => number(stream.connection_id()?),
        "mtls" => {
            let has_certificate = |tls: &TlsFacts| tls.peer_certificate().is_some();
            Box::new(CelBool::from(stream.downstream_tls().is_some_and(has_certificate)))
        }
        "requested_server_name" => {
            let name = stream.requested_server_name().unwrap_or_default();
            // Safer than Envoy, which shows it here as the client sent it.
            match untrusted::server_name(name) {
                Cow::Borrowed(name) => text(name),
                Cow::Owned(name) => owned(name),
            }
        }
        "termination_details" => text(stream.connection_termination_details()?),
        "transport_failure_reason" => text(stream.downstream_transport_failure_reason()?),
        name => return tls(name, stream.downstream_tls()?),
    })
}

fn upstream<'a>(name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    let stream = inputs.stream;
    match name {
        "local_address" => Some(owned(stream.upstream_local_address()?.to_string())),
        "request_attempt_count" => Some(number(stream.upstream_request_attempt_count().into())),
        "transport_failure_reason" => {
            stream.upstream_host()?;
            let reason = stream.upstream_transport_failure_reason().unwrap_or_default();
            Some(owned(reason.into_owned()))
        }
        "address" | "port" => end(name, stream.upstream_host()?),
        name => tls(name, stream.upstream_tls()?),
    }
}

fn configured<'a>(name: &str, inputs: &Inputs<'a>) -> Option<Any<'a>> {
    let stream = inputs.stream;
    let of = match name {
        "cluster_name" => return stream.upstream_cluster_raw().map(text),
        "filter_chain_name" => return stream.filter_chain_name().map(text),
        "route_name" => return Some(text(stream.route_name().unwrap_or_default())),
        "cluster_metadata" => MetadataOf::Cluster,
        "listener_metadata" => MetadataOf::Listener,
        "route_metadata" => MetadataOf::Route,
        "upstream_host_metadata" => MetadataOf::UpstreamHost,
        "virtual_host_metadata" => MetadataOf::VirtualHost,
        _ => return None,
    };
    Some(
        map([(CelMapKey::from("filter_metadata"), namespaces(stream.static_metadata(of)?))].into()),
    )
}

fn dynamic_metadata<'a>(inputs: &Inputs<'a>) -> Any<'a> {
    inputs.stream.dynamic_metadata().map_or_else(|| map(HashMap::new()), namespaces)
}

fn namespaces(metadata: &Metadata) -> Any<'_> {
    let entries = metadata.namespaces();
    map(entries.map(|(name, values)| (CelMapKey::from(name), json(values))).collect())
}

/// An end of a connection.
fn end<'a>(name: &str, address: Address) -> Option<Any<'a>> {
    match name {
        "address" => Some(owned(address.to_string())),
        "port" => address.port().map(|port| number(port.into())),
        _ => None,
    }
}

fn tls<'a>(name: &str, facts: &'a TlsFacts) -> Option<Any<'a>> {
    let (name, certificate): (_, Option<&Certificate>) = match name {
        "sha256_peer_certificate_digest" => ("sha256", facts.peer_certificate()),
        "tls_version" => return Some(text(facts.version.name())),
        name => match name.strip_suffix("_peer_certificate") {
            Some(name) => (name, facts.peer_certificate()),
            None => (name.strip_suffix("_local_certificate")?, facts.local_certificate.as_deref()),
        },
    };
    let details: &Details = certificate?.details();
    // As in Envoy the first name of several.
    Some(text(match name {
        "dns_san" => details.dns_names.first()?,
        "sha256" => &details.sha256,
        "subject" => &details.subject,
        "uri_san" => details.uris.first()?,
        _ => return None,
    }))
}

/// With the pseudo-headers of HTTP/2; `host` is the authority.
fn request_headers(head: &RequestHead) -> Any<'_> {
    let mut headers = HashMap::new();
    let scheme = head.scheme.map(|scheme| scheme.as_str().as_bytes());
    for (name, value) in [
        (":authority", head.authority()),
        (":method", Some(head.method_name())),
        (":path", head.path_and_query()),
        (":scheme", scheme),
    ] {
        headers.extend(value.map(|value| (CelMapKey::from(name), bytes(value))));
    }
    extend(&mut headers, &head.fields);
    map(headers)
}

fn fields(fields: Option<&http::Fields>) -> Any<'_> {
    let mut headers = HashMap::new();
    if let Some(fields) = fields {
        extend(&mut headers, fields);
    }
    map(headers)
}

/// Several fields of one name are joined by commas.
fn extend<'a>(headers: &mut HashMap<CelMapKey<'a>, Any<'a>>, fields: &'a http::Fields) {
    let mut joined: Vec<(&str, Vec<u8>)> = Vec::new();
    for (_, name, value) in fields.iter() {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        match joined.iter_mut().find(|(other, _)| *other == name) {
            Some((_, values)) => {
                values.push(b',');
                values.extend_from_slice(value);
            }
            None => joined.push((name, value.to_vec())),
        }
    }
    let values = joined.into_iter();
    headers.extend(values.map(|(name, value)| {
        let value = String::from_utf8_lossy(&value).into_owned();
        (CelMapKey::from(name), owned(value))
    }));
}

// === values ===

fn text(text: &str) -> Any<'_> {
    Box::new(CelString::from(text))
}

fn owned<'a>(text: String) -> Any<'a> {
    Box::new(CelString::from(text))
}

/// A text of CEL is UTF-8: anything else in it is replaced.
fn bytes(text: &[u8]) -> Any<'_> {
    Box::new(CelString::from(String::from_utf8_lossy(text)))
}

fn number<'a>(number: u64) -> Any<'a> {
    Box::new(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn duration<'a>(duration: std::time::Duration) -> Any<'a> {
    let duration = chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::MAX);
    Box::new(CelDuration::from(duration))
}

fn time<'a>(time: std::time::SystemTime) -> Option<Any<'a>> {
    let time = chrono::DateTime::<chrono::Utc>::from(time);
    Some(Box::new(CelTimestamp::from(time.fixed_offset())))
}

fn map<'a>(entries: HashMap<CelMapKey<'a>, Any<'a>>) -> Any<'a> {
    Box::new(CelMap::from(entries))
}

fn json(value: &Value) -> Any<'_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(value) => Box::new(CelDouble::from(value.as_f64().unwrap_or_default())),
        Value::String(value) => text(value),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(json).collect::<Vec<_>>())),
        Value::Object(members) => {
            let members = members.iter();
            map(members.map(|(key, value)| (CelMapKey::from(&**key), json(value))).collect())
        }
    }
}

/// As in Envoy a number with a bit for each flag.
fn bits(flags: Flags) -> u64 {
    flags.iter().map(|flag| 1 << bit(flag)).sum()
}

const fn bit(flag: Flag) -> u32 {
    match flag {
        Flag::FailedLocalHealthCheck => 0,
        Flag::NoHealthyUpstream => 1,
        Flag::UpstreamRequestTimeout => 2,
        Flag::LocalReset => 3,
        Flag::UpstreamRemoteReset => 4,
        Flag::UpstreamConnectionFailure => 5,
        Flag::UpstreamConnectionTermination => 6,
        Flag::UpstreamOverflow => 7,
        Flag::NoRouteFound => 8,
        Flag::DelayInjected => 9,
        Flag::FaultInjected => 10,
        Flag::RateLimited => 11,
        Flag::UnauthorizedExternalService => 12,
        Flag::RateLimitServiceError => 13,
        Flag::DownstreamConnectionTermination => 14,
        Flag::UpstreamRetryLimitExceeded => 15,
        Flag::StreamIdleTimeout => 16,
        Flag::InvalidEnvoyRequestHeaders => 17,
        Flag::DownstreamProtocolError => 18,
        Flag::UpstreamMaxStreamDurationReached => 19,
        Flag::ResponseFromCacheFilter => 20,
        Flag::NoFilterConfigFound => 21,
        Flag::DurationTimeout => 22,
        Flag::UpstreamProtocolError => 23,
        Flag::NoClusterFound => 24,
        Flag::OverloadManagerTerminated => 25,
        Flag::DnsResolutionFailed => 26,
        Flag::DropOverload => 27,
        Flag::DownstreamRemoteReset => 28,
        Flag::UnconditionalDropOverload => 29,
    }
}
