//! Circuit breakers: limits for the concurrent connections, requests and retries of a cluster, over
//! all shards.
//!
//! Each shard counts its own, in a block that only it writes. While every shard is below its equal
//! share of the limit, the sum cannot reach the limit. So a shard reads only its own counter and one
//! word that rarely changes: how many shards are `saturated`, at their share or above. Only if there
//! are any does it add up the counters of all shards. Two shards that do so at the same moment may both
//! take the last permit: the limit can be exceeded by one per shard, as by Envoy's check-then-add.
//!
//! Invariant: a shard's counter is the number of its [`Permit`]s.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::stats::{
    CircuitBreakerRemainingStats, CircuitBreakerStats, Gauge, Registry, Scope, stats,
};

/// `route.priority`: which of a cluster's two sets of limits a request counts against.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RoutingPriority {
    /// `DEFAULT`
    #[default]
    Default,
    /// `HIGH`
    High,
}

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// Connections, idle ones included. At the limit requests wait for one; a pool without any may
    /// open one anyway.
    Connections,
    /// Requests that wait for a connection.
    PendingRequests,
    /// Requests that have a connection.
    Requests,
    /// Retries, pending ones included.
    Retries,
    /// Pools for requests that have connections.
    ConnectionPools,
}

/// The limits for one priority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Default 1024.
    pub max_connections: u32,
    /// Default 1024.
    pub max_pending_requests: u32,
    /// Default 1024.
    pub max_requests: u32,
    /// Default 3. Without effect if there is a retry budget.
    pub max_retries: u32,
    /// Default: no limit, `u32::MAX`.
    pub max_connection_pools: u32,
    /// `per_host_thresholds`: connections to one host; none: no limit.
    pub max_connections_per_host: Option<u32>,
    /// Limits retries by the number of requests instead.
    pub retry_budget: Option<RetryBudget>,
    /// Whether there are `remaining_*` gauges.
    pub track_remaining: bool,
}

/// A limit for retries that depends on the number of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Percentage of the active and pending requests, 0 to 100. Default 20.
    pub budget_percent: f64,
    /// This many are always allowed. Default 3.
    pub min_retry_concurrency: u32,
}

/// A cluster's circuit breakers, one for each priority.
#[derive(Debug)]
pub struct CircuitBreakers {
    default: Arc<CircuitBreaker>,
    high: Arc<CircuitBreaker>,
}

#[derive(Debug)]
struct CircuitBreaker {
    thresholds: Thresholds,
    /// For each [`Resource`]: while all shards are below this number, the limit cannot be reached.
    shares: [u64; RESOURCES],
    in_use: Scope<InUse>,
    /// For each [`Resource`]: how many shards are at their share or above.
    saturated: [AtomicU32; RESOURCES],
    stats: Arc<Scope<CircuitBreakerStats>>,
    remaining: Option<Arc<Scope<CircuitBreakerRemainingStats>>>,
}

stats! {
    /// How many permits of a shard are in use.
    struct InUse {
        gauge connections;
        gauge pending_requests;
        gauge requests;
        gauge retries;
        gauge connection_pools;
    }
}

const RESOURCES: usize = 5;

impl CircuitBreakers {
    /// Circuit breakers with these limits. `cluster` is the name in stats.
    pub fn new(
        default: Thresholds,
        high: Thresholds,
        registry: &Registry,
        shards: usize,
        cluster: &str,
    ) -> Self {
        let breaker = |thresholds, priority| {
            let prefix = format!("cluster.{cluster}.circuit_breakers.{priority}.");
            Arc::new(CircuitBreaker::new(thresholds, registry, shards, &prefix))
        };
        Self { default: breaker(default, "default"), high: breaker(high, "high") }
    }

    /// The limits of a priority.
    pub fn thresholds(&self, priority: RoutingPriority) -> &Thresholds {
        &self.of(priority).thresholds
    }

    /// The view of one shard. To be called once per cluster and shard.
    pub fn on_shard(&self, shard: usize) -> ShardCircuitBreakers {
        let of_shard = |breaker: &Arc<CircuitBreaker>| {
            let breaker = breaker.clone();
            Rc::new(ShardBreaker { breaker, shard, is_saturated: Default::default() })
        };
        ShardCircuitBreakers { default: of_shard(&self.default), high: of_shard(&self.high) }
    }

    /// Updates the gauges `*_open` and `remaining_*`. The control plane calls it before it reads stats.
    pub fn update_gauges(&self) {
        self.default.update_gauges();
        self.high.update_gauges();
    }

