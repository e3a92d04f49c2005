//! Circuit breakers: how many connections, requests and retries a cluster may have at once, over
//! all shards.
//!
//! Each shard counts its own, in a block that only it writes. While every shard is below its equal
//! share of the limit, no sum can reach the limit, and a shard looks at its own number and at one
//! word that hardly ever changes: how many shards are `crowded`, at their share or above. Only then
//! the others' numbers are added up. Two shards that add up at the same moment may both take the
//! last place: the limit is overshot by at most one for each shard, as Envoy's check-then-add does.
//!
//! Invariant: what a shard counts is the number of its [`Permit`]s.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::stats::{
    CircuitBreakerRemainingStats, CircuitBreakerStats, Gauge, Registry, Scope, stats,
};

/// `route.priority`: which of a cluster's two sets of limits a request counts against.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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
    /// Connections, whatever they do. Over the limit requests wait for one; a pool without any may
    /// open one anyway.
    Connections,
    /// Requests that wait for a connection.
    PendingRequests,
    /// Requests that have one.
    Requests,
    /// Requests that are sent again, waiting ones included.
    Retries,
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
    /// Default 3. Shown, but without effect when there is a retry budget.
    pub max_retries: u32,
    /// Limits retries by the number of requests instead.
    pub retry_budget: Option<RetryBudget>,
    /// Whether to show what is left in `remaining_*`.
    pub track_remaining: bool,
}

/// A limit for retries that grows with the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the active and pending requests, 0 to 100. Default 20.
    pub budget_percent: f64,
    /// So many are always allowed. Default 3.
    pub min_retry_concurrency: u32,
}

/// A cluster's circuit breakers, one for each priority. Part of the cluster; the shards take their
/// places from it.
#[derive(Debug)]
pub struct CircuitBreakers {
    default: Arc<CircuitBreaker>,
    high: Arc<CircuitBreaker>,
}

#[derive(Debug)]
struct CircuitBreaker {
    thresholds: Thresholds,
    /// For each [`Resource`]: a shard below this number cannot break the limit, if all the others are
    /// below it too.
    shares: [u64; RESOURCES],
    in_use: Scope<InUse>,
    /// How many shards are at their share or above, for each [`Resource`].
    crowded: [AtomicU32; RESOURCES],
    stats: Arc<Scope<CircuitBreakerStats>>,
    remaining: Option<Arc<Scope<CircuitBreakerRemainingStats>>>,
}

stats! {
    /// How many permits a shard gave out.
    struct InUse {
        gauge connections;
        gauge pending_requests;
        gauge requests;
        gauge retries;
    }
}

const RESOURCES: usize = 4;

impl CircuitBreakers {
    /// Breakers with these limits, for all the shards of the registry. `cluster` is the name in the
    /// stats.
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

    /// What a shard works with. Once for each cluster and shard.
    pub fn on_shard(&self, shard: usize) -> ShardCircuitBreakers {
        let place = |breaker: &Arc<CircuitBreaker>| {
            let breaker = breaker.clone();
            Rc::new(Place { breaker, shard, is_crowded: Default::default() })
        };
        ShardCircuitBreakers { default: place(&self.default), high: place(&self.high) }
    }

    /// Brings the gauges `*_open` and `remaining_*` up to date. For the control plane, before it
    /// shows stats.
    pub fn show(&self) {
        self.default.show();
        self.high.show();
    }

    fn of(&self, priority: RoutingPriority) -> &Arc<CircuitBreaker> {
        match priority {
            RoutingPriority::Default => &self.default,
            RoutingPriority::High => &self.high,
        }
    }
}

/// A cluster's circuit breakers as one shard sees them.
#[derive(Debug)]
pub struct ShardCircuitBreakers {
    default: Rc<Place>,
    high: Rc<Place>,
}

impl ShardCircuitBreakers {
    /// Takes one, unless the limit is reached.
    #[inline]
    pub fn acquire(&self, priority: RoutingPriority, resource: Resource) -> Option<Permit> {
        let place = self.of(priority);
        place.has_room(resource).then(|| place.take(resource))
    }

    /// Takes one even over the limit.
    //= envoy: Cluster.CircuitBreakers.Thresholds.max_connections
    // A pool without any connection opens one all the same; otherwise its requests would wait
    // forever.
    pub fn acquire_anyway(&self, priority: RoutingPriority, resource: Resource) -> Permit {
        self.of(priority).take(resource)
    }

    fn of(&self, priority: RoutingPriority) -> &Rc<Place> {
        match priority {
            RoutingPriority::Default => &self.default,
            RoutingPriority::High => &self.high,
        }
    }
}

/// One connection, request or retry that counts. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "it is given back at once"]
pub struct Permit {
    place: Rc<Place>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.place.give_back(self.resource);
    }
}

/// One shard's part in a breaker.
#[derive(Debug)]
struct Place {
    breaker: Arc<CircuitBreaker>,
    shard: usize,
    /// Whether this shard is among the `crowded`, for each [`Resource`].
    is_crowded: [Cell<bool>; RESOURCES],
}

impl Place {
    #[inline]
    fn has_room(&self, resource: Resource) -> bool {
        let breaker = &*self.breaker;
        let alone = breaker.crowded(resource).is_some_and(|it| it.load(Relaxed) == 0);
        (alone && self.own(resource).value() < breaker.share(resource))
            || breaker.total(resource) < breaker.limit(resource)
    }

