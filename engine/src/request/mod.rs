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
pub mod callout;
mod charge;
mod deadlines;
mod download;
mod edit;
pub mod end;
mod envoy_headers;
pub mod filters;
mod forward;
mod forward_name;
pub mod given;
mod groups;
mod half_close;
pub mod headers;
mod internal_redirect;
mod log;
mod lookup;
pub mod manager;
pub mod mirror;
mod no_response;
mod noted;
mod override_host;
mod query;
mod rate_limit;
mod replay;
pub mod reply;
pub mod reply_rewrite;
mod request_head;
mod response;
pub mod retry;
pub mod route;
pub mod routes;
mod select_host;
pub mod service;
mod stream;
mod tunnel;
mod upload;
mod upstream_log;
pub mod wait;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use self::attempt::Interrupted;
use self::deadlines::{Deadlines, Timer};
use self::end::{ClientEnd, Ended};
use self::envoy_headers::TimeoutReply;
use self::filters::RouteCache;
use self::given::Given;
use self::groups::Groups;
use self::internal_redirect::Redirected;
use self::log::Record;
use self::manager::normalize::Facts;
use self::noted::Noted;
use self::reply::{HeadLimit, LocalReply};
use self::route::{Action, Forward, Lookup, Route, Timeouts, VirtualHost};
use self::service::LocalService;
use self::stream::Upstream;
use self::upload::Upload;
use self::upstream_log::UpstreamEntry;
use self::wait::{Interest, Ready, send_all, wait};
use crate::access_log::entry_type::EntryType;
use crate::flags::Flags;
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, Reject};
use crate::pipe::heads::Heads;
use crate::pipe::outlet::{Framing, Outlet};
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::shard::quota::Permit;
use crate::stats::{HttpStats, RouterStats};
use crate::upstream::clusters::ClusterList;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::Origin;

/// One request and its response, between the client's side and the origin's.
#[derive(Debug)]
pub(crate) struct Exchange<'a, C> {
    client: C,
    core: Core<'a>,
}

/// What an exchange knows and decides, whoever its client is.
#[derive(Debug)]
struct Core<'a> {
    given: &'a Given,
    shard: &'static Shard,
    heads: &'a mut Heads,
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
    /// What it notes for the access logs.
    record: Record<'a>,
    /// What it notes for the entry of the current attempt.
    upstream_entry: Option<Box<UpstreamEntry>>,
    /// What its filters note.
    noted: Option<Rc<Noted>>,
    /// The groups of requests that it is counted in.
    groups: Groups<'a>,
    /// The cluster, if the route does not name it: that of its `cluster_header`, or of a mirror.
    named_cluster: Option<Rc<LocalCluster>>,
    /// The cookies that the client gets with the response of a host.
    set_cookies: Vec<String>,
    /// Its slot among the exchanges whose client has half-closed.
    half_closed: Option<Permit>,
    /// The route that counts since a filter has cleared the first one.
    rerouted: Option<Lookup<'a>>,
    /// What it takes along after internal redirects.
    redirected: Option<Box<Redirected>>,
    /// The HTTP filters, if there are any besides the router.
    filters: Option<Box<filters::Active>>,
    /// How many bytes of the request's body filters have been given.
    filtered_bytes: u64,
    /// What a filter has replaced the response with, before that is sent.
    replacement: Option<Box<LocalReply>>,
    /// The trailers of the origin as field lines, if filters have seen them.
    origin_trailers: Option<Vec<u8>>,
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

/// The result of handling a request.
#[derive(Debug)]
enum Outcome {
    /// The response was sent, or cannot be sent.
    Done(Ended),
    /// The request goes elsewhere: its head is that of the new one.
    Redirected,
    /// A local reply is to be sent. Boxed, because it is much larger than the other variant.
    Reply(Box<LocalReply>),
}