    fn of(&self, priority: RoutingPriority) -> &Arc<CircuitBreaker> {
        match priority {
            RoutingPriority::Default => &self.default,
            RoutingPriority::High => &self.high,
        }
    }
}

/// One shard's view of a cluster's circuit breakers.
#[derive(Debug)]
pub struct ShardCircuitBreakers {
    default: Rc<ShardBreaker>,
    high: Rc<ShardBreaker>,
}

impl ShardCircuitBreakers {
    /// Acquires a permit, unless the limit is reached.
    #[inline]
    pub fn acquire(&self, priority: RoutingPriority, resource: Resource) -> Option<Permit> {
        let breaker = self.of(priority);
        breaker.is_below_limit(resource).then(|| breaker.take(resource))
    }

    /// Whether [`Self::acquire`] would succeed.
    pub fn is_below_limit(&self, priority: RoutingPriority, resource: Resource) -> bool {
        self.of(priority).is_below_limit(resource)
    }

    /// How many connections a host may have; none: no limit.
    #[inline]
    pub fn max_connections_per_host(&self, priority: RoutingPriority) -> Option<u64> {
        self.of(priority).breaker.thresholds.max_connections_per_host.map(u64::from)
    }

    /// Acquires a permit even above the limit.
    //= envoy: Cluster.CircuitBreakers.Thresholds.max_connections
    // A pool without any connection may always open one; otherwise its requests would wait forever.
    pub fn acquire_anyway(&self, priority: RoutingPriority, resource: Resource) -> Permit {
        self.of(priority).take(resource)
    }

    fn of(&self, priority: RoutingPriority) -> &Rc<ShardBreaker> {
        match priority {
            RoutingPriority::Default => &self.default,
            RoutingPriority::High => &self.high,
        }
    }
}

/// One connection, request or retry that counts against a limit. Dropping it releases it.
#[derive(Debug)]
#[must_use = "dropping it releases it"]
pub struct Permit {
    breaker: Rc<ShardBreaker>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.release(self.resource);
    }
}

/// One shard's view of a circuit breaker.
#[derive(Debug)]
struct ShardBreaker {
    breaker: Arc<CircuitBreaker>,
    shard: usize,
    /// For each [`Resource`]: whether this shard is counted in `saturated`.
    is_saturated: [Cell<bool>; RESOURCES],
}

impl ShardBreaker {
    #[inline]
    fn is_below_limit(&self, resource: Resource) -> bool {
        let breaker = &*self.breaker;
        let none_saturated = breaker.saturated(resource).is_some_and(|it| it.load(Relaxed) == 0);
        (none_saturated && self.own(resource).value() < breaker.share(resource))
            || breaker.total(resource) < breaker.limit(resource)
    }

    fn take(self: &Rc<Self>, resource: Resource) -> Permit {
        self.own(resource).inc();
        self.update_saturated(resource, |own, share| own >= share);
        Permit { breaker: self.clone(), resource }
    }

    fn release(&self, resource: Resource) {
        self.own(resource).dec();
        // With hysteresis: otherwise a shard around its share would write the shared word each time.
        self.update_saturated(resource, |own, share| own > share / 2);
    }

    /// Updates `saturated` when this shard crosses its share.
    fn update_saturated(&self, resource: Resource, is_saturated: impl Fn(u64, u64) -> bool) {
        let share = self.breaker.share(resource);
        let (Some(was_saturated), Some(saturated)) =
            (self.is_saturated.get(resource as usize), self.breaker.saturated(resource))
        else {
            return;
        };
        let is_saturated = share > 0 && is_saturated(self.own(resource).value(), share);
        match (was_saturated.replace(is_saturated), is_saturated) {
            (false, true) => _ = saturated.fetch_add(1, Relaxed),
            (true, false) => _ = saturated.fetch_sub(1, Relaxed),
            (false, false) | (true, true) => {}
        }
    }

    fn own(&self, resource: Resource) -> &Gauge {
        self.breaker.in_use.shard(self.shard).of(resource)
    }
}

impl CircuitBreaker {
    fn new(thresholds: Thresholds, registry: &Registry, shards: usize, prefix: &str) -> Self {
        Self {
            thresholds,
            shares: shares(thresholds, shards.max(1) as u64),
            in_use: Scope::unlisted(shards),
            saturated: Default::default(),
            stats: registry.scope(prefix),
            remaining: thresholds.track_remaining.then(|| registry.scope(prefix)),
        }
    }

    fn share(&self, resource: Resource) -> u64 {
        self.shares.get(resource as usize).copied().unwrap_or(0)
    }

