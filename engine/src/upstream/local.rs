//! One shard's view of a cluster: its load balancer and the pools of each host.
//!
//! Invariant: `pools` has the order of the balancer's hosts; a host that stays in the cluster keeps its
//! pools.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use super::aggregate::{Aggregate, Row};
use super::balance::{Balancer, LbContext};
use super::circuit_breaker::{Resource, RoutingPriority, ShardCircuitBreakers};
use super::cluster::Cluster;
use super::clusters::Clusters;
use super::destination::Destination;
use super::discovery::Discovery;
use super::host::{Health, Host};
use super::host_set::HostSet;
use super::host_set::loads::{Availability, Target};
use super::keyed_pools::KeyedPools;
use super::override_host::HealthStatuses;
use super::pool::Pool;
use super::pool_key::{Carries, PoolKey};
use super::transport_socket::{Announced, ProxyHeader};
use crate::http::Version;
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::stats::ClusterStats;
use crate::transport::tls::options::TransportSocketOptions;

/// A cluster on one shard.
#[derive(Debug)]
pub struct LocalCluster {
    shard: &'static Shard,
    cluster: Arc<Cluster>,
    breakers: Rc<ShardCircuitBreakers>,
    members: RefCell<Members>,
    /// The clusters that it consists of, if it is a cluster of clusters.
    row: RefCell<Row>,
    /// Whether the configuration has another cluster in its place, or none.
    is_replaced: Cell<bool>,
}

#[derive(Debug)]
struct Members {
    balancer: Balancer,
    pools: Vec<HostPools>,
    /// Where the host is that a request names, if the cluster goes by that.
    named: Option<HashMap<Destination, usize>>,
}

/// The connections to one host. Envoy: each priority has its own pool, and so have TCP connections.
#[derive(Debug)]
struct HostPools {
    default: Rc<Pool>,
    high: Option<Rc<Pool>>,
    tcp: Option<Rc<Pool>>,
    /// For connections that cannot serve every request.
    keyed: Option<Box<KeyedPools>>,
    /// What the connections begin with.
    proxy_header: Option<Arc<ProxyHeader>>,
}

impl LocalCluster {
    /// A cluster that has no hosts yet.
    #[must_use]
    pub fn new(shard: &'static Shard, cluster: Arc<Cluster>) -> Rc<Self> {
        let seed = shard.random.borrow_mut().u64(..);
        let balancer = Balancer::new(cluster.lb_policy, Arc::clone(&cluster.stats), shard.id, seed);
        let named = cluster.discovery.goes_by_destination().then(HashMap::new);
        let members = RefCell::new(Members { balancer, pools: Vec::new(), named });
        let breakers = Rc::new(cluster.circuit_breakers.on_shard(shard.id));
        let (row, is_replaced) = (RefCell::default(), Cell::new(false));
        Rc::new(Self { shard, cluster, breakers, members, row, is_replaced })
    }

    /// The configuration has another cluster in its place, or none: it has no hosts from here on.
    pub fn replace(&self) {
        self.is_replaced.set(true);
        self.replace_hosts(Arc::default());
    }

    /// Whether the configuration has another cluster in its place, or none.
    #[must_use]
    #[inline]
    pub const fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    /// The configuration of the cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// This shard's counters.
    #[must_use]
    pub fn stats(&self) -> &ClusterStats {
        self.cluster.stats.shard(self.shard.id)
    }

    /// This shard's circuit breakers.
    #[must_use]
    pub fn breakers(&self) -> &ShardCircuitBreakers {
        &self.breakers
    }

