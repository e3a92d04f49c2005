//! The control plane: one thread beside the shards, never on the path of a request.
//!
//! It binds the listening sockets, starts the shards, sends them hosts and drain orders, serves the
//! admin endpoint, and adds up what the shards count. If it stalls for a second no client notices.
//!
//! Invariant: a shard gets a configuration before any order that refers to it.

mod access_log_writer;
pub mod admin;
mod changes;
mod collector;
mod descriptors;
mod dns;
mod dns_cache;
mod drain;
mod eds;
mod event_json;
mod expiry;
mod grpc;
mod health;
mod loaded;
mod logs;
mod membership;
mod moves;
mod notify;
mod original_dst;
mod outages;
mod outlier_log;
mod outliers;
mod pending;
mod raw_codec;
mod rds;
mod refusal;
mod reload;
mod remote_logs;
mod resources;
mod ring_advice;
mod runtime;
mod sds;
mod server;
mod shards;
mod signals;
pub mod sockets;
mod sockets_in_use;
mod stats_sinks;
mod subscription;
mod xds;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use self::admin::{Admin, Identity, Server as _, ServerState, StaticDump};
use self::dns_cache::DnsCaches;
use self::drain::Drain;
use self::eds::Endpoints;
use self::loaded::LoadedResources;
use self::logs::Logs;
use self::membership::{Membership, key};
use self::notify::ServiceManager;
use self::outages::Outages;
use self::rds::RouteFollower;
use self::reload::{Reloader, Step};
use self::remote_logs::RemoteLogs;
use self::resources::Sources;
use self::runtime::{RuntimeSources, Values};
use self::sds::SecretSubscriptions;
use self::server::{Changing, Running};
use self::shards::Shards;
use self::signals::{Action, Signals};
use self::sockets::PortUse;
use self::sockets_in_use::{SocketsInUse, Start};
use crate::access_log::sink::Flush;
use crate::address::Address;
use crate::compile::{Compiled, Compiler};
use crate::config_source::MoveTarget;
use crate::downstream::ListenAddress;
use crate::limits;
use crate::node::Node;
use crate::stats::{ProcessStats, Registry};
use crate::stats_sink::StatsFlush;
use crate::upstream::Cluster;
use crate::upstream::clusters::Clusters;
use crate::upstream::dns_cache::{DnsCache, LocalCaches, Resolved};
use crate::upstream::host_set::HostSet;

pub use self::reload::{Configuration, Fresh};
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
    /// The operational log.
    pub logging: Arc<dyn Logging>,
    /// When access logs are written.
    pub flush: Flush,
    /// The file whose replacement makes the process read its configuration again.
    pub watched: Option<PathBuf>,
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

/// Serves `first` until the process is asked to stop; `compiler` has compiled it, and `configuration` is where it
/// comes from. The shards still run when it returns: the caller exits the process.
///
/// # Errors
/// When it cannot start to serve.
pub fn run(
    first: Fresh,
    compiler: Compiler,
    configuration: Box<dyn Configuration>,
    registry: Arc<Registry>,
    process: Arc<ProcessStats>,
    options: Options,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let source = Source { compiler, configuration };
    runtime.block_on(local.run_until(serve(first, source, registry, process, options)))
}

/// Where configurations come from, and what compiles them.
struct Source {
    compiler: Compiler,
    configuration: Box<dyn Configuration>,
}

