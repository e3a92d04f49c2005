//! The entries of Envoy's access log service: of requests, and of connections.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Any, ListValue, Struct, Timestamp, Value};

use super::custom_tags::CustomTag;
use super::entry_tls;
use super::messages::{
    AccessLogCommon, Address, AddressKind, ConnectionProperties, HttpAccessLogEntry,
    HttpRequestProperties, HttpResponseProperties, Metadata, Pipe, ResponseFlags, SocketAddress,
    TcpAccessLogEntry, Unauthorized,
};
use crate::access_log::entry_type::EntryType;
use crate::address;
use crate::filter_state;
use crate::flags::{Flag, Flags};
use crate::format::Inputs;
use crate::format::heads::HeadBytes;
use crate::http::{FieldName, Fields, Method, RequestHead, Version};

/// What all entries have.
#[derive(Debug)]
pub(super) struct Common {
    /// The keys of the objects of the filter state.
    pub(super) filter_state: Vec<String>,
    pub(super) custom_tags: Vec<CustomTag>,
}

/// Entries of requests.
#[derive(Debug)]
pub(super) struct HttpEntries {
    pub(super) common: Common,
    /// In lower case, as the two below.
    pub(super) request_headers: Vec<String>,
    pub(super) response_headers: Vec<String>,
    pub(super) response_trailers: Vec<String>,
}

/// Entries of connections.
#[derive(Debug)]
pub(super) struct TcpEntries {
    pub(super) common: Common,
}

impl HttpEntries {
    pub(super) fn entry(&self, inputs: &Inputs<'_>) -> HttpAccessLogEntry {
        let stream = inputs.stream;
        HttpAccessLogEntry {
            common_properties: Some(self.common.properties(inputs)),
            protocol_version: match stream.protocol() {
                None => 0,
                Some(Version::Http10) => 1,
                Some(Version::Http11) => 2,
                Some(Version::Http2) => 3,
            },
            request: Some(self.request(inputs)),
            response: Some(self.response(inputs)),
        }
    }

    fn request(&self, inputs: &Inputs<'_>) -> HttpRequestProperties {
        let request_body_bytes = inputs.stream.bytes_received();
        let Some(head) = inputs.request else {
            return HttpRequestProperties { request_body_bytes, ..Default::default() };
        };
        let field = |name| head.fields.get(name).map(utf8).unwrap_or_default();
        HttpRequestProperties {
            request_method: method(head.method),
            scheme: head.scheme.map_or("", |scheme| scheme.as_str()).to_owned(),
            authority: head.authority().map(utf8).unwrap_or_default(),
            path: head.path_and_query().map(utf8).unwrap_or_default(),
            user_agent: field(FieldName::UserAgent),
            referer: head.fields.find(b"referer").map(utf8).unwrap_or_default(),
            forwarded_for: field(FieldName::XForwardedFor),
            request_id: field(FieldName::XRequestId),
            original_path: field(FieldName::XEnvoyOriginalPath),
            request_headers_bytes: HeadBytes::Request.count(inputs),
            request_body_bytes,
            request_headers: chosen(&self.request_headers, |name| request_field(head, name)),
        }
    }

    fn response(&self, inputs: &Inputs<'_>) -> HttpResponseProperties {
        let stream = inputs.stream;
        let response_headers = inputs.response.map(|head| {
            chosen(&self.response_headers, |name| match name {
                ":status" => Some(head.status.to_string()),
                name => joined(&head.fields, name),
            })
        });
        let trailers = inputs.trailers;
        let response_trailers =
            trailers.map(|fields| chosen(&self.response_trailers, |name| joined(fields, name)));
        HttpResponseProperties {
            response_code: stream.response_code().map(u32::from),
            response_headers_bytes: HeadBytes::Response.count(inputs),
            response_body_bytes: stream.bytes_sent(),
            response_headers: response_headers.unwrap_or_default(),
            response_trailers: response_trailers.unwrap_or_default(),
            response_code_details: stream.response_code_details().unwrap_or_default().to_owned(),
        }
    }
}

impl TcpEntries {
    pub(super) fn entry(&self, inputs: &Inputs<'_>) -> TcpAccessLogEntry {
        TcpAccessLogEntry {
            common_properties: Some(self.common.properties(inputs)),
            connection_properties: Some(ConnectionProperties {
                received_bytes: inputs.stream.bytes_received(),
                sent_bytes: inputs.stream.bytes_sent(),
            }),
        }
    }
}

