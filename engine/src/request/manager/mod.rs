//! The HTTP connection manager: its compiled options, and its rules for request heads.
//!
//! It decides nothing about routes, and nothing here waits or sends.

pub mod client_cert;
mod compile;
mod log_times_compile;
pub mod normalize;
#[cfg(test)]
mod normalize_tests;
pub mod original_ip;
pub(crate) mod path;
mod router_compile;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::client_cert::ForwardClientCert;
use self::original_ip::Detection;
use crate::access_log::AccessLogs;
use crate::address::{Address, Cidr};
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{FieldName, HeadLimits, Scheme, TrailerRules, Underscores};
use crate::http2;
use crate::request::filters::header_mutation::RequestMutations;
use crate::request::headers::ResponseRules;
use crate::request::reply_rewrite::ReplyRewrite;
use crate::request::route::Upgrades;
use crate::shard::clock::Millis;
use crate::transport::tls::facts::TlsFacts;

pub use compile::compile;
pub(crate) use original_ip::compile::local_address;

/// One HTTP connection manager. Its defaults are Envoy's.
#[derive(Clone, Debug, Default)]
pub struct ConnectionManager {
    /// The access logs.
    pub access_logs: AccessLogs,
    /// When they are written besides at the end of a request.
    pub log_times: LogTimes,
    /// The access logs of requests to hosts.
    pub upstream_logs: UpstreamLogs,
    /// Which version of HTTP a connection speaks.
    pub codec_type: CodecType,
    /// The options of HTTP/2.
    pub http2: http2::Options,
    /// The limits on request heads.
    pub limits: HeadLimits,
    /// How the address of the client is determined.
    pub client: ClientAddress,
    /// Clients in these ranges are internal: their `x-envoy-*` fields are trusted.
    pub internal_addresses: Vec<Cidr>,
    /// Clients on unix sockets are internal, if the address of the connection counts.
    pub internal_unix_sockets: bool,
    /// Whether `x-forwarded-port` is added.
    pub append_x_forwarded_port: bool,
    /// `scheme_header_transformation`: overrides the scheme of the connection.
    pub scheme: Option<Scheme>,
    /// The value added to `via` of requests and responses; empty: none.
    pub via: Vec<u8>,
    /// `add_user_agent`; `None`: off.
    pub user_agent: Option<UserAgent>,
    /// The rules for `x-request-id`.
    pub request_id: RequestIds,
    /// How a path is normalized before routing.
    pub path: PathRules,
    /// How `Host` is normalized before routing.
    pub host: HostRules,
    /// What happens to fields with an underscore in the name.
    pub underscores: Underscores,
    /// The host of an HTTP/1.0 request without one; empty: none.
    pub default_host_for_http_10: Vec<u8>,
    /// The protocols that a request may upgrade to.
    pub upgrades: Upgrades,
    /// Whether trailers of requests and responses are forwarded.
    pub enable_trailers: bool,
    /// Whether `Expect: 100-continue` is forwarded to the origin.
    pub proxy_100_continue: bool,
    /// What happens to `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// The rules for the head of a response.
    pub response: ResponseRules,
    /// How field names are written.
    pub header_key_format: HeaderKeyFormat,
    /// Whether the router omits the `x-envoy-*` headers that it adds.
    pub suppress_envoy_headers: bool,
    /// The `x-envoy-*` fields that must be valid if the client may set them.
    pub strict_check_headers: Vec<FieldName>,
    /// Whether `x-envoy-expected-rq-timeout-ms`, set by an Envoy in front, is the timeout.
    pub respect_expected_rq_timeout: bool,
    /// What an invalid request ends.
    pub bad_request: BadRequest,
    /// How local replies are rewritten.
    pub reply_rewrite: ReplyRewrite,
    /// The timers.
    pub timeouts: Timeouts,
    /// How many requests a connection serves before it is closed.
    pub max_requests_per_connection: Option<u32>,
    /// When a client of HTTP/2 resets too many requests.
    pub premature_resets: PrematureResets,
    /// Changes of a request before those of the connection manager.
    pub early_mutations: Option<Arc<RequestMutations>>,
}

impl ConnectionManager {
    /// The rules for trailers of requests. As in Envoy, the limits are those of heads.
    #[must_use]
    pub const fn trailer_rules(&self, kept: bool) -> TrailerRules {
        let HeadLimits { bytes_max, fields_max, .. } = self.limits;
        TrailerRules { bytes_max, fields_max, underscores: self.underscores, kept }
    }
}

/// When access logs are written besides at the end of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogTimes {
    /// When it has begun.
    pub on_new_request: bool,
    /// When it has become a tunnel.
    pub on_tunnel: bool,
    /// Again and again after this time.
    pub interval: Option<Millis>,
}

/// The access logs of requests to hosts, one entry for each attempt.
#[derive(Clone, Debug, Default)]
pub struct UpstreamLogs {
    /// The logs.
    pub logs: AccessLogs,
    /// Whether there is one more entry when the request has its connection.
    pub on_upstream_stream: bool,
    /// There is one more entry again and again after this time.
    pub interval: Option<Millis>,
    /// Whether the requests are mirrors, of whose clients nothing is logged.
    pub are_mirrors: bool,
}

