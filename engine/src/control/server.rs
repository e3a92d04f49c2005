//! The server as the admin endpoint sees it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::admin::{
    ClusterEndpoints, ClusterView, ConfigDump, FailingHost, HealthFlags, HostCounts, HostView,
    Identity, ListenerView, LogLevel, Order, Reloaded, Server, ServerState, ShardView, StaticDump,
    Thresholds, Unready,
};
use super::loaded::LoadedResources;
use super::membership::key;
use super::outages::{Outage, Outages};
use super::rds;
use super::reload::Reload;
use super::runtime::Values;
use super::shards::Shards;
use crate::address::Address;
use crate::downstream::filter_chain::Speaks;
use crate::dynamic_compile::Kind;
use crate::explain::{Asked, AskedError, Explanation, explain};
use crate::shard::clock::{Millis, millis};
use crate::shard::handle::ShardHandle;
use crate::snapshot::Snapshot;
use crate::transport::tls::context::compile::ShownSecret;
use crate::transport::tls::inventory::Inventory;
use crate::upstream::circuit_breaker::{self, RoutingPriority};
use crate::upstream::cluster::Cluster;
use crate::upstream::discovery::Discovery;
use crate::upstream::host::{self, Host};
use crate::upstream::host_set::HostSet;

/// The log, as the admin endpoint changes it.
pub trait Logging: std::fmt::Debug + Send + Sync + 'static {
    /// The loggers by name, each with its level.
    fn loggers(&self) -> Vec<(String, LogLevel)>;

    /// Changes the level of one logger, or of all.
    fn set_level(&self, logger: Option<&str>, level: LogLevel);

    /// Reopens the log file, after it was rotated.
    fn reopen(&self);
}

/// What the admin endpoint shows. The control plane writes it; both run on the same thread.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) identity: Identity,
    pub(super) logging: Arc<dyn Logging>,
    pub(super) shards: Arc<Shards>,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) reloads: UnboundedSender<Reload>,
    pub(super) changing: Mutex<Changing>,
    /// The runtime values.
    pub(super) runtime: Values,
}

/// What changes while the server runs.
#[derive(Debug)]
pub(super) struct Changing {
    pub(super) state: ServerState,
    /// The configuration that is in force.
    pub(super) snapshot: Arc<Snapshot>,
    /// The addresses that each of its listeners is bound to.
    pub(super) addresses: Vec<Vec<Address>>,
    /// The hosts of each cluster, also of those that are about to be in force, by [`key`].
    pub(super) hosts: HashMap<usize, Arc<HostSet>>,
    /// The outages of hosts.
    pub(super) outages: Outages,
    /// The last configuration that was accepted; it is in force when what is new in it is ready.
    pub(super) accepted: Arc<Snapshot>,
    /// The names of the routes that connection managers wait for, by [`rds::key`].
    pub(super) no_routes_yet: HashMap<usize, String>,
    /// The resources of the bootstrap.
    pub(super) statics: Arc<StaticDump>,
    /// Those that came from elsewhere.
    pub(super) loaded: LoadedResources,
}

impl Changing {
    /// The hosts of a cluster.
    pub(super) fn hosts_of(&self, cluster: &Arc<Cluster>) -> Arc<HostSet> {
        self.hosts.get(&key(cluster)).map(Arc::clone).unwrap_or_default()
    }

    /// The bootstrap was read again.
    pub(super) fn show_bootstrap(&mut self, bootstrap: &serde_json::Value) {
        let mut statics = StaticDump::of_bootstrap(bootstrap, SystemTime::now());
        statics.dynamic_secrets.clone_from(&self.statics.dynamic_secrets);
        self.statics = Arc::new(statics);
    }

    pub(super) fn show_secrets(&mut self, secrets: Vec<ShownSecret>) {
        Arc::make_mut(&mut self.statics).dynamic_secrets = secrets;
    }

    /// Whether a cluster came from elsewhere than the bootstrap.
    fn is_dynamic(&self) -> impl Fn(&str) -> bool + use<> {
        let names = self.loaded.active(Kind::Clusters).map(|it| it.name().to_owned());
        let mut names: HashSet<String> = names.collect();
        for name in self.statics.cluster_names() {
            names.remove(name);
        }
        move |name| names.contains(name)
    }

    /// Whether a listener speaks HTTP.
    fn has_routes(&self) -> bool {
        let listeners = self.accepted.listeners.iter().chain(&self.snapshot.listeners);
        let mut chains = listeners.flat_map(|listener| listener.filter_chains.all());
        chains.any(|chain| matches!(chain.speaks, Speaks::Http(_)))
    }