    fn limit(&self, resource: Resource) -> u64 {
        let thresholds = &self.thresholds;
        match (resource, thresholds.retry_budget) {
            (Resource::Connections, _) => thresholds.max_connections.into(),
            (Resource::PendingRequests, _) => thresholds.max_pending_requests.into(),
            (Resource::Requests, _) => thresholds.max_requests.into(),
            (Resource::ConnectionPools, _) => thresholds.max_connection_pools.into(),
            (Resource::Retries, None) => thresholds.max_retries.into(),
            (Resource::Retries, Some(budget)) => {
                let requests =
                    self.total(Resource::Requests) + self.total(Resource::PendingRequests);
                budget.limit(requests)
            }
        }
    }

    fn total(&self, resource: Resource) -> u64 {
        self.in_use.gauge(|in_use| in_use.of(resource))
    }

    /// Whether a permit was ever taken.
    fn was_taken(&self, resource: Resource) -> bool {
        self.in_use.is_gauge_used(|in_use| in_use.of(resource))
    }

    fn saturated(&self, resource: Resource) -> Option<&AtomicU32> {
        self.saturated.get(resource as usize)
    }

    fn update_gauges(&self) {
        // Envoy sets the gauge when a resource is acquired or released: a limit of 0 alone does not
        // open the breaker.
        let is_open = |resource| {
            let total = self.total(resource);
            u64::from(total > 0 && total >= self.limit(resource))
        };
        let stats = self.stats.control();
        for (gauge, resource) in [
            (&stats.cx_open, Resource::Connections),
            (&stats.rq_pending_open, Resource::PendingRequests),
            (&stats.rq_open, Resource::Requests),
            (&stats.rq_retry_open, Resource::Retries),
            (&stats.cx_pool_open, Resource::ConnectionPools),
        ] {
            if self.was_taken(resource) {
                gauge.set(is_open(resource));
            }
        }
        if let Some(remaining) = &self.remaining {
            let free = |resource| self.limit(resource).saturating_sub(self.total(resource));
            let remaining = remaining.control();
            remaining.remaining_cx.set(free(Resource::Connections));
            remaining.remaining_pending.set(free(Resource::PendingRequests));
            remaining.remaining_rq.set(free(Resource::Requests));
            // Envoy: always 0 with a retry budget, which depends on the number of requests.
            let has_budget = self.thresholds.retry_budget.is_some();
            remaining.remaining_retries.set(if has_budget { 0 } else { free(Resource::Retries) });
            remaining.remaining_cx_pools.set(free(Resource::ConnectionPools));
        }
    }
}

/// A shard's shares, in the order of [`Resource`]. A retry budget varies, so its share is 0.
fn shares(thresholds: Thresholds, shards: u64) -> [u64; RESOURCES] {
    let Thresholds {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        max_connection_pools,
        max_connections_per_host: _,
        retry_budget,
        track_remaining: _,
    } = thresholds;
    let retries = if retry_budget.is_some() { 0 } else { max_retries };
    [max_connections, max_pending_requests, max_requests, retries, max_connection_pools]
        .map(|limit| u64::from(limit) / shards)
}

impl InUse {
    fn of(&self, resource: Resource) -> &Gauge {
        match resource {
            Resource::Connections => &self.connections,
            Resource::PendingRequests => &self.pending_requests,
            Resource::Requests => &self.requests,
            Resource::Retries => &self.retries,
            Resource::ConnectionPools => &self.connection_pools,
        }
    }
}

impl RetryBudget {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of requests fits in a u64"
    )]
    fn limit(self, requests: u64) -> u64 {
        let part = (self.budget_percent / 100.0 * requests as f64) as u64;
        part.max(self.min_retry_concurrency.into())
    }
}