impl Common {
    fn properties(&self, inputs: &Inputs<'_>) -> AccessLogCommon {
        let stream = inputs.stream;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let request_id = inputs.request.and_then(|head| head.fields.get(FieldName::XRequestId));
        let request_id = request_id.filter(|_| !inputs.entry_type.is_upstream());
        let last_sent = stream.response_code().and_then(|_| stream.duration());
        let failure = stream.upstream_transport_failure_reason();
        AccessLogCommon {
            downstream_remote_address: stream.downstream_remote_address().map(Address::of),
            downstream_local_address: stream.downstream_local_address().map(Address::of),
            tls_properties: entry_tls::properties(inputs),
            start_time: Some(Timestamp::from(stream.start_time())),
            time_to_last_rx_byte: stream.request_duration().map(duration),
            time_to_first_upstream_rx_byte: stream.response_duration().map(duration),
            time_to_last_downstream_tx_byte: last_sent.map(duration),
            upstream_remote_address: stream.upstream_host().map(Address::of),
            upstream_local_address: stream.upstream_local_address().map(Address::of),
            upstream_cluster: text(stream.upstream_cluster()),
            response_flags: response_flags(stream.response_flags()),
            metadata: metadata(inputs),
            upstream_transport_failure_reason: failure
                .map(|text| unescaped(&text))
                .unwrap_or_default(),
            route_name: text(stream.route_name()),
            downstream_direct_remote_address: stream
                .downstream_direct_remote_address()
                .map(Address::of),
            filter_state_objects: self.filter_state_objects(inputs),
            custom_tags: self.tags(inputs),
            duration: stream.duration().map(duration),
            upstream_request_attempt_count: stream.upstream_request_attempt_count(),
            connection_termination_details: text(stream.connection_termination_details()),
            stream_id: request_id.map(utf8).unwrap_or_default(),
            intermediate_log_entry: is_intermediate(inputs.entry_type),
            downstream_transport_failure_reason: text(stream.downstream_transport_failure_reason()),
            access_log_type: inputs.entry_type.number(),
        }
    }

    fn filter_state_objects(&self, inputs: &Inputs<'_>) -> BTreeMap<String, Any> {
        let object = |key: &String| {
            let text = inputs.stream.filter_state(key)?;
            let any = if filter_state::is_json(key) {
                let json = serde_json::from_str(&filter_state::json_of(key, text)).ok()?;
                any("google.protobuf.Struct", &struct_of(&json))
            } else {
                any("google.protobuf.StringValue", &text.to_owned())
            };
            Some((key.clone(), any))
        };
        self.filter_state.iter().filter_map(object).collect()
    }

    fn tags(&self, inputs: &Inputs<'_>) -> BTreeMap<String, String> {
        let tag = |tag: &CustomTag| Some((tag.name.clone(), tag.value(inputs)?));
        self.custom_tags.iter().filter_map(tag).collect()
    }
}

impl Address {
    fn of(address: address::Address) -> Self {
        let kind = match address {
            address::Address::Ip(address) => AddressKind::Socket(SocketAddress {
                address: address.ip().to_string(),
                port_value: Some(address.port().into()),
            }),
            pipe @ address::Address::Pipe(_) => AddressKind::Pipe(Pipe { path: pipe.to_string() }),
        };
        Self { address: Some(kind) }
    }
}