impl Outcome {
    fn reply(reply: LocalReply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// Serves the request whose head is in `heads` and whose body has this length. `client` makes the
/// client's side: the end itself would be moved here, and kept in the future twice.
pub(crate) async fn serve<C: ClientEnd>(
    client: impl FnOnce() -> C,
    given: &Given,
    heads: &mut Heads,
    body: BodyLength,
) -> C::After {
    let mut exchange = Exchange { client: client(), core: Core::begin(given, heads, body) };
    if exchange.core.received.is_none() {
        exchange.core.set_request_deadline();
    }
    exchange.core.set_log_timer();
    let mut outcome = exchange.run().await;
    let ended = loop {
        match outcome {
            Outcome::Done(ended) => break ended,
            Outcome::Reply(reply) => break exchange.reply(reply, None).await,
            Outcome::Redirected => {
                exchange.begin_again();
                // Boxed, so that the future of every other request stays small.
                outcome = Box::pin(exchange.run_from_route()).await;
            }
        }
    };
    exchange.core.end_upgrade();
    if !exchange.core.service().access_logs.is_empty() {
        let was_reset = exchange.client.was_reset();
        exchange.core.log(ended, was_reset);
    }
    exchange.core.end_filters();
    exchange.client.finish(ended)
}

/// Rejects a request whose head is invalid.
pub(crate) async fn refuse<C: ClientEnd>(client: &mut C, given: &Given, reject: Reject) -> Ended {
    given.stats().downstream_cx_protocol_error.inc();
    response::count_early(given.stats());
    response::send_and_close(client, given, Box::new(LocalReply::protocol_error(reject))).await
}

/// Answers a client that did not send the head in time.
pub(crate) async fn time_out_head<C: ClientEnd>(
    client: &mut C,
    given: &Given,
    limit: HeadLimit,
) -> Ended {
    response::count_early(given.stats());
    let reply = match limit {
        HeadLimit::Head => LocalReply::request_header_timeout(),
        HeadLimit::Request => LocalReply::request_timeout(),
        HeadLimit::Idle => LocalReply::stream_idle(false),
        HeadLimit::Duration => LocalReply::max_duration(false),
    };
    response::send_and_close(client, given, Box::new(reply)).await
}

impl<'a> Core<'a> {
    #[inline]
    fn begin(given: &'a Given, heads: &'a mut Heads, body: BodyLength) -> Self {
        let shard = given.shard;
        let began = shard.clock.now();
        let received = matches!(body, BodyLength::None | BodyLength::Length(0)).then_some(began);
        let random = shard.random.borrow_mut().u64(..);
        let limits = &given.service.manager.timeouts;
        let mut deadlines = Deadlines::default();
        // The limit counts from the first byte of the head.
        let after = |limit| heads.began.saturating_add(millis(limit));
        deadlines.set(Timer::StreamDuration, limits.max_stream_duration.map(after));
        Self {
            given,
            shard,
            heads,
            clusters: given.service.clusters.current(),
            deadlines,
            timeouts: Timeouts { global: None, per_try: None },
            timeout_reply: TimeoutReply::GatewayTimeout,
            upstream_key_format: HeaderKeyFormat::LowerCase,
            stream_idle: limits.stream_idle,
            per_try_idle: None,
            began,
            received,
            body,
            facts: None,
            interim: Interim::None,
            random,
            upgrade: Upgrade::None,
            flags: Flags::NONE,
            started: Cell::new(None),
            upstream: Upstream::default(),
            record: Record::default(),
            upstream_entry: None,
            noted: None,
            groups: Groups::default(),
            named_cluster: None,
            set_cookies: Vec::new(),
            half_closed: None,
            rerouted: None,
            redirected: None,
            filters: None,
            filtered_bytes: 0,
            replacement: None,
            origin_trailers: None,
        }
    }

    /// What the connection serves its requests with.
    #[inline]
    fn service(&self) -> &'a LocalService {
        &self.given.service
    }

    #[inline]
    fn stats(&self) -> &'a HttpStats {
        self.given.stats()
    }
}

