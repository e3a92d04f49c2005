//! The connections of one shard to one host, for requests of one priority: idle, active and
//! connecting, and the requests that wait for one.
//!
//! It does not pick the host (`balance/`), nor decide about retries (`request/`).
//! Idle connections are reused last in, first out, so that surplus ones expire after a peak.
//!
//! Invariant: `open` counts every connection and every attempt; a request waits in the queue only
//! while no connection may be opened.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::circuit_breaker::{Permit, Resource, RoutingPriority, ShardCircuitBreakers};
use super::cluster::Cluster;
use super::clusters::Clusters;
pub use super::connection::IdleCheck;
use super::connection::{ClosedBy, Connection};
use super::error::Error;
use super::host::Host;
use super::pool_key::{Carries, PoolKey, Speaks};
use super::transport_socket::EncodedHeader;
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
    tls: Option<ShardClientContext>,
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
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
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

/// A request that waits for a connection.
#[derive(Debug, Default)]
struct Waiter {
    connection: RefCell<Option<Connection>>,
    /// Another connection has ended: a new one may be allowed.
    capacity: Cell<bool>,
    /// There will be no connection.
    failed: Cell<Option<Error>>,
    waker: RefCell<Option<Waker>>,
}

/// How waiting for a connection ended.
#[derive(Debug)]
enum WaitOutcome {
    Connection(Connection),
    /// A new connection may be allowed.
    Capacity,
    Failed(Error),
}