/// The bytes as a text. As in Envoy, each byte that is not UTF-8 is an exclamation mark.
pub(super) fn utf8(bytes: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for chunk in bytes.as_ref().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

/// The reason of a failure as Envoy has it here: formats show the spaces of a failed connect as underscores.
fn unescaped(reason: &str) -> String {
    if reason.starts_with("delayed_connect_error") {
        return reason.replace('_', " ");
    }
    reason.to_owned()
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// Whether what it is about goes on.
const fn is_intermediate(entry_type: EntryType) -> bool {
    !matches!(
        entry_type,
        EntryType::NotSet
            | EntryType::DownstreamEnd
            | EntryType::TcpConnectionEnd
            | EntryType::UpstreamEnd
    )
}

/// `envoy.config.core.v3.RequestMethod`
fn method(method: Method) -> i32 {
    match method {
        Method::Get => 1,
        Method::Head => 2,
        Method::Post => 3,
        Method::Put => 4,
        Method::Delete => 5,
        Method::Connect => 6,
        Method::Options => 7,
        Method::Trace => 8,
        Method::Patch => 9,
        _ => 0,
    }
}

/// The headers of these names that there are.
fn chosen(names: &[String], value: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    names.iter().filter_map(|name| Some((name.clone(), value(name)?))).collect()
}

fn request_field(head: &RequestHead, name: &str) -> Option<String> {
    match name {
        ":authority" | "host" => head.authority().map(utf8),
        ":method" => Some(utf8(head.method_name())),
        ":path" => head.path_and_query().map(utf8),
        ":scheme" => head.scheme.map(|scheme| scheme.as_str().to_owned()),
        name => joined(&head.fields, name),
    }
}

/// All values of a field, with commas between them.
fn joined(fields: &Fields, name: &str) -> Option<String> {
    let values = fields.iter().filter(|(_, other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    let values: Vec<String> = values.map(|(_, _, value)| utf8(value)).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn metadata(inputs: &Inputs<'_>) -> Option<Metadata> {
    let metadata = inputs.stream.dynamic_metadata().filter(|metadata| !metadata.is_empty())?;
    let namespaces = metadata.namespaces();
    let filter_metadata =
        namespaces.map(|(name, value)| (name.to_owned(), struct_of(value))).collect();
    Some(Metadata { filter_metadata })
}

fn any(name: &str, message: &impl prost::Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn struct_of(value: &serde_json::Value) -> Struct {
    let members = value.as_object().into_iter().flatten();
    Struct { fields: members.map(|(key, value)| (key.clone(), value_of(value))).collect() }
}

fn value_of(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(value_of).collect() })
        }
        serde_json::Value::Object(_) => Kind::StructValue(struct_of(value)),
    };
    Value { kind: Some(kind) }
}

/// None: there is no flag.
fn response_flags(flags: Flags) -> Option<ResponseFlags> {
    let has = |flag| flags.has(flag);
    let unauthorized = has(Flag::UnauthorizedExternalService);
    (!flags.is_empty()).then(|| ResponseFlags {
        failed_local_healthcheck: has(Flag::FailedLocalHealthCheck),
        no_healthy_upstream: has(Flag::NoHealthyUpstream),
        upstream_request_timeout: has(Flag::UpstreamRequestTimeout),
        local_reset: has(Flag::LocalReset),
        upstream_remote_reset: has(Flag::UpstreamRemoteReset),
        upstream_connection_failure: has(Flag::UpstreamConnectionFailure),
        upstream_connection_termination: has(Flag::UpstreamConnectionTermination),
        upstream_overflow: has(Flag::UpstreamOverflow),
        no_route_found: has(Flag::NoRouteFound),
        delay_injected: has(Flag::DelayInjected),
        fault_injected: has(Flag::FaultInjected),
        rate_limited: has(Flag::RateLimited),
        unauthorized_details: unauthorized.then_some(Unauthorized { reason: 1 }),
        rate_limit_service_error: has(Flag::RateLimitServiceError),
        downstream_connection_termination: has(Flag::DownstreamConnectionTermination),
        upstream_retry_limit_exceeded: has(Flag::UpstreamRetryLimitExceeded),
        stream_idle_timeout: has(Flag::StreamIdleTimeout),
        invalid_envoy_request_headers: has(Flag::InvalidEnvoyRequestHeaders),
        downstream_protocol_error: has(Flag::DownstreamProtocolError),
        upstream_max_stream_duration_reached: has(Flag::UpstreamMaxStreamDurationReached),
        response_from_cache_filter: has(Flag::ResponseFromCacheFilter),
        no_filter_config_found: has(Flag::NoFilterConfigFound),
        duration_timeout: has(Flag::DurationTimeout),
        upstream_protocol_error: has(Flag::UpstreamProtocolError),
        no_cluster_found: has(Flag::NoClusterFound),
        overload_manager: has(Flag::OverloadManagerTerminated),
        dns_resolution_failure: has(Flag::DnsResolutionFailed),
        downstream_remote_reset: has(Flag::DownstreamRemoteReset),
    })
}
