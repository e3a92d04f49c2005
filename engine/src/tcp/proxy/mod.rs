//! `tcp_proxy`: connects each client to a host of a cluster and relays bytes both ways.
//!
//! It knows the client only as a [`Connection`], and picks no hosts itself (`upstream/` does).
//!
//! Invariant: each client has at most one upstream connection, which is never reused.

pub mod backoff;
pub(crate) mod compile;
mod connect;
mod early;
mod relay;
pub mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use self::backoff::Backoff;
use self::connect::Failed;
use self::early::Early;
use self::tunnel::Tunneling;
use super::connection::Connection;
use super::filters::{Data, Filters};
use super::log;
use crate::access_log::entry_type::EntryType;
use crate::access_log::{AccessLogs, LocalLogs};
use crate::flags::Flag;
use crate::metadata::ListenerInfo;
use crate::shard::clock::{Millis, millis};
use crate::stats::{Scope, stats};
use crate::upstream::clusters::Clusters;

stats! {
    /// `tcp.<stat_prefix>.`
    pub struct TcpProxyStats {
        constant counter downstream_cx_drain_close;
        counter downstream_cx_no_route;
        constant counter downstream_cx_overload_close;
        constant gauge downstream_cx_rx_bytes_buffered;
        counter downstream_cx_rx_bytes_total;
        counter downstream_cx_total;
        constant gauge downstream_cx_tx_bytes_buffered;
        counter downstream_cx_tx_bytes_total;
        constant counter downstream_flow_control_paused_reading_total;
        constant counter downstream_flow_control_resumed_reading_total;
        counter early_data_received_count_total;
        counter idle_timeout;
        counter max_downstream_connection_duration;
        constant counter route_delayed_total;
        constant gauge upstream_flush_active;
        constant counter upstream_flush_total;
    }
}

/// The filter.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where connections go.
    pub route: Route,
    /// `idle_timeout`; `None`: no limit. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `max_downstream_connection_duration`
    pub max_duration: Option<MaxDuration>,
    /// The most attempts to connect before the client connection is closed; at least 1.
    pub max_connect_attempts: u32,
    /// The delay between attempts; `None`: at once.
    pub backoff: Option<Backoff>,
    /// When the upstream connection is opened.
    pub connect: ConnectMode,
    /// How many bytes are received before the upstream is connected.
    pub early_data_max: usize,
    /// `access_log`
    pub access_logs: AccessLogs,
    /// `access_log_options`
    pub log_times: LogTimes,
    /// `tunneling_config`; `None`: hosts are connected to without a tunnel.
    pub tunneling: Option<Tunneling>,
    /// The listener and the filter chain.
    pub info: Arc<ListenerInfo>,
    /// `tcp.<stat_prefix>.`
    pub stats: Arc<Scope<TcpProxyStats>>,
}

/// When entries are written besides that at the end of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogTimes {
    /// `flush_access_log_on_start`
    pub on_start: bool,
    /// `flush_access_log_on_connected`
    pub on_connected: bool,
    /// `access_log_flush_interval`
    pub interval: Option<Millis>,
}

/// The cluster of a connection.
#[derive(Debug)]
pub enum Route {
    /// `cluster`
    Cluster(Box<str>),
    /// `weighted_clusters`
    Weighted {
        /// The clusters and their weights.
        clusters: Vec<(Box<str>, u64)>,
        /// The sum of the weights; not 0.
        total: u64,
    },
}

/// `max_downstream_connection_duration` with its jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxDuration {
    /// The shortest duration.
    pub base: Duration,
    /// Up to this many percent are added at random.
    pub jitter_percent: f64,
}

/// `upstream_connect_mode`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectMode {
    /// At once.
    Immediate,
    /// When the client has sent something.
    OnData,
}

/// A client connection and its state in this filter.
struct Session<'a> {
    proxy: &'a TcpProxy,
    filters: &'a Filters,
    client: &'a mut Connection,
    stats: &'a TcpProxyStats,
    data: Data,
    /// When `idle_timeout` expires, during a wait for the first data or for the response that opens a
    /// tunnel.
    idle_at: Option<Millis>,
    early: Early,
    logs: &'a LocalLogs,
    /// When the next periodic entry is due.
    log_at: Option<Millis>,
}

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// `idle_timeout`
    Idle,
    /// `max_downstream_connection_duration`
    Age,
}

impl TcpProxy {
    /// Counts a new connection, and starts `max_downstream_connection_duration`.
    pub(super) fn admit(&self, client: &mut Connection) {
        let shard = client.subject.shard;
        self.stats.shard(shard.id).downstream_cx_total.inc();
        client.expires = self.max_duration.map(|most| {
            let age = most.pick(shard.random.borrow_mut().u64(..));
            client.opened.saturating_add(age)
        });
    }