/// Envoy's defaults.
impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            max_connection_pools: u32::MAX,
            max_connections_per_host: None,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: RoutingPriority = RoutingPriority::Default;

    fn breakers(
        default: Thresholds,
        shards: usize,
    ) -> (CircuitBreakers, Vec<ShardCircuitBreakers>) {
        let registry = Registry::new(shards);
        let high = Thresholds::default();
        let breakers = CircuitBreakers::new(default, high, &registry, shards, "c");
        let shards = (0..shards).map(|shard| breakers.on_shard(shard)).collect();
        (breakers, shards)
    }

    fn max_requests(max_requests: u32) -> Thresholds {
        Thresholds { max_requests, ..Thresholds::default() }
    }

    #[test]
    fn the_limit_holds_over_all_shards() {
        let (_, shards) = breakers(max_requests(3), 4);
        let request = |shard: usize| shards[shard].acquire(DEFAULT, Resource::Requests);
        let mut permits: Vec<_> = (0..3).filter_map(request).collect();
        assert_eq!(permits.len(), 3);
        assert!(request(3).is_none());
        permits.pop();
        assert!(request(3).is_some());
    }

    #[test]
    fn one_busy_shard_may_use_the_whole_limit() {
        let (_, shards) = breakers(max_requests(100), 4);
        let all = std::iter::from_fn(|| shards[0].acquire(DEFAULT, Resource::Requests));
        let all: Vec<_> = all.collect();
        assert_eq!(all.len(), 100);
        assert!(shards[1].acquire(DEFAULT, Resource::Requests).is_none());
        drop(all);
        assert!(shards[1].acquire(DEFAULT, Resource::Requests).is_some());
    }

    #[test]
    fn priorities_have_separate_limits() {
        let (_, shards) = breakers(max_requests(0), 1);
        assert!(shards[0].acquire(DEFAULT, Resource::Requests).is_none());
        assert!(shards[0].acquire(RoutingPriority::High, Resource::Requests).is_some());
    }

    #[test]
    fn a_pool_without_connections_opens_one_over_the_limit() {
        let none = Thresholds { max_connections: 0, ..Thresholds::default() };
        let (breakers, shards) = breakers(none, 1);
        assert!(shards[0].acquire(DEFAULT, Resource::Connections).is_none());
        let connection = shards[0].acquire_anyway(DEFAULT, Resource::Connections);
        breakers.update_gauges();
        assert_eq!(breakers.default.stats.gauge(|stats| &stats.cx_open), 1);
        drop(connection);
    }

    #[test]
    fn the_gauges_show_when_a_breaker_is_open() {
        let remaining = Thresholds { track_remaining: true, ..max_requests(2) };
        let (breakers, shards) = breakers(remaining, 2);
        let open = || {
            breakers.update_gauges();
            breakers.default.stats.gauge(|stats| &stats.rq_open)
        };
        let left = || {
            let remaining = breakers.default.remaining.as_ref().unwrap();
            remaining.gauge(|stats| &stats.remaining_rq)
        };
        assert_eq!((open(), left()), (0, 2));
        let one = shards[0].acquire(DEFAULT, Resource::Requests);
        assert_eq!((open(), left()), (0, 1));
        let two = shards[1].acquire(DEFAULT, Resource::Requests);
        assert_eq!((open(), left()), (1, 0));
        drop((one, two));
        assert_eq!((open(), left()), (0, 2));
    }

    #[test]
    fn a_retry_budget_grows_with_the_requests() {
        let budget = RetryBudget { budget_percent: 20.0, min_retry_concurrency: 3 };
        let budget = Thresholds { retry_budget: Some(budget), ..Thresholds::default() };
        let (_, shards) = breakers(budget, 2);
        let retries = || {
            let retry = || shards[0].acquire(DEFAULT, Resource::Retries);
            std::iter::from_fn(retry).count_all()
        };
        assert_eq!(retries(), 3);
        let requests: Vec<_> =
            (0..50).filter_map(|_| shards[1].acquire(DEFAULT, Resource::Requests)).collect();
        assert_eq!(retries(), 10);
        drop(requests);
    }

    /// How many permits there are when all are held at once.
    trait CountAll: Iterator + Sized {
        fn count_all(self) -> usize {
            self.collect::<Vec<_>>().len()
        }
    }
    impl<I: Iterator> CountAll for I {}

    proptest! {
        #[test]
        fn the_limit_holds_in_any_order_of_acquire_and_release(
            limit in 0..40u32,
            shards in 1..6usize,
            steps in prop::collection::vec((0..6usize, any::<bool>()), 0..300),
        ) {
            let (_, shards) = breakers(max_requests(limit), shards);
            let mut held: Vec<Vec<Permit>> = shards.iter().map(|_| Vec::new()).collect();
            for (shard, acquires) in steps {
                let shard = shard % shards.len();
                let total: usize = held.iter().map(Vec::len).sum();
                if acquires {
                    let permit = shards[shard].acquire(DEFAULT, Resource::Requests);
                    prop_assert_eq!(permit.is_some(), total < limit as usize);
                    held[shard].extend(permit);
                } else {
                    drop(held[shard].pop());
                }
            }
            drop(held);
            let saturated = &shards[0].default.breaker.saturated;
            prop_assert!(saturated.iter().all(|count| count.load(Relaxed) == 0));
        }
    }
}
