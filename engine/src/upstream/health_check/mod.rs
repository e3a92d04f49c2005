//! Active health checks: what is configured, and what the outcome of a check means for its host.
//!
//! Pure. `control/health` sends the checks, once for the process.

pub(super) mod compile;
mod progress;
mod schedule;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::http::Method;
use crate::stats::{HealthCheckStats, Scope};
use crate::text_matcher::TextMatcher;
use crate::upstream::transport_socket::TransportSocket;

pub use progress::{Change, Event, Failure, FailureKind, Outcome, Progress};

/// The health check of a cluster.
#[derive(Debug)]
pub struct HealthCheck {
    /// What is sent, and what is expected.
    pub probe: Probe,
    /// How long a check may take.
    pub timeout: Duration,
    /// How often hosts are checked.
    pub intervals: Intervals,
    /// So many failures in a row make a host unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it healthy again; at least 1.
    pub healthy_threshold: u32,
    /// Whether a connection is kept for the next check. Default yes.
    pub reuse_connection: bool,
    /// The port that is checked instead of that of the endpoint.
    pub alt_port: Option<u16>,
    /// The protocols that checks offer by ALPN, instead of the codec's; empty: the codec's.
    pub alpn: Vec<Vec<u8>>,
    /// Where changes are logged.
    pub log: EventLog,
    /// `cluster.<observability_name>.health_check.`
    pub stats: Arc<Scope<HealthCheckStats>>,
}

/// How often hosts are checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intervals {
    /// `interval`: of a healthy host.
    pub healthy: Duration,
    /// `healthy_edge_interval`: of a host that is about to become healthy.
    pub healthy_edge: Duration,
    /// `unhealthy_interval`
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval`: of a host that is about to become unhealthy.
    pub unhealthy_edge: Duration,
    /// `no_traffic_interval`: before the cluster has had its first connection. Default 60 s.
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval`
    pub no_traffic_healthy: Duration,
    /// `initial_jitter`: the bound of a random delay before the first check.
    pub initial_jitter: Duration,
    /// `interval_jitter`: the bound of a random addition to each interval.
    pub jitter: Duration,
    /// `interval_jitter_percent`: the same, in percent of the interval.
    pub jitter_percent: u32,
}

/// The kinds of checks.
#[derive(Debug)]
pub enum Probe {
    /// `http_health_check`
    Http(HttpProbe),
    /// `tcp_health_check`
    Tcp(TcpProbe),
    /// `grpc_health_check`
    Grpc(GrpcProbe),
}

/// A check by an HTTP request.
#[derive(Debug)]
pub struct HttpProbe {
    /// What is spoken.
    pub codec: Codec,
    /// The authority, unless an endpoint has its own; empty: the name of the cluster.
    pub host: String,
    /// The target.
    pub path: String,
    /// The method.
    pub method: Method,
    /// Whether it has the `user-agent` of health checks: `request_headers_to_remove` does not name it.
    pub sends_user_agent: bool,
    /// The fields that are added: names and values.
    pub headers: Vec<AddedHeader>,
    /// The body of the request.
    pub send: Vec<u8>,
    /// What the body of the response must contain, in this order.
    pub receive: Vec<Vec<u8>>,
    /// How much of a response is looked at; 0: all of it.
    pub response_buffer_bytes: u64,
    /// The statuses of a success.
    pub expected: Vec<Range<u16>>,
    /// The statuses that count as a failure of the network.
    pub retriable: Vec<Range<u16>>,
    /// What `x-envoy-upstream-healthchecked-cluster` must be.
    pub service_name: Option<TextMatcher>,
}

/// A field that is added to the request of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddedHeader {
    /// In lower case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it replaces a field of the same name.
    pub replaces: bool,
}

/// `codec_client_type`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Codec {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
}

/// A check by a call of `grpc.health.v1.Health/Check`.
#[derive(Debug)]
pub struct GrpcProbe {
    /// The service that is asked for; empty: the whole host.
    pub service_name: String,
    /// The authority, unless an endpoint has its own; empty: the name of the cluster.
    pub authority: String,
    /// The fields that are added.
    pub headers: Vec<AddedHeader>,
}

/// A check by a TCP connection.
#[derive(Debug, Default)]
pub struct TcpProbe {
    /// What is sent.
    pub send: Vec<u8>,
    /// What must be received, in this order; empty: connecting is enough.
    pub receive: Vec<Vec<u8>>,
}

/// Where the events of health checks are logged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventLog {
    /// The file; none: they are not.
    pub path: Option<PathBuf>,
    /// `always_log_health_check_failures`
    pub every_failure: bool,
    /// `always_log_health_check_success`
    pub every_success: bool,
}

impl EndpointCheck {
    /// Whether it says the same.
    pub(in crate::upstream) fn is_same(&self, other: &Self) -> bool {
        let Self { port, hostname, disabled, transport_socket } = self;
        let sockets = [transport_socket, &other.transport_socket];
        let sockets = sockets.map(|socket| socket.as_ref().map(Arc::as_ptr));
        (port, hostname, disabled) == (&other.port, &other.hostname, &other.disabled)
            && sockets[0] == sockets[1]
    }
}

/// `health_check_config` of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointCheck {
    /// The port that is checked; none: that of the endpoint.
    pub port: Option<u16>,
    /// The authority of its checks; empty: that of the health check.
    pub hostname: String,
    /// Whether it is not checked.
    pub disabled: bool,
    /// What carries its checks; none: what carries its connections.
    pub transport_socket: Option<Arc<TransportSocket>>,
}

impl Probe {
    /// `health_checker_type` in the event log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "HTTP",
            Self::Tcp(_) => "TCP",
            Self::Grpc(_) => "GRPC",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stats::Registry;

    /// A TCP check every 10 s with these thresholds.
    pub(crate) fn check(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheck {
        let interval = Duration::from_secs(10);
        HealthCheck {
            probe: Probe::Tcp(TcpProbe::default()),
            timeout: Duration::from_secs(1),
            intervals: Intervals {
                healthy: interval,
                healthy_edge: interval,
                unhealthy: interval,
                unhealthy_edge: interval,
                no_traffic: interval,
                no_traffic_healthy: interval,
                initial_jitter: Duration::ZERO,
                jitter: Duration::ZERO,
                jitter_percent: 0,
            },
            unhealthy_threshold,
            healthy_threshold,
            reuse_connection: true,
            alt_port: None,
            alpn: Vec::new(),
            log: EventLog::default(),
            stats: Registry::new(1).scope("cluster.c.health_check."),
        }
    }
}
