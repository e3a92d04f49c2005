//! Forwards a request: makes attempts until there is a response for the client.
//!
//! Invariant: nothing is sent to the client before it is decided that the response of this attempt
//! is final. After that there is no further attempt.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::attempt::{self, Failed, Sent, UpstreamResponse};
use super::charge::{self, ActiveRequest};
use super::deadlines::Timer;
use super::download;
use super::end::ClientEnd;
use super::given::Given;
use super::override_host::WantedHosts;
use super::replay::Replay;
use super::request_head::{set_expected_timeout, set_stream_duration};
use super::retry::{Decision, Refusal, RetryDelay, RetryState};
use super::route::{Connect, Forward, Route, VirtualHost};
use super::select_host::{Named, Tried};
use super::upload::Upload;
use super::wait::Interest;
use super::{Core, Exchange, Interim, Outcome, Upgrade, mirror, tunnel};
use crate::flags::Flag;
use crate::http::TrailerRules;
use crate::http::{BodyLength, Method, Version};
use crate::shard::clock::millis;
use crate::transport::tls::options::TransportSocketOptions;
use crate::upstream::circuit_breaker::{Permit, Resource};
use crate::upstream::connection::ClosedBy;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::Origin;
use crate::upstream::pool::{IdleCheck, Pool};
use crate::upstream::pool_key::Speaks;

/// Forwards the request to a cluster as `plan` says.
pub(super) async fn forward<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    virtual_host: &VirtualHost,
    route: &Route,
    plan: &Forward,
    cluster: Rc<LocalCluster>,
) -> Outcome {
    if let Some(invalid) = exchange.core.check_strict_headers() {
        return Outcome::reply(invalid);
    }
    let mut forwarder = begin(exchange, virtual_host, route, plan, cluster);
    let outcome = loop {
        let attempted = forwarder.attempt(exchange).await;
        if let Err(failed) = &attempted {
            exchange.core.end_upstream_entry_failed(failed, forwarder.upload.received_bytes());
        }
        forwarder.drop_retries(&exchange.core);
        let delay = match attempted {
            Ok(received) => match forwarder.retry_after_response(&mut exchange.core) {
                Some(delay) => {
                    forwarder.discard(&mut exchange.core, received);
                    Some(delay)
                }
                None if forwarder.redirects(&mut exchange.core, route) => {
                    forwarder.discard(&mut exchange.core, received);
                    break Outcome::Redirected;
                }
                None => {
                    // The request is active until the end of the response.
                    let ActiveResponse { mut response, active } = received;
                    forwarder.accept(&mut exchange.core, &mut response);
                    let attempts = forwarder.told_attempts(&exchange.core);
                    let ended = if tunnel::switches(&exchange.core) {
                        // Boxed: tunnels are rare, and their state is large.
                        Box::pin(tunnel::run(exchange, route, response, attempts)).await
                    } else {
                        let upload = &mut forwarder.upload;
                        download::deliver(exchange, route, response, upload, attempts).await
                    };
                    drop(active);
                    let sent = forwarder.upload.received_bytes();
                    exchange.core.end_upstream_entry_delivered(sent);
                    break Outcome::Done(ended);
                }
            },
            Err(failed) => match forwarder.retry_after_failure(exchange, failed) {
                Verdict::Again(delay) => delay,
                Verdict::End(outcome) => break outcome,
            },
        };
        if let Err(failed) = forwarder.back_off(exchange, delay).await {
            break forwarder.end(exchange, failed);
        }
    };
    exchange.count_dropped_trailers();
    // What a client sends counts, not what filters make of it.
    let received = match exchange.core.filtered_bytes {
        0 => forwarder.upload.received_bytes(),
        bytes => bytes,
    };
    if received > 0 {
        exchange.core.upstream.body_bytes = received;
    }
    forwarder.upload.recycle();
    outcome
}