    /// What each listener waits for.
    fn unready(&self) -> Vec<Unready> {
        let unready = |listener: &Arc<crate::downstream::Listener>| {
            let chains = listener.filter_chains.all().iter();
            let services = chains.filter_map(|chain| match &chain.speaks {
                Speaks::Http(service) => Some(rds::key(service)),
                Speaks::Tcp(_) => None,
            });
            let routes = services.filter_map(|service| self.no_routes_yet.get(&service).cloned());
            let routes: BTreeSet<String> = routes.collect();
            let (name, hash) = (listener.name.clone(), listener.frame.number());
            (!routes.is_empty()).then_some(Unready { listener: name, hash, routes })
        };
        self.accepted.listeners.iter().filter_map(unready).collect()
    }

    fn endpoints(&self) -> Vec<ClusterEndpoints> {
        let is_dynamic = self.is_dynamic();
        let mut clusters: Vec<_> = self.snapshot.clusters.iter().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let endpoints = |cluster: &Arc<Cluster>| {
            let hosts = self.hosts_of(cluster);
            let name = match &cluster.discovery {
                Discovery::Eds(eds) => eds.name.clone(),
                _ => cluster.name.clone(),
            };
            ClusterEndpoints {
                is_dynamic: is_dynamic(&cluster.name),
                is_resolved: matches!(cluster.discovery, Discovery::Dns(_)),
                overprovisioning_factor: hosts.overprovisioning_factor(),
                name,
                hosts,
            }
        };
        clusters.into_iter().map(endpoints).collect()
    }
}

impl Running {
    pub(super) fn set_state(&self, state: ServerState) {
        self.change(|changing| changing.state = state);
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Changing) -> T) -> T {
        change(&mut self.changing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration that is in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.change(|changing| Arc::clone(&changing.snapshot))
    }
}

impl Running {
    /// A host of the cluster with this number, another one each time; none: it has no host.
    pub(super) fn host_for_sink(&self, cluster: usize) -> Option<Address> {
        let hosts = self.change(|changing| {
            let mut clusters = changing.snapshot.clusters.iter();
            let cluster = clusters.find(|it| it.number.index() == cluster)?;
            Some(changing.hosts_of(cluster))
        })?;
        let hosts = hosts.hosts();
        let place = fastrand::usize(..).checked_rem(hosts.len())?;
        hosts.get(place).map(|host| host.address)
    }
}

impl Server for Running {
    fn state(&self) -> ServerState {
        self.change(|changing| changing.state)
    }

    fn refresh_stats(&self) {
        for cluster in &self.snapshot().clusters {
            cluster.circuit_breakers.update_gauges();
        }
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn explain(&self, asked: &Asked) -> Result<Explanation, AskedError> {
        explain(&self.snapshot(), asked)
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let now = millis(self.identity.started.elapsed());
        self.change(|changing| {
            let is_dynamic = changing.is_dynamic();
            let view = |cluster: &Arc<Cluster>| {
                let hosts = changing.hosts_of(cluster);
                let outage = |place| changing.outages.of(cluster.number.index(), &hosts, place);
                let failing = |place| outage(place).map(|outage| failing_host(outage, now));
                cluster_view(cluster, is_dynamic(&cluster.name), &hosts, failing)
            };
            changing.snapshot.clusters.iter().map(view).collect()
        })
    }

    fn certificates(&self) -> Vec<Arc<Inventory>> {
        let snapshot = self.snapshot();
        let chains = snapshot.listeners.iter().flat_map(|it| it.filter_chains.all());
        let listeners = chains.filter_map(|chain| chain.tls.as_ref()?.context.get()?.inventory());
        let clusters = snapshot.clusters.iter();
        let sockets = clusters.flat_map(|cluster| cluster.transport_sockets.all());
        let contexts = sockets.filter_map(|socket| socket.tls.as_ref()?.context.get());
        let clusters = contexts.filter_map(|context| context.inventory());
        listeners.chain(clusters).collect()
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let view = |(listener, addresses): (&Arc<crate::downstream::Listener>, &Vec<Address>)| {
            ListenerView {
                name: listener.name.clone(),
                addresses: addresses.clone(),
                stats: Arc::clone(&listener.stats),
            }
        };
        self.change(|changing| {
            changing.snapshot.listeners.iter().zip(&changing.addresses).map(view).collect()
        })
    }

    fn shards(&self) -> Vec<ShardView> {
        let snapshot = self.snapshot();
        let requests = |shard: usize| {
            let listeners = snapshot.listeners.iter();
            let chains = listeners.flat_map(|listener| listener.filter_chains.all());
            let services = chains.filter_map(|chain| match &chain.speaks {
                Speaks::Http(service) => Some(service),
                Speaks::Tcp(_) => None,
            });
            services.map(|service| service.http.shard(shard).downstream_rq_total.value()).sum()
        };
        let view = |(core, handle): (Option<usize>, &'static ShardHandle)| ShardView {
            core,
            driver: self.shards.driver().to_owned(),
            connections: handle.connections(),
            requests: requests(handle.id()),
        };
        self.shards.with_cores().map(view).collect()
    }

    fn config_dump(&self, with_endpoints: bool) -> ConfigDump {
        self.change(|changing| ConfigDump {
            statics: Arc::clone(&changing.statics),
            loaded: changing.loaded.clone(),
            endpoints: with_endpoints.then(|| changing.endpoints()),
            has_routes: changing.has_routes(),
        })
    }

    fn unready(&self) -> Vec<Unready> {
        self.change(|changing| changing.unready())
    }

    fn loggers(&self) -> Vec<(String, LogLevel)> {
        self.logging.loggers()
    }

    fn set_log_level(&self, logger: Option<&str>, level: LogLevel) {
        self.logging.set_level(logger, level);
    }

    fn runtime(&self) -> serde_json::Value {
        self.runtime.layers.current().json()
    }

    fn set_runtime<'a>(&self, values: &mut dyn Iterator<Item = (&'a str, &'a str)>) -> bool {
        let changed = self.runtime.layers.set(values);
        changed.map(|changed| self.runtime.count(changed)).is_some()
    }

