//! The control plane: one thread beside the shards, never on the path of a request.
//!
//! It binds the listening sockets, starts the shards, sends them hosts and drain orders, serves the
//! admin endpoint, and adds up what the shards count. If it stalls for a second no client notices.
//!
//! Invariant: a shard gets a configuration before any order that refers to it.

mod access_log_writer;
pub mod admin;
mod descriptors;
mod dns;
mod drain;
mod event_json;
mod expiry;
mod health;
mod logs;
mod membership;
mod moves;
mod notify;
mod outages;
mod outlier_log;
mod outliers;
mod ring_advice;
mod sds;
mod server;
mod shards;
mod signals;
pub mod sockets;
mod stats_sinks;
mod subscription;

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use self::admin::{Admin, ConfigDump, Identity, ServerState};
use self::drain::Drain;
use self::logs::Logs;
use self::membership::Membership;
use self::notify::ServiceManager;
use self::outages::Outages;
use self::server::{Changing, Running};
use self::shards::Shards;
use self::signals::{Action, Signals};
use self::sockets::PortUse;
use crate::access_log::sink::Flush;
use crate::address::Address;
use crate::compile::Compiled;
use crate::downstream::{ListenAddress, listener};
use crate::limits;
use crate::node::Node;
use crate::runtime::Runtime;
use crate::snapshot::Snapshot;
use crate::stats::{ProcessStats, Registry};
use crate::stats_sink::StatsFlush;
use crate::upstream::clusters::Clusters;
use crate::upstream::host_set::HostSet;

pub use self::server::Logging;

/// What a process is started with, apart from its configuration.
#[derive(Debug)]
pub struct Options {
    /// When the process started.
    pub started: Instant,
    /// Shards.
    pub concurrency: usize,
    /// How long a drain may take.
    pub drain_time: Duration,
    /// Whether another process may listen on the addresses of the listeners. The admin endpoint never
    /// shares its address.
    pub port_use: PortUse,
    /// The file that the admin endpoint's address is written to.
    pub admin_address_path: Option<PathBuf>,
    /// Shown by `/server_info`.
    pub version: String,
    /// Shown by `/server_info`, as `envoy.admin.v3.CommandLineOptions`.
    pub command_line_options: serde_json::Value,
    /// The configuration, for `/config_dump`.
    pub bootstrap: serde_json::Value,
    /// The operational log.
    pub logging: Arc<dyn Logging>,
    /// When access logs are written.
    pub flush: Flush,
    /// Called once connections are accepted.
    pub when_live: fn(),
}

/// Why a process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({what}): {error}{}", sockets::hint(*address, error))]
    Listen {
        /// The address.
        address: Address,
        /// The listener's name, or the admin endpoint.
        what: String,
        /// The error of the kernel.
        error: io::Error,
    },
    /// The file for the admin address cannot be written.
    #[error("cannot write {}", path.display())]
    AdminAddressPath {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The system refused something that every process needs.
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// Serves until the process is asked to stop. The shards still run when it returns: the caller exits
/// the process.
///
/// # Errors
/// When it cannot start to serve.
pub fn run(
    compiled: Compiled,
    registry: Arc<Registry>,
    process: Arc<ProcessStats>,
    options: Options,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(compiled, registry, process, options)))
}

