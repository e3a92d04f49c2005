//! The server as the admin endpoint sees it, and the orders it takes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::address::Address;
use crate::control::admin::ConfigDump;
use crate::explain::{Asked, AskedError, Explanation};
use crate::stats::{HostStats, ListenerStats, Scope};
use crate::transport::tls::inventory::Inventory;

/// The running server, as the admin endpoint sees it. Called on the control plane's thread only.
pub trait Server: fmt::Debug + Send + Sync + 'static {
    /// Its state.
    fn state(&self) -> ServerState;

    /// Updates the stats that are computed on demand.
    fn refresh_stats(&self);

    /// What does not change while it runs.
    fn identity(&self) -> &Identity;

    /// What its configuration does with a request.
    ///
    /// # Errors
    /// When it is no request, or reaches no listener.
    fn explain(&self, asked: &Asked) -> Result<Explanation, AskedError>;

    /// Its clusters, in the order in which they are shown.
    fn clusters(&self) -> Vec<ClusterView>;

    /// Its listeners, in the order in which they are shown.
    fn listeners(&self) -> Vec<ListenerView>;

    /// The certificates of its listeners, then of its clusters.
    fn certificates(&self) -> Vec<Arc<Inventory>>;

    /// Its shards, by number.
    fn shards(&self) -> Vec<ShardView>;

    /// Its configuration, and if wanted the hosts of its clusters.
    fn config_dump(&self, with_endpoints: bool) -> ConfigDump;

    /// What its listeners wait for before they serve.
    fn unready(&self) -> Vec<Unready>;

    /// Its loggers by name, each with its level.
    fn loggers(&self) -> Vec<(String, LogLevel)>;

    /// Changes the level of one of its loggers, or of all.
    fn set_log_level(&self, logger: Option<&str>, level: LogLevel);

    /// The runtime values.
    fn runtime(&self) -> Value;

    /// Sets runtime keys; an empty value removes what was set. False: no layer is for that.
    fn set_runtime<'a>(&self, values: &mut dyn Iterator<Item = (&'a str, &'a str)>) -> bool;

    /// Reads the configuration again; says what has become of it.
    fn reload(&self) -> oneshot::Receiver<Reloaded>;

    /// Carries out an order of the operator.
    fn order(&self, order: Order);
}

/// A listener that waits for routes before it serves.
#[derive(Debug)]
pub struct Unready {
    /// Its name.
    pub listener: String,
    /// Stands for what it is.
    pub hash: u64,
    /// The names of the routes.
    pub routes: BTreeSet<String>,
}

/// What has become of a configuration that was read again: what has changed, or why it is refused, in lines of
/// text.
pub type Reloaded = Result<String, String>;

/// An order of the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// `/drain_listeners`
    DrainListeners(DrainListeners),
    /// `/healthcheck/fail`: responses carry `connection: close`, `/ready` says DRAINING.
    FailHealthCheck,
    /// `/healthcheck/ok`
    PassHealthCheck,
    /// `/reopen_logs`
    ReopenLogs,
    /// `/quitquitquit`: exit at once, with status 0. The response is sent already.
    Quit,
}

/// How listeners are drained.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DrainListeners {
    /// Send `connection: close` for `--drain-time-s` before the sockets are closed.
    pub graceful: bool,
    /// Send `connection: close` and never close the sockets.
    pub skip_exit: bool,
    /// Only listeners with `traffic_direction: INBOUND`.
    pub inbound_only: bool,
}

/// The state of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerState {
    /// It serves.
    Live,
    /// It serves, and responses carry `connection: close`.
    Draining,
    /// It waits for the first resolution of its clusters.
    PreInitializing,
    /// It waits for the rest of its configuration.
    Initializing,
}

impl ServerState {
    /// As `/ready` and `/server_info` have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// As `server.state` has it.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Live => 0,
            Self::Draining => 1,
            Self::PreInitializing => 2,
            Self::Initializing => 3,
        }
    }
}

/// What does not change while the server runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `<commit>/<version>/<tree>/<build>/<tls library>`
    pub version: String,
    /// When it started.
    pub started: Instant,
    /// The flags, as `envoy.admin.v3.CommandLineOptions`.
    pub command_line_options: Value,
    /// The bootstrap's node, as `envoy.config.core.v3.Node`.
    pub node: Value,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// `name`
    pub name: String,
    /// `alt_stat_name`, or the name.
    pub observability_name: String,
    /// Whether it came from CDS.
    pub added_via_api: bool,
    /// Limits of the default priority, then of the high one.
    pub circuit_breakers: [Thresholds; 2],
    /// Its hosts, by priority.
    pub hosts: Vec<HostView>,
}

