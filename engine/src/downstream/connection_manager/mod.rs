//! The options of one `HttpConnectionManager`, compiled: what the data plane asks per request.

mod compile;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::http::names::Names;
use crate::http::{FieldName, HeadLimits, Scheme, Underscores};
use crate::request::headers::ResponseRules;
use crate::request::reply_rewrite::ReplyRewrite;
use crate::request::route::Upgrades;

pub use compile::compile;

/// One HTTP connection manager. Its defaults are Envoy's.
#[derive(Clone, Debug, Default)]
pub struct ConnectionManager {
    /// What is accepted of a request's head.
    pub limits: HeadLimits,
    /// The rules for the address of the client.
    pub client: ClientAddress,
    /// Peers in these ranges are internal: their `x-envoy-*` fields are believed.
    pub internal_addresses: Vec<Cidr>,
    /// Whether `x-forwarded-port` is added.
    pub append_x_forwarded_port: bool,
    /// `scheme_header_transformation`: overrides what the connection says.
    pub scheme: Option<Scheme>,
    /// The value added to `via`, of requests and responses; empty for none.
    pub via: Vec<u8>,
    /// Who we are, for hosts that are to know; none: they are not.
    pub user_agent: Option<UserAgent>,
    /// The rules for `x-request-id`.
    pub request_id: RequestIds,
    /// What is done to a path before routes are looked at.
    pub path: PathRules,
    /// What is done to `Host` before routes are looked at.
    pub host: HostRules,
    /// What is done to fields with an underscore in the name.
    pub underscores: Underscores,
    /// The host of an HTTP/1.0 request that names none; empty for none.
    pub default_host_for_http_10: Vec<u8>,
    /// The protocols that a request may upgrade to.
    pub upgrades: Upgrades,
    /// Whether trailers are passed on, those of requests and of answers.
    pub enable_trailers: bool,
    /// Whether `Expect: 100-continue` is left to the origin.
    pub proxy_100_continue: bool,
    /// Whether `x-forwarded-client-cert` is passed on.
    pub forward_client_cert: bool,
    /// The rules for the head of a response.
    pub response: ResponseRules,
    /// How the names of fields are written.
    pub names: Names,
    /// Whether the router leaves out the `x-envoy-*` headers that it adds.
    pub suppress_envoy_headers: bool,
    /// The `x-envoy-*` fields that must be valid where a client may say them.
    pub strict_check_headers: Vec<FieldName>,
    /// Whether `x-envoy-expected-rq-timeout-ms` of an Envoy before us is the timeout.
    pub respect_expected_rq_timeout: bool,
    /// What a bad request ends.
    pub bad_request: BadRequest,
    /// What is made of local replies.
    pub reply_rewrite: ReplyRewrite,
    /// The timers.
    pub timeouts: Timeouts,
    /// After so many requests on a connection it is closed.
    pub max_requests_per_connection: Option<u32>,
}

/// Where the address of the client comes from, and what `x-forwarded-for` becomes.
#[derive(Clone, Debug, Default)]
pub struct ClientAddress {
    /// The peer is the client, or a proxy in front of us that is counted in the trusted hops.
    pub use_remote_address: bool,
    /// So many proxies in front of us are believed about `x-forwarded-for`.
    pub xff_num_trusted_hops: usize,
    /// `x-forwarded-for` is left as it came.
    pub skip_xff_append: bool,
    /// The address of this machine, which Envoy puts in place of a loopback peer.
    pub local_address: Option<IpAddr>,
}

/// `add_user_agent`: what hosts are told of the proxy in front of them.
#[derive(Clone, Debug, Default)]
pub struct UserAgent {
    /// `node.cluster`, or `--service-cluster`; also the user agent of a request without one.
    pub service_cluster: Vec<u8>,
    /// `node.id`, or `--service-node`
    pub service_node: Vec<u8>,
}

/// When a request gets an id.
#[derive(Clone, Copy, Debug)]
pub struct RequestIds {
    /// A request without one gets one.
    pub generate: bool,
    /// The id of an external client at the edge is kept.
    pub preserve_external: bool,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { generate: true, preserve_external: false }
    }
}