async fn serve(
    compiled: Compiled,
    registry: Arc<Registry>,
    process: Arc<ProcessStats>,
    options: Options,
) -> Result<(), StartError> {
    let Compiled {
        snapshot,
        admin: admin_address,
        admin_settings,
        stats_flush,
        stats_sinks,
        // The log is the caller's.
        log_format: _,
        node,
        runtime,
        secrets,
        access_logs,
    } = compiled;
    // Before anything is bound: a signal from here on is handled.
    let mut signals = Signals::handle()?;
    let service_manager = Rc::new(ServiceManager::from_environment());
    let descriptors = descriptors::raise_limit();

    let admin_listener = match admin_address {
        Some(address) => Some(listen_admin(&address, &options)?),
        None => None,
    };
    let sockets = bind(&snapshot, &options)?;
    let listeners = sockets.iter().flatten().count() as u64;
    let connections_max =
        limits::client_connections_max(descriptors, options.concurrency as u64, listeners);
    let shards = Arc::new(Shards::start(options.concurrency, options.started, connections_max)?);
    let logs = Logs::start(Arc::clone(&options.logging), access_logs, options.flush, &shards)?;
    let installed = Arc::clone(&snapshot);
    shards.send_to_all(move |shard| installed.install(shard));

    let (orders, ordered) = mpsc::unbounded_channel();
    count_runtime(&process, &runtime);
    let who = (&node, &runtime);
    let running = running(&snapshot, who, &options, &sockets, &shards, orders);
    sds::start(secrets, &registry, &running)?;
    let admin = Arc::new(Admin::new(
        running.clone(),
        Arc::clone(&registry),
        Arc::clone(&process),
        admin_settings,
        stats_flush,
    ));
    if let Some(listener) = admin_listener {
        drop(tokio::task::spawn_local(admin::serve(Arc::clone(&admin), listener)));
    }
    let sinks = stats_sinks::run(stats_sinks, registry, Arc::clone(&running), admin.flushed());
    flush_stats(admin, stats_flush, sinks);
    let initialized = follow_hosts(&running, &shards)?;
    drop(tokio::task::spawn_local(outages::watch(Arc::clone(&running))));
    let manager = Arc::clone(&process.listener_manager);
    let drain = Drain::new(Arc::clone(&shards), Arc::clone(&running), manager, options.drain_time);

    tokio::select! {
        () = initialized => {}
        () = stop_signal(&mut signals, &logs) => return Ok(()),
    }
    go_live(&running, &shards, sockets, &process);
    (options.when_live)();
    drop(tokio::task::spawn_local(descriptors::watch(Arc::clone(&shards), descriptors)));
    drop(tokio::task::spawn_local(expiry::watch(running)));
    drop(tokio::task::spawn_local(Rc::clone(&service_manager).watch(Arc::clone(&shards))));
    let ready = async {
        shards.caught_up().await;
        service_manager.ready();
        pending().await
    };
    tokio::select! {
        () = until_the_end(signals, ordered, drain, &logs, &service_manager) => {}
        () = ready => {}
    }
    logs.finish().await;
    Ok(())
}

fn count_runtime(process: &ProcessStats, runtime: &Runtime) {
    let values = process.runtime.control();
    // As Envoy counts: two loads at the start, and no override directory.
    values.load_success.add(2);
    values.override_dir_not_exists.add(2);
    values.num_keys.set(runtime.key_count() as u64);
    values.num_layers.set(runtime.layer_count() as u64);
}

/// Starts the timer that flushes stats, if there is one, and the sinks.
fn flush_stats(
    admin: Arc<Admin>,
    stats_flush: StatsFlush,
    sinks: impl Future<Output = ()> + 'static,
) {
    drop(tokio::task::spawn_local(sinks));
    if let StatsFlush::Every(interval) = stats_flush {
        drop(tokio::task::spawn_local(async move { admin.flush_stats_every(interval).await }));
    }
}

/// Does what signals and the admin endpoint ask for until one of them ends the process; a signal
/// drains it first.
async fn until_the_end(
    mut signals: Signals,
    mut ordered: mpsc::UnboundedReceiver<admin::Order>,
    mut drain: Drain,
    logs: &Logs,
    service_manager: &ServiceManager,
) {
    tokio::select! {
        () = stop_signal(&mut signals, logs) => {}
        () = quit_order(&mut ordered, logs, |order| drain.order(order)) => {
            return service_manager.stopping();
        }
    }
    service_manager.stopping();
    tracing::info!(target: "main", "draining; a second signal ends the process at once");
    tokio::select! {
        () = drain.drain_process() => return tracing::info!(target: "main", "drained; exiting"),
        () = stop_signal(&mut signals, logs) => {}
        // All connections are draining: no other order changes that.
        () = quit_order(&mut ordered, logs, drop) => {}
    }
    tracing::warn!(target: "main", "exiting before the drain is complete");
}

