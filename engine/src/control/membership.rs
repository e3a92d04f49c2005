//! The hosts of each cluster and their health: the one way in which hosts reach the shards.
//!
//! Discovery says which hosts a cluster has, health checks how they fare. Each change makes a new host set,
//! which is published as a whole.
//!
//! Invariant: every host of a cluster with a health check is checked by one task, until it is removed.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::dns::{self, Resolver};
use super::dns_cache::DnsCaches;
use super::eds::Endpoints;
use super::health;
use super::original_dst;
use super::outliers::{self, Outliers};
use super::resources;
use crate::shard::clock::{Millis, millis};
use crate::upstream::discovery::{Discovery, Semantics};
use crate::upstream::dns_cache::DnsCache;
use crate::upstream::host::{HealthFlags, Host};
use crate::upstream::host_set::DistributionRules;
use crate::upstream::host_set::zones::{self, LocalZones};
use crate::upstream::{Cluster, HostSet};

/// Sends a host set of a cluster to the shards.
type Publish = dyn Fn(&Arc<Cluster>, Arc<HostSet>);

/// The hosts of all clusters.
pub(super) struct Membership {
    clusters: RefCell<Vec<Rc<Members>>>,
    resolver: Rc<Resolver>,
    dns_caches: DnsCaches,
    eds: Endpoints,
    shards: usize,
    epoch: Instant,
    publish: Rc<Publish>,
    local_zones: Rc<LocalCluster>,
}

/// The cluster that the proxies are in, if it is configured which.
#[derive(Default)]
struct LocalCluster {
    zones: RefCell<Option<Arc<LocalZones>>>,
    /// The clusters whose traffic depends on it.
    dependent: RefCell<Vec<Weak<Members>>>,
}

/// The hosts of one cluster.
pub(super) struct Members {
    pub(super) cluster: Arc<Cluster>,
    publish: Rc<Publish>,
    local: Rc<LocalCluster>,
    epoch: Instant,
    hosts: RefCell<Vec<Member>>,
    /// How traffic is distributed over them, if a source of hosts says otherwise than the cluster.
    distribution: RefCell<Option<DistributionRules>>,
    /// Which of them are ejected.
    outliers: Option<Outliers>,
    /// What resolves their names.
    lookups: RefCell<Vec<AbortHandle>>,
    /// The hosts that the shards have.
    published: RefCell<Arc<HostSet>>,
    /// Whether there is something that the shards do not know yet.
    is_outdated: Cell<bool>,
    /// What its hosts come from, unless they are configured or looked up.
    subscription: RefCell<Option<resources::Handle>>,
}

struct Member {
    host: Arc<Host>,
    /// Its health check.
    check: Option<AbortHandle>,
}

/// Holds up the start of the process until a cluster is ready: when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Warming {
    _cluster: Rc<WarmingCluster>,
}

struct WarmingCluster {
    cluster: Arc<Cluster>,
    /// Fires when every cluster is ready; none: nobody waits for this one.
    _all: Option<Rc<NotifyOnDrop>>,
}

/// Held by each cluster that is not ready yet.
pub(super) struct NotifyOnDrop(Option<oneshot::Sender<()>>);

impl Membership {
    /// Of no cluster yet. Times are counted from `epoch`.
    pub(super) fn new(
        resolver: Rc<Resolver>,
        dns_caches: DnsCaches,
        eds: Endpoints,
        shards: usize,
        epoch: Instant,
        publish: impl Fn(&Arc<Cluster>, Arc<HostSet>) + 'static,
    ) -> Self {
        let (clusters, publish) = (RefCell::default(), Rc::new(publish));
        let local_zones = Rc::default();
        Self { clusters, resolver, dns_caches, eds, shards, epoch, publish, local_zones }
    }