/// Makes the request ready for its first attempt.
#[inline(always)]
fn begin<'a, 'e: 'a, C: ClientEnd>(
    exchange: &mut Exchange<'e, C>,
    virtual_host: &'a VirtualHost,
    route: &'a Route,
    plan: &'a Forward,
    cluster: Rc<LocalCluster>,
) -> Forwarder<'a> {
    exchange.core.upstream_key_format = cluster.cluster().http.header_key_format;
    exchange.core.upstream.cluster = Some(Rc::clone(&cluster));
    exchange.core.upstream.attempts = 1;
    prepare(&mut exchange.core, virtual_host, route, plan);
    let options = exchange.core.transport_socket_options(&cluster);
    let hash = exchange.core.hash(plan, &cluster);
    let wanted = exchange.core.wanted_hosts(&cluster);
    let named = exchange.core.destination(&cluster);
    let retry = RetryState::new(plan.retry.as_ref(), &exchange.core.heads.request);
    exchange.core.remove_retry_fields();
    let may_be_sent_again = retry.is_some() || plan.internal_redirect.is_some();
    let upload = new_upload(&exchange.core, route, &cluster, may_be_sent_again);
    let trailers = trailer_rules(&exchange.core, &cluster);
    let mirrors =
        mirror::policies(&exchange.core, plan, &cluster).map(|policies| (policies, route));
    set_trailer_rules(exchange, trailers);
    Forwarder {
        virtual_host,
        plan,
        cluster,
        options,
        hash,
        wanted,
        named,
        retry,
        upload,
        tried: None,
        stale_retry: StaleRetry::Unused,
        retrying: None,
        mirrors,
    }
}

/// The request on its way upstream; its body is kept if it may be sent again.
#[inline(always)]
fn new_upload(
    core: &Core<'_>,
    route: &Route,
    cluster: &LocalCluster,
    may_be_sent_again: bool,
) -> Upload {
    let buffers = core.shard.buffers;
    let replay = may_be_sent_again.then(|| Replay::new(buffers, core.replay_bytes_max(route)));
    let buffered = cluster.cluster().per_connection_buffer_limit_bytes as usize;
    Upload::new(core.body, replay, buffered, buffers)
}

fn set_trailer_rules<C: ClientEnd>(exchange: &mut Exchange<'_, C>, rules: Option<TrailerRules>) {
    let Some(rules) = rules else { return };
    exchange.client.set_trailer_rules(rules);
    if !rules.kept {
        exchange.core.drop_held_trailers();
    }
}

/// The rules for the trailers of a request. As in Envoy they are forwarded if both codecs allow
/// them; if the client's codec does not, they are not even checked.
fn trailer_rules(core: &Core<'_>, cluster: &LocalCluster) -> Option<TrailerRules> {
    let manager = &core.service().manager;
    core.client_may_send_trailers()
        .then(|| manager.trailer_rules(core.passes_trailers(&cluster.cluster().http)))
}

/// Edits the request as the route says, once for all attempts, and sets its timeouts.
fn prepare(core: &mut Core<'_>, virtual_host: &VirtualHost, route: &Route, plan: &Forward) {
    set_stream_duration(core, plan);
    core.set_timeouts(plan);
    core.set_idle_timeout(plan);
    let retry = plan.retry.as_ref();
    core.per_try_idle = retry.and_then(|policy| policy.per_try_idle_timeout);
    match &plan.expected {
        Some(expected) if core.timeouts == plan.timeouts && plan.max_grpc_timeout.is_none() => {
            if !core.service().manager.suppress_envoy_headers {
                core.heads.request.fields.set_line(expected);
            }
        }
        _ => set_expected_timeout(core, plan, Duration::ZERO),
    }
    // As in Envoy, headers that the route adds may refer to the count.
    core.set_attempt_count(virtual_host, core.upstream.attempts);
    core.rewrite_request(route, plan);
}

