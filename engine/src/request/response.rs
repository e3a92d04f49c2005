//! Sends local replies, and completes the head of every response.

use super::attempt::Failed;
use super::end::{ClientEnd, Closing, Ended, Known, ResponseBody};
use super::filters::{ReplyBody, filter_refusal};
use super::given::Given;
use super::headers::{self, Finish};
use super::log;
use super::manager::BadRequest;
use super::reply::{LocalReply, Maker};
use super::reply_rewrite;
use super::route::Route;
use super::stream::Stream;
use super::wait::{Unsent, send_all};
use super::{Core, Exchange, Upgrade};
use crate::flags::Flag;
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, EndStream, FieldName, Method, Version};
use crate::pipe::heads::Heads;
use crate::pipe::outlet::{Framing, Outlet};
use crate::stats::HttpStats;

/// Completes the reply after the headers that the route has added.
///
/// The order is Envoy's: with a body `content-length, content-type, date, server[, connection]`;
/// without one `date, server[, connection], content-length: 0`.
fn describe(given: &Given, heads: &mut Heads, reply: &mut LocalReply, stream: Option<&Stream<'_>>) {
    if given.service.manager.suppress_envoy_headers {
        reply.is_overloaded = false;
    }
    reply.add_upstream_headers(&mut heads.response);
    if let Some(stream) = stream {
        rewrite(given, heads, reply, stream);
    }
    headers::remove_hop_by_hop(&mut heads.response, false);
    reply.describe(&mut heads.response, Some(&heads.request));
}

/// Adds the headers of every response; returns what is to be sent.
fn encode<C: ClientEnd>(
    client: &mut C,
    given: &Given,
    heads: &mut Heads,
    reply: &LocalReply,
) -> (Outlet, u64) {
    finish(given, heads);
    let framing = client.finish_head(heads, Known { body: ResponseBody::Local, tunnel: false });
    let mut out = given.shard.buffers.take();
    let body = reply.body_for(Some(&heads.request));
    let end = if body.is_empty() { EndStream::Yes } else { EndStream::No };
    client.encode_head(heads, HeaderKeyFormat::LowerCase, end, &mut out);
    out.extend_from_slice(body);
    let bytes = body.len() as u64;
    (Outlet::whole(out, framing, given.shard.buffers), bytes)
}

async fn send<C: ClientEnd>(client: &mut C, given: &Given, mut out: Outlet) -> Result<(), Unsent> {
    let sent = send_all(client, given, &mut out).await;
    out.recycle();
    sent
}

/// Whether `local_reply_config` rewrites replies.
fn rewrites(given: &Given) -> bool {
    !given.service.manager.reply_rewrite.is_empty()
}

/// Applies `local_reply_config` to a reply.
fn rewrite(given: &Given, heads: &mut Heads, reply: &mut LocalReply, stream: &Stream<'_>) {
    let rewrite = &given.service.manager.reply_rewrite;
    let Heads { request, response, .. } = heads;
    // A head that could not be parsed is empty.
    let request = Some(&*request).filter(|request| !request.target().is_empty());
    let random = given.shard.random.borrow_mut().u64(..);
    let details = reply.details.clone();
    let flags = reply_rewrite::visible_flags(reply.flags);
    let stream = |status| stream.with_local_reply(status, flags, &details);
    rewrite.apply(
        reply,
        response,
        request,
        random,
        stream,
        &mut given.service.scratch.borrow_mut(),
    );
}

/// Sends a reply to a request that never became an exchange; it is the last one of the connection.
pub(super) async fn send_and_close<C: ClientEnd>(
    client: &mut C,
    given: &Given,
    mut reply: Box<LocalReply>,
) -> Ended {
    client.close_after(Closing::Lingering);
    let mut heads = given.service.heads.take();
    reply.begin(&mut heads.response);
    heads.request.clear();
    let (out, bytes) = {
        let stream = rewrites(given).then(|| Stream::of(given, heads.request.version));
        describe(given, &mut heads, &mut reply, stream.as_ref());
        if !given.service.filters.is_empty() {
            heads.began = given.shard.clock.now();
            filter_refusal(given, &mut heads, &reply);
            headers::remove_hop_by_hop(&mut heads.response, false);
        }
        encode(client, given, &mut heads, &reply)
    };
    let sent = send(client, given, out).await;
    log::refused(given, &reply, &heads, bytes);
    count(given, heads.response.status);
    given.service.heads.give(heads);
    match sent {
        Ok(()) => Ended::Early,
        Err(Unsent) => Ended::Over,
    }
}

