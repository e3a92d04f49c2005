//! The messages of access log services: `envoy/data/accesslog/v3/accesslog.proto`, as far as they are written here.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{Any, Duration, Struct, Timestamp};

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpAccessLogEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<AccessLogCommon>,
    #[prost(int32, tag = "2")]
    pub(super) protocol_version: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) request: Option<HttpRequestProperties>,
    #[prost(message, optional, tag = "4")]
    pub(super) response: Option<HttpResponseProperties>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TcpAccessLogEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<AccessLogCommon>,
    #[prost(message, optional, tag = "2")]
    pub(super) connection_properties: Option<ConnectionProperties>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConnectionProperties {
    #[prost(uint64, tag = "1")]
    pub(super) received_bytes: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sent_bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AccessLogCommon {
    #[prost(message, optional, tag = "2")]
    pub(super) downstream_remote_address: Option<Address>,
    #[prost(message, optional, tag = "3")]
    pub(super) downstream_local_address: Option<Address>,
    #[prost(message, optional, tag = "4")]
    pub(super) tls_properties: Option<TlsProperties>,
    #[prost(message, optional, tag = "5")]
    pub(super) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub(super) time_to_last_rx_byte: Option<Duration>,
    #[prost(message, optional, tag = "9")]
    pub(super) time_to_first_upstream_rx_byte: Option<Duration>,
    #[prost(message, optional, tag = "12")]
    pub(super) time_to_last_downstream_tx_byte: Option<Duration>,
    #[prost(message, optional, tag = "13")]
    pub(super) upstream_remote_address: Option<Address>,
    #[prost(message, optional, tag = "14")]
    pub(super) upstream_local_address: Option<Address>,
    #[prost(string, tag = "15")]
    pub(super) upstream_cluster: String,
    #[prost(message, optional, tag = "16")]
    pub(super) response_flags: Option<ResponseFlags>,
    #[prost(message, optional, tag = "17")]
    pub(super) metadata: Option<Metadata>,
    #[prost(string, tag = "18")]
    pub(super) upstream_transport_failure_reason: String,
    #[prost(string, tag = "19")]
    pub(super) route_name: String,
    #[prost(message, optional, tag = "20")]
    pub(super) downstream_direct_remote_address: Option<Address>,
    #[prost(btree_map = "string, message", tag = "21")]
    pub(super) filter_state_objects: BTreeMap<String, Any>,
    #[prost(btree_map = "string, string", tag = "22")]
    pub(super) custom_tags: BTreeMap<String, String>,
    #[prost(message, optional, tag = "23")]
    pub(super) duration: Option<Duration>,
    #[prost(uint32, tag = "24")]
    pub(super) upstream_request_attempt_count: u32,
    #[prost(string, tag = "25")]
    pub(super) connection_termination_details: String,
    #[prost(string, tag = "26")]
    pub(super) stream_id: String,
    #[prost(bool, tag = "27")]
    pub(super) intermediate_log_entry: bool,
    #[prost(string, tag = "28")]
    pub(super) downstream_transport_failure_reason: String,
    #[prost(int32, tag = "33")]
    pub(super) access_log_type: i32,
}

/// `envoy.config.core.v3.Metadata`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) filter_metadata: BTreeMap<String, Struct>,
}

