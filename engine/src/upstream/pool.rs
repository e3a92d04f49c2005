//! The connections of one shard to one host, for requests of one priority: idle, active and
//! connecting, and the requests that wait for one.
//!
//! It does not pick the host (`balance/`), nor decide about retries (`request/`).
//! Idle connections are reused last in, first out, so that surplus ones expire after a peak.
//!
//! Invariant: `open` counts every connection and every attempt; a request waits in the queue only
//! while no connection may be opened.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::circuit_breaker::{Permit, Resource, RoutingPriority, ShardCircuitBreakers};
use super::cluster::Cluster;
use super::clusters::Clusters;
pub use super::connection::IdleCheck;
use super::connection::{ClosedBy, Connection};
use super::error::Error;
use super::host::Host;
use super::http2::Shared;
use super::origin::Origin;
use super::outlier_detection;
use super::pool_key::{Carries, PoolKey, Speaks};
use super::transport_socket::EncodedHeader;
use super::waiting::{WaitOutcome, Waiting};
use crate::shard::Shard;
use crate::shard::buffers::Buffers;
use crate::shard::clock::{Millis, millis};
use crate::shard::socket::Peeked;
use crate::stats::{ClusterStats, HostStats, Scope, ZoneStats};
use crate::transport::Transport;
use crate::transport::tls::context::ShardClientContext;
use crate::transport::tls::options::TransportSocketOptions;

/// Connections to one host on one shard.
#[derive(Debug)]
pub struct Pool {
    shard: &'static Shard,
    clusters: &'static Clusters,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    /// What connections to the host offer; none: they are plain.
    tls: Option<Rc<ShardClientContext>>,
    zone: Option<Arc<Scope<ZoneStats>>>,
    breakers: Rc<ShardCircuitBreakers>,
    key: PoolKey,
    /// Counts the pool while it has connections.
    in_use: RefCell<Option<Permit>>,
    /// How long a connection may be idle.
    idle_ms_max: Millis,
    /// How old a connection may be.
    age_ms_max: Millis,
    idle: RefCell<Vec<IdleConnection>>,
    open: Cell<usize>,
    pub(super) waiting: Waiting,
    /// Its HTTP/2 connections.
    pub(super) shared: Shared,
    state: Cell<PoolState>,
}

