//! One shard's view of a cluster: its load balancer and the pools of each host.
//!
//! Invariant: `pools` has the order of the balancer's hosts; a host that stays in the cluster keeps its
//! pools.

use std::cell::RefCell;
use std::collections::HashMap;
use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use super::announced::AnnouncedPools;
use super::balance::Balancer;
use super::circuit_breaker::{RoutingPriority, ShardCircuitBreakers};
use super::cluster::Cluster;
use super::host::Host;
use super::host_set::HostSet;
use super::pool::{Carries, Pool, Purpose};
use crate::address::Ends;
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::stats::ClusterStats;

/// A cluster on one shard.
#[derive(Debug)]
pub struct LocalCluster {
    shard: &'static Shard,
    cluster: Arc<Cluster>,
    breakers: Rc<ShardCircuitBreakers>,
    members: RefCell<Members>,
}

#[derive(Debug)]
struct Members {
    balancer: Balancer,
    pools: Vec<HostPools>,
}

/// The connections to one host. Envoy: each priority has its own pool, and so have TCP connections.
#[derive(Debug)]
struct HostPools {
    default: Rc<Pool>,
    high: Option<Rc<Pool>>,
    tcp: Option<Rc<Pool>>,
    /// Used instead of the others, if connections begin with a PROXY header.
    announced: Option<Box<AnnouncedPools>>,
}

impl LocalCluster {
    /// A cluster that has no hosts yet.
    #[must_use]
    pub fn new(shard: &'static Shard, cluster: Arc<Cluster>) -> Rc<Self> {
        let hosts = Arc::new(HostSet::default());
        let seed = shard.random.borrow_mut().u64(..);
        let balancer = Balancer::new(cluster.lb_policy, hosts, shard.id, seed);
        let members = RefCell::new(Members { balancer, pools: Vec::new() });
        let breakers = Rc::new(cluster.circuit_breakers.on_shard(shard.id));
        Rc::new(Self { shard, cluster, breakers, members })
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

    /// The pool of the host for the next request; none: no healthy upstream. `ends` are those of the
    /// client's connection, for a cluster that announces them.
    #[must_use]
    pub fn pick(&self, priority: RoutingPriority, ends: impl FnOnce() -> Ends) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        let Members { balancer, pools } = &mut *members;
        let HostPools { default, high, announced, .. } =
            pools.get_mut(balancer.pick(self.stats())?)?;
        if let Some(announced) = announced {
            let purpose = Purpose { priority, carries: Carries::Requests, announces: Some(ends()) };
            return Some(announced.get(purpose, || self.pool(default.host(), purpose)));
        }
        let purpose = Purpose { priority, ..Purpose::default() };
        let pool = match priority {
            RoutingPriority::Default => default,
            RoutingPriority::High => high.get_or_insert_with(|| self.pool(default.host(), purpose)),
        };
        Some(Rc::clone(pool))
    }

    /// The pool of the host for the next TCP connection; none: no healthy upstream. As [`Self::pick`].
    #[must_use]
    pub fn pick_tcp(&self, ends: impl FnOnce() -> Ends) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        let Members { balancer, pools } = &mut *members;
        let HostPools { default, tcp, announced, .. } =
            pools.get_mut(balancer.pick(self.stats())?)?;
        let purpose = Purpose { carries: Carries::Bytes, ..Purpose::default() };
        if let Some(announced) = announced {
            let purpose = Purpose { announces: Some(ends()), ..purpose };
            return Some(announced.get(purpose, || self.pool(default.host(), purpose)));
        }
        Some(Rc::clone(tcp.get_or_insert_with(|| self.pool(default.host(), purpose))))
    }

    /// Switches to a new host set. Requests in progress stay on their hosts.
    pub fn replace_hosts(&self, hosts: Arc<HostSet>) {
        let mut members = self.members.borrow_mut();
        let old = std::mem::take(&mut members.pools);
        let mut old: HashMap<_, _> =
            old.into_iter().map(|pools| (Arc::as_ptr(pools.default.host()), pools)).collect();
        let pools = hosts.hosts().iter().map(|host| {
            old.remove(&Arc::as_ptr(host)).unwrap_or_else(|| HostPools {
                default: self.pool(host, Purpose::default()),
                high: None,
                tcp: None,
                announced: self.cluster.announcement.map(|_| Box::default()),
            })
        });
        members.pools = pools.collect();
        members.balancer.update(hosts);
        drop(members);
        old.values().flat_map(HostPools::all).for_each(|pool| pool.retire());
    }

    /// See [`Pool::sweep`].
    #[must_use]
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        let mut members = self.members.borrow_mut();
        members.pools.iter_mut().filter_map(|pools| pools.sweep(now)).min()
    }

    fn pool(&self, host: &Arc<Host>, purpose: Purpose) -> Rc<Pool> {
        let (cluster, breakers) = (Arc::clone(&self.cluster), Rc::clone(&self.breakers));
        Pool::new(self.shard, cluster, Arc::clone(host), breakers, purpose)
    }
}

impl HostPools {
    fn all(&self) -> impl Iterator<Item = &Rc<Pool>> {
        let announced = self.announced.iter().flat_map(|pools| pools.all());
        self.shared().chain(announced)
    }

    fn shared(&self) -> impl Iterator<Item = &Rc<Pool>> {
        iter::once(&self.default).chain(&self.high).chain(&self.tcp)
    }

    fn sweep(&mut self, now: Millis) -> Option<Millis> {
        let announced = self.announced.as_mut().and_then(|pools| pools.sweep(now));
        self.shared().filter_map(|pool| pool.sweep(now)).chain(announced).min()
    }
}