    fn reload(&self) -> oneshot::Receiver<Reloaded> {
        let (reply, replied) = oneshot::channel();
        // The receiver lives as long as the process serves.
        let _ended = self.reloads.send(Reload { reply: Some(reply) });
        replied
    }

    fn order(&self, order: Order) {
        // The receiver lives as long as the process serves.
        let _ended = self.orders.send(order);
    }
}

fn cluster_view(
    cluster: &Cluster,
    added_via_api: bool,
    hosts: &HostSet,
    failing: impl Fn(usize) -> Option<FailingHost>,
) -> ClusterView {
    let hosts = hosts.hosts().iter().enumerate();
    let limits = |priority| thresholds(cluster.circuit_breakers.thresholds(priority));
    ClusterView {
        name: cluster.name.clone(),
        observability_name: cluster.observability_name.clone(),
        added_via_api,
        circuit_breakers: [limits(RoutingPriority::Default), limits(RoutingPriority::High)],
        hosts: hosts.map(|(place, host)| host_view(host, failing(place))).collect(),
    }
}

fn thresholds(limits: &circuit_breaker::Thresholds) -> Thresholds {
    Thresholds {
        max_connections: limits.max_connections,
        max_pending_requests: limits.max_pending_requests,
        max_requests: limits.max_requests,
        max_retries: limits.max_retries,
    }
}

fn health_flags(flags: host::HealthFlags) -> HealthFlags {
    use host::HealthFlags as Flags;
    HealthFlags {
        failed_active_hc: flags.contains(Flags::FAILED_ACTIVE_HC),
        failed_outlier_check: flags.contains(Flags::FAILED_OUTLIER_CHECK),
        failed_eds_health: flags.contains(Flags::FAILED_EDS_HEALTH),
        degraded_active_hc: flags.contains(Flags::DEGRADED_ACTIVE_HC),
        degraded_eds_health: flags.contains(Flags::DEGRADED_EDS_HEALTH),
        eds_status_draining: flags.contains(Flags::EDS_STATUS_DRAINING),
        pending_dynamic_removal: flags.contains(Flags::PENDING_DYNAMIC_REMOVAL),
        pending_active_hc: flags.contains(Flags::PENDING_ACTIVE_HC),
        excluded_via_immediate_hc_fail: flags.contains(Flags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL),
        active_hc_timeout: flags.contains(Flags::ACTIVE_HC_TIMEOUT),
    }
}

fn failing_host(outage: &Outage, now: Millis) -> FailingHost {
    let duration = Duration::from_millis(now.saturating_sub(outage.since));
    FailingHost { cause: outage.cause.to_string(), duration }
}

fn host_view(host: &Host, failing: Option<FailingHost>) -> HostView {
    let endpoint = &host.endpoint;
    HostView {
        address: host.address,
        hostname: endpoint.hostname.clone(),
        counts: HostCounts::of(host.stats()),
        health: health_flags(host.health_flags()),
        failing,
        weight: endpoint.weight,
        region: endpoint.locality.region.clone(),
        zone: endpoint.locality.zone.clone(),
        sub_zone: endpoint.locality.sub_zone.clone(),
        canary: host.canary,
        priority: endpoint.priority,
        success_rates: host.monitor().map_or([-1.0; 2], |monitor| monitor.success_rates()),
    }
}