/// A host that was removed from its cluster keeps its pool until the last request on it has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PoolState {
    Active,
    Retired,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    since: Millis,
    /// [`Transport::polls`] when it became idle.
    polls: u64,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(
        shard: &'static Shard,
        cluster: Arc<Cluster>,
        host: Arc<Host>,
        breakers: Rc<ShardCircuitBreakers>,
        key: PoolKey,
    ) -> Rc<Self> {
        let socket = &host.endpoint.transport_socket;
        let tls = socket.tls.as_ref().map(|tls| Rc::new(tls.context.for_shard(shard.id)));
        Self::with_tls(shard, cluster, host, breakers, key, tls)
    }

    /// An empty pool for the same host with another key. Its connections resume the TLS sessions of this
    /// one's.
    #[must_use]
    pub fn beside(&self, key: PoolKey) -> Rc<Self> {
        let (cluster, host) = (Arc::clone(&self.cluster), Arc::clone(&self.host));
        let (breakers, tls) = (Rc::clone(&self.breakers), self.tls.clone());
        Self::with_tls(self.shard, cluster, host, breakers, key, tls)
    }

    fn with_tls(
        shard: &'static Shard,
        cluster: Arc<Cluster>,
        host: Arc<Host>,
        breakers: Rc<ShardCircuitBreakers>,
        key: PoolKey,
        tls: Option<Rc<ShardClientContext>>,
    ) -> Rc<Self> {
        let limit = |limit: Option<Duration>| limit.map_or(Millis::MAX, millis);
        Rc::new(Self {
            shard,
            clusters: Clusters::of(shard),
            zone: cluster.zones.get(host.endpoint.zone()).map(Arc::clone),
            idle_ms_max: limit(cluster.http.idle_timeout),
            age_ms_max: limit(cluster.http.max_connection_duration),
            tls,
            cluster,
            host,
            breakers,
            key,
            in_use: RefCell::default(),
            idle: RefCell::default(),
            open: Cell::new(0),
            waiting: Waiting::default(),
            shared: Shared::default(),
            state: Cell::new(PoolState::Active),
        })
    }

    /// The PROXY header that its connections begin with.
    pub(super) const fn proxy_header(&self) -> Option<&EncodedHeader> {
        self.key.proxy_header.as_ref()
    }

    /// What its requests set for their TLS.
    pub(super) fn options(&self) -> Option<&TransportSocketOptions> {
        self.key.options.as_deref()
    }

    /// Whether any connection is open or being opened.
    pub(super) const fn has_connections(&self) -> bool {
        self.open.get() > 0
    }

    pub(super) const fn idle_ms_max(&self) -> Millis {
        self.idle_ms_max
    }

    pub(super) const fn age_ms_max(&self) -> Millis {
        self.age_ms_max
    }

    pub(super) fn tls(&self) -> Option<&ShardClientContext> {
        self.tls.as_deref()
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The limits that its connections count against.
    pub(super) const fn priority(&self) -> RoutingPriority {
        self.key.priority
    }

    /// The circuit breakers of its cluster.
    #[must_use]
    #[inline]
    pub fn breakers(&self) -> &ShardCircuitBreakers {
        &self.breakers
    }

    /// What its connections are for.
    #[must_use]
    pub const fn carries(&self) -> Carries {
        self.key.carries
    }

    /// Which version of HTTP its connections speak.
    #[must_use]
    #[inline]
    pub const fn speaks(&self) -> Speaks {
        self.key.speaks
    }

    /// The cluster of the host.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// This shard's counters for the host's zone, if there are any.
    #[must_use]
    pub fn zone_stats(&self) -> Option<&ZoneStats> {
        self.zone.as_ref().map(|zone| zone.shard(self.shard.id))
    }

    /// This shard's counters for the cluster.
    #[must_use]
    #[inline]
    pub fn stats(&self) -> &ClusterStats {
        self.cluster.stats.shard(self.shard.id)
    }

    /// This shard's counters for the host.
    #[must_use]
    #[inline]
    pub fn host_stats(&self) -> &HostStats {
        self.host.stats().shard(self.shard.id)
    }

    /// Notes a result for outlier detection, if there is any.
    #[inline]
    pub fn note(&self, result: outlier_detection::Result) {
        if let Some(monitor) = self.host.monitor() {
            monitor.note(self.shard.id, result);
        }
    }

    pub(super) const fn shard(&self) -> &'static Shard {
        self.shard
    }

    #[inline]
    pub(super) const fn buffers(&self) -> &'static Buffers {
        self.shard.buffers
    }

    #[inline]
    pub(super) fn now(&self) -> Millis {
        self.shard.clock.now()
    }

    /// Counts bytes sent to the host.
    #[inline]
    pub fn count_sent(&self, bytes: usize) {
        self.stats().upstream_cx_tx_bytes_total.add(bytes as u64);
    }

    /// Counts bytes received from the host.
    #[inline]
    pub fn count_received(&self, bytes: usize) {
        self.stats().upstream_cx_rx_bytes_total.add(bytes as u64);
    }

    /// Leases a connection that is open, if one has room for a request.
    #[must_use]
    #[inline(always)]
    pub fn lease_ready(self: &Rc<Self>, check: IdleCheck) -> Option<Origin> {
        if self.key.speaks == Speaks::Http1 {
            self.lease_idle(check).map(Origin::Http1)
        } else {
            self.lease_ready_shared(check)
        }
    }

    /// Leases an idle connection of HTTP/1, if there is one.
    #[must_use]
    #[inline(always)]
    pub(super) fn lease_idle(&self, check: IdleCheck) -> Option<Connection> {
        self.take_idle(check).map(begin)
    }

    /// Leases a new connection for a tunnel: the host need not speak HTTP/2, whatever is configured.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub async fn lease_for_tunnel(self: &Rc<Self>) -> Result<Connection, Error> {
        let permit = self.may_connect().ok_or(Error::Overflow)?;
        self.open(permit).await
    }

    /// Leases a new connection of HTTP/1, or one that another request releases. To be called after
    /// [`Self::lease_ready`]. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// A circuit breaker is open, or the attempt to connect failed.
    pub async fn lease(self: &Rc<Self>) -> Result<Connection, Error> {
        let pending = Pending::enter(self)?;
        let connection = loop {
            if let Some(permit) = self.may_connect() {
                break self.connect(permit).await;
            }
            match self.wait().await {
                WaitOutcome::Connection(connection) => break Ok(connection),
                WaitOutcome::Failed(error) => break Err(error),
                WaitOutcome::Capacity => {}
            }
        };
        pending.end();
        connection.map(begin)
    }

    /// Opens a connection for one TCP client; it is not returned to the pool. `permit` is that of the
    /// connection. Dropping the future abandons the attempt.
    ///
    /// # Errors
    /// A circuit breaker is open, or the attempt to connect failed.
    pub async fn open(self: &Rc<Self>, permit: Permit) -> Result<Connection, Error> {
        let pending = Pending::enter(self)?;
        let connection = self.connect(permit).await;
        pending.end();
        connection.map(begin)
    }

    /// Returns a connection to the pool after a complete exchange.
    pub fn release(self: &Rc<Self>, mut connection: Connection, now: Millis) {
        connection.end_request();
        let max = self.cluster.http.max_requests_per_connection;
        if max.is_some_and(|max| connection.requests() >= u64::from(max)) {
            return connection.close(ClosedBy::Us);
        }
        if now.saturating_sub(connection.opened()) >= self.age_ms_max {
            self.stats().upstream_cx_max_duration_reached.inc();
            return connection.close(ClosedBy::Us);
        }
        if self.is_retired() {
            return connection.close(ClosedBy::Us);
        }
        let connection = match self.waiting.offer(connection) {
            Err(connection) => connection,
            Ok(others_wait) => {
                if others_wait {
                    // Envoy: it tries to open another connection for the remaining requests.
                    self.stats().upstream_cx_overflow.inc();
                }
                return;
            }
        };
        self.keep_idle(connection, now);
    }

    /// Gives a new connection to a request that waits, or keeps it.
    pub(super) fn hand_out(self: &Rc<Self>, connection: Connection) {
        if self.is_retired() {
            return connection.close(ClosedBy::Us);
        }
        if let Err(connection) = self.waiting.offer(connection) {
            self.keep_idle(connection, self.now());
        }
    }

    fn keep_idle(&self, connection: Connection, now: Millis) {
        let polls = connection.socket().polls();
        let entry = IdleConnection { connection, since: now, polls };
        self.clusters.sweep().schedule(self.expires(&entry), now);
        self.idle.borrow_mut().push(entry);
    }

    /// The host was removed from the cluster: closes the idle connections, and the others after their
    /// requests.
    pub fn retire(&self) {
        self.state.set(PoolState::Retired);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        self.shared.retire();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.state.get() == PoolState::Retired
    }

    /// Closes idle connections that the host has closed, that have been idle for too long, or that are
    /// too old. Returns when the next one expires, while there are any connections.
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        let ended_by = |entry: &IdleConnection| {
            let socket = entry.connection.socket();
            if socket.is_quiet() { None } else { self.ended_by(socket) }
        };
        let mut idle = self.idle.borrow_mut();
        let mut ended = Vec::new();
        let mut index = 0;
        let mut next = Millis::MAX;
        while let Some(entry) = idle.get(index) {
            match ended_by(entry).or_else(|| self.expired(entry, now)) {
                // Keeps the order by age, oldest first.
                Some(by) => ended.push((idle.remove(index), by)),
                None => {
                    next = next.min(self.expires(entry));
                    index += 1;
                }
            }
        }
        drop(idle); // closing wakes waiters, which access the pool
        for (entry, by) in ended {
            entry.connection.close(by);
        }
        (self.open.get() > 0).then_some(next)
    }

    /// When an idle connection reaches its idle timeout or maximum age.
    fn expires(&self, entry: &IdleConnection) -> Millis {
        let idle = entry.since.saturating_add(self.idle_ms_max);
        idle.min(entry.connection.opened().saturating_add(self.age_ms_max))
    }

    /// Whether an idle connection has expired; counts it.
    fn expired(&self, entry: &IdleConnection, now: Millis) -> Option<ClosedBy> {
        if self.expires(entry) > now {
            return None;
        }
        if now.saturating_sub(entry.since) >= self.idle_ms_max {
            self.stats().upstream_cx_idle_timeout.inc();
        } else {
            self.stats().upstream_cx_max_duration_reached.inc();
        }
        Some(ClosedBy::Us)
    }

    /// Closes all connections if none of them is in use.
    pub(super) fn close_if_idle(&self) -> bool {
        let idle = self.idle.borrow().len() + self.shared.idle();
        let is_idle = idle > 0 && idle == self.open.get();
        if is_idle {
            drop(self.idle.take());
            self.shared.retire();
        }
        is_idle
    }

    /// Called when a connection is about to be opened.
    pub(super) fn connection_begins(&self) {
        if self.open.get() == 0 && self.key.carries == Carries::Requests {
            let breakers = &self.breakers;
            let permit = breakers.acquire_anyway(self.key.priority, Resource::ConnectionPools);
            self.in_use.replace(Some(permit));
        }
        self.open.set(self.open.get() + 1);
    }

    /// How many connections are open or being opened.
    pub(super) const fn connections(&self) -> usize {
        self.open.get()
    }

    /// Called when a connection or an attempt has ended.
    pub(super) fn connection_ended(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        if self.open.get() == 0 {
            drop(self.in_use.take());
            if !self.key.is_shared() {
                let now = self.now();
                self.clusters.sweep().schedule(now, now);
            }
        }
        self.host_stats().cx_active.dec();
        self.wake_waiting(1);
    }

    #[inline(always)]
    pub(super) fn take_idle(&self, check: IdleCheck) -> Option<Connection> {
        loop {
            let entry = self.idle.borrow_mut().pop()?;
            if let Some(by) = self.expired(&entry, self.now()) {
                entry.connection.close(by);
                continue;
            }
            // However short it was idle: surplus bytes would be taken for the next response.
            let socket = entry.connection.socket();
            if check == IdleCheck::Events && socket.seems_silent(entry.polls) {
                return Some(entry.connection);
            }
            match self.ended_by(socket) {
                None => return Some(entry.connection),
                Some(by) => entry.connection.close(by),
            }
        }
    }

    /// Who ends an idle connection: the host has closed it, or it has sent unsolicited bytes and this
    /// proxy closes it.
    fn ended_by(&self, socket: &Transport) -> Option<ClosedBy> {
        match socket.peek() {
            Peeked::Bytes => {
                self.stats().upstream_cx_protocol_error.inc();
                Some(ClosedBy::Us)
            }
            Peeked::Gone => Some(ClosedBy::Host),
            Peeked::Silent => None,
        }
    }

    /// Envoy: every pool may have one connection, whatever the limit.
    pub(super) fn may_connect(&self) -> Option<Permit> {
        let limit = self.breakers.max_connections_per_host(self.key.priority);
        let host_is_full = limit.is_some_and(|limit| self.host.connections() >= limit);
        let permit = match host_is_full {
            true => None,
            false => self.breakers.acquire(self.key.priority, Resource::Connections),
        };
        if permit.is_none() {
            self.stats().upstream_cx_overflow.inc();
        }
        let anyway = || self.breakers.acquire_anyway(self.key.priority, Resource::Connections);
        let has_none = self.open.get() == 0 && !self.shared.has_attempts();
        permit.or_else(|| has_none.then(anyway))
    }
}

