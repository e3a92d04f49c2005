//! Internal redirects: the proxy follows the redirect of a host itself, and the client gets the response
//! from there.
//!
//! The request passes through the filters and the router again, like a new one, with another host and path;
//! the rules of the connection manager have been applied to it already.
//!
//! Invariant: only a request that is here completely, and that could be sent again, is redirected. If a
//! redirect cannot be followed, the client gets it, and the request is as before.

use std::cell::Cell;
use std::time::Duration;

use super::deadlines::{Deadlines, Timer};
use super::end::{ClientEnd, Ended};
use super::envoy_headers::TimeoutReply;
use super::groups::Groups;
use super::log::Record;
use super::replay::Replay;
use super::route::{InternalRedirectPolicy, Lookup, Redirects, Route, Timeouts, Url};
use super::stream::Upstream;
use super::{Core, Exchange, Interim};
use crate::flags::Flags;
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, Fault, FieldName, Intake, Method, Scheme, Version};
use crate::shard::clock::millis;
use crate::stats::Counter;

/// What a request has been through and takes along.
#[derive(Debug, Default)]
pub(super) struct Redirected {
    redirects: Redirects,
    /// Its body, until it is sent again.
    body: Option<Body>,
}

/// The body of a request that was received completely, and its trailers.
pub(super) type Body = (Replay, Vec<u8>);

