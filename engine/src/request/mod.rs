//! One exchange: everything that is decided about a request, from its head to the last byte of its
//! response.
//!
//! The order: header rules → route → filters → forward, direct response or redirect → response.
//! It does not read heads from clients (`downstream/`) or keep connections to upstream hosts
//! (`upstream/`).
//!
//! Invariant: an exchange ends with exactly one response begun towards the client, or with the
//! connection closed.

mod attempt;
pub mod body;
mod charge;
mod deadlines;
mod download;
mod edit;
mod envoy_headers;
mod forward;
mod half_close;
pub mod headers;
pub mod log_filter;
pub mod manager;
mod replay;
pub mod reply;
pub mod reply_rewrite;
mod response;
pub mod retry;
pub mod route;
pub mod service;
mod stream;
mod tunnel;
mod upload;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use self::attempt::Interrupted;
use self::deadlines::{Deadlines, Timer};
use self::envoy_headers::TimeoutReply;
use self::manager::normalize::Facts;
use self::reply::LocalReply;
use self::route::{Action, Lookup, Route, Timeouts, VirtualHost};
use self::service::LocalService;
use self::stream::Upstream;
use self::upload::Upload;
use crate::downstream::connection::{After, Client, HeadLimit};
use crate::flags::Flags;
use crate::http::BodyLength;
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::heads::Heads;
use crate::http1::{self, encode, framing};
use crate::shard::clock::{Millis, millis};
use crate::shard::quota::Permit;
use crate::stats::RouterStats;
use crate::upstream::clusters::ClusterList;

/// The state of one request and its response.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    client: &'a mut Client,
    heads: &'a mut Heads,
    service: Rc<LocalService>,
    clusters: Rc<ClusterList>,
    deadlines: Deadlines,
    timeouts: Timeouts,
    timeout_reply: TimeoutReply,
    /// How the upstream codec writes header names.
    upstream_key_format: HeaderKeyFormat,
    stream_idle: Option<Duration>,
    per_try_idle: Option<Duration>,
    /// When the request head was complete.
    began: Millis,
    /// When the client had sent the whole request.
    received: Option<Millis>,
    /// How the request body ends.
    body: BodyLength,
    /// Whether the connection is kept after the response.
    persistence: Persistence,
    /// What the connection manager found out about the request; unset until it has checked it.
    facts: Option<Facts>,
    /// Whether an interim response has arrived.
    interim: Interim,
    /// One random number for all decisions about this request.
    random: u64,
    /// Whether the request asks for an upgrade.
    upgrade: Upgrade,
    /// The response flags so far; a local reply adds its own.
    flags: Flags,
    /// The wall clock time at which it began, set when it is first needed.
    started: Cell<Option<SystemTime>>,
    /// The upstream side: cluster, host, connection, attempts.
    upstream: Upstream,
    /// Its slot among the exchanges whose client has half-closed.
    half_closed: Option<Permit>,
}

/// Whether a host has sent an interim response. As in Envoy, it counts as the beginning of the
/// response, even if the client does not get it: there is no further attempt, no `per_try_timeout`
/// for this one, and if it fails no response is charged to the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Interim {
    None,
    Received,
}

/// Whether a request asks for an upgrade. If so, the connection serves no further request, whatever
/// the response: what the client has sent after it may not be HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Upgrade {
    /// No.
    None,
    /// Yes; not decided yet.
    Requested,
    /// Yes, and it is allowed and counted.
    Allowed,
}

/// Whether the client's connection is kept after the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Persistence {
    KeepAlive,
    Close,
}

/// The result of handling a request.
#[derive(Debug)]
enum Outcome {
    /// The response was sent, or cannot be sent.
    Done(After),
    /// A local reply is to be sent. Boxed, because it is much larger than the other variant.
    Reply(Box<LocalReply>),
}