/// How a path is changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathRules {
    /// Dot segments are resolved and unreserved characters decoded.
    pub normalize: bool,
    /// Several slashes become one.
    pub merge_slashes: bool,
    /// What `%2F` and `%5C` are.
    pub escaped_slashes: EscapedSlashes,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EscapedSlashes {
    /// Left alone; what `IMPLEMENTATION_SPECIFIC_DEFAULT` is too.
    #[default]
    KeepUnchanged,
    /// The request is refused.
    Reject,
    /// The client is sent to the path without them.
    UnescapeAndRedirect,
    /// They are decoded.
    UnescapeAndForward,
}

/// How `Host` is changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostRules {
    /// Which port is taken off.
    pub strip_port: StripPort,
    /// Whether a dot at the end is taken off.
    pub strip_trailing_dot: bool,
}

/// Which port `Host` loses.
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

/// `stream_error_on_invalid_http_message`: what ends with a request that is answered here with 400.
/// One that cannot be understood always ends its connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BadRequest {
    /// Its connection.
    #[default]
    EndsConnection,
    /// Nothing but itself.
    EndsItself,
}

/// The timers of a connection and its requests; `None` never fires.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long a connection may have no request.
    pub idle: Option<Duration>,
    /// How old a connection may be.
    pub max_connection_duration: Option<Duration>,
    /// What becomes of a connection that is too old and has no request.
    pub idle_expiry: IdleExpiry,
    /// How long a request and its answer may take.
    pub max_stream_duration: Option<Duration>,
    /// How long nothing may move on a request.
    pub stream_idle: Option<Duration>,
    /// How long a request may take to arrive.
    pub request: Option<Duration>,
    /// How long a request's head may take to arrive.
    pub request_headers: Option<Duration>,
    /// How long a closed connection waits for the client's end.
    pub delayed_close: Option<Duration>,
    /// How long a client that has half-closed may wait for its origin before it has left; 0: not at all.
    /// The runtime key `corvoy.http.half_close_grace_ms`.
    pub half_close_grace: Duration,
    /// How long a connection that is to end still takes requests.
    pub drain: Duration,
}

/// `http1_safe_max_connection_duration`: what becomes of a connection that has reached its age while
/// it has no request, but has had one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdleExpiry {
    /// It is closed. A request may be on its way and is then lost.
    #[default]
    Close,
    /// It stays, and the answer to its next request tells the client to leave.
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
            request: None,
            request_headers: None,
            delayed_close: Some(Duration::from_millis(1000)),
            half_close_grace: Duration::from_millis(1000),
            drain: Duration::from_millis(5000),
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    /// An address of the range.
    pub address: IpAddr,
    /// How many leading bits all addresses of the range share.
    pub prefix_len: u8,
}

impl Cidr {
    /// The private networks of RFC 1918 and RFC 4193 and the loopback addresses, as Envoy has them.
    pub const PRIVATE: [Self; 6] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), prefix_len: 8 },
        Self { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), prefix_len: 12 },
        Self { address: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), prefix_len: 16 },
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_len: 32 },
        Self { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), prefix_len: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_len: 128 },
    ];

    /// Whether the address is in the range. An IPv4 address is in no range of IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = u32::from(ours) ^ u32::from(theirs);
                differing.leading_zeros() >= u32::from(self.prefix_len).min(32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = u128::from(ours) ^ u128::from(theirs);
                differing.leading_zeros() >= u32::from(self.prefix_len).min(128)
            }
            _ => false,
        }
    }
}

/// What is known of a connection before its first request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end.
    pub remote: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether it is encrypted.
    pub tls: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_that_share_its_prefix() {
        let range = |address: &str, prefix_len| Cidr { address: ip(address), prefix_len };
        assert!(range("10.0.0.0", 8).contains(ip("10.255.0.1")));
        assert!(!range("10.0.0.0", 8).contains(ip("11.0.0.1")));
        assert!(range("10.1.2.3", 32).contains(ip("10.1.2.3")));
        assert!(range("0.0.0.0", 0).contains(ip("255.1.2.3")));
        assert!(range("fd00::", 8).contains(ip("fdff::1")));
        assert!(!range("::", 0).contains(ip("10.0.0.1")));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