/// Completes when a signal requests to stop; performs the actions of other signals until then.
async fn stop_signal(signals: &mut Signals, logs: &Logs) {
    loop {
        match signals.next().await {
            Action::Stop => return,
            Action::ReopenLog => logs.reopen(),
            Action::Reload => {
                tracing::info!(target: "main", "SIGHUP ignored: the configuration is read only at startup");
            }
            Action::Upgrade => {
                tracing::info!(target: "main", "SIGUSR2 ignored: replacing the running binary is not supported");
            }
        }
    }
}

/// Completes when the admin endpoint receives a quit order; executes other orders until then.
async fn quit_order(
    ordered: &mut mpsc::UnboundedReceiver<admin::Order>,
    logs: &Logs,
    mut carry_out: impl FnMut(admin::Order),
) {
    while let Some(order) = ordered.recv().await {
        match order {
            admin::Order::Quit => return,
            admin::Order::ReopenLogs => logs.reopen(),
            order => carry_out(order),
        }
    }
}

/// `1 shard`, `2 shards`
fn counted(count: impl TryInto<u64>, noun: &str) -> impl Display {
    let count = count.try_into().unwrap_or(u64::MAX);
    std::fmt::from_fn(move |f| write!(f, "{count} {noun}{}", if count == 1 { "" } else { "s" }))
}

/// The server as the admin endpoint sees it.
fn running(
    snapshot: &Arc<Snapshot>,
    (node, runtime): (&Node, &Runtime),
    options: &Options,
    sockets: &[Vec<Bound>],
    shards: &Arc<Shards>,
    orders: mpsc::UnboundedSender<admin::Order>,
) -> Arc<Running> {
    let identity = Identity {
        version: options.version.clone(),
        started: options.started,
        command_line_options: options.command_line_options.clone(),
        node: node.json(),
        runtime: runtime.json(),
    };
    let config_dump = ConfigDump::of_bootstrap(options.bootstrap.clone(), SystemTime::now());
    let no_hosts = Arc::new(HostSet::default());
    let changing = Changing {
        state: ServerState::PreInitializing,
        hosts: snapshot.clusters.iter().map(|_| Arc::clone(&no_hosts)).collect(),
        outages: Outages::default(),
        config_dump: Arc::new(config_dump),
    };
    Arc::new(Running {
        identity,
        snapshot: Arc::clone(snapshot),
        logging: Arc::clone(&options.logging),
        addresses: sockets
            .iter()
            .map(|listener| listener.iter().map(|bound| bound.address).collect())
            .collect(),
        shards: Arc::clone(shards),
        orders,
        changing: Mutex::new(changing),
    })
}

/// The sockets of one address of a listener, one for each shard.
struct Bound {
    address: Address,
    sockets: Vec<std::os::fd::OwnedFd>,
}

/// Binds all addresses of each listener.
fn bind(snapshot: &Snapshot, options: &Options) -> Result<Vec<Vec<Bound>>, StartError> {
    let longest = sockets::backlog_max();
    let failed = |listener: &crate::downstream::Listener, address: Address| {
        let what = format!("listener {}", listener.name);
        move |error| StartError::Listen { address, what, error }
    };
    if options.port_use == PortUse::Exclusive {
        for listener in snapshot.listeners.iter().filter(|listener| listener.binds) {
            for ListenAddress { address, settings } in &listener.addresses {
                sockets::probe(*address, settings).map_err(failed(listener, *address))?;
            }
        }
    }
    let mut bound = Vec::with_capacity(snapshot.listeners.len());
    for listener in &snapshot.listeners {
        let mut of_listener = Vec::with_capacity(listener.addresses.len());
        for ListenAddress { address, settings } in &listener.addresses {
            if !listener.binds {
                of_listener.push(Bound { address: *address, sockets: Vec::new() });
                continue;
            }
            let (address, sockets) =
                sockets::listen(*address, settings, options.concurrency, longest)
                    .map_err(failed(listener, *address))?;
            of_listener.push(Bound { address, sockets });
        }
        bound.push(of_listener);
    }
    Ok(bound)
}