impl Outcome {
    fn reply(reply: LocalReply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// Serves the request whose head is in `heads`.
pub(crate) async fn serve(client: &mut Client, heads: &mut Heads) -> After {
    client.begin_exchange();
    let body = match framing::request(&heads.request) {
        Ok(body) => body,
        Err(error) => {
            client.set_head_alarm();
            let after = refuse(client, error).await;
            client.end_exchange();
            return after;
        }
    };
    let mut exchange = Exchange::begin(client, heads, body);
    if exchange.received.is_none() {
        exchange.set_request_deadline();
    }
    let outcome = exchange.run().await;
    let after = match outcome {
        Outcome::Done(after) => after,
        Outcome::Reply(reply) => exchange.reply(*reply, None).await,
    };
    exchange.end_upgrade();
    client.end_exchange();
    after
}

/// Rejects a request whose head is invalid.
pub(crate) async fn refuse(client: &mut Client, error: http1::Error) -> After {
    client.stats().downstream_cx_protocol_error.inc();
    response::count_early(client.stats());
    response::send_and_close(client, LocalReply::protocol_error(error)).await
}

/// Answers a client that did not send the head in time.
pub(crate) async fn time_out_head(client: &mut Client, limit: HeadLimit) -> After {
    response::count_early(client.stats());
    let reply = match limit {
        HeadLimit::Head => LocalReply::request_header_timeout(),
        HeadLimit::Request => LocalReply::request_timeout(),
        HeadLimit::Idle => LocalReply::stream_idle(false),
        HeadLimit::Duration => LocalReply::max_duration(false),
    };
    response::send_and_close(client, reply).await
}

impl<'a> Exchange<'a> {
    fn begin(client: &'a mut Client, heads: &'a mut Heads, body: BodyLength) -> Self {
        let shard = client.shard;
        let began = shard.clock.now();
        let received = matches!(body, BodyLength::None | BodyLength::Length(0)).then_some(began);
        let keep_alive = heads.request.keep_alive();
        let random = shard.random.borrow_mut().u64(..);
        let service = Rc::clone(client.service());
        let limits = &service.manager.timeouts;
        let mut deadlines = Deadlines::default();
        // The limit counts from the first byte of the head.
        let after = |limit| client.head_began().saturating_add(millis(limit));
        deadlines.set(Timer::StreamDuration, limits.max_stream_duration.map(after));
        Self {
            stream_idle: limits.stream_idle,
            per_try_idle: None,
            clusters: service.clusters.current(),
            service,
            deadlines,
            timeouts: Timeouts { global: None, per_try: None },
            timeout_reply: TimeoutReply::GatewayTimeout,
            upstream_key_format: HeaderKeyFormat::LowerCase,
            began,
            received,
            body,
            persistence: if keep_alive { Persistence::KeepAlive } else { Persistence::Close },
            facts: None,
            interim: Interim::None,
            random,
            upgrade: Upgrade::None,
            flags: Flags::NONE,
            started: Cell::new(None),
            upstream: Upstream::default(),
            half_closed: None,
            client,
            heads,
        }
    }

    /// Handles the request.
    async fn run(&mut self) -> Outcome {
        if let Some(outcome) = self.normalize() {
            return outcome;
        }
        if self.facts.is_some_and(|facts| facts.expects_continue) {
            //= rfc9110#section-10.1.1: the client waits for this before it sends the body.
            self.arm();
            if self.client.send_all(encode::CONTINUE).await.is_err() {
                return Outcome::Done(After::Close);
            }
            response::count(self.client, 100);
        }
        let service = Rc::clone(&self.service);
        let router = service.router.shard(self.client.shard.id);
        match service.routes.find(&self.heads.request, self.random) {
            Lookup::NotFound => {
                router.rq_total.inc();
                router.no_route.inc();
                Outcome::reply(LocalReply::no_route())
            }
            Lookup::TlsRequired => {
                router.rq_total.inc();
                // Envoy: a redirect is a direct response.
                router.rq_direct_response.inc();
                Outcome::reply(self.redirect_to_tls())
            }
            Lookup::Found { virtual_host, route } => {
                let outcome = match self.begin_upgrade(&route.action) {
                    Ok(()) => {
                        router.rq_total.inc();
                        self.run_action(router, virtual_host, route).await
                    }
                    Err(refused) => Outcome::reply(refused),
                };
                match outcome {
                    Outcome::Reply(reply) => Outcome::Done(self.reply(*reply, Some(route)).await),
                    done @ Outcome::Done(_) => done,
                }
            }
        }
    }

    async fn run_action(
        &mut self,
        router: &RouterStats,
        virtual_host: &VirtualHost,
        route: &Route,
    ) -> Outcome {
        match &route.action {
            Action::Forward(plan) => forward::forward(self, virtual_host, route, plan).await,
            Action::ClusterNotFound { status } => {
                router.no_cluster.inc();
                Outcome::reply(LocalReply::cluster_not_found(*status))
            }
            Action::DirectResponse(direct) => {
                router.rq_direct_response.inc();
                Outcome::reply(self.direct(direct))
            }
            Action::Redirect(redirect) => {
                router.rq_direct_response.inc();
                Outcome::reply(self.redirect(route, redirect))
            }
        }
    }

    // === time ===

    /// Sets the connection's alarm to the nearest deadline.
    fn set_alarm(&self, now: Millis) {
        self.client.alarm.set(self.deadlines.nearest(), now);
    }

    /// Sets the alarm for a response that is sent from here: it too must time out if the client
    /// does not read.
    fn arm(&mut self) {
        if self.deadlines.get(Timer::StreamIdle).is_none() {
            self.reset_idle_timer();
        }
        self.set_alarm(self.client.shard.clock.now());
    }

    /// Restarts the idle timer after progress. A half-closed client gets a new grace period.
    fn reset_idle_timer(&mut self) {
        let now = self.client.shard.clock.now();
        let at = self.stream_idle.map(|idle| now.saturating_add(millis(idle)));
        self.deadlines.set(Timer::StreamIdle, at);
        self.deadlines.set(Timer::HalfClosed, None);
    }

    /// Sets the deadline for receiving the whole request, counted from the first byte of its head.
    /// A request for an upgrade never ends.
    fn set_request_deadline(&mut self) {
        let limit = self.service.manager.timeouts.request;
        let at = limit.map(|limit| self.client.head_began().saturating_add(millis(limit)));
        self.deadlines.set(Timer::Request, at);
    }

    /// Starts the timers that begin with the end of the request, once it has been received.
    fn start_timers(&mut self, upload: &Upload) {
        if !upload.has_ended() || self.deadlines.get(Timer::Route).is_some() {
            return;
        }
        let received = *self.received.get_or_insert_with(|| self.client.shard.clock.now());
        if self.is_complete() {
            self.deadlines.set(Timer::Request, None);
        }
        let after = |limit| received.saturating_add(millis(limit));
        self.deadlines.set(Timer::Route, self.timeouts.global.map(after));
    }

    /// Starts the timers of an attempt that has its connection, once the whole request has been
    /// received.
    fn start_try_timers(&mut self, upload: &Upload) {
        if upload.has_ended() && self.interim == Interim::None {
            self.start_try_timer(Timer::PerTry, self.timeouts.per_try);
        }
        self.start_try_idle_timer(upload);
    }

    /// Starts the per-try idle timer, which the beginning of a response does not stop.
    #[inline]
    fn start_try_idle_timer(&mut self, upload: &Upload) {
        if self.per_try_idle.is_some() && upload.has_ended() {
            self.start_try_timer(Timer::PerTryIdle, self.per_try_idle);
        }
    }

    fn start_try_timer(&mut self, timer: Timer, limit: Option<Duration>) {
        if let Some(limit) = limit
            && self.deadlines.get(timer).is_none()
        {
            let now = self.client.shard.clock.now();
            self.deadlines.set(timer, Some(now.saturating_add(millis(limit))));
        }
    }

    /// Restarts the idle timer of the attempt, if it runs, after progress on the upstream
    /// connection.
    fn reset_try_idle_timer(&mut self) {
        if self.deadlines.get(Timer::PerTryIdle).is_some() {
            self.deadlines.set(Timer::PerTryIdle, None);
            self.start_try_timer(Timer::PerTryIdle, self.per_try_idle);
        }
    }

    /// Stops the timers of the attempt.
    fn stop_try_timers(&mut self) {
        self.deadlines.set(Timer::PerTry, None);
        self.deadlines.set(Timer::PerTryIdle, None);
    }

    /// Fails if a timer has expired.
    fn check_deadlines(&mut self) -> Result<(), Interrupted> {
        match self.deadlines.expired(self.client.shard.clock.now()) {
            None => Ok(()),
            Some(Timer::HalfClosed) => Err(self.client_gone()),
            Some(timer) => Err(Interrupted::Deadline(timer)),
        }
    }

    /// The reply when a timer of the connection manager has expired.
    fn timed_out(&self, timer: Timer) -> LocalReply {
        self.count_timeout(timer);
        let complete = self.is_complete();
        match timer {
            Timer::Request => LocalReply::request_timeout(),
            Timer::StreamDuration => LocalReply::max_duration(complete),
            _ => LocalReply::stream_idle(complete),
        }
    }

    fn count_timeout(&self, timer: Timer) {
        let stats = self.client.stats();
        match timer {
            Timer::Request => stats.downstream_rq_timeout.inc(),
            Timer::StreamDuration => stats.downstream_rq_max_duration_reached.inc(),
            Timer::StreamIdle => stats.downstream_rq_idle_timeout.inc(),
            Timer::Backoff
            | Timer::HalfClosed
            | Timer::PerTry
            | Timer::PerTryIdle
            | Timer::Route => {}
        }
    }
}
