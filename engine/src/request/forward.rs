//! Forwards a request: attempts until an answer can be given.
//!
//! Invariant: nothing is sent to the client before the decision that this attempt's answer is the
//! one it gets; after that there is no other attempt.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::attempt::{self, Answer, Failed, Sent};
use super::charge;
use super::deadlines::Passed;
use super::download;
use super::replay::Replay;
use super::reply::LocalReply;
use super::retry::{Decision, Refusal, Reset, RetryState, Wait};
use super::route::{Connect, Forward, Route, VirtualHost, scheme};
use super::upload::Upload;
use super::{Exchange, Interim, Outcome, Upgrade, tunnel};
use crate::downstream::connection::{After, Interest};
use crate::flags::Flag;
use crate::http::TrailerRules;
use crate::http::names::{self, Names};
use crate::http::{BodyLength, FieldName, Method};
use crate::http1::encode;
use crate::limits;
use crate::shard::clock::millis;
use crate::upstream::circuit_breaker::{Permit, Resource, RoutingPriority};
use crate::upstream::connection::{ClosedBy, Connection};
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::pool::{Look, Pool};

/// Forwards the request of `x` as `plan` says.
pub(super) async fn forward(
    x: &mut Exchange<'_>,
    virtual_host: &VirtualHost,
    route: &Route,
    plan: &Forward,
) -> Outcome {
    let Some(cluster) = x.snapshot.cluster(plan.cluster) else {
        return Outcome::reply(LocalReply::cluster_not_found(503));
    };
    if let Some(invalid) = x.check_strictly() {
        return Outcome::reply(invalid);
    }
    x.origin_names = cluster.cluster().http.names;
    x.upstream.cluster = Some(Rc::clone(&cluster));
    x.upstream.attempts = 1;
    prepare(x, virtual_host, route, plan);
    let retry = RetryState::new(plan.retry.as_ref(), &x.heads.request);
    x.remove_retry_fields();
    let buffers = x.client.shard.buffers;
    let replay = retry.as_ref().map(|_| Replay::new(buffers, x.replay_bytes_max(route)));
    let buffered = cluster.cluster().per_connection_buffer_limit_bytes as usize;
    let trailers = trailer_rules(x, &cluster);
    let mut forwarding = Forwarding {
        virtual_host,
        plan,
        cluster,
        retry,
        upload: Upload::new(&x.body, replay, buffered),
        tried: Vec::new(),
        stale: Stale::NotYet,
        retrying: None,
    };
    if let Some(rules) = trailers {
        forwarding.upload.mind_trailers(rules);
    }
    let outcome = loop {
        let attempted = forwarding.attempt(x).await;
        forwarding.forget_retries(x);
        let wait = match attempted {
            Ok(answered) => match forwarding.judge_answer(x) {
                Some(wait) => {
                    forwarding.discard(x, answered);
                    Some(wait)
                }
                None => break forwarding.deliver(x, route, answered).await,
            },
            Err(failed) => match forwarding.judge_failure(x, failed) {
                Verdict::Again(wait) => wait,
                Verdict::End(outcome) => break outcome,
            },
        };
        if let Err(failed) = forwarding.rest(x, wait).await {
            break forwarding.end(x, failed);
        }
    };
    let dropped = forwarding.upload.dropped_trailers();
    if dropped > 0 {
        let http1 = x.chain.http1.shard(x.client.shard.id);
        http1.dropped_headers_with_underscores.add(dropped);
    }
    forwarding.upload.recycle(x.client.shard.buffers);
    outcome
}

/// The rules for the trailers of a request. Envoy: they go on if both codecs let them; where that of
/// the client does not, it looks at none.
fn trailer_rules(x: &Exchange<'_>, cluster: &LocalCluster) -> Option<TrailerRules> {
    let manager = &x.chain.manager;
    manager.enable_trailers.then(|| TrailerRules {
        bytes_max: manager.limits.bytes_max,
        fields_max: manager.limits.fields_max,
        underscores: manager.underscores,
        kept: x.passes_trailers(&cluster.cluster().http),
    })
}