#[expect(clippy::too_many_lines, reason = "the start of the process, step by step")]
async fn serve(
    first: Fresh,
    Source { compiler, configuration }: Source,
    registry: Arc<Registry>,
    process: Arc<ProcessStats>,
    options: Options,
) -> Result<(), StartError> {
    let Fresh { compiled, bootstrap, warnings: _ } = first;
    let Compiled {
        snapshot,
        admin: admin_address,
        admin_settings,
        stats_flush,
        stats_sinks,
        // The log is the caller's.
        log_format: _,
        node,
        // The compiler has them already.
        runtime: _,
        in_force,
        sources: dynamic,
    } = compiled;
    // Before anything is bound: a signal from here on is handled.
    let mut signals = Signals::handle()?;
    let service_manager = Rc::new(ServiceManager::from_environment());
    let descriptors = descriptors::raise_limit();
    let options = Rc::new(options);

    let admin_listener = match admin_address {
        Some(address) => Some(listen_admin(&address, &options)?),
        None => None,
    };
    let mut sockets = SocketsInUse::default();
    let first_orders = sockets.change(&snapshot, &options, Start::AtOnce)?;
    let addresses = sockets.addresses(&snapshot);
    let listening = addresses.iter().flatten().count() as u64;
    let connections_max =
        limits::client_connections_max(descriptors, options.concurrency as u64, listening);
    let shards = Arc::new(Shards::start(options.concurrency, options.started, connections_max)?);
    let logs = Logs::new(Arc::clone(&options.logging), options.flush, &shards);
    logs.take_up(compiler.files())?;
    let installed = Arc::clone(&snapshot);
    shards.send_to_all(move |shard| installed.install(shard, |_| None));

    let (orders, ordered) = mpsc::unbounded_channel();
    let (reloads, requested) = mpsc::unbounded_channel();
    let (layers, stats) = (Arc::clone(compiler.runtime()), Arc::clone(&process.runtime));
    let values = Values { layers, stats };
    let identity = xds::Identity {
        configured: bootstrap.get("node").cloned().unwrap_or_default(),
        node: node.clone(),
        version: options.version.clone(),
    };
    let changing = Changing {
        state: ServerState::PreInitializing,
        addresses,
        hosts: HashMap::new(),
        outages: Outages::default(),
        statics: Arc::new(StaticDump::of_bootstrap(&bootstrap, SystemTime::now())),
        loaded: LoadedResources::default(),
        accepted: Arc::clone(&snapshot),
        no_routes_yet: HashMap::new(),
        snapshot,
    };
    let running = Arc::new(Running {
        identity: self::identity(&node, &options),
        logging: Arc::clone(&options.logging),
        shards: Arc::clone(&shards),
        orders,
        reloads,
        changing: Mutex::new(changing),
        runtime: values.clone(),
    });
    //= envoy: values are loaded twice at the start
    (0..2).for_each(|_| values.count(values.layers.read()));
    let secrets = compiler.secrets().ok_or_else(|| io::Error::other("nothing is compiled"))?;
    let proxy = stats_sinks::Proxy {
        node: identity.encoded().unwrap_or_default(),
        version: options.version.clone(),
    };
    logs.send_remotely(RemoteLogs::new(&identity, &running, &shards), compiler.files());
    let servers = xds::Client::new(dynamic.ads.clone(), identity, &running, &registry);
    let sources = Rc::new(Sources::new(servers));
    let secrets = SecretSubscriptions::new(secrets, &registry, &running, &sources);
    let (updated, secrets_answered) = sources.first_answers(|| secrets.update());
    updated?;
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
    let (stats, flushed) = (Arc::clone(&registry), admin.flushed());
    let sinks = stats_sinks::run(stats_sinks, proxy, stats, Arc::clone(&running), flushed);
    flush_stats(admin, stats_flush, sinks);
    let endpoints = Endpoints::new(Arc::clone(&registry), Rc::clone(&sources));
    let membership = membership(&running, &shards, endpoints)?;
    membership.serve_dns(&compiler.dns_caches().all());
    let initialized = membership.follow(&running.snapshot().clusters);
    let initialized = async move {
        for (_, ready) in initialized {
            drop(ready.await);
        }
    };
    let runtime = RuntimeSources::new(values, &registry, &sources);
    let runtime_answered = runtime.follow()?;
    drop(tokio::task::spawn_local(outages::watch(Arc::clone(&running))));
    let manager = Arc::clone(&process.listener_manager);
    let drain = Drain::new(Arc::clone(&shards), Arc::clone(&running), manager, options.drain_time);

    tokio::select! {
        _ = async { tokio::join!(initialized, secrets_answered, runtime_answered) } => {}
        () = stop_signal(&mut signals, &logs, None) => return Ok(()),
    }
    compiler.commit(in_force);
    let compiler = Rc::new(compiler);
    let routes = RouteFollower::new(&compiler, &registry, &running, &shards, &sources);
    let (steps, stepped) = mpsc::unbounded_channel();
    let reloader = Rc::new(Reloader {
        drain: drain.clone(),
        accepted: RefCell::new(running.snapshot()),
        configuration,
        compiler,
        registry,
        process,
        running: Arc::clone(&running),
        shards: Arc::clone(&shards),
        logs: logs.clone(),
        membership,
        secrets,
        sources,
        subscriptions: RefCell::default(),
        routes,
        runtime,
        sockets: RefCell::new(sockets),
        before_live: RefCell::new(Some(vec![first_orders])),
        options: Rc::clone(&options),
        steps: steps.clone(),
    });
    reloader.count_first();
    let stepping = tokio::task::spawn_local(Rc::clone(&reloader).take_steps(stepped));
    tokio::select! {
        subscribed = reloader.subscribe(dynamic) => subscribed?,
        () = stop_signal(&mut signals, &logs, None) => return Ok(()),
    }
    let (live, lives) = oneshot::channel();
    // The receiver lives as long as the task above.
    let _stepping = steps.send(Step::GoLive(live));
    tokio::select! {
        _ = lives => {}
        () = stop_signal(&mut signals, &logs, None) => return Ok(()),
    }
    if let Some(path) = options.watched.clone() {
        watch_configuration(path, &reloader.sources, &running)?;
    }
    let requested = reloader.read_on_request(requested);
    let requested = tokio::task::spawn_local(requested);
    (options.when_live)();
    drop(tokio::task::spawn_local(descriptors::watch(Arc::clone(&shards), descriptors)));
    drop(tokio::task::spawn_local(expiry::watch(Arc::clone(&running))));
    drop(tokio::task::spawn_local(Rc::clone(&service_manager).watch(Arc::clone(&shards))));
    let reactions = Reactions {
        drain,
        logs: &logs,
        running: &running,
        reloading: [requested, stepping],
        service_manager: &service_manager,
    };
    let ready = async {
        shards.caught_up().await;
        service_manager.ready();
        pending().await
    };
    tokio::select! {
        () = until_the_end(signals, ordered, reactions) => {}
        () = ready => {}
    }
    logs.finish().await;
    Ok(())
}