impl Waiter {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
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
        let limit = |limit: Option<Duration>| limit.map_or(Millis::MAX, millis);
        let socket = &host.endpoint.transport_socket;
        Rc::new(Self {
            shard,
            clusters: Clusters::of(shard),
            zone: cluster.zones.get(host.endpoint.zone()).map(Arc::clone),
            idle_ms_max: limit(cluster.http.idle_timeout),
            age_ms_max: limit(cluster.http.max_connection_duration),
            tls: socket.tls.as_ref().map(|tls| tls.context.for_shard(shard.id)),
            cluster,
            host,
            breakers,
            key,
            in_use: RefCell::default(),
            idle: RefCell::default(),
            open: Cell::new(0),
            waiting: RefCell::default(),
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

    pub(super) const fn tls(&self) -> Option<&ShardClientContext> {
        self.tls.as_ref()
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
        self.host.stats.shard(self.shard.id)
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

    /// Leases an idle connection, if there is one.
    #[must_use]
    #[inline(always)]
    pub fn lease_idle(&self, check: IdleCheck) -> Option<Connection> {
        self.take_idle(check).map(begin)
    }

    /// Leases a new connection, or one that another request releases. To be called after
    /// [`Self::lease_idle`]. Dropping the future leaves the queue.
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
        if self.state.get() == PoolState::Retired {
            return connection.close(ClosedBy::Us);
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(waiter) = waiting.pop_front() {
            if !waiting.is_empty() {
                // Envoy: it tries to open another connection for the remaining requests.
                self.stats().upstream_cx_overflow.inc();
            }
            *waiter.connection.borrow_mut() = Some(connection);
            return waiter.wake();
        }
        drop(waiting);
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
        let idle = self.idle.borrow().len();
        let is_idle = idle > 0 && idle == self.open.get();
        if is_idle {
            drop(self.idle.take());
        }
        is_idle
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
        self.wake_next();
    }

    /// Wakes the first request in the queue: a new connection may be allowed.
    fn wake_next(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        if let Some(waiter) = first {
            waiter.capacity.set(true);
            waiter.wake();
        }
    }

    /// Envoy: when the host cannot be reached, all waiting requests fail, without further attempts.
    fn eject(&self, error: Error) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waiter in waiting {
            self.stats().upstream_rq_pending_failure_eject.inc();
            waiter.failed.set(Some(error));
            waiter.wake();
        }
    }

    #[inline(always)]
    fn take_idle(&self, check: IdleCheck) -> Option<Connection> {
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
    fn may_connect(&self) -> Option<Permit> {
        let permit = self.breakers.acquire(self.key.priority, Resource::Connections);
        if permit.is_none() {
            self.stats().upstream_cx_overflow.inc();
        }
        let anyway = || self.breakers.acquire_anyway(self.key.priority, Resource::Connections);
        permit.or_else(|| (self.open.get() == 0).then(anyway))
    }

    async fn connect(self: &Rc<Self>, permit: Permit) -> Result<Connection, Error> {
        let started = self.now();
        let stats = self.stats();
        stats.upstream_cx_total.inc();
        if self.key.carries == Carries::Requests {
            stats.upstream_cx_http1_total.inc();
        }
        stats.upstream_cx_active.inc();
        self.host_stats().cx_total.inc();
        self.host_stats().cx_active.inc();
        if self.open.get() == 0 && self.key.carries == Carries::Requests {
            let breakers = &self.breakers;
            let permit = breakers.acquire_anyway(self.key.priority, Resource::ConnectionPools);
            self.in_use.replace(Some(permit));
        }
        self.open.set(self.open.get() + 1);
        let mut attempt = Attempt { pool: self, started, closed_by: ClosedBy::Us };
        match self.connected(started).await {
            Ok(socket) => {
                std::mem::forget(attempt); // from now on `Connection` does the counting
                let now = self.now();
                stats.upstream_cx_connect_ms.record(now.saturating_sub(started));
                self.host_stats().connected_ms.set(now);
                let id = self.shard.connection_id();
                Ok(Connection::new(id, socket, Rc::clone(self), permit, now))
            }
            Err(error) => {
                if let Error::RemoteConnectionFailure(_) | Error::TlsFailure(_) = error {
                    attempt.closed_by = ClosedBy::Host;
                }
                stats.upstream_cx_connect_fail.inc();
                self.count_connect_failure(error);
                stats.upstream_rq_pending_failure_eject.inc();
                if self.open.get() == 1 {
                    self.eject(error); // there is no other connection or attempt
                }
                Err(error)
            }
        }
    }

    fn count_connect_failure(&self, error: Error) {
        let host = self.host_stats();
        host.cx_connect_fail.inc();
        host.connect_errno.set(u64::from(error.connect_errno().unsigned_abs()));
        host.connect_failed_ms.set(self.now());
    }

    /// Waits until another request releases a connection, or a new one may be allowed.
    async fn wait(&self) -> WaitOutcome {
        let entry = QueueEntry { pool: self, waiter: Rc::default() };
        self.waiting.borrow_mut().push_back(Rc::clone(&entry.waiter));
        poll_fn(|cx| {
            let waiter = &entry.waiter;
            if let Some(connection) = waiter.connection.borrow_mut().take() {
                return Poll::Ready(WaitOutcome::Connection(connection));
            }
            if let Some(error) = waiter.failed.get() {
                return Poll::Ready(WaitOutcome::Failed(error));
            }
            if waiter.capacity.take() {
                return Poll::Ready(WaitOutcome::Capacity);
            }
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// An entry of the queue. Dropping it early passes on what it has received in the meantime.
struct QueueEntry<'a> {
    pool: &'a Pool,
    waiter: Rc<Waiter>,
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(connection) = self.waiter.connection.borrow_mut().take() {
            let pool = Rc::clone(connection.pool());
            let now = pool.now();
            pool.release(connection, now);
        } else if self.waiter.capacity.get() {
            self.pool.wake_next();
        }
    }
}

/// A connection attempt in progress. Dropped when it fails or is cancelled.
struct Attempt<'a> {
    pool: &'a Pool,
    started: Millis,
    closed_by: ClosedBy,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let stats = self.pool.stats();
        stats.upstream_cx_active.dec();
        stats.upstream_cx_destroy.inc();
        match self.closed_by {
            ClosedBy::Us => stats.upstream_cx_destroy_local.inc(),
            ClosedBy::Host => stats.upstream_cx_destroy_remote.inc(),
        }
        stats.upstream_cx_length_ms.record(self.pool.now().saturating_sub(self.started));
        self.pool.connection_ended();
    }
}

/// A request that has no connection yet.
struct Pending<'a> {
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
    fn enter(pool: &'a Pool) -> Result<Self, Error> {
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
    fn end(mut self) {
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

fn begin(mut connection: Connection) -> Connection {
    connection.begin_request();
    connection
}