/// A request that has no connection yet.
pub(super) struct Pending<'a> {
    pool: &'a Pool,
    _permit: Permit,
    state: PendingState,
}

/// Dropping a [`Pending`] that is still waiting cancels the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PendingState {
    Waiting,
    Ended,
}

impl<'a> Pending<'a> {
    pub(super) fn enter(pool: &'a Pool) -> Result<Self, Error> {
        let Some(permit) = pool.breakers.acquire(pool.key.priority, Resource::PendingRequests)
        else {
            pool.stats().upstream_rq_pending_overflow.inc();
            return Err(Error::Overflow);
        };
        pool.stats().upstream_rq_pending_total.inc();
        pool.stats().upstream_rq_pending_active.inc();
        pool.host_stats().rq_pending_active.inc();
        Ok(Self { pool, _permit: permit, state: PendingState::Waiting })
    }

    /// The request has a connection, or has failed.
    pub(super) fn end(mut self) {
        self.state = PendingState::Ended;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_pending_active.dec();
        self.pool.host_stats().rq_pending_active.dec();
        if self.state == PendingState::Waiting {
            self.pool.stats().upstream_rq_cancelled.inc();
        }
    }
}

pub(super) fn begin(mut connection: Connection) -> Connection {
    connection.begin_request();
    connection
}