/// Edits the request as the route says, once for all attempts.
fn prepare(x: &mut Exchange<'_>, virtual_host: &VirtualHost, route: &Route, plan: &Forward) {
    x.take_timeouts(plan);
    let idle = plan.idle_timeout.or(x.chain.manager.timeouts.stream_idle);
    x.stream_idle = idle.filter(|idle| !idle.is_zero());
    x.touch();
    let retry = plan.retry.as_ref();
    x.per_try_idle = retry.and_then(|policy| policy.per_try_idle_timeout);
    match &plan.expected {
        Some(expected) if x.timeouts == plan.timeouts => {
            if !x.chain.manager.suppress_envoy_headers {
                x.heads.request.fields.set_line(expected);
            }
        }
        _ => expect_timeout(x, Duration::ZERO),
    }
    // Envoy: what the route adds may name the count.
    x.count_attempt(virtual_host, x.upstream.attempts);
    x.rewrite_request(route, plan);
}

/// `x-envoy-expected-rq-timeout-ms`: what is left for this attempt.
fn expect_timeout(x: &mut Exchange<'_>, elapsed: Duration) {
    if x.chain.manager.suppress_envoy_headers {
        return;
    }
    if let Some(expected) = x.timeouts.expected_ms(elapsed) {
        let mut digits = itoa::Buffer::new();
        let expected = digits.format(expected).as_bytes();
        x.heads.request.fields.set(FieldName::XEnvoyExpectedRqTimeoutMs, expected);
    }
}

/// What one forwarded request needs over all its attempts.
struct Forwarding<'a> {
    virtual_host: &'a VirtualHost,
    plan: &'a Forward,
    cluster: Rc<LocalCluster>,
    retry: Option<RetryState<'a>>,
    upload: Upload,
    /// Whom a retry avoids; empty unless the policy says so.
    tried: Vec<Rc<Pool>>,
    stale: Stale,
    /// Counts against `max_retries` from the decision to retry until an answer is accepted.
    retrying: Option<Permit>,
}

/// Whether the request met a connection that its host was just closing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stale {
    NotYet,
    /// It did: the next attempt takes a fresh connection, and there is no third.
    Met,
}

/// What follows a failed attempt.
enum Verdict {
    /// Another attempt after this wait; none: at once.
    Again(Option<Wait>),
    End(Outcome),
}

/// An answer and the request on its connection.
struct Answered {
    answer: Answer,
    active: Active,
}