impl<'a, C: ClientEnd> Exchange<'a, C> {
    /// Handles the request.
    async fn run(&mut self) -> Outcome {
        if let Some(outcome) = self.normalize() {
            self.core.begin_filters();
            return outcome;
        }
        if self.core.facts.is_some_and(|facts| facts.expects_continue) {
            //= rfc9110#section-10.1.1: the client waits for this before it sends the body.
            self.core.arm();
            let mut out = self.core.shard.buffers.take();
            self.client.encode_continue(&mut out);
            let mut out = Outlet::whole(out, Framing::Identity, self.core.shard.buffers);
            let sent = send_all(&mut self.client, self.core.given, &mut out).await;
            out.recycle();
            if sent.is_err() {
                return Outcome::Done(Ended::Over);
            }
            response::count(self.core.given, 100);
        }
        self.run_from_route().await
    }

    /// Finds the route, and handles the request as it says.
    async fn run_from_route(&mut self) -> Outcome {
        let service = self.core.service();
        let router = service.router.shard(self.core.shard.id);
        let mut lookup = self.core.find_route();
        if service.manager.log_times.on_new_request {
            self.core.log_now(EntryType::DownstreamStart);
        }
        if !service.filters.is_empty() {
            // Boxed, so that the future of every other request stays small.
            match Box::pin(self.filter_request()).await {
                Ok(RouteCache::Kept) => {}
                // As in Envoy, what later filters have changed does not count.
                Ok(RouteCache::Cleared) => lookup = self.core.rerouted.unwrap_or(lookup),
                Err(outcome) => return outcome,
            }
        }
        match lookup {
            Lookup::NotFound => {
                router.rq_total.inc();
                router.no_route.inc();
                Outcome::reply(LocalReply::no_route())
            }
            Lookup::TlsRequired => {
                router.rq_total.inc();
                // Envoy: a redirect is a direct response.
                router.rq_direct_response.inc();
                Outcome::reply(self.core.redirect_to_tls())
            }
            Lookup::Found { virtual_host, route } => {
                let outcome = match self.core.begin_upgrade(&route.action) {
                    Ok(()) => {
                        router.rq_total.inc();
                        self.run_action(router, virtual_host, route).await
                    }
                    Err(refused) => {
                        self.core.note_cluster(&route.action);
                        Outcome::reply(refused)
                    }
                };
                match outcome {
                    Outcome::Reply(reply) => Outcome::Done(self.reply(reply, Some(route)).await),
                    other @ (Outcome::Done(_) | Outcome::Redirected) => other,
                }
            }
        }
    }

    async fn run_action(
        &mut self,
        router: &RouterStats,
        virtual_host: &'a VirtualHost,
        route: &'a Route,
    ) -> Outcome {
        match &route.action {
            Action::Forward(plan) => {
                self.core.groups = Groups::of(&self.core, virtual_host, route);
                match self.core.cluster_of(plan) {
                    Some(cluster) => {
                        forward::forward(self, virtual_host, route, plan, cluster).await
                    }
                    None => {
                        router.no_cluster.inc();
                        Outcome::reply(LocalReply::cluster_not_found(plan.not_found_status))
                    }
                }
            }
            Action::ClusterNotFound { status } => {
                router.no_cluster.inc();
                Outcome::reply(LocalReply::cluster_not_found(*status))
            }
            Action::DirectResponse(direct) => {
                router.rq_direct_response.inc();
                Outcome::reply(self.core.direct(route, direct))
            }
            Action::Redirect(redirect) => {
                router.rq_direct_response.inc();
                Outcome::reply(self.core.redirect(route, redirect))
            }
        }
    }
}