/// When resets by a client end its connection: if it resets half of its requests before the response has
/// begun, and there were enough requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrematureResets {
    /// So many requests are enough. The runtime key `overload.premature_reset_total_stream_count`.
    pub requests: u64,
    /// A request that has lasted longer is not reset too early, in seconds. The runtime key
    /// `overload.premature_reset_min_stream_lifetime_seconds`.
    pub lifetime_s: u64,
}

impl Default for PrematureResets {
    fn default() -> Self {
        Self { requests: 500, lifetime_s: 1 }
    }
}

/// `codec_type`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CodecType {
    /// What ALPN negotiates; without ALPN, what the first bytes are.
    #[default]
    Auto,
    /// HTTP/1
    Http1,
    /// HTTP/2, whatever ALPN says.
    Http2,
}

/// Where the address of the client comes from, and what `x-forwarded-for` becomes.
#[derive(Clone, Debug, Default)]
pub struct ClientAddress {
    /// The peer is the client, or a proxy that counts as a trusted hop.
    pub use_remote_address: bool,
    /// How many proxies in front of this one are trusted with `x-forwarded-for`.
    pub xff_num_trusted_hops: usize,
    /// `x-forwarded-for` is not changed.
    pub skip_xff_append: bool,
    /// The address of this machine, which Envoy substitutes for a loopback peer.
    pub local_address: Option<IpAddr>,
    /// What finds the address instead.
    pub detections: Box<[Detection]>,
}

/// `add_user_agent`: how the proxy identifies itself to hosts.
#[derive(Clone, Debug, Default)]
pub struct UserAgent {
    /// `node.cluster`, or `--service-cluster`; also the user agent of a request without one.
    pub service_cluster: Vec<u8>,
    /// `node.id`, or `--service-node`
    pub service_node: Vec<u8>,
}

/// When `x-request-id` is generated.
#[derive(Clone, Copy, Debug)]
pub struct RequestIds {
    /// Generate an id for a request without one.
    pub generate: bool,
    /// At the edge, keep the id of an external client.
    pub preserve_external: bool,
    /// An id says whether its request is traced: then an external client must not say so.
    pub pack_trace_reason: bool,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { generate: true, preserve_external: false, pack_trace_reason: true }
    }
}

/// How a path is normalized.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathRules {
    /// Dot segments are resolved and unreserved characters decoded.
    pub normalize: bool,
    /// Consecutive slashes become one.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EscapedSlashes {
    /// They are kept; also `IMPLEMENTATION_SPECIFIC_DEFAULT`.
    #[default]
    KeepUnchanged,
    /// The request is rejected.
    Reject,
    /// The client is redirected to the decoded path.
    UnescapeAndRedirect,
    /// They are decoded.
    UnescapeAndForward,
}

/// How `Host` is normalized.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostRules {
    /// Which port is removed.
    pub strip_port: StripPort,
    /// Whether a trailing dot is removed.
    pub strip_trailing_dot: bool,
}

/// Which port is removed from `Host`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StripPort {
    /// None.
    #[default]
    Never,
    /// The port of the listener.
    Matching,
    /// Any.
    Any,
}

/// `stream_error_on_invalid_http_message`: what a request ends that gets a local 400. A request that
/// cannot be parsed always ends its connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BadRequest {
    /// The connection.
    #[default]
    EndsConnection,
    /// Only the request.
    EndsItself,
}

/// The timers of a connection and its requests; `None` never fires.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long a connection may be idle.
    pub idle: Option<Duration>,
    /// The maximum age of a connection.
    pub max_connection_duration: Option<Duration>,
    /// What happens to a connection that reaches that age while it is idle.
    pub idle_expiry: IdleExpiry,
    /// How long a request and its response may take.
    pub max_stream_duration: Option<Duration>,
    /// How long an exchange may make no progress.
    pub stream_idle: Option<Duration>,
    /// `stream_flush_timeout`: how long a client may take for the rest of a response that has been received;
    /// zero means for ever. `None`: as the above.
    pub stream_flush: Option<Duration>,
    /// How long a request may take to arrive.
    pub request: Option<Duration>,
    /// How long a request head may take to arrive.
    pub request_headers: Option<Duration>,
    /// How long a lingering close waits for the client to close.
    pub delayed_close: Option<Duration>,
    /// How long a half-closed client may wait for its origin before it counts as disconnected; 0: not at
    /// all. The runtime key `corvoy.http.half_close_grace_ms`.
    pub half_close_grace: Duration,
    /// `drain_timeout`: how long a connection that has been idle for too long still accepts requests.
    pub drain: Duration,
}

/// `http1_safe_max_connection_duration`: what happens to a connection that reaches its maximum age
/// while it is idle, after at least one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdleExpiry {
    /// It is closed. A request that is in flight at that moment is lost.
    #[default]
    Close,
    /// It stays open; the response to its next request carries `connection: close`.
    AfterNextResponse,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            idle_expiry: IdleExpiry::Close,
            max_stream_duration: None,
            stream_idle: Some(Duration::from_secs(300)),
            stream_flush: None,
            request: None,
            request_headers: None,
            delayed_close: Some(Duration::from_millis(1000)),
            half_close_grace: Duration::from_millis(1000),
            drain: Duration::from_millis(5000),
        }
    }
}

/// The addresses of a connection, and its TLS.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The remote address.
    pub remote: Address,
    /// The local address.
    pub local: Address,
    /// What is known of its TLS; none for a plain connection.
    pub tls: Option<&'a TlsFacts>,
}