impl Forwarding<'_> {
    /// One attempt, up to the head of its answer.
    async fn attempt(&mut self, x: &mut Exchange<'_>) -> Result<Answered, Failed> {
        let Some(pool) = self.pick() else {
            self.cluster.stats().upstream_cx_none_healthy.inc();
            return Err(Failed::NoHealthyHost);
        };
        if x.upstream.attempts > 1 {
            let now = x.client.shard.clock.now();
            let elapsed = now.saturating_sub(x.received.unwrap_or(now));
            expect_timeout(x, Duration::from_millis(elapsed));
            x.count_attempt(self.virtual_host, x.upstream.attempts);
            let timed_out = self.retry.as_ref().is_some_and(RetryState::follows_timeout);
            x.tell_timeout(self.virtual_host, timed_out);
        }
        x.rewrite_for_host(self.plan, pool.host());
        x.upstream.pool = Some(Rc::clone(&pool));
        let mut head = x.client.shard.buffers.take();
        if !self.terminates(x) {
            self.encode(x, &mut head);
        }
        self.upload.begin(head, x.client.shard.buffers);
        let early = self.upload.take_early(&mut x.client.early);
        early.map_err(|fault| attempt::upload_fault(x, &fault))?;
        x.heads.response.clear();
        x.start_timers(&self.upload);
        if self.upload.has_ended() {
            x.notice_half_close()?;
        }
        let connection = self.lease(x, &pool).await;
        let connection = connection.inspect_err(|failed| charge::no_connection(&pool, failed))?;
        // While there was no connection more of the body may have come: it goes before what is
        // still on the way.
        let early = self.upload.take_early(&mut x.client.early);
        early.map_err(|fault| attempt::upload_fault(x, &fault))?;
        x.upstream.connected(&connection);
        let Some(active) = Active::begin(&self.cluster, &pool, self.plan.priority) else {
            pool.host_stats().rq_error.inc();
            pool.give_back(connection, x.client.shard.clock.now());
            return Err(Failed::Upstream { error: Error::Overflow, sent: Sent::Nothing });
        };
        if self.terminates(x) {
            // The tunnel is there as soon as its end is.
            x.heads.response.status = 200;
            charge::host(pool.host_stats(), x, Ok(BodyLength::None));
            let answer = Answer { connection, length: BodyLength::None };
            return Ok(Answered { answer, active });
        }
        let limits = &self.cluster.cluster().http.head_limits;
        let answer = attempt::exchange(x, connection, &mut self.upload, limits).await;
        charge::host(pool.host_stats(), x, answer.as_ref().map(|answer| answer.length));
        Ok(Answered { answer: answer?, active })
    }

    /// Whether the request is for a tunnel that ends here.
    fn terminates(&self, x: &Exchange<'_>) -> bool {
        self.plan.connect == Connect::Terminated && x.heads.request.method == Method::Connect
    }

    /// Encodes the head of the request. Envoy: the names are written as the origin's codec says,
    /// unless the client's has kept them.
    fn encode(&self, x: &Exchange<'_>, out: &mut Vec<u8>) {
        let request = &x.heads.request;
        let http = &self.cluster.cluster().http;
        encode::request(request, out);
        match x.chain.manager.names {
            names @ Names::Preserved(_) => {
                names::write(out, names, Some(&x.heads.request_as_received));
            }
            Names::LowerCase | Names::ProperCaseWords => names::write(out, http.names, None),
        }
        if http.send_fully_qualified_url && request.method != Method::Connect {
            let host = request.authority().unwrap_or_default();
            let url = [scheme(request), b"://", host].concat();
            let at = request.method_name().len() + 1;
            out.splice(at..at, url);
        }
    }

    /// The pool of the host for this attempt.
    ///
    /// Envoy: a retry that got a host which was tried asks the balancer again, so often and no more.
    fn pick(&mut self) -> Option<Rc<Pool>> {
        let policy = self.retry.as_ref().map(RetryState::policy);
        let Some(policy) = policy.filter(|policy| policy.avoids_previous_hosts) else {
            return self.cluster.pick(self.plan.priority);
        };
        let again = policy.host_selection_attempts_max.min(limits::HOST_SELECTIONS_MAX);
        let mut pool = self.cluster.pick(self.plan.priority)?;
        for _ in 0..again {
            if !self.tried.iter().any(|tried| Rc::ptr_eq(tried, &pool)) {
                break;
            }
            pool = self.cluster.pick(self.plan.priority)?;
        }
        if !self.tried.iter().any(|tried| Rc::ptr_eq(tried, &pool)) {
            self.tried.push(Rc::clone(&pool));
        }
        Some(pool)
    }

    async fn lease(&self, x: &mut Exchange<'_>, pool: &Rc<Pool>) -> Result<Connection, Failed> {
        if self.terminates(x) {
            return attempt::connect(x, pool).await;
        }
        let look = if self.may_be_sent_again(x) { Look::AsTold } else { Look::Again };
        if self.stale == Stale::NotYet
            && let Some(connection) = pool.lease_idle(look)
        {
            return Ok(connection);
        }
        attempt::lease(x, pool).await
    }

    /// Whether it does no harm to send the request twice.
    fn may_be_sent_again(&self, x: &Exchange<'_>) -> bool {
        x.heads.request.method.is_idempotent() && self.upload.can_repeat()
    }

    /// Envoy: once an answer has begun or the body is more than is kept, the request is not retried
    /// any more.
    fn forget_retries(&mut self, x: &Exchange<'_>) {
        if x.interim == Interim::Given {
            self.retry = None;
        }
        if self.upload.outgrew() && self.retry.take().is_some() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
        }
    }

    /// Whether the answer is discarded for another attempt, and how long that waits.
    fn judge_answer(&mut self, x: &mut Exchange<'_>) -> Option<Wait> {
        let decision = self.retry.as_mut()?.on_response(&x.heads.response, SystemTime::now);
        let wait = self.decide(x, decision);
        if wait.is_some() {
            self.cluster.stats().retry.record(x.heads.response.status);
        }
        wait
    }

    fn judge_failure(&mut self, x: &mut Exchange<'_>, failed: Failed) -> Verdict {
        // A host may close an idle connection in the moment we use it. Nothing came back, so a
        // request that may be repeated is sent once more: no retry, and no 503 for the client.
        if let Failed::Upstream { sent: Sent::OnStaleConnection, .. } = failed
            && self.stale == Stale::NotYet
            && self.may_be_sent_again(x)
        {
            self.stale = Stale::Met;
            // It has not been tried.
            self.tried.pop();
            return Verdict::Again(None);
        }
        match failed {
            Failed::Deadline(Passed::PerTry) => {
                self.cluster.stats().upstream_rq_per_try_timeout.inc();
            }
            Failed::Deadline(Passed::PerTryIdle) => {
                self.cluster.stats().upstream_rq_per_try_idle_timeout.inc();
            }
            _ => {}
        }
        if let Some((reset, headers_sent)) = reset(failed)
            && let Some(retry) = &mut self.retry
        {
            let decision = retry.on_reset(reset, headers_sent);
            if let Some(wait) = self.decide(x, decision) {
                return Verdict::Again(Some(wait));
            }
        }
        Verdict::End(self.end(x, failed))
    }

    /// Carries out a retry decision: the breaker, the stats, the back-off.
    fn decide(&mut self, x: &mut Exchange<'_>, decision: Decision) -> Option<Wait> {
        let stats = self.cluster.stats();
        match decision {
            Decision::Retry => {}
            Decision::No(Refusal::LimitExceeded) => {
                stats.upstream_rq_retry_limit_exceeded.inc();
                x.flags.set(Flag::UpstreamRetryLimitExceeded);
                return None;
            }
            Decision::No(Refusal::Succeeded) => {
                stats.upstream_rq_retry_success.inc();
                return None;
            }
            Decision::No(Refusal::NotRetriable) => return None,
        }
        // The place of the retry before this one is free again.
        self.retrying = None;
        self.retrying = self.cluster.breakers().acquire(self.plan.priority, Resource::Retries);
        if self.retrying.is_none() {
            stats.upstream_rq_retry_overflow.inc();
            return None;
        }
        let random = x.client.shard.random.borrow_mut().u64(..);
        Some(self.retry.as_mut()?.back_off(random))
    }

    /// Lets an answer go that the client does not get.
    fn discard(&self, x: &mut Exchange<'_>, answered: Answered) {
        let Answered { answer, active } = answered;
        drop(active);
        let Answer { connection, length } = answer;
        let length = match length {
            BodyLength::None => 0,
            BodyLength::Length(length) => length,
            BodyLength::Chunked | BodyLength::UntilClose => u64::MAX,
        };
        let early = x.heads.response.surplus().len() as u64;
        if early > length {
            self.cluster.stats().upstream_cx_protocol_error.inc();
        }
        if early == length && self.upload.is_done() && x.heads.response.keep_alive() {
            give_back(x, connection);
        } else {
            connection.close(ClosedBy::Us);
        }
    }

    /// Waits before the next attempt; the client may go away and deadlines may pass meanwhile.
    async fn rest(&mut self, x: &mut Exchange<'_>, wait: Option<Wait>) -> Result<(), Failed> {
        x.stop_try_timers();
        let mut now = x.client.shard.clock.now();
        let until = now.saturating_add(match wait {
            Some(Wait::Exponential(wait) | Wait::RateLimited(wait)) => millis(wait),
            None => 0,
        });
        while now < until {
            x.deadlines.set(Passed::Backoff, Some(until));
            x.begin_wait()?;
            let want = Interest { client_in: x.client.listens_ahead(), ..Interest::default() };
            let ready = x.client.wait(None, want).await;
            if ready.client_gone {
                return Err(x.client_has_left());
            }
            if ready.io.client_in {
                x.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
            now = x.client.shard.clock.now();
            x.deadlines.set(Passed::Backoff, None);
            x.check_deadlines()?;
        }
        // Envoy counts a retry when it begins.
        let stats = self.cluster.stats();
        match wait {
            Some(Wait::Exponential(_)) => stats.upstream_rq_retry_backoff_exponential.inc(),
            Some(Wait::RateLimited(_)) => stats.upstream_rq_retry_backoff_ratelimited.inc(),
            None => return Ok(()),
        }
        stats.upstream_rq_retry.inc();
        x.upstream.attempts += 1;
        Ok(())
    }

    /// What the client gets when no attempt succeeded.
    fn end(&self, x: &mut Exchange<'_>, failed: Failed) -> Outcome {
        x.upstream.body_bytes = self.upload.received_bytes();
        let stats = self.cluster.stats();
        let mut reply = match failed {
            Failed::ClientGone => return Outcome::Done(After::Close),
            Failed::ClientError(error) => {
                x.client.stats().downstream_cx_protocol_error.inc();
                return Outcome::reply(LocalReply::refused(error));
            }
            Failed::NoHealthyHost => LocalReply::no_healthy_upstream(),
            Failed::Upstream { error, .. } => {
                x.upstream.failure = Some(error);
                LocalReply::upstream_reset(error, x.upstream.attempts > 1)
            }
            Failed::Deadline(Passed::Route) => {
                stats.upstream_rq_timeout.inc();
                x.timeout_reply.of(LocalReply::upstream_timeout())
            }
            Failed::Deadline(Passed::PerTry | Passed::PerTryIdle) => {
                x.timeout_reply.of(LocalReply::per_try_timeout())
            }
            Failed::Deadline(passed) => return Outcome::reply(x.timed_out(passed)),
        };
        let tells_attempts = self.virtual_host.include_attempt_count_in_response;
        reply.attempts = tells_attempts.then_some(x.upstream.attempts);
        x.heads.response.clear();
        if x.interim == Interim::None {
            charge::answer(&self.cluster, x, reply.status);
        }
        Outcome::reply(reply)
    }

    async fn deliver(
        &mut self,
        x: &mut Exchange<'_>,
        route: &Route,
        answered: Answered,
    ) -> Outcome {
        // `active` counts to the end of the answer.
        let Answered { mut answer, active } = answered;
        // Envoy: an answer that has begun is not measured by its attempt any more.
        x.deadlines.set(Passed::PerTry, None);
        // Envoy: the place among the retries is free when an answer is accepted.
        self.retrying = None;
        self.upload.forget();
        x.upstream.body_bytes = self.upload.received_bytes();
        let status = x.heads.response.status;
        // As Envoy, no answer of the cluster is counted where WebSocket was not taken.
        if !tunnel::has_failed_handshake(x, &mut answer) {
            charge::answer(&self.cluster, x, status);
        }
        let tells_attempts = self.virtual_host.include_attempt_count_in_response;
        let attempts = tells_attempts.then_some(x.upstream.attempts);
        if tunnel::begins(x) {
            // Tunnels are few, and their state is large.
            let tunnel = Box::pin(tunnel::run(x, route, answer, attempts));
            return Outcome::Done(tunnel.await);
        }
        let after = download::deliver(x, route, answer, &mut self.upload, attempts).await;
        drop(active);
        Outcome::Done(after)
    }
}

