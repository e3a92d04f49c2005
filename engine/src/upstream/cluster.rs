//! A cluster: what the configuration says of a group of hosts that do the same work.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::http::HeadLimits;
use crate::http::names::Names;
use crate::stats::{ClusterStats, Scope, ZoneStats};
use crate::upstream::balance::LbPolicy;
use crate::upstream::circuit_breaker::CircuitBreakers;
use crate::upstream::discovery::Discovery;
use crate::upstream::host_set::HealthRules;

/// A cluster as configured. Immutable, part of the snapshot; who its hosts are now is not in it.
#[derive(Debug)]
pub struct Cluster {
    /// The name that routes use.
    pub name: String,
    /// The name in stats and in `/clusters`: `alt_stat_name`, or the name itself.
    pub observability_name: String,
    /// How long a connection may take to come to be, TLS handshake included. Default 5 s.
    pub connect_timeout: Duration,
    /// How much may wait in each direction of a connection before reading stops. Default 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// Keep-alive probes on idle connections; none: the system sends none.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How HTTP is spoken with its hosts.
    pub http: HttpProtocolOptions,
    /// How many connections and requests at once.
    pub circuit_breakers: CircuitBreakers,
    /// Which host gets the next request.
    pub lb_policy: LbPolicy,
    /// When hosts of lower priority, or unhealthy ones, get requests.
    pub health_rules: HealthRules,
    /// Where its hosts come from.
    pub discovery: Discovery,
    /// `cluster.<observability_name>.`
    pub stats: Arc<Scope<ClusterStats>>,
    /// `cluster.<observability_name>.zone.<ours>.<theirs>.`, by the zones of its hosts.
    pub zones: HashMap<String, Arc<Scope<ZoneStats>>>,
}

/// `HttpProtocolOptions` of a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpProtocolOptions {
    /// How long a connection may be without a request; none: forever. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may grow before it takes no more requests; none: no limit.
    pub max_connection_duration: Option<Duration>,
    /// How many requests a connection carries; none: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// What hosts may send as a head. Default: 100 fields, 80 KiB.
    pub head_limits: HeadLimits,
    /// Whether trailers are passed on. Default no.
    pub enable_trailers: bool,
    /// How the names of fields are written.
    pub names: Names,
    /// Whether requests tell all of the URL: the hosts are proxies.
    pub send_fully_qualified_url: bool,
}

/// `upstream_connection_options.tcp_keepalive`; what is not set stays as the system has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection counts as dead.
    pub probes: Option<u32>,
    /// Seconds without traffic before the first probe.
    pub time_seconds: Option<u32>,
    /// Seconds between probes.
    pub interval_seconds: Option<u32>,
}

/// As Envoy without any configuration.
impl Default for HttpProtocolOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(60 * 60)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            head_limits: HeadLimits {
                bytes_max: 80 * 1024,
                fields_max: 100,
                accept_http_10: true,
                ..HeadLimits::default()
            },
            enable_trailers: false,
            names: Names::LowerCase,
            send_fully_qualified_url: false,
        }
    }
}
