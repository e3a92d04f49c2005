//! The connections of one shard to one host, for requests of one priority: idle, busy and
//! connecting, and who waits for one.
//!
//! It does not choose the host (`balance/`), nor decide whether to try again (`request/`).
//! Idle connections are used last in, first out, so that those of a past peak can age and go.
//!
//! Invariant: `open` counts every connection and every attempt; somebody waits in the queue only
//! while no connection may be opened.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::circuit_breaker::{Permit, Resource, RoutingPriority, ShardCircuitBreakers};
use super::cluster::Cluster;
use super::connection::{ClosedBy, Connection};
use super::error::Error;
use super::host::Host;
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::shard::socket::{Peeked, Socket};
use crate::stats::{ClusterStats, HostStats, Scope, ZoneStats};

/// Connections to one host on one shard.
#[derive(Debug)]
pub struct Pool {
    shard: &'static Shard,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    zone: Option<Arc<Scope<ZoneStats>>>,
    breakers: Rc<ShardCircuitBreakers>,
    priority: RoutingPriority,
    /// How long a connection may be idle.
    idle_ms_max: Millis,
    /// How old a connection may become.
    age_ms_max: Millis,
    idle: RefCell<Vec<Parked>>,
    open: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    life: Cell<Life>,
}

/// A host that left its cluster keeps its pool until the last request on it has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    InUse,
    Retired,
}

#[derive(Debug)]
struct Parked {
    connection: Connection,
    since: Millis,
    /// [`Socket::polls`] when it was parked.
    polls: u64,
}

/// How an idle connection is looked at before it carries a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// It may turn out to be closed: the request can be sent once more.
    AsTold,
    /// Its receive queue is looked into.
    Again,
}

/// Somebody who waits for a connection of others.
#[derive(Debug, Default)]
struct Waiter {
    given: RefCell<Option<Connection>>,
    /// A connection has ended: there may be room for a new one.
    room: Cell<bool>,
    /// There will be no connection.
    failed: Cell<Option<Error>>,
    waker: RefCell<Option<Waker>>,
}