    /// When a timeout closes a connection that has been silent since it was opened.
    #[must_use]
    pub fn first_limit(&self, client: &Connection) -> Option<(Millis, Limit)> {
        let idle = self.idle_timeout(client).map(|limit| client.opened.saturating_add(limit));
        let idle = idle.map(|at| (at, Limit::Idle));
        let age = client.expires.map(|at| (at, Limit::Age));
        [idle, age].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Counts a connection that is closed by a timeout.
    pub fn count_limit(&self, shard: usize, limit: Limit) {
        let stats = self.stats.shard(shard);
        match limit {
            Limit::Idle => stats.idle_timeout.inc(),
            Limit::Age => stats.max_downstream_connection_duration.inc(),
        }
    }

    /// How long neither side may send anything.
    fn idle_timeout(&self, client: &Connection) -> Option<Millis> {
        let limit = client.subject.state.idle_timeout.or(self.idle_timeout);
        limit.filter(|limit| !limit.is_zero()).map(millis)
    }
}

impl Route {
    /// The name of a connection's cluster; `random` is any number.
    fn pick(&self, random: u64) -> &str {
        match self {
            Self::Cluster(name) => name,
            Self::Weighted { clusters, total } => {
                let mut left = random.checked_rem(*total).unwrap_or(0);
                let picked = clusters.iter().find(|(_, weight)| {
                    let found = left < *weight;
                    left = left.saturating_sub(*weight);
                    found
                });
                picked.map_or("", |(name, _)| name)
            }
        }
    }
}

impl MaxDuration {
    /// For one connection; `random` is any number.
    fn pick(&self, random: u64) -> Millis {
        let base = millis(self.base);
        // Envoy: a multiple of a ten thousandth of the jitter.
        #[expect(clippy::cast_precision_loss, reason = "at most 10 000")]
        let share = (random % 10_001) as f64 / 10_000.0;
        let extra = self.base.mul_f64(self.jitter_percent / 100.0 * share);
        base.saturating_add(millis(extra))
    }
}

/// Serves a connection that the filters have admitted, until it ends.
pub(super) async fn serve(
    client: &mut Connection,
    filters: &Filters,
    proxy: &TcpProxy,
    logs: &LocalLogs,
) {
    let shard = client.subject.shard;
    let early = std::mem::take(&mut client.early);
    let mut session = Session {
        proxy,
        filters,
        stats: proxy.stats.shard(shard.id),
        data: filters.data(),
        idle_at: None,
        early: Early::new(early),
        logs,
        log_at: proxy.log_times.interval.map(|every| client.opened.saturating_add(every)),
        client,
    };
    let ended = session.run().await;
    session.early.recycle(shard.buffers);
    session.log_flags();
    if let Err(Failed::Denied(delay)) = ended {
        client.wait_before_close(delay).await;
    }
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Failed> {
        let shard = self.client.subject.shard;
        self.take_early()?;
        if self.proxy.connect == ConnectMode::OnData {
            self.first_data().await?;
        }
        let name = match &self.client.subject.state.cluster {
            Some(name) => name.clone(),
            None => self.proxy.route.pick(shard.random.borrow_mut().u64(..)).into(),
        };
        let clusters = Clusters::of(shard).current();
        let Some(cluster) = clusters.named(&name) else {
            self.stats.downstream_cx_no_route.inc();
            self.client.record.flags.set(Flag::NoClusterFound);
            return Err(Failed::NoUpstream);
        };
        self.client.record.cluster(cluster);
        let upstream = self.connect(cluster).await?;
        self.client.record.connected(&upstream.origin);
        if self.proxy.log_times.on_connected {
            self.log(EntryType::TcpUpstreamConnected);
        }
        self.relay(upstream).await
    }

    fn log(&self, entry_type: EntryType) {
        log::write(self.client, &self.proxy.info, self.logs, entry_type);
    }

    /// Writes a periodic entry if it is time for one.
    fn log_if_due(&mut self) {
        let now = self.client.subject.shard.clock.now();
        if self.log_at.is_some_and(|at| at <= now) {
            self.log(EntryType::TcpPeriodic);
            self.log_at = self.proxy.log_times.interval.map(|every| now.saturating_add(every));
        }
    }

    /// Runs the filters on what was received before this filter.
    fn take_early(&mut self) -> Result<(), Failed> {
        if self.early.len() > 0 { self.accept(self.early.len()) } else { Ok(()) }
    }

    fn log_flags(&self) {
        let set = &self.client.record.flags;
        if !set.is_empty() {
            let mut flags = Vec::new();
            set.write(Flag::short, &mut flags);
            let (peer, flags) = (self.client.subject.peer, String::from_utf8_lossy(&flags));
            tracing::debug!(target: "connection", "{peer}: TCP connection ended: {flags}");
        }
    }

    /// Counts the timeout that ends the connection.
    fn time_out(&mut self, limit: Limit) -> Failed {
        self.proxy.count_limit(self.client.subject.shard.id, limit);
        if limit == Limit::Age {
            self.client.record.flags.set(Flag::DurationTimeout);
        }
        Failed::Closed
    }

    fn start_idle_timer(&mut self) {
        let now = self.client.subject.shard.clock.now();
        let limit = self.proxy.idle_timeout(self.client);
        self.idle_at = limit.map(|limit| now.saturating_add(limit));
    }

    /// Counts what was received from the client, and lets the filters look at it.
    fn accept(&mut self, bytes: usize) -> Result<(), Failed> {
        self.stats.downstream_cx_rx_bytes_total.add(bytes as u64);
        self.client.record.received += bytes as u64;
        let verdict = self.filters.check(&mut self.data, &mut self.client.subject);
        verdict.into_result().map_err(Failed::Denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_picked_by_weight() {
        let clusters = vec![("a".into(), 1), ("b".into(), 0), ("c".into(), 3)];
        let route = Route::Weighted { clusters, total: 4 };
        let picked: Vec<&str> = (0..5).map(|random| route.pick(random)).collect();
        assert_eq!(picked, ["a", "c", "c", "c", "a"]);
    }

    #[test]
    fn a_jitter_only_makes_connections_older() {
        let most = MaxDuration { base: Duration::from_secs(10), jitter_percent: 50.0 };
        assert_eq!(most.pick(0), 10_000);
        assert_eq!(most.pick(5_000), 12_500);
        assert_eq!(most.pick(10_000), 15_000);
    }
}