fn listen_admin(at: &ListenAddress, options: &Options) -> Result<admin::Listener, StartError> {
    let ListenAddress { address, settings } = at;
    let failed = |error| StartError::Listen { address: *address, what: "admin".to_owned(), error };
    sockets::probe(*address, settings).map_err(failed)?;
    let (address, mut sockets) =
        sockets::listen(*address, settings, 1, sockets::backlog_max()).map_err(failed)?;
    let socket = sockets.pop().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let listener = admin::Listener::new(socket, address).map_err(failed)?;
    tracing::info!(target: "main", "admin address: {address}");
    if let Some(path) = &options.admin_address_path {
        std::fs::write(path, address.to_string())
            .map_err(|source| StartError::AdminAddressPath { path: path.clone(), source })?;
    }
    Ok(listener)
}

/// Starts to resolve the hosts of the clusters; completes when each has been resolved, or has failed
/// to, once.
fn follow_hosts(
    running: &Arc<Running>,
    shards: &Arc<Shards>,
) -> Result<impl Future<Output = ()> + use<>, StartError> {
    let resolver = dns::Resolver::system().map_err(io::Error::other)?;
    let clusters = running.snapshot.clusters.clone();
    let epoch = running.identity.started;
    let (tell, initialized) = oneshot::channel();
    let (running, shards) = (Arc::clone(running), Arc::clone(shards));
    let count = shards.count();
    let publish = move |cluster: usize, hosts: Arc<HostSet>| {
        running.change(|changing| {
            if let Some(place) = changing.hosts.get_mut(cluster) {
                *place = Arc::clone(&hosts);
            }
        });
        shards.send_to_all(move |shard| {
            if let Some(cluster) = Clusters::of(shard).current().get(cluster) {
                cluster.replace_hosts(Arc::clone(&hosts));
            }
        });
    };
    let membership = Membership::new(&clusters, epoch, publish);
    drop(tokio::task::spawn_local(dns::run(membership, count, resolver, tell)));
    // An error means that the sender is gone: nothing is left to wait for.
    Ok(async { drop(initialized.await) })
}

/// Hands the sockets to the shards, which accept connections from then on.
fn go_live(running: &Running, shards: &Shards, bound: Vec<Vec<Bound>>, process: &ProcessStats) {
    let listeners = bound.len() as u64;
    for (listener, bound) in running.snapshot.listeners.iter().zip(bound) {
        for Bound { address, sockets } in bound {
            shards.send_to_each(sockets, |socket| {
                let listener = Arc::clone(listener);
                Box::new(move |shard| listener::listen(shard, &listener, socket, address))
            });
        }
    }
    running.set_state(ServerState::Live);
    let stats = process.listener_manager.control();
    stats.listener_added.add(listeners);
    stats.listener_create_success.add(listeners * shards.count() as u64);
    stats.total_listeners_active.set(listeners);
    stats.workers_started.set(1);
    let clusters = process.cluster_manager.control();
    clusters.cluster_added.add(running.snapshot.clusters.len() as u64);
    clusters.active_clusters.set(running.snapshot.clusters.len() as u64);
    let took = running.identity.started.elapsed().as_millis();
    let took = u64::try_from(took).unwrap_or(u64::MAX);
    process.server.control().initialization_time_ms.record(took);
    let listeners = running.snapshot.listeners.iter().zip(&running.addresses);
    for address in listeners.filter(|(listener, _)| listener.binds).flat_map(|(_, all)| all) {
        tracing::info!(target: "main", "listening on {address}");
    }
    tracing::info!(target: "main", "serving after {took} ms");
}
