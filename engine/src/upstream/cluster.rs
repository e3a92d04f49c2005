//! A cluster: the configuration of a group of interchangeable hosts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{HeadLimits, TrailerRules, Underscores, Version};
use crate::http2;
use crate::metadata::Metadata;
use crate::shard::socket_option::LocalEnd;
use crate::stats::{ClusterStats, Http2Stats, MaglevStats, RingHashStats, Scope, ZoneStats};
use crate::upstream::auto_sni::AutoSni;
use crate::upstream::balance::LbPolicy;
use crate::upstream::circuit_breaker::CircuitBreakers;
use crate::upstream::discovery::Discovery;
use crate::upstream::health_check::HealthCheck;
use crate::upstream::host_set::{DistributionRules, HostSet};
use crate::upstream::numbers::Number;
use crate::upstream::outlier_detection::OutlierDetection;
use crate::upstream::override_host::{HealthStatuses, OverrideHost};
use crate::upstream::pool_key::Speaks;
use crate::upstream::transport_socket::TransportSockets;

/// A cluster as configured. Immutable, part of the snapshot; it does not contain the current hosts.
#[derive(Debug)]
pub struct Cluster {
    /// The name that routes use.
    pub name: String,
    /// The number of the name, by which they find it.
    pub number: Arc<Number>,
    /// Whether the proxies are its hosts: `local_cluster_name`.
    pub is_local: bool,
    /// The name in stats and in `/clusters`: `alt_stat_name`, or the name itself.
    pub observability_name: String,
    /// The metadata of its configuration.
    pub metadata: Metadata,
    /// How long connecting may take, TLS handshake included. Default 5 s.
    pub connect_timeout: Duration,
    /// How many bytes may be buffered in each direction of a connection before reading stops. Default
    /// 1 MiB.
    pub per_connection_buffer_limit_bytes: u32,
    /// `upstream_bind_config`
    pub local_end: LocalEnd,
    /// TCP keep-alive probes; none: disabled.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// What carries its connections. Each endpoint has one of them.
    pub transport_sockets: TransportSockets,
    /// Options of the HTTP protocol.
    pub http: HttpProtocolOptions,
    /// Server names that follow from requests; none: they do not.
    pub auto_sni: Option<AutoSni>,
    /// Limits for concurrent connections, requests and retries.
    pub circuit_breakers: CircuitBreakers,
    /// How a host is picked.
    pub lb_policy: LbPolicy,
    /// The hosts that requests name; none: they do not.
    pub override_host: Option<OverrideHost>,
    /// The health that the host of a session must have.
    pub override_host_status: HealthStatuses,
    /// When hosts of lower priority, or unhealthy ones, get requests.
    pub distribution: DistributionRules,
    /// The sizes of the table of a policy with consistent hashing.
    pub table_stats: Option<TableStats>,
    /// How its hosts are checked; none: they are not.
    pub health_check: Option<Arc<HealthCheck>>,
    /// How failing hosts are ejected; none: they are not.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// Whether a host that discovery removes goes at once, even if it passes its health checks.
    pub ignore_health_on_host_removal: bool,
    /// Whether a change of its hosts ends its connections, each with the request that it carries.
    pub close_connections_on_host_set_change: bool,
    /// Whether the process waits for its hosts, and their first health checks, before it serves. Default yes.
    pub wait_for_warm_on_init: bool,
    /// Whether a new host counts for nothing until its first health check.
    pub ignore_new_hosts_until_first_hc: bool,
    /// Where its hosts come from.
    pub discovery: Discovery,
    /// `cluster.<observability_name>.`
    pub stats: Arc<Scope<ClusterStats>>,
    /// `cluster.<observability_name>.http2.`
    pub http2_stats: Arc<Scope<Http2Stats>>,
    /// `cluster.<observability_name>.zone.<ours>.<theirs>.`, by the zones of its hosts.
    pub zones: HashMap<String, Arc<Scope<ZoneStats>>>,
}

/// The stats of a policy with consistent hashing.
#[derive(Debug)]
pub enum TableStats {
    /// `cluster.<observability_name>.ring_hash_lb.`
    Ring(Arc<Scope<RingHashStats>>),
    /// `cluster.<observability_name>.maglev_lb.`
    Maglev(Arc<Scope<MaglevStats>>),
}

impl Cluster {
    /// Whether its policy chooses hosts by the hash of a request.
    #[must_use]
    #[inline]
    pub const fn chooses_by_hash(&self) -> bool {
        self.table_stats.is_some()
    }