/// A request on a connection; counted while it is there.
struct Active {
    pool: Rc<Pool>,
    _permit: Permit,
}

impl Active {
    fn begin(cluster: &LocalCluster, pool: &Rc<Pool>, priority: RoutingPriority) -> Option<Self> {
        let Some(permit) = cluster.breakers().acquire(priority, Resource::Requests) else {
            pool.stats().upstream_rq_active_overflow.inc();
            return None;
        };
        let (stats, host_stats) = (pool.stats(), pool.host_stats());
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        host_stats.rq_total.inc();
        host_stats.rq_active.inc();
        Some(Self { pool: Rc::clone(pool), _permit: permit })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_active.dec();
        self.pool.host_stats().rq_active.dec();
    }
}

/// Returns a connection on which everything ended as it should.
pub(super) fn give_back(x: &Exchange<'_>, connection: Connection) {
    if x.upgrade != Upgrade::None {
        // Who knows what the host makes of the next bytes.
        return connection.close(ClosedBy::Us);
    }
    let now = x.client.shard.clock.now();
    let pool = Rc::clone(connection.pool());
    pool.give_back(connection, now);
}

/// What a failed attempt means for a retry, and whether the host may have seen the request.
fn reset(failed: Failed) -> Option<(Reset, bool)> {
    match failed {
        Failed::Upstream { error, sent } => {
            let reset = match error {
                Error::Overflow => Reset::Overflow,
                Error::LocalConnectionFailure | Error::RemoteConnectionFailure(_) => {
                    Reset::ConnectFailure
                }
                Error::ConnectionTimeout => Reset::ConnectTimeout,
                Error::ConnectionTermination => Reset::ConnectionTermination,
                Error::ProtocolError => Reset::ProtocolError,
            };
            Some((reset, sent != Sent::Nothing))
        }
        Failed::Deadline(Passed::PerTry | Passed::PerTryIdle) => Some((Reset::PerTryTimeout, true)),
        Failed::Deadline(_)
        | Failed::NoHealthyHost
        | Failed::ClientGone
        | Failed::ClientError(_) => None,
    }
}