    /// The pool of the host for the next request; none: no healthy upstream, which is counted. `request` is
    /// what it is picked by, `options`
    /// what the request sets for TLS, `version` that of the client's connection, and `client` whom a PROXY
    /// header announces.
    #[must_use]
    #[inline(always)]
    pub fn pick<'a>(
        &self,
        request: &LbContext<'_>,
        priority: RoutingPriority,
        version: Version,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        if let Discovery::Aggregate(aggregate) = &self.cluster.discovery {
            return self.pick_in(aggregate, request, |cluster, request| {
                cluster.pick_own(self, request, priority, version, options, client)
            });
        }
        self.pick_own(self, request, priority, version, options, client)
    }

    /// The same among its own hosts. That there is none is counted for `of`.
    #[inline(always)]
    fn pick_own<'a>(
        &self,
        of: &Self,
        request: &LbContext<'_>,
        priority: RoutingPriority,
        version: Version,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        let host = self.pick_host(of, request, &mut members)?;
        self.pool_of(host, priority, version, options, client)
    }

    /// The host at an address, by its index in the host set, if its health is one of `statuses`.
    #[must_use]
    pub fn find_host(&self, address: &str, statuses: Option<HealthStatuses>) -> Option<usize> {
        let members = self.members.borrow();
        let hosts = members.balancer.hosts();
        let index = hosts.at_address(address)?;
        let host = hosts.hosts().get(index)?;
        let is_allowed = |statuses: HealthStatuses| {
            statuses.allow(host.endpoint.health_status, host.health_flags())
        };
        statuses.is_none_or(is_allowed).then_some(index)
    }

    /// The pool of a host that was found; otherwise as [`Self::pick`].
    #[must_use]
    pub fn pool_of_found<'a>(
        &self,
        index: usize,
        priority: RoutingPriority,
        version: Version,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        self.pool_of(members.pools.get_mut(index)?, priority, version, options, client)
    }

    /// A request without a host is counted.
    pub fn count_no_host(&self) {
        self.stats().upstream_cx_none_healthy.inc();
    }

    #[inline(always)]
    fn pool_of<'a>(
        &self,
        host: &mut HostPools,
        priority: RoutingPriority,
        version: Version,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        let speaks = self.cluster.http.protocols.for_client(version);
        let pool = if host.needs_key(options) || speaks != host.default.speaks() {
            let proxy_header = host.proxy_header.as_ref().map(|header| header.encode(client()));
            let options = options.cloned();
            let key = PoolKey { priority, speaks, proxy_header, options, ..PoolKey::default() };
            host.keyed(key)
        } else {
            let HostPools { default, high, .. } = &mut *host;
            match priority {
                RoutingPriority::Default => default,
                RoutingPriority::High => high.get_or_insert_with(|| {
                    default.beside(PoolKey { priority, speaks, ..PoolKey::default() })
                }),
            }
        };
        let pool = Rc::clone(pool);
        if pool.has_connections() || self.may_use_another(host, priority) {
            Some(pool)
        } else {
            None
        }
    }

    /// The pool of the host for the next TCP connection; none: no healthy upstream. As [`Self::pick`].
    #[must_use]
    pub fn pick_tcp<'a>(
        &self,
        request: &LbContext<'_>,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        if let Discovery::Aggregate(aggregate) = &self.cluster.discovery {
            return self.pick_in(aggregate, request, |cluster, request| {
                cluster.pick_own_tcp(self, request, options, client)
            });
        }
        self.pick_own_tcp(self, request, options, client)
    }

    fn pick_own_tcp<'a>(
        &self,
        of: &Self,
        request: &LbContext<'_>,
        options: Option<&Rc<TransportSocketOptions>>,
        client: impl FnOnce() -> Announced<'a>,
    ) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        let host = self.pick_host(of, request, &mut members)?;
        let key = PoolKey { carries: Carries::Bytes, ..PoolKey::default() };
        if host.needs_key(options) {
            let proxy_header = host.proxy_header.as_ref().map(|header| header.encode(client()));
            let key = PoolKey { proxy_header, options: options.cloned(), ..key };
            return Some(Rc::clone(host.keyed(key)));
        }
        let HostPools { default, tcp, .. } = host;
        Some(Rc::clone(tcp.get_or_insert_with(|| default.beside(key))))
    }

    /// Lets `pick` pick in one of the clusters that this one consists of.
    #[cold]
    fn pick_in(
        &self,
        aggregate: &Aggregate,
        request: &LbContext<'_>,
        pick: impl FnOnce(&Self, &LbContext<'_>) -> Option<Rc<Pool>>,
    ) -> Option<Rc<Pool>> {
        let all = Clusters::of(self.shard).current();
        let percentage = self.shard.random.borrow_mut().u32(0..100);
        let mut row = self.row.borrow_mut();
        row.refresh(aggregate, &all);
        let Some(choice) = row.choose(aggregate, &all, request, percentage) else {
            self.stats().upstream_cx_none_healthy.inc();
            return None;
        };
        drop(row);
        let (priority, degraded) = (choice.priority, choice.degraded);
        let target = Some(Target::Priority { priority, degraded });
        pick(&choice.cluster, &LbContext { target, ..*request })
    }

    /// Whether the host of a request may be chosen by its hash: by the policy of the cluster, or of one in it.
    #[must_use]
    #[inline]
    pub fn chooses_by_hash(&self) -> bool {
        match &self.cluster.discovery {
            Discovery::Aggregate(aggregate) => {
                let all = Clusters::of(self.shard).current();
                let mut clusters = aggregate.clusters.iter().filter_map(|it| all.get(it.index()));
                clusters.any(|cluster| cluster.cluster.chooses_by_hash())
            }
            _ => self.cluster.chooses_by_hash(),
        }
    }

    /// What the priorities can carry that a request may go to.
    #[must_use]
    pub fn levels(&self, request: &LbContext<'_>) -> Vec<Availability> {
        if let Discovery::Aggregate(aggregate) = &self.cluster.discovery {
            let mut row = self.row.borrow_mut();
            row.refresh(aggregate, &Clusters::of(self.shard).current());
            return row.levels().to_vec();
        }
        self.members.borrow().balancer.levels(request).to_vec()
    }

    /// The priority that the host of a pool has in this cluster; none: it is no host of it any more.
    #[must_use]
    pub fn priority_of(&self, pool: &Pool) -> Option<u32> {
        match &self.cluster.discovery {
            Discovery::Aggregate(aggregate) => self.row.borrow().place_of(aggregate, pool),
            _ => self.hosts().priority_of(pool.host()),
        }
    }

    /// The current hosts.
    pub(super) fn hosts(&self) -> Arc<HostSet> {
        Arc::clone(self.members.borrow().balancer.hosts())
    }

    /// Whether these are the current hosts.
    pub(super) fn has_hosts(&self, hosts: &Arc<HostSet>) -> bool {
        Arc::ptr_eq(self.members.borrow().balancer.hosts(), hosts)
    }

    #[inline(always)]
    fn pick_host<'a>(
        &self,
        of: &Self,
        request: &LbContext<'_>,
        members: &'a mut Members,
    ) -> Option<&'a mut HostPools> {
        let place = match &members.named {
            None => members.balancer.pick(request, self.shard.clock.now()),
            Some(_) => self.pick_named(request, members),
        };
        let host = place.and_then(|index| members.pools.get_mut(index));
        if host.is_none() {
            of.stats().upstream_cx_none_healthy.inc();
        }
        host
    }

    /// The place of the host that the request names.
    #[cold]
    fn pick_named(&self, request: &LbContext<'_>, members: &mut Members) -> Option<usize> {
        let Members { pools, named, .. } = members;
        let (named, destination) = (named.as_mut()?, request.destination?);
        if let Some(place) = named.get(destination) {
            let is_usable = |pools: &HostPools| {
                //= envoy: a host of `dynamic_forward_proxy` that is unhealthy gets no requests
                matches!(self.cluster.discovery, Discovery::OriginalDst(_))
                    || pools.default.host().health_flags().health() != Health::Unhealthy
            };
            return pools.get(*place).is_some_and(is_usable).then_some(*place);
        }
        let (Discovery::OriginalDst(cluster), Destination::Address(address)) =
            (&self.cluster.discovery, destination)
        else {
            return None;
        };
        let host = cluster.host(*address, self.shard.handles.count());
        pools.push(self.host_pools(&host));
        named.insert(destination.clone(), pools.len() - 1);
        Some(pools.len() - 1)
    }

    /// Whether a pool of the host that has no connections may be used. As in Envoy, at the limit one whose
    /// connections are all idle makes room.
    #[cold]
    fn may_use_another(&self, host: &HostPools, priority: RoutingPriority) -> bool {
        if self.breakers.is_below_limit(priority, Resource::ConnectionPools) {
            return true;
        }
        let idle = host.all().find(|pool| pool.priority() == priority && pool.close_if_idle());
        if idle.is_none() {
            self.stats().upstream_cx_pool_overflow.inc();
        }
        idle.is_some()
    }

    /// Switches to a new host set. Requests in progress stay on their hosts.
    pub fn replace_hosts(&self, hosts: Arc<HostSet>) {
        let mut members = self.members.borrow_mut();
        let old = std::mem::take(&mut members.pools);
        let mut old: HashMap<_, _> =
            old.into_iter().map(|pools| (pools.default.host().id(), pools)).collect();
        let is_same = |host: &Arc<Host>| old.contains_key(&host.id());
        if self.cluster.close_connections_on_host_set_change
            && (old.len() != hosts.hosts().len() || !hosts.hosts().iter().all(is_same))
        {
            let pools = std::mem::take(&mut old);
            pools.values().flat_map(HostPools::all).for_each(|pool| pool.retire());
        }
        let pools = hosts.hosts().iter();
        let pools =
            pools.map(|host| old.remove(&host.id()).unwrap_or_else(|| self.host_pools(host)));
        members.pools = pools.collect();
        self.name_hosts(&mut members, &mut old);
        members.balancer.update(hosts, self.shard.clock.now());
        drop(members);
        old.values().flat_map(HostPools::all).for_each(|pool| pool.retire());
    }

    /// Notes which requests go to which host. Of the `old` ones those stay that the control plane does not know
    /// yet.
    fn name_hosts(&self, members: &mut Members, old: &mut HashMap<usize, HostPools>) {
        let Members { pools, named: Some(named), .. } = members else { return };
        if let Discovery::OriginalDst(cluster) = &self.cluster.discovery
            && !self.is_replaced()
        {
            pools.extend(old.extract_if(|_, it| cluster.has(it.default.host())).map(|(_, it)| it));
        }
        let by_name = !matches!(self.cluster.discovery, Discovery::OriginalDst(_));
        let destination = |pools: &HostPools| Destination::of(pools.default.host(), by_name);
        *named = pools.iter().map(destination).zip(0..).collect();
    }

    fn host_pools(&self, host: &Arc<Host>) -> HostPools {
        let speaks = self.cluster.http.protocols.for_client(Version::Http11);
        HostPools {
            default: self.pool(host, PoolKey { speaks, ..PoolKey::default() }),
            high: None,
            tcp: None,
            keyed: None,
            proxy_header: host.endpoint.transport_socket.proxy_header.clone(),
        }
    }

    /// See [`Pool::sweep`].
    #[must_use]
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        let mut members = self.members.borrow_mut();
        members.pools.iter_mut().filter_map(|pools| pools.sweep(now)).min()
    }

    fn pool(&self, host: &Arc<Host>, key: PoolKey) -> Rc<Pool> {
        let (cluster, breakers) = (Arc::clone(&self.cluster), Rc::clone(&self.breakers));
        Pool::new(self.shard, cluster, Arc::clone(host), breakers, key)
    }
}

impl HostPools {
    /// Whether a request with these options cannot share its connection with every other.
    #[inline]
    const fn needs_key(&self, options: Option<&Rc<TransportSocketOptions>>) -> bool {
        options.is_some() || self.proxy_header.is_some()
    }

    fn keyed(&mut self, key: PoolKey) -> &Rc<Pool> {
        let keyed = self.keyed.get_or_insert_default();
        keyed.get(key, |key| self.default.beside(key))
    }

    fn all(&self) -> impl Iterator<Item = &Rc<Pool>> {
        let keyed = self.keyed.iter().flat_map(|pools| pools.all());
        self.shared().chain(keyed)
    }

    fn shared(&self) -> impl Iterator<Item = &Rc<Pool>> {
        iter::once(&self.default).chain(&self.high).chain(&self.tcp)
    }

    fn sweep(&mut self, now: Millis) -> Option<Millis> {
        let keyed = self.keyed.as_mut().and_then(|pools| pools.sweep(now));
        self.shared().filter_map(|pool| pool.sweep(now)).chain(keyed).min()
    }
}