    /// Updates the gauges that follow from its hosts, in the control plane's block.
    pub fn update_gauges(&self, hosts: &HostSet) {
        hosts.update_gauges(self.stats.control());
        let sizes = hosts.table_sizes().unwrap_or_default();
        match &self.table_stats {
            None => {}
            Some(TableStats::Ring(stats)) => {
                let stats = stats.control();
                stats.size.set(sizes.entries);
                stats.min_hashes_per_host.set(sizes.min_per_host);
                stats.max_hashes_per_host.set(sizes.max_per_host);
            }
            Some(TableStats::Maglev(stats)) => {
                let stats = stats.control();
                stats.min_entries_per_host.set(sizes.min_per_host);
                stats.max_entries_per_host.set(sizes.max_per_host);
            }
        }
    }
}

/// `HttpProtocolOptions` of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpProtocolOptions {
    /// Which versions of HTTP its hosts speak. Default HTTP/1.
    pub protocols: Protocols,
    /// The options of HTTP/2.
    pub http2: http2::Options,
    /// How long a connection may be idle; none: no limit. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Connections older than this get no more requests; none: no limit.
    pub max_connection_duration: Option<Duration>,
    /// How long one attempt may take once it has a connection; none: no limit.
    pub max_stream_duration: Option<Duration>,
    /// How many requests a connection may carry; none: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// Limits for response heads. Default: 100 fields, 80 KiB.
    pub head_limits: HeadLimits,
    /// The same over HTTP/2, where fewer bytes are allowed by default.
    pub http2_head_limits: HeadLimits,
    /// Whether trailers are passed on. Default no.
    pub enable_trailers: bool,
    /// How the names of fields are written.
    pub header_key_format: HeaderKeyFormat,
    /// Whether requests have the target in absolute form, for hosts that are proxies.
    pub send_fully_qualified_url: bool,
}

/// Which version of HTTP a request to a host uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocols {
    /// `auto_config`: HTTP/2 if the host negotiates it in the TLS handshake, else HTTP/1.
    Auto,
    /// `use_downstream_protocol_config`: the version of the client's connection.
    Downstream,
    /// HTTP/1
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
}

impl Protocols {
    /// What connections for a client of this version speak.
    #[must_use]
    #[inline]
    pub const fn for_client(self, version: Version) -> Speaks {
        match (self, version) {
            (Self::Auto, _) => Speaks::Negotiated,
            (Self::Http2, _) | (Self::Downstream, Version::Http2) => Speaks::Http2,
            (Self::Http1 | Self::Downstream, _) => Speaks::Http1,
        }
    }
}

impl HttpProtocolOptions {
    /// The rules for trailers of responses over HTTP/1.
    #[must_use]
    pub const fn trailer_rules(&self, kept: bool) -> TrailerRules {
        trailer_rules(&self.head_limits, kept)
    }

    /// The rules for trailers of responses over HTTP/2.
    #[must_use]
    pub const fn http2_trailer_rules(&self) -> TrailerRules {
        trailer_rules(&self.http2_head_limits, true)
    }
}

const fn trailer_rules(limits: &HeadLimits, kept: bool) -> TrailerRules {
    let HeadLimits { bytes_max, fields_max, .. } = *limits;
    TrailerRules { bytes_max, fields_max, underscores: Underscores::Allow, kept }
}

/// `upstream_connection_options.tcp_keepalive`; none: the system's default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpKeepalive {
    /// Unanswered probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Seconds without traffic before the first probe.
    pub time_seconds: Option<u32>,
    /// Seconds between probes.
    pub interval_seconds: Option<u32>,
}

/// Envoy's defaults.
impl Default for HttpProtocolOptions {
    fn default() -> Self {
        Self {
            protocols: Protocols::Http1,
            http2: http2::Options::default(),
            idle_timeout: Some(Duration::from_secs(60 * 60)),
            max_connection_duration: None,
            max_stream_duration: None,
            max_requests_per_connection: None,
            head_limits: HeadLimits {
                bytes_max: 80 * 1024,
                fields_max: 100,
                accept_http_10: true,
                ..HeadLimits::default()
            },
            http2_head_limits: HeadLimits {
                bytes_max: 60 * 1024,
                fields_max: 100,
                ..HeadLimits::default()
            },
            enable_trailers: false,
            header_key_format: HeaderKeyFormat::LowerCase,
            send_fully_qualified_url: false,
        }
    }
}