/// `envoy.config.core.v3.Address`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Address {
    #[prost(oneof = "AddressKind", tags = "1, 2")]
    pub(super) address: Option<AddressKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum AddressKind {
    #[prost(message, tag = "1")]
    Socket(SocketAddress),
    #[prost(message, tag = "2")]
    Pipe(Pipe),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
    /// A member of a oneof, so that it is sent even if it is 0.
    #[prost(uint32, optional, tag = "3")]
    pub(super) port_value: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pipe {
    #[prost(string, tag = "1")]
    pub(super) path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseFlags {
    #[prost(bool, tag = "1")]
    pub(super) failed_local_healthcheck: bool,
    #[prost(bool, tag = "2")]
    pub(super) no_healthy_upstream: bool,
    #[prost(bool, tag = "3")]
    pub(super) upstream_request_timeout: bool,
    #[prost(bool, tag = "4")]
    pub(super) local_reset: bool,
    #[prost(bool, tag = "5")]
    pub(super) upstream_remote_reset: bool,
    #[prost(bool, tag = "6")]
    pub(super) upstream_connection_failure: bool,
    #[prost(bool, tag = "7")]
    pub(super) upstream_connection_termination: bool,
    #[prost(bool, tag = "8")]
    pub(super) upstream_overflow: bool,
    #[prost(bool, tag = "9")]
    pub(super) no_route_found: bool,
    #[prost(bool, tag = "10")]
    pub(super) delay_injected: bool,
    #[prost(bool, tag = "11")]
    pub(super) fault_injected: bool,
    #[prost(bool, tag = "12")]
    pub(super) rate_limited: bool,
    #[prost(message, optional, tag = "13")]
    pub(super) unauthorized_details: Option<Unauthorized>,
    #[prost(bool, tag = "14")]
    pub(super) rate_limit_service_error: bool,
    #[prost(bool, tag = "15")]
    pub(super) downstream_connection_termination: bool,
    #[prost(bool, tag = "16")]
    pub(super) upstream_retry_limit_exceeded: bool,
    #[prost(bool, tag = "17")]
    pub(super) stream_idle_timeout: bool,
    #[prost(bool, tag = "18")]
    pub(super) invalid_envoy_request_headers: bool,
    #[prost(bool, tag = "19")]
    pub(super) downstream_protocol_error: bool,
    #[prost(bool, tag = "20")]
    pub(super) upstream_max_stream_duration_reached: bool,
    #[prost(bool, tag = "21")]
    pub(super) response_from_cache_filter: bool,
    #[prost(bool, tag = "22")]
    pub(super) no_filter_config_found: bool,
    #[prost(bool, tag = "23")]
    pub(super) duration_timeout: bool,
    #[prost(bool, tag = "24")]
    pub(super) upstream_protocol_error: bool,
    #[prost(bool, tag = "25")]
    pub(super) no_cluster_found: bool,
    #[prost(bool, tag = "26")]
    pub(super) overload_manager: bool,
    #[prost(bool, tag = "27")]
    pub(super) dns_resolution_failure: bool,
    #[prost(bool, tag = "28")]
    pub(super) downstream_remote_reset: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Unauthorized {
    #[prost(int32, tag = "1")]
    pub(super) reason: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsProperties {
    #[prost(int32, tag = "1")]
    pub(super) tls_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) tls_cipher_suite: Option<u32>,
    #[prost(string, tag = "3")]
    pub(super) tls_sni_hostname: String,
    #[prost(message, optional, tag = "4")]
    pub(super) local_certificate_properties: Option<CertificateProperties>,
    #[prost(message, optional, tag = "5")]
    pub(super) peer_certificate_properties: Option<CertificateProperties>,
    #[prost(string, tag = "6")]
    pub(super) tls_session_id: String,
    #[prost(string, tag = "7")]
    pub(super) ja3_fingerprint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CertificateProperties {
    #[prost(message, repeated, tag = "1")]
    pub(super) subject_alt_name: Vec<SubjectAltName>,
    #[prost(string, tag = "2")]
    pub(super) subject: String,
    #[prost(string, tag = "3")]
    pub(super) issuer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SubjectAltName {
    #[prost(oneof = "San", tags = "1, 2")]
    pub(super) san: Option<San>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum San {
    #[prost(string, tag = "1")]
    Uri(String),
    #[prost(string, tag = "2")]
    Dns(String),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpRequestProperties {
    #[prost(int32, tag = "1")]
    pub(super) request_method: i32,
    #[prost(string, tag = "2")]
    pub(super) scheme: String,
    #[prost(string, tag = "3")]
    pub(super) authority: String,
    #[prost(string, tag = "5")]
    pub(super) path: String,
    #[prost(string, tag = "6")]
    pub(super) user_agent: String,
    #[prost(string, tag = "7")]
    pub(super) referer: String,
    #[prost(string, tag = "8")]
    pub(super) forwarded_for: String,
    #[prost(string, tag = "9")]
    pub(super) request_id: String,
    #[prost(string, tag = "10")]
    pub(super) original_path: String,
    #[prost(uint64, tag = "11")]
    pub(super) request_headers_bytes: u64,
    #[prost(uint64, tag = "12")]
    pub(super) request_body_bytes: u64,
    #[prost(btree_map = "string, string", tag = "13")]
    pub(super) request_headers: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpResponseProperties {
    #[prost(message, optional, tag = "1")]
    pub(super) response_code: Option<u32>,
    #[prost(uint64, tag = "2")]
    pub(super) response_headers_bytes: u64,
    #[prost(uint64, tag = "3")]
    pub(super) response_body_bytes: u64,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(super) response_headers: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) response_trailers: BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub(super) response_code_details: String,
}
