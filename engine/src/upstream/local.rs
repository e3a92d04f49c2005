//! A cluster as one shard uses it: its balancer and a pool for each of its hosts.
//!
//! Invariant: `pools` stands in the order of the balancer's hosts; a host that stays in the cluster
//! keeps its pool.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::balance::Balancer;
use super::circuit_breaker::ShardCircuitBreakers;
use super::cluster::Cluster;
use super::host_set::HostSet;
use super::pool::Pool;
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
    pools: Vec<Rc<Pool>>,
}

impl LocalCluster {
    /// A cluster without hosts: they are published.
    #[must_use]
    pub fn new(shard: &'static Shard, cluster: Arc<Cluster>) -> Rc<Self> {
        let hosts = Arc::new(HostSet::default());
        let seed = shard.random.borrow_mut().u64(..);
        let balancer = Balancer::new(cluster.lb_policy, hosts, shard.id, seed);
        let members = RefCell::new(Members { balancer, pools: Vec::new() });
        let breakers = Rc::new(cluster.circuit_breakers.on_shard(shard.id));
        Rc::new(Self { shard, cluster, breakers, members })
    }

    /// What the configuration says of it.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// This shard's counters.
    #[must_use]
    pub fn stats(&self) -> &ClusterStats {
        self.cluster.stats.shard(self.shard.id)
    }

    /// This shard's part in the circuit breakers.
    #[must_use]
    pub fn breakers(&self) -> &ShardCircuitBreakers {
        &self.breakers
    }

    /// The pool of the host for the next request; none: no healthy upstream.
    #[must_use]
    pub fn pick(&self) -> Option<Rc<Pool>> {
        let mut members = self.members.borrow_mut();
        let Members { balancer, pools } = &mut *members;
        pools.get(balancer.pick(self.stats())?).map(Rc::clone)
    }

    /// Takes over a new host set: requests that have begun end where they are.
    pub fn replace_hosts(&self, hosts: Arc<HostSet>) {
        let mut members = self.members.borrow_mut();
        let old = std::mem::take(&mut members.pools);
        let mut old: HashMap<_, _> =
            old.into_iter().map(|pool| (Arc::as_ptr(pool.host()), pool)).collect();
        let pools = hosts.hosts().iter().map(|host| {
            old.remove(&Arc::as_ptr(host)).unwrap_or_else(|| {
                let breakers = Rc::clone(&self.breakers);
                Pool::new(self.shard, Arc::clone(&self.cluster), Arc::clone(host), breakers)
            })
        });
        members.pools = pools.collect();
        members.balancer.update(hosts);
        drop(members);
        for pool in old.into_values() {
            pool.retire();
        }
    }

    /// Looks at the idle connections; `true` while there are any connections.
    #[must_use]
    pub fn sweep(&self, now: Millis) -> bool {
        let members = self.members.borrow();
        members.pools.iter().fold(false, |any, pool| {
            pool.sweep(now);
            any | !pool.is_empty()
        })
    }
}
