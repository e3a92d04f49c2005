//! The admin endpoint: state, stats and orders for the operator, in Envoy's formats.
//!
//! One file for each path; each declares its path, method and help in an [`Endpoint`] and answers from the
//! [`Server`] trait and the stats registry. It runs on the control plane's tokio runtime and is never on the
//! path of a request. Any client that can reach it can stop the process: bind it to loopback.
//!
//! It keeps no state of its own, and nothing else in the engine depends on it.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::address::Address;
use crate::admin_settings::Settings;
use crate::stats::{
    AdminListenerStats, HttpStats, ListenerHttpStats, NO_CERTIFICATE, ProcessStats, Registry, Scope,
};
use crate::stats_sink::StatsFlush;
use crate::transport::tls::inventory::Inventory;

mod connection;
mod json;
mod log;
mod query;
mod reply;
mod server;

mod certs;
mod clusters;
mod config_dump;
mod drain_listeners;
mod explain;
mod healthcheck;
mod help;
mod home;
mod hot_restart_version;
mod init_dump;
mod listeners;
mod logging;
mod memory;
mod quitquitquit;
mod ready;
mod recentlookups;
mod reload;
mod reopen_logs;
mod reset_counters;
mod runtime;
mod server_info;
mod shards;
mod stats;

pub use config_dump::{ClusterEndpoints, ConfigDump, StaticDump};
pub use server::{
    ClusterView, DrainListeners, FailingHost, HealthFlags, HostCounts, HostView, Identity,
    ListenerView, LogLevel, Order, Reloaded, Server, ServerState, ShardView, Thresholds, Unready,
};

use log::Ends;
use query::Query;
use reply::Reply;

/// Everything the endpoints answer from.
#[derive(Debug)]
pub struct Admin {
    settings: Settings,
    stats_flush: StatsFlush,
    /// Notified after each flush.
    flushed: Arc<Notify>,
    /// Whether `/stats/recentlookups` is enabled.
    tracks_lookups: AtomicBool,
    /// The id of the next connection.
    connections: AtomicU64,
    server: Arc<dyn Server>,
    registry: Arc<Registry>,
    process: Arc<ProcessStats>,
    http: Arc<Scope<HttpStats>>,
    listener: Arc<Scope<AdminListenerStats>>,
    listener_http: Arc<Scope<ListenerHttpStats>>,
}

impl Admin {
    /// Registers the endpoint's own stats.
    pub fn new(
        server: Arc<dyn Server>,
        registry: Arc<Registry>,
        process: Arc<ProcessStats>,
        settings: Settings,
        stats_flush: StatsFlush,
    ) -> Self {
        Self {
            settings,
            stats_flush,
            flushed: Arc::default(),
            tracks_lookups: AtomicBool::new(false),
            connections: AtomicU64::new(FIRST_CONNECTION_ID),
            http: registry.scope("http.admin."),
            listener: registry.scope("listener.admin."),
            listener_http: registry.scope("listener.admin.http.admin."),
            server,
            registry,
            process,
        }
    }

    /// Notified after each flush of the stats.
    pub fn flushed(&self) -> Arc<Notify> {
        Arc::clone(&self.flushed)
    }

    /// Flushes the stats each time the interval has passed, forever.
    pub async fn flush_stats_every(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            self.refresh_stats();
            self.flush_stats();
        }
    }

    fn flush_stats(&self) {
        self.registry.flush();
        self.flushed.notify_one();
    }

    /// Before stats are shown.
    fn prepare_stats(&self) {
        self.refresh_stats();
        if self.stats_flush == StatsFlush::OnAdmin {
            self.flush_stats();
        }
    }

    /// Sets the gauges of `server.` that are computed on demand.
    fn refresh_stats(&self) {
        self.server.refresh_stats();
        let (stats, state) = (self.process.server.control(), self.server.state());
        stats.uptime.set(self.server.identity().started.elapsed().as_secs());
        stats.state.set(state.number());
        stats.live.set(u64::from(state == ServerState::Live));
        let connections = self.server.listeners().iter().map(ListenerView::cx_active).sum();
        stats.total_connections.set(connections);
        let memory = memory::Memory::now();
        stats.memory_allocated.set(memory.allocated);
        stats.memory_heap_size.set(memory.heap_size);
        stats.memory_physical_size.set(memory.total_physical_bytes);
        let (certificates, now) = (self.server.certificates(), Timestamp::now().as_second());
        let (days, seconds) = first_expiring(&certificates, now);
        stats.days_until_first_cert_expiring.set(days.unwrap_or(NO_CERTIFICATE));
        stats.seconds_until_first_ocsp_response_expiring.set(seconds.unwrap_or(0));
    }

    /// The answer to one request.
    fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Reply {
        let allowed = &self.settings.allow_paths;
        let target =
            query.map_or_else(|| path.into(), |query| Cow::from(format!("{path}?{query}")));
        if !allowed.is_empty() && !allowed.iter().any(|it| it.matches(target.as_bytes())) {
            return Reply::text(format!("request to path {target} not allowed"))
                .with_status(StatusCode::FORBIDDEN);
        }
        let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path) else {
            return Reply::text(help::unknown_path()).with_status(StatusCode::NOT_FOUND);
        };
        if endpoint.effect.takes_post() && method != Method::POST {
            let text = format!("Method {method} not allowed, POST required.");
            return Reply::text(text).with_status(StatusCode::METHOD_NOT_ALLOWED);
        }
        (endpoint.answer)(self, &Query::parse(query.unwrap_or_default()))
    }
}