impl Core<'_> {
    /// Turns the request into the one that the redirect in the response head asks for, if `policy` follows
    /// it. `body` takes out the body of the request if that is complete and could be sent again.
    #[cold]
    pub(super) fn redirect_internally(
        &mut self,
        route: &Route,
        policy: &InternalRedirectPolicy,
        body: impl FnOnce() -> Option<Body>,
    ) -> bool {
        let cluster = self.upstream.cluster.clone();
        let follows = self.is_complete() && self.follow(route, policy, body);
        if let Some(cluster) = cluster {
            let stats = cluster.stats();
            if follows {
                stats.upstream_internal_redirect_succeeded_total.inc();
            } else {
                stats.upstream_internal_redirect_failed_total.inc();
            }
        }
        follows
    }

    fn follow(
        &mut self,
        route: &Route,
        policy: &InternalRedirectPolicy,
        body: impl FnOnce() -> Option<Body>,
    ) -> bool {
        let location = self.heads.response.fields.get(FieldName::Location).map(<[u8]>::to_vec);
        let Some(location) = location else { return false };
        let router = self.service().router.shard(self.shard.id);
        let refuse = |counter: &Counter| {
            counter.inc();
            false
        };
        let Some(url) = Url::parse(&location) else {
            return refuse(&router.passthrough_internal_redirect_bad_location);
        };
        let client_uses_tls =
            self.heads.request.scheme != Some(Scheme::Http) && self.given.tls.is_some();
        if !policy.allow_cross_scheme && client_uses_tls != (url.scheme != Some(Scheme::Http)) {
            return refuse(&router.passthrough_internal_redirect_unsafe_scheme);
        }
        // Envoy would follow it to where that scheme is not spoken.
        let Some(scheme) = url.scheme else {
            return refuse(&router.passthrough_internal_redirect_bad_location);
        };
        let mut state = self.redirected.take().unwrap_or_default();
        if state.redirects.count >= policy.max {
            self.redirected = Some(state);
            return refuse(&router.passthrough_internal_redirect_too_many_redirects);
        }
        let before = (self.heads.request.clone(), self.record.route, self.named_cluster.clone());
        policy.copy_headers(&self.heads.response, &mut self.heads.request);
        self.set_url(&url, scheme, client_uses_tls);
        let lookup = self.find_route();
        let to = lookup.route().map_or("", |route| &route.name);
        let schemes = (client_uses_tls, scheme);
        let has_route = url.path.starts_with(b"/") && !matches!(lookup, Lookup::NotFound);
        let refusal = if !has_route {
            Some(&router.passthrough_internal_redirect_no_route)
        } else if !policy.accepts(&route.name, to, schemes, &mut state.redirects) {
            Some(&router.passthrough_internal_redirect_predicate)
        } else {
            None
        };
        let body = if refusal.is_none() { body() } else { None };
        if body.is_none() {
            (self.heads.request, self.record.route, self.named_cluster) = before;
            self.redirected = Some(state);
            return refusal.is_some_and(refuse);
        }
        state.redirects.count += 1;
        state.body = body;
        self.redirected = Some(state);
        //= rfc9110#section-15.4.4: a 303 is answered with GET, without the body.
        let method = self.heads.request.method;
        if self.heads.response.status == 303 && !matches!(method, Method::Get | Method::Head) {
            self.heads.request.set_method(b"GET");
            self.heads.request.fields.remove(FieldName::ContentLength);
            self.heads.request.fields.remove(FieldName::TransferEncoding);
            self.body = BodyLength::None;
            if let Some(state) = &mut self.redirected {
                state.body = None;
            }
        }
        if let Some(route) = lookup.route() {
            self.note_cluster(&route.action);
        }
        true
    }

    /// Replaces host, scheme and path; the former ones are in `x-envoy-original-url`.
    fn set_url(&mut self, url: &Url<'_>, scheme: Scheme, client_uses_tls: bool) {
        let request = &mut self.heads.request;
        let former = if client_uses_tls { Scheme::Https } else { Scheme::Http };
        let host = request.authority().unwrap_or_default();
        let original = [former.as_str().as_bytes(), b"://", host, request.target()].concat();
        request.scheme = Some(scheme);
        request.set_authority(url.host);
        request.set_target(url.path);
        request.fields.set(FieldName::XEnvoyOriginalUrl, &original);
    }

    /// Everything as for a new request, but for what its redirects and the connection manager's rules have
    /// brought.
    #[expect(clippy::too_many_lines, reason = "a line or two per field")]
    fn begin_again(&mut self) {
        let now = self.shard.clock.now();
        self.stats().downstream_rq_time.record(now.saturating_sub(self.began));
        self.stats().downstream_rq_total.inc();
        match self.heads.request.version {
            Version::Http2 => self.stats().downstream_rq_http2_total.inc(),
            Version::Http10 | Version::Http11 => self.stats().downstream_rq_http1_total.inc(),
        }
        let random = self.shard.random.borrow_mut().u64(..);
        let limits = &self.service().manager.timeouts;
        let (duration, idle) = (limits.max_stream_duration, limits.stream_idle);
        let Self {
            // These stay.
            given: _,
            shard: _,
            body: _,
            facts: _,
            upgrade: _,
            half_closed: _,
            redirected: _,
            filters: _,
            // It has ended.
            upstream_entry: _,
            heads,
            clusters,
            deadlines,
            timeouts,
            timeout_reply,
            upstream_key_format,
            stream_idle,
            per_try_idle,
            began,
            received,
            interim,
            random: random_of_request,
            flags,
            started,
            upstream,
            record,
            noted,
            groups,
            named_cluster,
            set_cookies,
            rerouted,
            filtered_bytes,
            replacement,
            origin_trailers,
        } = self;
        heads.began = now;
        heads.response.clear();
        *clusters = self.given.service.clusters.current();
        *deadlines = Deadlines::default();
        let after = |limit: Duration| now.saturating_add(millis(limit));
        deadlines.set(Timer::StreamDuration, duration.map(after));
        *timeouts = Timeouts { global: None, per_try: None };
        *timeout_reply = TimeoutReply::GatewayTimeout;
        *upstream_key_format = HeaderKeyFormat::LowerCase;
        *stream_idle = idle;
        *per_try_idle = None;
        *began = now;
        // Only complete requests are redirected.
        *received = Some(now);
        *interim = Interim::None;
        *random_of_request = random;
        *flags = Flags::NONE;
        *started = Cell::new(None);
        *upstream = Upstream::default();
        *record = Record::default();
        *noted = None;
        *groups = Groups::default();
        *named_cluster = None;
        set_cookies.clear();
        *rerouted = None;
        *filtered_bytes = 0;
        *replacement = None;
        *origin_trailers = None;
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Ends the former way of a request that was redirected, and begins the next one.
    #[cold]
    pub(super) fn begin_again(&mut self) {
        self.core.note_response();
        self.core.note_details("internal_redirect");
        self.core.note_status();
        if !self.core.service().access_logs.is_empty() {
            // Nothing of the response was sent.
            self.core.log(Ended::Cut, false);
        }
        self.core.end_filters();
        self.core.begin_again();
        self.core.set_log_timer();
    }

    /// Takes what is here of the body: all of it after a redirect, or what the client's side has received.
    #[inline]
    pub(super) fn receive_at_hand(&mut self, to: &mut impl Intake) -> Result<(), Fault> {
        if let Some(state) = &mut self.core.redirected
            && let Some((replay, trailers)) = state.body.take()
        {
            replay.each_block(|block| to.data(block));
            to.end(trailers);
            return Ok(());
        }
        self.client.take_at_hand(to)
    }
}