    /// Gives these clusters their hosts, and goes on as DNS and health checks say; those that are followed
    /// already are left alone. Each of the new ones completes, with or without an error, when it has been resolved,
    /// or has failed to, once, and its hosts have been checked: one with several names waits for the first of them,
    /// as in Envoy.
    pub(super) fn follow(
        &self,
        clusters: &[Arc<Cluster>],
    ) -> Vec<(Arc<Cluster>, oneshot::Receiver<()>)> {
        let mut all = Vec::new();
        let known: HashSet<_> = self.clusters.borrow().iter().map(|it| key(&it.cluster)).collect();
        for cluster in clusters.iter().filter(|cluster| !known.contains(&key(cluster))) {
            let (initialize, initialized) = oneshot::channel();
            let initialized_all = NotifyOnDrop::new(initialize);
            all.push((Arc::clone(cluster), initialized));
            let members = Rc::new(Members {
                cluster: Arc::clone(cluster),
                publish: Rc::clone(&self.publish),
                local: Rc::clone(&self.local_zones),
                epoch: self.epoch,
                hosts: RefCell::default(),
                distribution: RefCell::default(),
                outliers: Outliers::of(cluster),
                lookups: RefCell::default(),
                published: RefCell::default(),
                is_outdated: Cell::new(false),
                subscription: RefCell::default(),
            });
            outliers::watch(&members);
            if cluster.distribution.zones.is_some() {
                self.local_zones.dependent.borrow_mut().push(Rc::downgrade(&members));
            }
            self.clusters.borrow_mut().push(Rc::clone(&members));
            match &cluster.discovery {
                Discovery::Eds(eds) => {
                    let warming = Warming::new(cluster, &initialized_all);
                    self.eds.follow(&members, eds, warming, self.shards);
                }
                Discovery::OriginalDst(_) => original_dst::follow(&members),
                Discovery::DynamicForwardProxy(proxy) => {
                    self.dns_caches.follow(&members, &proxy.cache);
                }
                Discovery::Static(_) | Discovery::Dns(_) | Discovery::Aggregate(_) => {
                    dns::follow(&members, self.shards, &self.resolver, &initialized_all);
                }
            }
        }
        all
    }

    /// Answers what requests ask of these DNS caches.
    pub(super) fn serve_dns(&self, caches: &[Arc<DnsCache>]) {
        self.dns_caches.serve(caches);
    }

    /// Follows no other clusters than these any more.
    pub(super) fn retain(&self, clusters: &[Arc<Cluster>]) {
        let kept: HashSet<_> = clusters.iter().map(key).collect();
        let is_gone = |members: &mut Rc<Members>| !kept.contains(&key(&members.cluster));
        let mut all = self.clusters.borrow_mut();
        all.extract_if(.., is_gone).for_each(|members| members.end());
    }
}

/// What tells clusters apart, also those of the same name.
pub(super) fn key(cluster: &Arc<Cluster>) -> usize {
    Arc::as_ptr(cluster).addr()
}

