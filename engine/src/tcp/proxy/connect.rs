//! Connects to the upstream: attempts, back-off and early data.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::{Limit, Session};
use crate::address::Ends;
use crate::flags::Flag;
use crate::http::ResponseHead;
use crate::pipe::lane::Lane;
use crate::pipe::outlet::Framing;
use crate::shard::clock::Millis;
use crate::tcp::connection::Connection;
use crate::upstream::balance::LbContext;
use crate::upstream::circuit_breaker::{Permit, Resource, RoutingPriority};
use crate::upstream::destination::{self, Destination};
use crate::upstream::discovery::Discovery;
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::Origin;
use crate::upstream::outlier_detection;
use crate::upstream::pool::Pool;
use crate::upstream::transport_socket::Announced;

/// Why a connection ended early.
#[derive(Debug)]
pub(super) enum Failed {
    /// No upstream connection could be established.
    NoUpstream,
    /// A filter has refused it; it is closed after this delay.
    Denied(Option<Duration>),
    /// The client has disconnected, or a timeout has expired.
    Closed,
}

/// An open connection to a host, or a tunnel through one, counted as one request of it.
pub(super) struct Upstream {
    pub(super) origin: Origin,
    pub(super) kind: Kind,
    /// From the client.
    pub(super) up: Lane,
    /// To the client.
    pub(super) down: Lane,
    pub(super) _active: Active,
}

/// How the bytes of a client pass over an upstream connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// As they are.
    Tcp,
    /// As they are, after a CONNECT and its response.
    Connect,
    /// As the bodies of a POST and its response.
    Post,
}

/// Counts a request on a host until it is dropped.
pub(super) struct Active {
    pool: Rc<Pool>,
    _permit: Permit,
}

impl Active {
    /// As in Envoy a TCP connection counts as a request, but the limit of requests does not apply.
    fn regardless_of_limit(cluster: &LocalCluster, pool: &Rc<Pool>) -> Self {
        let breakers = cluster.breakers();
        let permit = breakers.acquire_anyway(RoutingPriority::Default, Resource::Requests);
        Self::begin(pool, permit)
    }

    /// A tunnel is a request; none: the circuit breaker allows no more.
    pub(super) fn within_limit(cluster: &LocalCluster, pool: &Rc<Pool>) -> Option<Self> {
        let permit = cluster.breakers().acquire(RoutingPriority::Default, Resource::Requests);
        if permit.is_none() {
            pool.stats().upstream_rq_active_overflow.inc();
        }
        Some(Self::begin(pool, permit?))
    }

    fn begin(pool: &Rc<Pool>, permit: Permit) -> Self {
        let (stats, host) = (pool.stats(), pool.host_stats());
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        host.rq_total.inc();
        host.rq_active.inc();
        Self { pool: Rc::clone(pool), _permit: permit }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_active.dec();
        self.pool.host_stats().rq_active.dec();
    }
}

/// How a wait ended.
enum Woken<T> {
    Done(T),
    Readable,
    Gone,
    Expired,
}