/// Counts a response that was sent completely; as in Envoy also an interim one.
pub(super) fn count(given: &Given, status: u16) {
    given.stats().record_response(status);
    given.service.listener_http.shard(given.shard.id).record_response(status);
}

/// Counts a response that is sent before the end of its request.
pub(super) fn count_early(stats: &HttpStats) {
    stats.downstream_rq_response_before_rq_complete.inc();
    stats.downstream_rq_rx_reset.inc();
}

/// Forwards the interim response in the response head to the client.
///
/// It is short and precedes the response, so either the socket buffer has room for it, or the
/// client does not read at all. In that case it is dropped, or it waits in the ring for room, and the
/// final response follows.
pub(super) fn forward_interim<C: ClientEnd>(exchange: &mut Exchange<'_, C>) -> Result<(), Failed> {
    let Exchange { client, core } = exchange;
    //= rfc9110#section-15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client."
    if core.heads.request.version == Version::Http10 {
        return Ok(());
    }
    headers::from_origin(&mut core.heads.response, None);
    headers::remove_hop_by_hop(&mut core.heads.response, false);
    core.heads.response.fields.remove(FieldName::ContentLength);
    let mut out = core.shard.buffers.take();
    client.encode_head(core.heads, core.upstream_key_format, EndStream::No, &mut out);
    let mut out = Outlet::whole(out, Framing::Identity, core.shard.buffers);
    let sent = client.push(&mut out);
    let is_left = out.wants_sink();
    out.recycle();
    let sent = sent.map_err(|_| Failed::ClientGone)?;
    if sent > 0 && is_left {
        return Err(Failed::ClientGone);
    }
    if !is_left {
        count(core.given, core.heads.response.status);
    }
    Ok(())
}