impl Members {
    /// The hosts that there are.
    pub(super) fn known_hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.borrow().iter().map(|it| Arc::clone(&it.host)).collect()
    }

    /// Changes how traffic is distributed, from the next publication on. Whether it is another way.
    pub(super) fn distribute(&self, rules: DistributionRules) -> bool {
        let mut current = self.distribution.borrow_mut();
        let is_new = *current.as_ref().unwrap_or(&self.cluster.distribution) != rules;
        *current = Some(rules);
        is_new
    }

    /// One of the names is resolved by this task.
    pub(super) fn add_lookup(&self, lookup: AbortHandle) {
        self.lookups.borrow_mut().push(lookup);
    }

    /// Its hosts come from this subscription.
    pub(super) fn keep(&self, subscription: resources::Handle) {
        self.subscription.replace(Some(subscription));
    }

    /// Ends all lookups, subscriptions and health checks.
    fn end(&self) {
        self.lookups.take().iter().for_each(AbortHandle::abort);
        drop(self.subscription.take());
        let checks = self.hosts.take().into_iter().filter_map(|member| member.check);
        checks.for_each(|check| check.abort());
    }

    /// Replaces the hosts by what discovery has found. A new host is checked first, if hosts are checked;
    /// the cluster is warming until then.
    pub(super) fn set_hosts(self: &Rc<Self>, found: &[Arc<Host>], warming: Option<&Warming>) {
        let mut current: HashMap<_, Member> =
            self.hosts.take().into_iter().map(|it| (it.host.id(), it)).collect();
        let alike: HashMap<_, usize> =
            current.values().map(|it| (place(&it.host), it.host.id())).collect();
        let is_first = current.is_empty();
        let mut hosts = Vec::with_capacity(found.len());
        for host in found {
            let same = current.remove(&host.id());
            let same = same.map(|known| Member { host: Arc::clone(host), ..known });
            // Discovery may have forgotten one that has stayed.
            let member = same.or_else(|| current.remove(alike.get(&place(host))?));
            let member = match member {
                Some(known) => {
                    known.host.change_found(|it| it.remove(HealthFlags::PENDING_DYNAMIC_REMOVAL));
                    known
                }
                None => self.admit(Arc::clone(host), is_first, warming),
            };
            hosts.push(member);
        }
        for member in current.into_values() {
            if self.keeps(&member) {
                member.host.change_found(|it| it.insert(HealthFlags::PENDING_DYNAMIC_REMOVAL));
                hosts.push(member);
            } else if let Some(check) = &member.check {
                check.abort();
            }
        }
        *self.hosts.borrow_mut() = hosts;
        self.watch_outliers();
        self.publish();
    }

    fn watch_outliers(&self) {
        if let Some(outliers) = &self.outliers {
            outliers.set_hosts(self.hosts.borrow().iter().map(|it| Arc::clone(&it.host)));
        }
    }

    /// Takes a host up.
    fn admit(
        self: &Rc<Self>,
        host: Arc<Host>,
        is_first: bool,
        warming: Option<&Warming>,
    ) -> Member {
        let mut check = None;
        if let Some(health_check) = &self.cluster.health_check
            && !host.endpoint.check.disabled
        {
            //= envoy: arch_overview/upstream/health_checking
            // A host is unhealthy until its first check.
            let mut flags = HealthFlags::FAILED_ACTIVE_HC;
            if self.cluster.ignore_new_hosts_until_first_hc {
                flags.insert(HealthFlags::PENDING_ACTIVE_HC);
            }
            host.change_found(|it| it.insert(flags));
            let run = health::check(
                Rc::clone(self),
                Arc::clone(health_check),
                Arc::clone(&host),
                warming.cloned(),
            );
            check = Some(tokio::task::spawn_local(run).abort_handle());
        }
        if let Some(outliers) = &self.outliers {
            outliers.admit(&host);
        }
        if !is_first && host.serves_since() == 0 {
            host.set_serves_since(self.now());
        }
        Member { host, check }
    }

    //= envoy: Cluster.ignore_health_on_host_removal
    // A host that strict DNS or EDS has removed stays while it passes its health checks.
    fn keeps(&self, member: &Member) -> bool {
        let is_strict = match &self.cluster.discovery {
            Discovery::Dns(dns) => dns.semantics == Semantics::Strict,
            Discovery::Static(_)
            | Discovery::OriginalDst(_)
            | Discovery::DynamicForwardProxy(_)
            | Discovery::Aggregate(_) => false,
            Discovery::Eds(_) => true,
        };
        is_strict
            && member.check.is_some()
            && !self.cluster.ignore_health_on_host_removal
            && !member.host.health_flags().contains(HealthFlags::FAILED_ACTIVE_HC)
            && !member.host.health_flags().contains(HealthFlags::FAILED_EDS_HEALTH)
    }

    /// Whether these hosts are the ones that there are, whatever their endpoints say of them.
    pub(super) fn are_hosts(&self, hosts: &[Arc<Host>]) -> bool {
        let known: HashSet<usize> = self.hosts.borrow().iter().map(|it| it.host.id()).collect();
        known.len() == hosts.len() && hosts.iter().all(|host| known.contains(&host.id()))
    }

    /// Publishes what health checks have found out about a host.
    pub(super) fn health_changed(self: &Rc<Self>, host: &Host) {
        let gone = HealthFlags::PENDING_DYNAMIC_REMOVAL | HealthFlags::FAILED_ACTIVE_HC;
        if host.found().contains(gone) {
            let mut hosts = self.hosts.borrow_mut();
            if let Some(at) = hosts.iter().position(|it| it.host.id() == host.id()) {
                let member = hosts.remove(at);
                self.cluster.stats.control().membership_change.inc();
                // The task that is running now ends at its next wait.
                member.check.inspect(AbortHandle::abort);
            }
            drop(hosts);
            self.watch_outliers();
        }
        self.publish_soon();
    }

    pub(super) const fn outliers(&self) -> Option<&Outliers> {
        self.outliers.as_ref()
    }

    /// Publishes the hosts once what happens at the same time has happened: many checks may end at once.
    pub(super) fn publish_soon(self: &Rc<Self>) {
        if !self.is_outdated.replace(true) {
            let members = Rc::clone(self);
            drop(tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                if members.is_outdated.get() {
                    members.publish();
                }
            }));
        }
    }

    pub(super) fn publish(&self) {
        self.is_outdated.set(false);
        let hosts: Vec<_> = self.hosts.borrow().iter().map(|it| Arc::clone(&it.host)).collect();
        let distribution = self.distribution.borrow();
        let rules = distribution.as_ref().unwrap_or(&self.cluster.distribution);
        let hosts = match &*self.local.zones.borrow() {
            Some(local) if rules.zones.is_some() => {
                self.cluster.stats.control().lb_recalculate_zone_structures.inc();
                if zones::are_too_few(&hosts, rules) {
                    self.cluster.stats.control().lb_zone_cluster_too_small.inc();
                }
                let local_zones = Some(Arc::clone(local));
                HostSet::new(hosts, &DistributionRules { local_zones, ..rules.clone() })
            }
            _ => HostSet::new(hosts, rules),
        };
        let hosts = Arc::new(hosts);
        drop(distribution);
        if self.cluster.is_local {
            self.local.replace(LocalZones::of(&hosts));
        }
        self.cluster.update_gauges(&hosts);
        let before = self.published.replace(Arc::clone(&hosts));
        hosts.count_subsets(&before, self.cluster.stats.control());
        (self.publish)(&self.cluster, hosts);
    }

    pub(super) fn now(&self) -> Millis {
        millis(self.epoch.elapsed()).max(1)
    }
}