/// Reads the configuration again whenever another file is moved to its place.
fn watch_configuration(path: PathBuf, sources: &Sources, running: &Arc<Running>) -> io::Result<()> {
    let moved = Rc::new(Notify::new());
    let watch = sources.watchers().watcher()?.watch(&MoveTarget::File(path), &moved);
    let running = Arc::clone(running);
    drop(tokio::task::spawn_local(async move {
        let _watch = watch;
        loop {
            moved.notified().await;
            // What becomes of it is logged.
            drop(running.reload());
        }
    }));
    Ok(())
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

/// What reacts to signals and orders.
struct Reactions<'a> {
    drain: Drain,
    logs: &'a Logs,
    running: &'a Running,
    /// What may change the configuration.
    reloading: [JoinHandle<()>; 2],
    service_manager: &'a ServiceManager,
}

/// Does what signals and the admin endpoint ask for until one of them ends the process; a signal
/// drains it first.
async fn until_the_end(
    mut signals: Signals,
    mut ordered: mpsc::UnboundedReceiver<admin::Order>,
    reactions: Reactions<'_>,
) {
    let Reactions { mut drain, logs, running, reloading, service_manager } = reactions;
    tokio::select! {
        () = stop_signal(&mut signals, logs, Some(running)) => {}
        () = quit_order(&mut ordered, logs, |order| drain.order(order)) => {
            return service_manager.stopping();
        }
    }
    // A new configuration would open sockets again.
    reloading.iter().for_each(JoinHandle::abort);
    service_manager.stopping();
    tracing::info!(target: "main", "draining; a second signal ends the process at once");
    tokio::select! {
        () = drain.drain_process() => return tracing::info!(target: "main", "drained; exiting"),
        () = stop_signal(&mut signals, logs, None) => {}
        // All connections are draining: no other order changes that.
        () = quit_order(&mut ordered, logs, drop) => {}
    }
    tracing::warn!(target: "main", "exiting before the drain is complete");
}

/// Completes when a signal requests to stop; performs the actions of other signals until then. The
/// configuration is read again only if it is `running` and not about to end.
async fn stop_signal(signals: &mut Signals, logs: &Logs, running: Option<&Running>) {
    loop {
        match (signals.next().await, running) {
            (Action::Stop, _) => return,
            (Action::ReopenLog, _) => logs.reopen(),
            (Action::Reload, Some(running)) => drop(running.reload()),
            (Action::Reload, None) => {
                tracing::info!(target: "main", "SIGHUP ignored: the process starts or ends");
            }
            (Action::Upgrade, _) => {
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

fn identity(node: &Node, options: &Options) -> Identity {
    Identity {
        version: options.version.clone(),
        started: options.started,
        command_line_options: options.command_line_options.clone(),
        node: node.json(),
    }
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

/// The hosts of clusters, which are sent to the shards and shown by the admin endpoint.
fn membership(
    running: &Arc<Running>,
    shards: &Arc<Shards>,
    endpoints: Endpoints,
) -> Result<Membership, StartError> {
    let resolver = Rc::new(dns::Resolver::system().map_err(io::Error::other)?);
    let (epoch, count) = (running.identity.started, shards.count());
    let of_caches = Arc::clone(shards);
    let tell = move |cache: &Arc<DnsCache>, name: &str, resolved: Option<&Arc<Resolved>>| {
        let (cache, name, resolved) = (Arc::clone(cache), name.to_owned(), resolved.cloned());
        of_caches.send_to_all(move |shard| {
            LocalCaches::of(shard).get(&cache, shard.id).update(&name, resolved.clone());
        });
    };
    let dns_caches = DnsCaches::new(Rc::clone(&resolver), count, epoch, tell);
    let (running, shards) = (Arc::clone(running), Arc::clone(shards));
    let publish = move |cluster: &Arc<Cluster>, hosts: Arc<HostSet>| {
        running.change(|changing| changing.hosts.insert(key(cluster), Arc::clone(&hosts)));
        let cluster = Arc::clone(cluster);
        shards.send_to_all(move |shard| {
            Clusters::of(shard).set_hosts(&cluster, Arc::clone(&hosts));
        });
    };
    Ok(Membership::new(resolver, dns_caches, endpoints, count, epoch, publish))
}