/// The state of one forwarded request over all its attempts.
pub(super) struct Forwarder<'a> {
    virtual_host: &'a VirtualHost,
    pub(super) plan: &'a Forward,
    pub(super) cluster: Rc<LocalCluster>,
    /// What the request sets for TLS, the same for all attempts.
    pub(super) options: Option<Rc<TransportSocketOptions>>,
    /// What the host is chosen by, if its cluster chooses by a hash.
    pub(super) hash: Option<u64>,
    /// The hosts that the request asks for.
    pub(super) wanted: Option<Box<WantedHosts>>,
    /// The host that it names, if its cluster goes by that.
    pub(super) named: Option<Box<Named>>,
    pub(super) retry: Option<RetryState<'a>>,
    pub(super) upload: Upload,
    /// The hosts that were tried; none unless the policy selects hosts by that.
    pub(super) tried: Option<Box<Tried>>,
    stale_retry: StaleRetry,
    /// Counts against `max_retries` from the decision to retry until a response is accepted.
    retrying: Option<Permit>,
    /// The mirrors to start, and the route of the request.
    mirrors: Option<(&'a [mirror::Policy], &'a Route)>,
}

/// Whether the request was already sent once more because its host closed the reused connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum StaleRetry {
    Unused,
    /// The next attempt takes a new connection, and this does not happen again.
    Used,
}

/// What to do after a failed attempt.
enum Verdict {
    /// Make another attempt after this delay; `None`: at once.
    Again(Option<RetryDelay>),
    End(Outcome),
}

/// The response to an attempt. The request counts as active until this is dropped.
struct ActiveResponse {
    response: UpstreamResponse,
    active: ActiveRequest,
}