/// Where a host is, and whose: of two hosts with the same, one takes the place of the other.
fn place(host: &Arc<Host>) -> (crate::address::Address, usize) {
    (host.address, Arc::as_ptr(&host.endpoint).addr())
}

impl LocalCluster {
    /// Takes the zones, and divides the traffic of the other clusters again if they are different.
    fn replace(&self, zones: LocalZones) {
        if self.zones.borrow().as_deref() == Some(&zones) {
            return;
        }
        self.zones.replace(Some(Arc::new(zones)));
        self.dependent.borrow_mut().retain(|members| members.strong_count() > 0);
        for members in self.dependent.borrow().iter().filter_map(Weak::upgrade) {
            members.publish_soon();
        }
    }
}

impl Warming {
    /// Of a cluster.
    pub(super) fn new(cluster: &Arc<Cluster>, all: &Rc<NotifyOnDrop>) -> Self {
        let all = cluster.wait_for_warm_on_init.then(|| Rc::clone(all));
        cluster.stats.control().warming_state.set(1);
        Self { _cluster: Rc::new(WarmingCluster { cluster: Arc::clone(cluster), _all: all }) }
    }
}

impl Drop for WarmingCluster {
    fn drop(&mut self) {
        self.cluster.stats.control().warming_state.set(0);
    }
}

impl NotifyOnDrop {
    pub(super) fn new(sender: oneshot::Sender<()>) -> Rc<Self> {
        Rc::new(Self(Some(sender)))
    }
}

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // The receiver is gone: nothing waits for it any more.
            _ = sender.send(());
        }
    }
}