/// What the wait for a connection of others brought.
#[derive(Debug)]
enum Turn {
    Given(Connection),
    Room,
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
        priority: RoutingPriority,
    ) -> Rc<Self> {
        let most = |limit: Option<Duration>| limit.map_or(Millis::MAX, millis);
        Rc::new(Self {
            shard,
            zone: cluster.zones.get(host.endpoint.zone()).map(Arc::clone),
            idle_ms_max: most(cluster.http.idle_timeout),
            age_ms_max: most(cluster.http.max_connection_duration),
            cluster,
            host,
            breakers,
            priority,
            idle: RefCell::default(),
            open: Cell::new(0),
            waiting: RefCell::default(),
            life: Cell::new(Life::InUse),
        })
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The cluster of its host.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// This shard's counters of the host's zone, if they are kept.
    #[must_use]
    pub fn zone_stats(&self) -> Option<&ZoneStats> {
        self.zone.as_ref().map(|zone| zone.shard(self.shard.id))
    }

    /// This shard's counters of the cluster.
    #[must_use]
    pub fn stats(&self) -> &ClusterStats {
        self.cluster.stats.shard(self.shard.id)
    }

    /// This shard's counters of the host.
    #[must_use]
    pub fn host_stats(&self) -> &HostStats {
        self.host.stats.shard(self.shard.id)
    }

    pub(super) fn now(&self) -> Millis {
        self.shard.clock.now()
    }

    /// Counts bytes to the host.
    pub fn count_sent(&self, bytes: usize) {
        self.stats().upstream_cx_tx_bytes_total.add(bytes as u64);
    }

    /// Counts bytes from the host.
    pub fn count_received(&self, bytes: usize) {
        self.stats().upstream_cx_rx_bytes_total.add(bytes as u64);
    }

    /// An idle connection, if there is one.
    #[must_use]
    pub fn lease_idle(&self, look: Look) -> Option<Connection> {
        self.take_idle(look).map(begin)
    }

    /// A new connection, or one that somebody else returns. To be asked after
    /// [`Self::lease_idle`]. Dropping the future gives the place in the queue back.
    ///
    /// # Errors
    /// Refused by a circuit breaker, or the attempt to connect failed.
    pub async fn lease(self: &Rc<Self>) -> Result<Connection, Error> {
        let pending = Pending::enter(self)?;
        let connection = loop {
            if let Some(permit) = self.may_connect() {
                break self.connect(permit).await;
            }
            match self.wait().await {
                Turn::Given(connection) => break Ok(connection),
                Turn::Failed(error) => break Err(error),
                Turn::Room => {}
            }
        };
        pending.end();
        connection.map(begin)
    }

    /// Takes a connection back after a complete exchange, for whoever comes next.
    pub fn give_back(self: &Rc<Self>, mut connection: Connection, now: Millis) {
        connection.end_request();
        let most = self.cluster.http.max_requests_per_connection;
        if most.is_some_and(|most| connection.requests() >= u64::from(most)) {
            return connection.close(ClosedBy::Us);
        }
        if now.saturating_sub(connection.opened()) >= self.age_ms_max {
            self.stats().upstream_cx_max_duration_reached.inc();
            return connection.close(ClosedBy::Us);
        }
        if self.life.get() == Life::Retired {
            return connection.close(ClosedBy::Us);
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(waiter) = waiting.pop_front() {
            if !waiting.is_empty() {
                // Envoy: it looks again whether those who still wait could get another one.
                self.stats().upstream_cx_overflow.inc();
            }
            *waiter.given.borrow_mut() = Some(connection);
            return waiter.wake();
        }
        drop(waiting);
        let polls = connection.socket().polls();
        let parked = Parked { connection, since: now, polls };
        self.shard.schedule_sweep(self.expires(&parked), now);
        self.idle.borrow_mut().push(parked);
    }

    /// The host has left the cluster: nothing new begins here.
    pub fn retire(&self) {
        self.life.set(Life::Retired);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
    }

    /// Closes idle connections that the host has left, that have been idle for too long, or that are
    /// too old. Tells when the next one will be, while there are any connections.
    pub fn sweep(&self, now: Millis) -> Option<Millis> {
        let ended_by = |parked: &Parked| {
            let socket = parked.connection.socket();
            if socket.is_quiet() { None } else { self.ended_by(socket) }
        };
        let mut idle = self.idle.borrow_mut();
        let mut ended = Vec::new();
        let mut index = 0;
        let mut next = Millis::MAX;
        while let Some(parked) = idle.get(index) {
            match ended_by(parked).or_else(|| self.expired(parked, now)) {
                // Order is age: the oldest stay in front.
                Some(by) => ended.push((idle.remove(index), by)),
                None => {
                    next = next.min(self.expires(parked));
                    index += 1;
                }
            }
        }
        drop(idle); // closing wakes waiters, who look at the pool
        for (parked, by) in ended {
            parked.connection.close(by);
        }
        (self.open.get() > 0).then_some(next)
    }

    /// When an idle connection has been idle, or is there, for long enough.
    fn expires(&self, parked: &Parked) -> Millis {
        let idle = parked.since.saturating_add(self.idle_ms_max);
        idle.min(parked.connection.opened().saturating_add(self.age_ms_max))
    }

    /// Counts an idle connection that has expired; it is ours to close.
    fn expired(&self, parked: &Parked, now: Millis) -> Option<ClosedBy> {
        if self.expires(parked) > now {
            return None;
        }
        if now.saturating_sub(parked.since) >= self.idle_ms_max {
            self.stats().upstream_cx_idle_timeout.inc();
        } else {
            self.stats().upstream_cx_max_duration_reached.inc();
        }
        Some(ClosedBy::Us)
    }

    /// A connection or an attempt has ended.
    pub(super) fn forget(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.host_stats().cx_active.dec();
        self.wake_next();
    }

    /// Tells the first in the queue that there may be room for a connection.
    fn wake_next(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        if let Some(waiter) = first {
            waiter.room.set(true);
            waiter.wake();
        }
    }

    /// `upstream_connection_options.tcp_keepalive`
    fn probe(&self, socket: &Socket) {
        let Some(probes) = self.cluster.tcp_keepalive else { return };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let mut keepalive = TcpKeepalive::new();
        if let Some(time) = probes.time_seconds {
            keepalive = keepalive.with_time(seconds(time));
        }
        if let Some(interval) = probes.interval_seconds {
            keepalive = keepalive.with_interval(seconds(interval));
        }
        if let Some(count) = probes.probes {
            keepalive = keepalive.with_retries(count);
        }
        if let Err(error) = SockRef::from(socket).set_tcp_keepalive(&keepalive) {
            tracing::debug!(target: "pool", "{}: no keep-alive: {error}", self.host.address);
        }
    }

    /// Envoy: when the host cannot be reached, those who wait are not made to try it one by one.
    fn eject(&self, error: Error) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waiter in waiting {
            self.stats().upstream_rq_pending_failure_eject.inc();
            waiter.failed.set(Some(error));
            waiter.wake();
        }
    }

    fn take_idle(&self, look: Look) -> Option<Connection> {
        loop {
            let parked = self.idle.borrow_mut().pop()?;
            if let Some(by) = self.expired(&parked, self.now()) {
                parked.connection.close(by);
                continue;
            }
            // However short it was idle: bytes behind the last answer would be the next one's.
            let socket = parked.connection.socket();
            if look == Look::AsTold && socket.seems_silent(parked.polls) {
                return Some(parked.connection);
            }
            match self.ended_by(socket) {
                None => return Some(parked.connection),
                Some(by) => parked.connection.close(by),
            }
        }
    }

    /// Who has ended an idle connection: its host, or we, for it has said what nobody asked for.
    fn ended_by(&self, socket: &Socket) -> Option<ClosedBy> {
        match socket.peek() {
            Peeked::Bytes => {
                self.stats().upstream_cx_protocol_error.inc();
                Some(ClosedBy::Us)
            }
            Peeked::Gone => Some(ClosedBy::Host),
            Peeked::Silent => None,
        }
    }

    /// Envoy: every pool may have one connection, whatever the limit says.
    fn may_connect(&self) -> Option<Permit> {
        let permit = self.breakers.acquire(self.priority, Resource::Connections);
        if permit.is_none() {
            self.stats().upstream_cx_overflow.inc();
        }
        let anyway = || self.breakers.acquire_anyway(self.priority, Resource::Connections);
        permit.or_else(|| (self.open.get() == 0).then(anyway))
    }

    async fn connect(self: &Rc<Self>, permit: Permit) -> Result<Connection, Error> {
        let started = self.now();
        let stats = self.stats();
        stats.upstream_cx_total.inc();
        stats.upstream_cx_http1_total.inc();
        stats.upstream_cx_active.inc();
        self.host_stats().cx_total.inc();
        self.host_stats().cx_active.inc();
        self.open.set(self.open.get() + 1);
        let mut attempt = Attempt { pool: self, started, closed_by: ClosedBy::Us };
        match self.connected(started).await {
            Ok(socket) => {
                std::mem::forget(attempt); // from here on the connection counts for itself
                let now = self.now();
                stats.upstream_cx_connect_ms.record(now.saturating_sub(started));
                self.host_stats().connected_ms.set(now);
                let id = self.shard.connection_id();
                Ok(Connection::new(id, socket, Rc::clone(self), permit, now))
            }
            Err(error) => {
                if let Error::RemoteConnectionFailure(_) = error {
                    attempt.closed_by = ClosedBy::Host;
                }
                stats.upstream_cx_connect_fail.inc();
                self.count_connect_failure(error);
                stats.upstream_rq_pending_failure_eject.inc();
                if self.open.get() == 1 {
                    self.eject(error); // this attempt was all there was
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

    async fn connected(&self, started: Millis) -> Result<Socket, Error> {
        let refused = |error: std::io::Error| {
            Error::RemoteConnectionFailure(error.raw_os_error().unwrap_or(0))
        };
        let socket = Socket::connect(self.host.address).map_err(|error| {
            if is_local(&error) { Error::LocalConnectionFailure } else { refused(error) }
        })?;
        self.probe(&socket);
        let alarm = self.shard.timers.alarm();
        let timeout = millis(self.cluster.connect_timeout);
        alarm.set(Some(started.saturating_add(timeout)), started);
        let writable = poll_fn(|cx| {
            if socket.poll_writable(cx).is_ready() {
                return Poll::Ready(true);
            }
            alarm.poll_expired(cx).map(|()| false)
        });
        if writable.await {
            socket.connect_result().map_err(refused)?;
            Ok(socket)
        } else {
            self.stats().upstream_cx_connect_timeout.inc();
            Err(Error::ConnectionTimeout)
        }
    }

    /// Waits for a connection of somebody else, or for room for a new one.
    async fn wait(&self) -> Turn {
        let place = Place { pool: self, waiter: Rc::default() };
        self.waiting.borrow_mut().push_back(Rc::clone(&place.waiter));
        poll_fn(|cx| {
            let waiter = &place.waiter;
            if let Some(connection) = waiter.given.borrow_mut().take() {
                return Poll::Ready(Turn::Given(connection));
            }
            if let Some(error) = waiter.failed.get() {
                return Poll::Ready(Turn::Failed(error));
            }
            if waiter.room.take() {
                return Poll::Ready(Turn::Room);
            }
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// A place in the queue; leaving it early passes on what was given in the meantime.
struct Place<'a> {
    pool: &'a Pool,
    waiter: Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(connection) = self.waiter.given.borrow_mut().take() {
            let pool = Rc::clone(connection.pool());
            let now = pool.now();
            pool.give_back(connection, now);
        } else if self.waiter.room.get() {
            self.pool.wake_next();
        }
    }
}

/// A connection attempt that has not succeeded (yet).
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
        self.pool.forget();
    }
}

/// A request that has no connection yet.
struct Pending<'a> {
    pool: &'a Pool,
    _permit: Permit,
    wait: Wait,
}

/// Whether a request still waits when it stops to be pending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    Waits,
    Ended,
}

impl<'a> Pending<'a> {
    fn enter(pool: &'a Pool) -> Result<Self, Error> {
        let Some(permit) = pool.breakers.acquire(pool.priority, Resource::PendingRequests) else {
            pool.stats().upstream_rq_pending_overflow.inc();
            return Err(Error::Overflow);
        };
        pool.stats().upstream_rq_pending_total.inc();
        pool.stats().upstream_rq_pending_active.inc();
        pool.host_stats().rq_pending_active.inc();
        Ok(Self { pool, _permit: permit, wait: Wait::Waits })
    }

    /// There is a connection, or there will be none.
    fn end(mut self) {
        self.wait = Wait::Ended;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_pending_active.dec();
        self.pool.host_stats().rq_pending_active.dec();
        if self.wait == Wait::Waits {
            self.pool.stats().upstream_rq_cancelled.inc();
        }
    }
}

fn begin(mut connection: Connection) -> Connection {
    connection.begin_request();
    connection
}

/// The failure is this machine's: no port, no memory, no descriptor.
fn is_local(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EAFNOSUPPORT
        )
    )
}