/// Shards count from 0, so the ids of all connections differ.
const FIRST_CONNECTION_ID: u64 = 1 << 63;

/// In how many days, at `now`, the first certificate expires, and in how many seconds the first OCSP response.
fn first_expiring(inventories: &[Arc<Inventory>], now: i64) -> (Option<u64>, Option<u64>) {
    let all = || inventories.iter().flat_map(|inventory| inventory.all());
    let ocsp = all().filter_map(|installed| installed.ocsp);
    let left = ocsp.map(|(_, until)| u64::try_from(until.saturating_sub(now)).unwrap_or(0));
    (all().map(|installed| installed.days_left(now)).min(), left.min())
}

/// The socket on which the endpoint listens.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Address),
}

impl Listener {
    /// The listening socket of this address, which does not block.
    ///
    /// # Errors
    /// If the runtime cannot poll it.
    pub fn new(socket: OwnedFd, address: Address) -> io::Result<Self> {
        match address {
            Address::Ip(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            Address::Pipe(_) => {
                let listener = UnixListener::from_std(socket.into())?;
                Ok(Self::Unix(listener, address))
            }
        }
    }

    /// Accepts a connection and answers it in a task of its own.
    async fn accept(&self, admin: &Arc<Admin>) -> io::Result<()> {
        let admin = Arc::clone(admin);
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let (peer, local) = (peer.into(), stream.local_addr()?.into());
                let ends = Ends { peer, local, id: admin.connections.fetch_add(1, Relaxed) };
                drop(tokio::spawn(connection::serve(admin, stream, ends)));
            }
            // Envoy: the address of a client on a unix socket is that of the listener.
            Self::Unix(listener, address) => {
                let (stream, _) = listener.accept().await?;
                let (peer, local) = (*address, *address);
                let ends = Ends { peer, local, id: admin.connections.fetch_add(1, Relaxed) };
                drop(tokio::spawn(connection::serve(admin, stream, ends)));
            }
        }
        Ok(())
    }
}

/// Accepts connections and answers them, forever.
pub async fn serve(admin: Arc<Admin>, listener: Listener) {
    loop {
        match listener.accept(&admin).await {
            Ok(()) => admin.listener.control().connections_accepted_per_socket_event.record(1),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// Waits after an error of accept(2): when file descriptors have run out the next accept would fail at
/// once, and the loop would spin. After an aborted connection there is no need to wait.
async fn wait_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "admin: accept failed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One path of the admin endpoint.
struct Endpoint {
    path: &'static str,
    effect: Effect,
    help: &'static str,
    parameters: &'static [Parameter],
    answer: fn(&Admin, &Query) -> Reply,
}

/// What a request to it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// It changes something.
    Changes,
    /// It ends the process.
    Exits,
    /// It only shows something.
    Shows,
}

impl Effect {
    /// So that no crawler and no image tag stops the server.
    fn takes_post(self) -> bool {
        self != Self::Shows
    }
}

/// A query parameter.
struct Parameter {
    name: &'static str,
    help: &'static str,
}

const fn parameter(name: &'static str, help: &'static str) -> Parameter {
    Parameter { name, help }
}

/// Every endpoint, by path: the order of `/help`.
static ENDPOINTS: [&Endpoint; 29] = [
    &home::ENDPOINT,
    &certs::ENDPOINT,
    &clusters::ENDPOINT,
    &config_dump::ENDPOINT,
    &drain_listeners::ENDPOINT,
    &explain::ENDPOINT,
    &healthcheck::FAIL,
    &healthcheck::OK,
    &help::ENDPOINT,
    &hot_restart_version::ENDPOINT,
    &init_dump::ENDPOINT,
    &listeners::ENDPOINT,
    &logging::ENDPOINT,
    &memory::ENDPOINT,
    &quitquitquit::ENDPOINT,
    &ready::ENDPOINT,
    &reload::ENDPOINT,
    &reopen_logs::ENDPOINT,
    &reset_counters::ENDPOINT,
    &runtime::ENDPOINT,
    &runtime::MODIFY,
    &server_info::ENDPOINT,
    &shards::ENDPOINT,
    &stats::ENDPOINT,
    &stats::PROMETHEUS,
    &recentlookups::ENDPOINT,
    &recentlookups::CLEAR,
    &recentlookups::DISABLE,
    &recentlookups::ENABLE,
];