/// Adds the headers of every response to a client: `date`, `server` and those after them. What the
/// codec says about the connection follows.
#[inline(always)]
pub(super) fn finish(given: &Given, heads: &mut Heads) {
    let Heads { request, response, .. } = heads;
    let clock = &given.shard.clock;
    let rules = &given.service.manager.response;
    // As in Envoy, a client that forces a trace gets its request id.
    let adds_id = rules.always_set_request_id || request.fields.has(FieldName::XEnvoyForceTrace);
    let finish = Finish {
        date: clock.date(clock.now()),
        request_id: if adds_id { request.fields.get(FieldName::XRequestId) } else { None },
    };
    headers::finish(response, rules, &finish);
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Whether the client has sent the whole request. Filters may end it earlier for the origin.
    pub(super) fn is_complete(&self) -> bool {
        self.core.is_complete() && self.client.has_received_all()
    }

    /// Sends `reply`.
    pub(super) async fn reply(
        &mut self,
        mut reply: Box<LocalReply>,
        route: Option<&Route>,
    ) -> Ended {
        let is_complete = self.is_complete();
        let Self { client, core } = self;
        reply.for_grpc = core.client_speaks_grpc();
        let mut flags = core.flags;
        reply.flags.iter().for_each(|flag| flags.set(flag));
        reply.flags = flags;
        // The connection is closed: what is left of the request would have to be read and
        // discarded, and after a CONNECT that is not accepted the following bytes may not be HTTP.
        // As in Envoy, a 400 closes the connection unless configured otherwise.
        let lingers = reply.closes
            || (reply.status == 400
                && core.service().manager.bad_request == BadRequest::EndsConnection)
            || core.received.is_none()
            || !client.has_received_all()
            || core.upgrade != Upgrade::None
            || core.heads.request.method == Method::Connect;
        // As in Envoy, a request that the codec rejects counts as incomplete.
        let is_malformed = reply.flags.has(Flag::DownstreamProtocolError);
        let is_early = !is_complete || is_malformed;
        if is_early {
            core.count_early_response();
            client.close_after(Closing::AfterResponse);
        }
        if lingers {
            client.close_after(Closing::Lingering);
        }
        reply.begin(&mut core.heads.response);
        let by_proxy = reply.maker == Maker::Proxy;
        if by_proxy {
            core.mutate_response(route, Some(&reply));
        }
        {
            let rewrites = by_proxy && rewrites(core.given);
            let stream = rewrites.then(|| core.stream(route));
            describe(core.given, core.heads, &mut reply, stream.as_ref());
        }
        let length = reply.body_for(Some(&core.heads.request)).len() as u64;
        core.filter_response_head(Some(&reply), BodyLength::Length(length));
        core.drop_request_body();
        let mut body = ReplyBody::InReply;
        while self.core.is_held_up() {
            if body == ReplyBody::InReply {
                let core = &mut self.core;
                core.hold_reply(reply.body_for(Some(&core.heads.request)));
                body = ReplyBody::Held;
            }
            if !self.core.has_held_enough() && Box::pin(self.wait_for_reply_answer()).await.is_err()
            {
                return Ended::Over;
            }
            let length = BodyLength::Length(length);
            if let Some(other) = self.core.go_on_with_response_head(Some(&reply), length) {
                self.core.flags = reply.flags;
                // Boxed, so that the future of every other request stays small.
                return Box::pin(self.reply_past_filters(other)).await;
            }
        }
        let core = &mut self.core;
        // A filter cannot say what happens to the connection.
        headers::remove_hop_by_hop(&mut core.heads.response, false);
        if core.filters_see_response() || body == ReplyBody::Held {
            // Boxed, so that the future of every other request stays small.
            let (bytes, sent) = Box::pin(self.send_filtered(&reply, body)).await;
            self.core.note_reply(reply.flags, reply.details, bytes);
            if sent.is_err() {
                return Ended::Over;
            }
            self.core.count_response();
            self.core.end_response(is_early);
            return Ended::Whole;
        }
        self.send_reply(reply, is_early).await
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Sends a reply in the place of a response whose head was on its way through the filters. No filter sees it.
    pub(super) async fn reply_past_filters(&mut self, mut reply: Box<LocalReply>) -> Ended {
        let is_early = !self.is_complete();
        let Self { client, core } = self;
        reply.for_grpc = core.client_speaks_grpc();
        core.end_filters();
        let mut flags = core.flags;
        reply.flags.iter().for_each(|flag| flags.set(flag));
        reply.flags = flags;
        if is_early {
            client.close_after(Closing::Lingering);
        }
        reply.begin(&mut core.heads.response);
        {
            let stream = rewrites(core.given).then(|| core.stream(core.record.route));
            describe(core.given, core.heads, &mut reply, stream.as_ref());
        }
        self.send_reply(reply, is_early).await
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Sends a reply whose head is complete.
    async fn send_reply(&mut self, reply: Box<LocalReply>, is_early: bool) -> Ended {
        let Self { client, core } = self;
        let (out, bytes) = encode(client, core.given, core.heads, &reply);
        core.note_reply(reply.flags, reply.details, bytes);
        core.arm();
        if send(client, core.given, out).await.is_err() {
            return Ended::Over;
        }
        core.count_response();
        core.end_response(is_early);
        Ended::Whole
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Counts the trailers of the request that were dropped because of underscores in their names.
    #[inline]
    pub(super) fn count_dropped_trailers(&self) {
        let dropped = self.client.dropped_trailers();
        if dropped > 0 {
            let http1 = self.core.service().http1.shard(self.core.shard.id);
            http1.dropped_headers_with_underscores.add(dropped);
        }
    }
}

impl Core<'_> {
    /// Whether the request has been received completely. As in Envoy, one that asks for an upgrade
    /// never is.
    #[inline]
    pub(super) const fn is_complete(&self) -> bool {
        self.received.is_some() && matches!(self.upgrade, Upgrade::None)
    }

    /// Counts that the response begins before the end of the request. The rest of the request is not
    /// awaited, so this is the last one of the connection.
    pub(super) fn count_early_response(&self) {
        self.stats().downstream_rq_response_before_rq_complete.inc();
    }

    /// Counts the end of a response that was sent completely. As in Envoy, no time is recorded for
    /// one that was cut off, and one that was sent early resets the request.
    #[inline]
    pub(super) fn end_response(&self, is_early: bool) {
        let stats = self.stats();
        let took = self.shard.clock.now().saturating_sub(self.began);
        stats.downstream_rq_time.record(took);
        if is_early {
            stats.downstream_rq_rx_reset.inc();
        }
    }

    /// Counts the status of the response.
    #[inline]
    pub(super) fn count_response(&self) {
        // As in Envoy, responses to health checks are not counted.
        if !self.record.is_health_check {
            count(self.given, self.heads.response.status);
        }
    }
}
