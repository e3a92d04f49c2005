//! Edits the heads of an exchange as the connection manager and the route say.

use std::rc::Rc;

use super::deadlines::Timer;
use super::end::{ClientEnd, Closing, Known, ResponseBody};
use super::headers;
use super::manager::Peer;
use super::manager::normalize::{self, Refusal};
use super::reply::LocalReply;
use super::route::{
    self, Action, DirectResponse, Forward, HostRewrite, Redirect, Route, VirtualHost,
};
use super::{Core, Exchange, Outcome, Upgrade, tunnel};
use crate::flags::Flag;
use crate::format::{Formatter, Inputs, Unset};
use crate::http::{BodyLength, EndStream, FieldName, Method, Version};
use crate::http1::framing;
use crate::pipe::outlet::Framing;
use crate::transport::tls::options::TransportSocketOptions;
use crate::upstream::cluster::HttpProtocolOptions;
use crate::upstream::host::Host;
use crate::upstream::local::LocalCluster;
use crate::upstream::pool_key::Speaks;

impl Core<'_> {
    #[inline]
    fn normalize(&mut self) -> Option<Outcome> {
        let given = self.given;
        let peer = Peer { remote: given.peer, local: given.local, tls: given.tls.as_deref() };
        let shard = self.shard;
        let mut random = || shard.random.borrow_mut().u64(..);
        let manager = &self.service().manager;
        let outcome = normalize::request(&mut self.heads.request, manager, &peer, &mut random);
        match outcome {
            normalize::Outcome::Continue(facts) => {
                // As in Envoy, a CONNECT is an upgrade.
                if facts.upgrade || self.heads.request.method == Method::Connect {
                    self.upgrade = Upgrade::Requested;
                    self.set_request_deadline();
                }
                if facts.dropped_for_underscores > 0 {
                    let http1 = self.service().http1.shard(self.shard.id);
                    http1.dropped_headers_with_underscores.add(facts.dropped_for_underscores);
                }
                self.facts = Some(facts);
                if !facts.internal {
                    for name in &self.given.routes.internal_only_headers {
                        name.remove_from(&mut self.heads.request.fields);
                    }
                }
                None
            }
            normalize::Outcome::Refuse(refusal) => Some(Outcome::reply(self.refusal(refusal))),
        }
    }

    fn refusal(&mut self, refusal: Refusal) -> LocalReply {
        let stats = self.stats();
        match refusal {
            Refusal::Nomination | Refusal::HttpsInTheClear => {
                stats.downstream_cx_protocol_error.inc();
            }
            Refusal::Underscore => {
                stats.downstream_cx_protocol_error.inc();
                let http1 = self.service().http1.shard(self.shard.id);
                http1.requests_rejected_with_underscores_in_headers.inc();
            }
            Refusal::NotAPath => stats.downstream_rq_non_relative_path.inc(),
            Refusal::Path => stats.downstream_rq_failed_path_normalization.inc(),
            Refusal::Redirect => stats.downstream_rq_redirected_with_normalized_path.inc(),
            Refusal::Upgrade => stats.downstream_rq_ws_on_non_ws_route.inc(),
            Refusal::MissingHost
            | Refusal::QueryWithoutContentType
            | Refusal::Asterisk
            | Refusal::OriginalIp(_) => {}
        }
        let flag = refusal.is_protocol_error().then_some(Flag::DownstreamProtocolError);
        let mut reply =
            LocalReply::new(refusal.status(), refusal.body()).with_details(flag, refusal.details());
        reply.closes = refusal.closes();
        if refusal == Refusal::Redirect {
            reply.add_field(FieldName::Location, self.heads.request.target());
        }
        reply
    }

    /// Begins the upgrade that the client asks for, if the route or the connection manager allows
    /// it.
    pub(super) fn begin_upgrade(&mut self, action: &Action) -> Result<(), LocalReply> {
        if self.upgrade != Upgrade::Requested {
            return Ok(());
        }
        let protocol = self.upgrade_protocol();
        let route_allows = match action {
            Action::Forward(plan) => plan.upgrades.allow(protocol),
            _ => None,
        };
        if !route_allows
            .or_else(|| self.service().manager.upgrades.allow(protocol))
            .unwrap_or(false)
        {
            return Err(self.refusal(Refusal::Upgrade));
        }
        self.upgrade = Upgrade::Allowed;
        self.stats().downstream_cx_upgrades_total.inc();
        self.stats().downstream_cx_upgrades_active.inc();
        Ok(())
    }

    /// The protocol that the request upgrades to.
    pub(super) fn upgrade_protocol(&self) -> &[u8] {
        let request = &self.heads.request;
        match request.upgrade() {
            None if request.method == Method::Connect => b"CONNECT",
            protocol => protocol.unwrap_or_default(),
        }
    }

    pub(super) fn end_upgrade(&self) {
        if self.upgrade == Upgrade::Allowed {
            self.stats().downstream_cx_upgrades_active.dec();
        }
    }

    pub(super) fn is_internal(&self) -> bool {
        self.facts.is_some_and(|facts| facts.internal)
    }

    /// As in Envoy, trailers are forwarded if both codecs allow them; HTTP/2 always does.
    pub(super) fn passes_trailers(&self, origin: &HttpProtocolOptions) -> bool {
        let speaks = origin.protocols.for_client(self.heads.request.version);
        self.client_may_send_trailers() && (speaks != Speaks::Http1 || origin.enable_trailers)
    }

    /// Whether the client's codec allows trailers.
    pub(super) fn client_may_send_trailers(&self) -> bool {
        self.heads.request.version == Version::Http2 || self.service().manager.enable_trailers
    }

    /// Whether the request has no body, or an empty one.
    pub(super) fn has_no_body(&self) -> bool {
        EndStream::with(self.body) == EndStream::Yes
    }

    /// The most bytes of the request body that are kept for a retry, and that wait for a mirror.
    pub(super) fn replay_bytes_max(&self, route: &Route) -> usize {
        match route.body_buffer_max {
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            None => self.service().buffer_limit,
        }
    }

    /// Edits the request as the route says, once for all attempts.
    #[inline(always)]
    pub(super) fn rewrite_request(&mut self, route: &Route, plan: &Forward) {
        self.mutate_request(route);
        if !matches!(plan.host_rewrite, HostRewrite::Auto | HostRewrite::None) {
            let mut host = self.shard.buffers.take();
            let request = &self.heads.request;
            plan.host_rewrite.rewrite(request, &self.evaluate(route), &mut host);
            if !host.is_empty() {
                self.set_host(&host, plan);
            }
            self.shard.buffers.give(host);
        }
        if !plan.path_rewrite.is_none() {
            let mut target = self.shard.buffers.take();
            let (matched, original) = (&route.path, self.heads.request.target());
            plan.path_rewrite.rewrite(matched, original, &self.evaluate(route), &mut target);
            if !target.is_empty() {
                self.set_path(&target);
            }
            self.shard.buffers.give(target);
        }
    }

    /// Evaluates formats of the route for the request.
    fn evaluate(&self, route: &Route) -> impl Fn(&Formatter, Unset, &mut Vec<u8>) {
        move |formatter, unset, out| {
            let stream = self.stream(Some(route));
            let inputs = Inputs { request: Some(&self.heads.request), ..Inputs::new(&stream) };
            formatter.format(&inputs, unset, out);
        }
    }

    /// Edits the request for the selected host.
    pub(super) fn rewrite_for_host(&mut self, plan: &Forward, host: &Host) {
        let name = host.endpoint.hostname.as_bytes();
        if matches!(plan.host_rewrite, HostRewrite::Auto) && !name.is_empty() {
            self.set_host(name, plan);
        }
    }

    /// Announces the body as HTTP/1 frames it. As in Envoy, that is the last edit.
    #[inline]
    pub(super) fn announce_framing(&mut self) {
        framing::announce_request(&mut self.heads.request, self.body);
        if self.upgrade != Upgrade::None && self.body == BodyLength::None {
            // Whatever the method, no body is announced: another protocol follows.
            self.heads.request.fields.remove(FieldName::ContentLength);
        }
    }

    /// What the request sets for the TLS of its upstream connections, once the route has edited it. As in
    /// Envoy, the host of `auto_host_rewrite` has no effect on it.
    #[inline(always)]
    pub(super) fn transport_socket_options(
        &self,
        cluster: &LocalCluster,
    ) -> Option<Rc<TransportSocketOptions>> {
        let set = self.given.listener_facts.as_ref().and_then(|facts| facts.options.as_ref());
        let by_filters = self.noted.as_ref();
        let by_filters =
            by_filters.and_then(|noted| noted.state.tls_options(set.map(|set| &**set)));
        let by_filters = by_filters.map(Rc::new);
        let set = by_filters.as_ref().or(set);
        match &cluster.cluster().auto_sni {
            None => set.map(Rc::clone),
            Some(auto) => Some(Rc::new(auto.options(&self.heads.request, set.map(|set| &**set)))),
        }
    }

    /// Sets `x-envoy-attempt-count` for the attempt that begins.
    pub(super) fn set_attempt_count(&mut self, virtual_host: &VirtualHost, attempt: u32) {
        if virtual_host.include_request_attempt_count {
            let mut digits = itoa::Buffer::new();
            let count = digits.format(attempt).as_bytes();
            self.heads.request.fields.set(FieldName::XEnvoyAttemptCount, count);
        }
    }

    /// Sets `x-envoy-is-timeout-retry` for a further attempt: whether the previous one timed out.
    pub(super) fn set_timeout_retry_header(&mut self, virtual_host: &VirtualHost, timed_out: bool) {
        if virtual_host.include_is_timeout_retry_header {
            let value: &[u8] = if timed_out { b"true" } else { b"false" };
            self.heads.request.fields.set(FieldName::XEnvoyIsTimeoutRetry, value);
        }
    }

    /// As in Envoy, the original is the host before this change, possibly that of the previous
    /// attempt, and the header is set even if nothing changed.
    fn set_host(&mut self, host: &[u8], plan: &Forward) {
        let service = self.service();
        let head = &mut self.heads.request;
        let original = head.authority().unwrap_or_default().to_vec();
        head.set_authority(host);
        let fields = &mut head.fields;
        if !service.manager.suppress_envoy_headers {
            fields.set(FieldName::XEnvoyOriginalHost, &original);
        }
        if plan.append_x_forwarded_host {
            fields.join(FieldName::XForwardedHost, b",", &original);
        }
    }

    /// As with the host, the header with the original is set even if nothing changed.
    fn set_path(&mut self, target: &[u8]) {
        let service = self.service();
        let head = &mut self.heads.request;
        if !service.manager.suppress_envoy_headers {
            let original = head.target().to_vec();
            head.fields.set(FieldName::XEnvoyOriginalPath, &original);
        }
        head.set_target(target);
    }

    fn mutate_request(&mut self, route: &Route) {
        if route.request_headers.is_empty() {
            return;
        }
        let stream = self.stream(Some(route));
        let mut scratch = self.service().scratch.borrow_mut();
        route.request_headers.apply_to_request(&mut self.heads.request, &stream, &mut scratch);
    }

    /// Edits the response as the route says; `reply` is given if it is a local reply.
    pub(super) fn mutate_response(&mut self, route: Option<&Route>, reply: Option<&LocalReply>) {
        let Some(route) = route.filter(|route| !route.response_headers.is_empty()) else { return };
        let stream = self.stream(Some(route));
        let stream = match reply {
            Some(reply) => stream.before_local_reply(reply.flags, &reply.details),
            None => stream.with_upstream_response(self.heads.response.status, self.flags),
        };
        let mut scratch = self.service().scratch.borrow_mut();
        let super::Heads { request, response, .. } = &mut *self.heads;
        route.response_headers.apply_to_response(response, Some(request), &stream, &mut scratch);
    }

    /// Turns the head of the upstream response into the one for the client, but for what the client's
    /// codec says.
    #[inline(always)]
    pub(super) fn edit_response_head(
        &mut self,
        route: &Route,
        body: BodyLength,
        attempts: Option<u32>,
    ) {
        let now = self.shard.clock.now();
        let upgrade = self.upgrade != Upgrade::None;
        // As in Envoy there is no service time if the request has not ended. One for an upgrade
        // never does.
        let adds_time = !upgrade && !self.service().manager.suppress_envoy_headers;
        let received = self.received.filter(|_| adds_time);
        let took = received.map(|received| now.saturating_sub(received));
        headers::from_origin(&mut self.heads.response, took);
        self.append_set_cookies();
        if !self.is_complete() {
            // As in Envoy, `request_timeout` ends with the response.
            self.deadlines.set(Timer::Request, None);
            self.count_early_response();
        }
        self.mutate_response(Some(route), None);
        if let Some(attempts) = attempts {
            let mut digits = itoa::Buffer::new();
            let count = digits.format(attempts).as_bytes();
            self.heads.response.fields.set(FieldName::XEnvoyAttemptCount, count);
        }
        self.filter_response_head(None, body);
        if !self.is_held_up() {
            self.complete_response_head();
        }
    }

    /// The end of [`Self::edit_response_head`], after the filters.
    #[inline]
    pub(super) fn complete_response_head(&mut self) {
        let upgrade = self.upgrade != Upgrade::None;
        headers::remove_hop_by_hop(&mut self.heads.response, upgrade);
        super::response::finish(self.given, self.heads);
    }

    /// The reply of a `direct_response`.
    pub(super) fn direct(&self, route: &Route, direct: &DirectResponse) -> LocalReply {
        let mut reply = LocalReply::direct(direct.status, direct.body.clone());
        let mut location = Vec::new();
        direct.location(&self.heads.request, &mut location);
        if !location.is_empty() {
            reply.add_field(FieldName::Location, &location);
        }
        if let Some(format) = &direct.format {
            // As in Envoy, it does not see the status yet.
            let stream = self.stream(Some(route));
            format.apply(&mut reply, &self.heads.request, &stream);
        }
        reply
    }

    /// The reply of a `redirect`.
    pub(super) fn redirect(&self, route: &Route, redirect: &Redirect) -> LocalReply {
        let mut location = Vec::new();
        let format = self.evaluate(route);
        redirect.location(&route.path, &self.heads.request, &format, &mut location);
        LocalReply::redirect(redirect.status, &location)
    }

    /// The reply where TLS is required.
    pub(super) fn redirect_to_tls(&self) -> LocalReply {
        let mut location = Vec::new();
        route::tls_location(&self.heads.request, &mut location);
        LocalReply::redirect(301, &location)
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Applies the connection manager's rules. Returns an outcome if the request is answered here.
    pub(super) fn normalize(&mut self) -> Option<Outcome> {
        let outcome = self.core.normalize();
        if self.core.upgrade != Upgrade::None {
            // What the client sends after its request may not be HTTP.
            self.client.close_after(Closing::Lingering);
        }
        outcome
    }

    /// Turns the head of the upstream response into the one for the client, but for what the client's codec
    /// says. Afterwards it may be held up in the filters, until they have the body.
    #[inline]
    pub(super) fn begin_response_head(
        &mut self,
        route: &Route,
        length: BodyLength,
        attempts: Option<u32>,
    ) {
        if !self.is_complete() {
            self.client.close_after(Closing::AfterResponse);
        }
        // Filters do not see what passes a tunnel.
        let body = if tunnel::switches(&self.core) { BodyLength::None } else { length };
        self.core.edit_response_head(route, body, attempts);
    }

    /// Completes the head of the response. Returns how the body is framed, and how it ends: as it does
    /// upstream, unless a filter changes it.
    #[inline]
    pub(super) fn finish_response_head(&mut self, length: BodyLength) -> (Framing, BodyLength) {
        let tunnel = tunnel::switches(&self.core);
        let length = self.core.length_for_client(length);
        let known = Known { body: ResponseBody::Relayed(length), tunnel };
        (self.client.finish_head(self.core.heads, known), length)
    }
}