impl Forwarder<'_> {
    /// Makes one attempt, up to the head of its response.
    async fn attempt<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
    ) -> Result<ActiveResponse, Failed> {
        let client = exchange.core.heads.request.version;
        if self.named.is_some() {
            // Boxed: few clusters go by that, and the wait is large.
            Box::pin(self.resolve(exchange)).await?;
        }
        let pool = self.select_host(exchange.core.given, client)?;
        exchange.core.begin_upstream_entry();
        exchange.core.note_selected_host(&self.cluster, &pool);
        // As in Envoy, a request for which there is no host is not mirrored.
        if let Some((policies, route)) = self.mirrors.take() {
            self.upload.set_mirrors(mirror::start(&exchange.core, policies, route));
        }
        self.edit_request(&mut exchange.core, &pool);
        if exchange.core.may_filter_upstream() {
            // Boxed, so that the future of every other request stays small.
            Box::pin(exchange.filter_for_host(&self.cluster, &mut self.upload)).await?;
        }
        self.begin_upload(exchange, &pool)?;
        let leased = self.lease(exchange, &pool).await;
        let origin = leased.inspect_err(|failed| charge::no_connection(&pool, failed))?;
        // More of the body may have arrived during the wait for a connection.
        self.take_early(exchange)?;
        exchange.core.upstream.connected(&origin);
        if let Some(limit) = self.cluster.cluster().http.max_stream_duration {
            exchange.core.start_try_timer(Timer::UpstreamDuration, Some(limit));
        }
        let Some(active) = ActiveRequest::begin(&pool, self.plan.priority) else {
            return Err(attempt::overflow(&pool, origin));
        };
        exchange.core.groups.each(|stats| stats.upstream_rq_total.inc());
        exchange.core.note_upstream_ready();
        let origin = self.begin_request(&mut exchange.core, origin);
        let response = if self.terminates(&exchange.core) {
            Ok(tunnel::open(exchange, origin, &mut self.upload))
        } else {
            let limits = &pool.cluster().http.head_limits;
            attempt::run(exchange, origin, &mut self.upload, limits).await
        };
        let response = response.and_then(|response| {
            exchange.core.filter_upstream_response(response.length).map(|()| response)
        });
        let length = response.as_ref().map(|response| response.length);
        charge::host(&pool, &exchange.core, length);
        if response.is_ok() {
            exchange.core.note_upstream_head();
        }
        Ok(ActiveResponse { response: response?, active })
    }

    /// Selects the host of this attempt.
    #[inline]
    fn select_host(&mut self, given: &Given, client: Version) -> Result<Rc<Pool>, Failed> {
        self.pick(given, client).ok_or(Failed::NoHealthyHost)
    }

    /// Edits the request for this attempt and its host.
    #[inline(always)]
    fn edit_request(&self, core: &mut Core<'_>, pool: &Rc<Pool>) {
        if core.upstream.attempts > 1 {
            let now = core.shard.clock.now();
            let elapsed = now.saturating_sub(core.received.unwrap_or(now));
            set_expected_timeout(core, self.plan, Duration::from_millis(elapsed));
            core.set_attempt_count(self.virtual_host, core.upstream.attempts);
            let timed_out = self.retry.as_ref().is_some_and(RetryState::follows_timeout);
            core.set_timeout_retry_header(self.virtual_host, timed_out);
        }
        core.rewrite_for_host(self.plan, pool.host());
        core.upstream.attempts_host(pool);
    }

    /// Puts the body so far into the upload, behind the head if the codec is known, and starts the timers
    /// that wait for the end of the request.
    #[inline]
    fn begin_upload<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
        pool: &Pool,
    ) -> Result<(), Failed> {
        if self.terminates(&exchange.core) {
            self.upload.begin_raw();
        } else if pool.speaks() == Speaks::Http1 {
            let head = self.encode(&mut exchange.core);
            self.upload.begin(head);
        } else {
            self.upload.begin_without_head();
        }
        self.take_early(exchange)?;
        exchange.core.heads.response.clear();
        exchange.core.start_timers(&self.upload);
        if self.upload.has_ended() {
            exchange.detect_half_close()?;
        }
        Ok(())
    }

    /// Moves the bytes of the body that were received early into the upload. They precede what is
    /// still to be received.
    #[inline]
    fn take_early<C: ClientEnd>(&mut self, exchange: &mut Exchange<'_, C>) -> Result<(), Failed> {
        let taken = exchange.take_at_hand(&mut self.upload);
        taken.map_err(|fault| attempt::upload_fault(exchange, fault))
    }

    /// Whether the request is a CONNECT, or a POST like one, that is terminated here.
    pub(super) fn terminates(&self, core: &Core<'_>) -> bool {
        match self.plan.connect {
            Connect::Forwarded => false,
            Connect::Terminated => core.heads.request.method == Method::Connect,
            Connect::TerminatedOrPost => {
                matches!(core.heads.request.method, Method::Connect | Method::Post)
            }
        }
    }

    /// Leases a connection to the host: an idle one if there is one.
    async fn lease<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
        pool: &Rc<Pool>,
    ) -> Result<Origin, Failed> {
        if self.terminates(&exchange.core) {
            return attempt::lease_new(exchange, pool).await;
        }
        let check =
            if self.can_resend(&exchange.core) { IdleCheck::Events } else { IdleCheck::Peek };
        if self.stale_retry == StaleRetry::Unused
            && let Some(origin) = pool.lease_ready(check)
        {
            return Ok(origin);
        }
        self.upload.compact();
        attempt::lease(exchange, pool).await
    }

    /// Whether a part of the body is kept as a filter of the cluster has changed it, and the rest is still to
    /// come: the filters of another attempt could not continue it.
    fn lacks_original(&self, core: &Core<'_>) -> bool {
        core.is_body_changed_upstream() && !self.upload.has_ended()
    }

    /// Whether the request may safely be sent twice.
    fn can_resend(&self, core: &Core<'_>) -> bool {
        core.heads.request.method.is_idempotent()
            && self.upload.can_replay()
            && !self.lacks_original(core)
    }

    /// Disables retries once a response has begun or the body exceeds the replay limit, as Envoy
    /// does.
    fn drop_retries(&mut self, core: &Core<'_>) {
        if core.interim == Interim::Received || self.lacks_original(core) {
            self.retry = None;
        }
        let follows_redirects = self.plan.internal_redirect.is_some();
        if self.upload.exceeded_replay_limit() && (self.retry.take().is_some() || follows_redirects)
        {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
        }
    }

    /// Decides whether the response is discarded for another attempt, and how long that is delayed.
    fn retry_after_response(&mut self, core: &mut Core<'_>) -> Option<RetryDelay> {
        let decision = self.retry.as_mut()?.on_response(&core.heads.response, SystemTime::now);
        let delay = self.decide(core, decision);
        if delay.is_some() {
            self.cluster.stats().retry.record(core.heads.response.status);
        }
        delay
    }

    /// Whether the response is a redirect that is followed here. If so, the request is the new one.
    fn redirects(&mut self, core: &mut Core<'_>, route: &Route) -> bool {
        let Some(policy) = &self.plan.internal_redirect else { return false };
        policy.statuses.contains(&core.heads.response.status)
            && core.redirect_internally(route, policy, || self.upload.take_replay())
    }

    fn retry_after_failure<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
        failed: Failed,
    ) -> Verdict {
        // A host may close an idle connection just when we reuse it. Nothing was received, so a
        // request that is safe to resend is sent once more. This is not a retry, and the client
        // gets no 503.
        if let Failed::Upstream { sent: Sent::OnStaleConnection, .. } = failed
            && self.stale_retry == StaleRetry::Unused
            && self.can_resend(&exchange.core)
        {
            self.stale_retry = StaleRetry::Used;
            // This attempt does not count: its host may be picked again.
            if let Some(tried) = &mut self.tried {
                tried.forget_last();
            }
            if let Some(wanted) = &mut self.wanted {
                wanted.forget_last();
            }
            return Verdict::Again(None);
        }
        match failed {
            Failed::Deadline(Timer::PerTry) => {
                self.cluster.stats().upstream_rq_per_try_timeout.inc();
            }
            Failed::Deadline(Timer::PerTryIdle) => {
                self.cluster.stats().upstream_rq_per_try_idle_timeout.inc();
            }
            Failed::Deadline(Timer::UpstreamDuration) => {
                self.cluster.stats().upstream_rq_max_duration_reached.inc();
            }
            _ => {}
        }
        if let Some((reset, headers_sent)) = failed.reset()
            && let Some(retry) = &mut self.retry
        {
            let decision = retry.on_reset(reset, headers_sent);
            if let Some(delay) = self.decide(&mut exchange.core, decision) {
                return Verdict::Again(Some(delay));
            }
        }
        Verdict::End(self.end(exchange, failed))
    }

    /// Applies a retry decision: circuit breaker, stats, delay.
    fn decide(&mut self, core: &mut Core<'_>, decision: Decision) -> Option<RetryDelay> {
        let stats = self.cluster.stats();
        match decision {
            Decision::Retry => {}
            Decision::No(Refusal::LimitExceeded) => {
                stats.upstream_rq_retry_limit_exceeded.inc();
                core.groups.each(|stats| stats.upstream_rq_retry_limit_exceeded.inc());
                core.flags.set(Flag::UpstreamRetryLimitExceeded);
                return None;
            }
            Decision::No(Refusal::Succeeded) => {
                stats.upstream_rq_retry_success.inc();
                core.groups.each(|stats| stats.upstream_rq_retry_success.inc());
                return None;
            }
            Decision::No(Refusal::NotRetriable) => return None,
        }
        // Release the permit of the previous retry first.
        self.retrying = None;
        self.retrying = self.cluster.breakers().acquire(self.plan.priority, Resource::Retries);
        if self.retrying.is_none() {
            stats.upstream_rq_retry_overflow.inc();
            core.groups.each(|stats| stats.upstream_rq_retry_overflow.inc());
            return None;
        }
        let random = core.shard.random.borrow_mut().u64(..);
        Some(self.retry.as_mut()?.next_delay(random))
    }

    /// Discards a response that the client does not get. Its connection is kept if nothing of it is
    /// left to receive.
    fn discard(&self, core: &mut Core<'_>, received: ActiveResponse) {
        let ActiveResponse { response, active } = received;
        drop(active);
        core.end_upstream_entry((self.upload.received_bytes(), 0));
        let UpstreamResponse { origin, length } = response;
        let length = match length {
            BodyLength::None => 0,
            BodyLength::Length(length) => length,
            BodyLength::Chunked | BodyLength::UntilClose => u64::MAX,
        };
        let early = core.heads.response.surplus().len() as u64;
        if early > length {
            self.cluster.stats().upstream_cx_protocol_error.inc();
        }
        if early == length && self.upload.is_done() && core.heads.response.keep_alive() {
            give_back(core, origin);
        } else {
            origin.close(ClosedBy::Us);
        }
    }

    /// Waits before the next attempt. Fails if the client disconnects or a timer expires meanwhile.
    async fn back_off<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
        delay: Option<RetryDelay>,
    ) -> Result<(), Failed> {
        exchange.core.stop_try_timers();
        let mut now = exchange.core.shard.clock.now();
        let until = now.saturating_add(match delay {
            Some(RetryDelay::Exponential(delay) | RetryDelay::RateLimited(delay)) => millis(delay),
            None => 0,
        });
        while now < until {
            exchange.core.deadlines.set(Timer::Backoff, Some(until));
            let want =
                Interest { client_in: exchange.client.listens_ahead(), ..Interest::default() };
            exchange.begin_wait(want)?;
            let ready = exchange.wait(None, want).await;
            if ready.client_gone {
                return Err(exchange.client_gone().into());
            }
            if ready.io.client_in {
                exchange.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
            now = exchange.core.shard.clock.now();
            exchange.core.deadlines.set(Timer::Backoff, None);
            exchange.check_deadlines()?;
        }
        // Envoy counts a retry when it starts.
        let stats = self.cluster.stats();
        match delay {
            Some(RetryDelay::Exponential(_)) => stats.upstream_rq_retry_backoff_exponential.inc(),
            Some(RetryDelay::RateLimited(_)) => stats.upstream_rq_retry_backoff_ratelimited.inc(),
            None => return Ok(()),
        }
        stats.upstream_rq_retry.inc();
        exchange.core.groups.each(|stats| stats.upstream_rq_retry.inc());
        exchange.core.upstream.attempts += 1;
        Ok(())
    }

    /// Decides for a response: there is no further attempt.
    #[inline(always)]
    fn accept(&mut self, core: &mut Core<'_>, response: &mut UpstreamResponse) {
        // As in Envoy, `per_try_timeout` ends with the head of the response.
        core.deadlines.set(Timer::PerTry, None);
        // As in Envoy, the retry permit is released when a response is accepted.
        self.retrying = None;
        self.upload.drop_replay();
        core.upstream.body_bytes = self.upload.received_bytes();
        let status = core.heads.response.status;
        core.note_response();
        // As in Envoy, the response is not charged to the cluster if a WebSocket handshake failed.
        if tunnel::strip_failed_websocket(core, response) {
            core.note_details("websocket_handshake_unsuccessful");
        } else {
            charge::response(&self.cluster, core, status);
        }
    }

    /// The count for the client, if the virtual host tells it.
    pub(super) fn told_attempts(&self, core: &Core<'_>) -> Option<u32> {
        self.virtual_host.include_attempt_count_in_response.then_some(core.upstream.attempts)
    }
}

/// Returns a connection to its pool after a complete exchange.
pub(super) fn give_back(core: &Core<'_>, origin: Origin) {
    if core.upgrade != Upgrade::None {
        // The host may take the next bytes for another protocol.
        return origin.close(ClosedBy::Us);
    }
    origin.give_back();
}