/// Time.
impl Core<'_> {
    /// Sets the connection's alarm to the nearest deadline.
    #[inline]
    fn set_alarm(&self, now: Millis) {
        self.given.alarm.set(self.deadlines.nearest(), now);
    }

    /// Sets the alarm for a response that is sent from here: it too must time out if the client
    /// does not read.
    #[inline]
    fn arm(&mut self) {
        if self.deadlines.get(Timer::StreamIdle).is_none() {
            self.reset_idle_timer();
        }
        self.set_alarm(self.shard.clock.now());
    }

    /// Restarts the idle timer after progress. A half-closed client gets a new grace period.
    #[inline]
    fn reset_idle_timer(&mut self) {
        let now = self.shard.clock.now();
        let at = self.stream_idle.map(|idle| now.saturating_add(millis(idle)));
        self.deadlines.set(Timer::StreamIdle, at);
        self.deadlines.set(Timer::HalfClosed, None);
    }

    /// The idle timeout is that of the route from now on.
    #[inline]
    fn set_idle_timeout(&mut self, plan: &Forward) {
        let idle = plan.idle_timeout.or(self.service().manager.timeouts.stream_idle);
        self.stream_idle = idle.filter(|idle| !idle.is_zero());
        self.reset_idle_timer();
    }

    /// Sets the deadline for receiving the whole request, counted from the first byte of its head.
    /// A request for an upgrade never ends.
    fn set_request_deadline(&mut self) {
        let limit = self.service().manager.timeouts.request;
        let at = limit.map(|limit| self.heads.began.saturating_add(millis(limit)));
        self.deadlines.set(Timer::Request, at);
    }

    /// Starts the timers that begin with the end of the request, once it has been received.
    #[inline]
    fn start_timers(&mut self, upload: &Upload) {
        if !upload.has_ended() || self.deadlines.get(Timer::Route).is_some() {
            return;
        }
        let received = *self.received.get_or_insert_with(|| self.shard.clock.now());
        if self.is_complete() {
            self.deadlines.set(Timer::Request, None);
        }
        let after = |limit| received.saturating_add(millis(limit));
        self.deadlines.set(Timer::Route, self.timeouts.global.map(after));
    }

    /// Starts the timers of an attempt that has its connection, once the whole request has been
    /// received.
    #[inline]
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
            let now = self.shard.clock.now();
            self.deadlines.set(timer, Some(now.saturating_add(millis(limit))));
        }
    }

    /// Restarts the idle timer of the attempt, if it runs, after progress on the upstream
    /// connection.
    #[inline]
    fn reset_try_idle_timer(&mut self) {
        if self.deadlines.get(Timer::PerTryIdle).is_some() {
            self.deadlines.set(Timer::PerTryIdle, None);
            self.start_try_timer(Timer::PerTryIdle, self.per_try_idle);
        }
    }

    /// Stops the timers of the attempt.
    #[inline]
    fn stop_try_timers(&mut self) {
        self.deadlines.set(Timer::PerTry, None);
        self.deadlines.set(Timer::PerTryIdle, None);
        self.deadlines.set(Timer::UpstreamDuration, None);
    }

    /// Stops the timers of the upstream host: its response has ended.
    #[inline]
    fn stop_response_timers(&mut self) {
        self.deadlines.set(Timer::Route, None);
        self.stop_try_timers();
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
        let stats = self.stats();
        match timer {
            Timer::Request => stats.downstream_rq_timeout.inc(),
            Timer::StreamDuration => stats.downstream_rq_max_duration_reached.inc(),
            Timer::StreamIdle => stats.downstream_rq_idle_timeout.inc(),
            Timer::AccessLog
            | Timer::Backoff
            | Timer::Filter
            | Timer::HalfClosed
            | Timer::PerTry
            | Timer::PerTryIdle
            | Timer::Route
            | Timer::UpstreamDuration
            | Timer::UpstreamLog => {}
        }
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Fails if a timer has expired.
    #[inline]
    fn check_deadlines(&mut self) -> Result<(), Interrupted> {
        match self.core.deadlines.expired(self.core.shard.clock.now()) {
            None => Ok(()),
            Some(Timer::Filter) => {
                self.core.deadlines.set(Timer::Filter, None);
                Ok(())
            }
            Some(Timer::HalfClosed) => Err(self.client_gone()),
            Some(Timer::AccessLog) => {
                self.core.log_periodically();
                Ok(())
            }
            Some(Timer::UpstreamLog) => {
                self.core.log_upstream_periodically();
                Ok(())
            }
            Some(timer) => Err(Interrupted::Deadline(timer)),
        }
    }

    /// Waits until something of `want` is ready or a deadline passes.
    fn wait<'b>(
        &'b self,
        origin: Option<&'b Origin>,
        want: Interest,
    ) -> impl Future<Output = Ready> + use<'b, C> {
        wait(&self.client, self.core.given, self.core.filters.as_deref(), origin, want)
    }
}