    fn take(self: &Rc<Self>, resource: Resource) -> Permit {
        self.own(resource).inc();
        self.mark(resource, |own, share| own >= share);
        Permit { place: self.clone(), resource }
    }

    fn give_back(&self, resource: Resource) {
        self.own(resource).dec();
        // Not just below the share: a shard that goes up and down there would write the shared word
        // each time.
        self.mark(resource, |own, share| own > share / 2);
    }

    /// Keeps `crowded` in step when this shard's number passes its share.
    fn mark(&self, resource: Resource, is_crowded: impl Fn(u64, u64) -> bool) {
        let share = self.breaker.share(resource);
        let (Some(mark), Some(crowded)) =
            (self.is_crowded.get(resource as usize), self.breaker.crowded(resource))
        else {
            return;
        };
        let is_crowded = share > 0 && is_crowded(self.own(resource).value(), share);
        match (mark.replace(is_crowded), is_crowded) {
            (false, true) => _ = crowded.fetch_add(1, Relaxed),
            (true, false) => _ = crowded.fetch_sub(1, Relaxed),
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
            crowded: Default::default(),
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

    /// Whether one was ever taken.
    fn was_taken(&self, resource: Resource) -> bool {
        self.in_use.is_gauge_used(|in_use| in_use.of(resource))
    }

    fn crowded(&self, resource: Resource) -> Option<&AtomicU32> {
        self.crowded.get(resource as usize)
    }

    fn show(&self) {
        // Envoy sets the gauge when something is taken or given back: a limit of 0 alone does not
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
        ] {
            if self.was_taken(resource) {
                gauge.set(is_open(resource));
            }
        }
        if self.was_taken(Resource::Connections) {
            // A pool was taken, too, and there is no limit for pools.
            stats.cx_pool_open.set(0);
        }

        if let Some(remaining) = &self.remaining {
            let left = |resource| self.limit(resource).saturating_sub(self.total(resource));
            let remaining = remaining.control();
            remaining.remaining_cx.set(left(Resource::Connections));
            remaining.remaining_pending.set(left(Resource::PendingRequests));
            remaining.remaining_rq.set(left(Resource::Requests));
            // Envoy: of a budget, which other requests change, nothing is said to be left.
            let has_budget = self.thresholds.retry_budget.is_some();
            remaining.remaining_retries.set(if has_budget { 0 } else { left(Resource::Retries) });
            // There is no limit for pools.
            remaining.remaining_cx_pools.set(u32::MAX.into());
        }
    }
}

/// In the order of [`Resource`]. A budget grows and shrinks, so nobody has a share of it.
fn shares(thresholds: Thresholds, shards: u64) -> [u64; RESOURCES] {
    let Thresholds {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining: _,
    } = thresholds;
    let retries = if retry_budget.is_some() { 0 } else { max_retries };
    [max_connections, max_pending_requests, max_requests, retries]
        .map(|limit| u64::from(limit) / shards)
}

impl InUse {
    fn of(&self, resource: Resource) -> &Gauge {
        match resource {
            Resource::Connections => &self.connections,
            Resource::PendingRequests => &self.pending_requests,
            Resource::Requests => &self.requests,
            Resource::Retries => &self.retries,
        }
    }
}

impl RetryBudget {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of requests is such a number again"
    )]
    fn limit(self, requests: u64) -> u64 {
        let part = (self.budget_percent / 100.0 * requests as f64) as u64;
        part.max(self.min_retry_concurrency.into())
    }
}

/// As Envoy without any configuration.
impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
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
        let places = (0..shards).map(|shard| breakers.on_shard(shard)).collect();
        (breakers, places)
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
    fn one_busy_shard_may_use_the_whole_limit_and_leaves_nothing_to_the_others() {
        let (_, shards) = breakers(max_requests(100), 4);
        let all = std::iter::from_fn(|| shards[0].acquire(DEFAULT, Resource::Requests));
        let all: Vec<_> = all.collect();
        assert_eq!(all.len(), 100);
        assert!(shards[1].acquire(DEFAULT, Resource::Requests).is_none());
        drop(all);
        assert!(shards[1].acquire(DEFAULT, Resource::Requests).is_some());
    }

    #[test]
    fn priorities_do_not_share() {
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
        breakers.show();
        assert_eq!(breakers.default.stats.gauge(|stats| &stats.cx_open), 1);
        drop(connection);
    }

    #[test]
    fn the_gauges_say_when_a_breaker_is_open() {
        let remaining = Thresholds { track_remaining: true, ..max_requests(2) };
        let (breakers, shards) = breakers(remaining, 2);
        let open = || {
            breakers.show();
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
        fn no_order_of_taking_and_giving_back_breaks_the_limit(
            limit in 0..40u32,
            shards in 1..6usize,
            steps in prop::collection::vec((0..6usize, any::<bool>()), 0..300),
        ) {
            let (_, places) = breakers(max_requests(limit), shards);
            let mut held: Vec<Vec<Permit>> = places.iter().map(|_| Vec::new()).collect();
            for (shard, takes) in steps {
                let shard = shard % shards;
                let total: usize = held.iter().map(Vec::len).sum();
                if takes {
                    let permit = places[shard].acquire(DEFAULT, Resource::Requests);
                    prop_assert_eq!(permit.is_some(), total < limit as usize);
                    held[shard].extend(permit);
                } else {
                    drop(held[shard].pop());
                }
            }
            drop(held);
            let crowded = &places[0].default.breaker.crowded;
            prop_assert!(crowded.iter().all(|count| count.load(Relaxed) == 0));
        }
    }
}