impl Session<'_> {
    /// Connects to a host of `cluster`, with up to `max_connect_attempts` attempts.
    pub(super) async fn connect(&mut self, cluster: &LocalCluster) -> Result<Upstream, Failed> {
        let proxy = self.proxy;
        let disabled = self.client.subject.state.disable_tunneling;
        let tunneling = proxy.tunneling.as_ref().filter(|_| !disabled);
        let stats = cluster.stats();
        let mut attempts = 0;
        loop {
            // Unlike a request, a TCP connection is not queued at the limit.
            let breakers = cluster.breakers();
            let Some(permit) = breakers.acquire(RoutingPriority::Default, Resource::Connections)
            else {
                stats.upstream_cx_overflow.inc();
                self.client.record.flags.set(Flag::UpstreamOverflow);
                return Err(Failed::NoUpstream);
            };
            if attempts >= proxy.max_connect_attempts {
                stats.upstream_cx_connect_attempts_exceeded.inc();
                self.client.record.flags.set(Flag::UpstreamRetryLimitExceeded);
                return Err(Failed::NoUpstream);
            }
            attempts += 1;
            let upstream = match tunneling {
                None => self.open_connection(cluster, permit).await?,
                Some(tunneling) => {
                    drop(permit); // its pool takes one, or has an idle connection
                    Box::pin(self.open_tunnel(cluster, tunneling)).await?
                }
            };
            if let Some(upstream) = upstream {
                return Ok(upstream);
            }
            let shard = self.client.subject.shard;
            if attempts < proxy.max_connect_attempts
                && let Some(backoff) = proxy.backoff
            {
                let random = shard.random.borrow_mut().u64(..);
                self.pause(backoff.delay(attempts, random)).await?;
            } else {
                // An attempt that fails at once has not waited for anything.
                shard.budget().charge_call(0);
                self.wait_for(poll_fn(|cx| shard.poll_proceed(cx))).await?;
            }
        }
    }

    /// Opens a connection to a host of `cluster`; `None` if the attempt fails.
    async fn open_connection(
        &mut self,
        cluster: &LocalCluster,
        permit: Permit,
    ) -> Result<Option<Upstream>, Failed> {
        let subject = &self.client.subject;
        let client = || Announced {
            ends: Ends { remote: subject.peer, local: subject.local },
            tlvs: subject.listener_facts.as_ref().map_or(&[], |facts| &facts.passed_tlvs),
        };
        let options = subject.state.options.as_ref();
        let destination = self.destination(cluster);
        let request = LbContext { destination: destination.as_ref(), ..LbContext::default() };
        let Some(pool) = cluster.pick_tcp(&request, options, client) else {
            return Err(self.no_healthy_host());
        };
        self.client.record.host(&pool);
        let connection = match self.wait_for(pool.open(permit)).await? {
            Ok(connection) => connection,
            Err(error) => {
                pool.note(match error {
                    Error::ConnectionTimeout => outlier_detection::Result::TimedOut,
                    _ => outlier_detection::Result::ConnectFailed,
                });
                return Ok(self.failed_attempt(error));
            }
        };
        pool.note(outlier_detection::Result::ConnectedFinal);
        let active = Active::regardless_of_limit(cluster, &pool);
        let buffers = self.client.subject.shard.buffers;
        let lane = || Lane::new(Framing::Identity, Vec::new(), buffers);
        let mut upstream = Upstream {
            origin: Origin::Http1(connection),
            kind: Kind::Tcp,
            up: lane(),
            down: lane(),
            _active: active,
        };
        upstream.origin.become_tunnel(&ResponseHead::default(), &mut upstream.down.outlet);
        Ok(Some(upstream))
    }

    /// The host that the connection is meant for, if its cluster goes by that.
    fn destination(&self, cluster: &LocalCluster) -> Option<Destination> {
        let subject = &self.client.subject;
        let facts = subject.listener_facts.as_deref();
        match &cluster.cluster().discovery {
            Discovery::OriginalDst(original) => {
                let naming = &original.naming;
                let named = facts.and_then(|facts| naming.in_metadata(&facts.metadata));
                let named = named.and_then(|text| destination::address(text.as_bytes()));
                let named = named.map(|address| naming.with_port(address));
                let address = named.or_else(|| naming.of_connection(subject.local, facts))?;
                Some(Destination::Address(address.into()))
            }
            _ => None,
        }
    }

    pub(super) fn no_healthy_host(&mut self) -> Failed {
        self.client.record.flags.set(Flag::NoHealthyUpstream);
        Failed::NoUpstream
    }

    /// Sets the response flag of a failed attempt; always `None`.
    pub(super) fn failed_attempt(&mut self, error: Error) -> Option<Upstream> {
        self.client.record.failed(error);
        if error.is_connect_failure() {
            self.client.record.flags.set(Flag::UpstreamConnectionFailure);
        }
        None
    }

    /// Waits for the first data of the client, or for the end of its stream.
    pub(super) async fn first_data(&mut self) -> Result<(), Failed> {
        let mut never = pin!(std::future::pending::<()>());
        self.start_idle_timer();
        while self.early.len() == 0 && self.early.has_room(self.proxy.early_data_max) {
            self.wait(never.as_mut()).await?;
        }
        self.idle_at = None;
        Ok(())
    }

    async fn pause(&mut self, delay: Millis) -> Result<(), Failed> {
        let shard = self.client.subject.shard;
        let alarm = shard.timers.alarm();
        let now = shard.clock.now();
        alarm.set(Some(now.saturating_add(delay)), now);
        self.wait_for(alarm.expired()).await
    }

    /// Waits for `what`. Meanwhile early data is received, and the timeouts apply.
    pub(super) async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Failed> {
        let mut what = pin!(what);
        loop {
            if let Some(done) = self.wait(what.as_mut()).await? {
                return Ok(done);
            }
        }
    }

    /// Waits for `what`, or until early data has been received: then the result is `None`.
    async fn wait<T>(
        &mut self,
        mut what: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Option<T>, Failed> {
        let Connection { transport, alarm, subject, expires, .. } = &*self.client;
        let most = self.proxy.early_data_max;
        let receives = self.early.has_room(most);
        let deadline = [self.idle_at, *expires].into_iter().flatten().min();
        let wake_at = [deadline, self.log_at].into_iter().flatten().min();
        alarm.set(wake_at, subject.shard.clock.now());
        let woken = poll_fn(|cx| {
            if let Poll::Ready(done) = what.as_mut().poll(cx) {
                return Poll::Ready(Woken::Done(done));
            }
            if receives && transport.poll_readable(cx).is_ready() {
                return subject.shard.poll_proceed(cx).map(|()| Woken::Readable);
            }
            if !receives && transport.poll_broken(cx).is_ready() {
                return Poll::Ready(Woken::Gone);
            }
            alarm.poll_expired(cx).map(|()| Woken::Expired)
        });
        match woken.await {
            Woken::Done(done) => return Ok(Some(done)),
            Woken::Gone => return Err(Failed::Closed),
            Woken::Expired if deadline.is_none_or(|at| at > subject.shard.clock.now()) => {
                self.log_if_due();
                return Ok(None);
            }
            Woken::Expired => {
                let is_idle = deadline.is_some() && deadline == self.idle_at;
                return Err(self.time_out(if is_idle { Limit::Idle } else { Limit::Age }));
            }
            Woken::Readable => {}
        }
        let is_first = self.early.len() == 0;
        let bytes = self.early.receive(transport, most, subject.shard.buffers);
        let bytes = bytes.map_err(|_| Failed::Closed)?;
        if bytes > 0 {
            if is_first {
                self.stats.early_data_received_count_total.inc();
            }
            self.accept(bytes)?;
        }
        Ok(None)
    }
}