/// Limits of one priority.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[expect(missing_docs, reason = "Envoy's fields")]
pub struct Thresholds {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
}

/// A host of a cluster.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Where it is.
    pub address: Address,
    /// Name that was resolved, or the endpoint's `hostname`; empty if there is none.
    pub hostname: String,
    /// Its counters.
    pub counts: HostCounts,
    /// Why it gets no requests, or fewer.
    pub health: HealthFlags,
    /// It fails and does not respond; requests still go to it.
    pub failing: Option<FailingHost>,
    /// `load_balancing_weight`
    pub weight: u32,
    /// `locality.region`
    pub region: String,
    /// `locality.zone`
    pub zone: String,
    /// `locality.sub_zone`
    pub sub_zone: String,
    /// `canary` of the metadata of `envoy.lb`
    pub canary: bool,
    /// Priority of its locality.
    pub priority: u32,
    /// The success rates of outlier detection, in percent: of responses, and of connections. Negative if there
    /// were too few requests.
    pub success_rates: [f64; 2],
}

/// Why a host is failing, and for how long it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailingHost {
    /// `connection refused`
    pub cause: String,
    /// Since it was noticed.
    pub duration: Duration,
}

/// The counters of a host.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the stats of `HostStats`")]
pub struct HostCounts {
    pub cx_active: u64,
    pub cx_connect_fail: u64,
    pub cx_total: u64,
    pub rq_active: u64,
    pub rq_error: u64,
    pub rq_pending_active: u64,
    pub rq_success: u64,
    pub rq_timeout: u64,
    pub rq_total: u64,
}

impl HostCounts {
    /// What all shards counted up to now.
    pub fn of(stats: &Scope<HostStats>) -> Self {
        Self {
            cx_active: stats.gauge(|host| &host.cx_active),
            cx_connect_fail: stats.counter(|host| &host.cx_connect_fail),
            cx_total: stats.counter(|host| &host.cx_total),
            rq_active: stats.gauge(|host| &host.rq_active),
            rq_error: stats.counter(|host| &host.rq_error),
            rq_pending_active: stats.gauge(|host| &host.rq_pending_active),
            rq_success: stats.counter(|host| &host.rq_success),
            rq_timeout: stats.counter(|host| &host.rq_timeout),
            rq_total: stats.counter(|host| &host.rq_total),
        }
    }
}

/// Why a host gets no requests, or fewer. All false: it is healthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthFlags {
    /// Active health checks fail.
    pub failed_active_hc: bool,
    /// Outlier detection ejected it.
    pub failed_outlier_check: bool,
    /// Discovery says UNHEALTHY.
    pub failed_eds_health: bool,
    /// Active health checks say it is degraded.
    pub degraded_active_hc: bool,
    /// Discovery says DEGRADED.
    pub degraded_eds_health: bool,
    /// Discovery says DRAINING.
    pub eds_status_draining: bool,
    /// Discovery has removed it, but it passes its health checks.
    pub pending_dynamic_removal: bool,
    /// It waits for its first health check.
    pub pending_active_hc: bool,
    /// It has asked to be left out.
    pub excluded_via_immediate_hc_fail: bool,
    /// Its last health check timed out.
    pub active_hc_timeout: bool,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// `name`
    pub name: String,
    /// Where it listens, `address` first; the real ports if the configuration says 0.
    pub addresses: Vec<Address>,
    /// Its stats.
    pub stats: Arc<Scope<ListenerStats>>,
}

impl ListenerView {
    pub(super) fn cx_active(&self) -> u64 {
        self.stats.gauge(|stats| &stats.downstream_cx_active)
    }
}

/// A shard.
#[derive(Clone, Debug)]
pub struct ShardView {
    /// The core that it is pinned to; none if that failed.
    pub core: Option<usize>,
    /// What moves its bytes: `io_uring` and the ring's flags, or `epoll` and why.
    pub driver: String,
    /// Client connections that are open.
    pub connections: u64,
    /// Requests received.
    pub requests: u64,
}

/// A log level, by Envoy's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
    Off,
}

impl LogLevel {
    /// As `-l` and `/logging` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "trace" => Ok(Self::Trace),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            "critical" => Ok(Self::Critical),
            "off" => Ok(Self::Off),
            _ => Err(()),
        }
    }
}
