//! Sends local replies, and completes the head of every response.

use super::attempt::Failed;
use super::headers::{self, ConnectionHeader, Finish};
use super::manager::BadRequest;
use super::reply::LocalReply;
use super::reply_rewrite;
use super::route::Route;
use super::stream::Stream;
use super::{Exchange, Persistence, Upgrade};
use crate::downstream::connection::{After, Client};
use crate::flags::Flag;
use crate::http::header_key_format::{self, HeaderKeyFormat, ReasonPhrase};
use crate::http::heads::Heads;
use crate::http::{FieldName, Method, Version};
use crate::http1::encode;
use crate::stats::HttpStats;

/// Completes the reply after the headers that the route has added, and sends it.
///
/// The order is Envoy's: with a body `content-length, content-type, date, server[, connection]`;
/// without one `date, server[, connection], content-length: 0`.
async fn send(
    client: &mut Client,
    heads: &mut Heads,
    mut reply: LocalReply,
    connection: ConnectionHeader,
    stream: Option<Stream<'_>>,
) -> std::io::Result<()> {
    if client.service().manager.suppress_envoy_headers {
        reply.is_overloaded = false;
    }
    reply.add_upstream_headers(&mut heads.response);
    if let Some(stream) = stream {
        rewrite(client, heads, &mut reply, &stream);
    }
    headers::remove_hop_by_hop(&mut heads.response, false);
    reply.describe(&mut heads.response, Some(&heads.request));
    finish(client, heads, connection);
    reply.end(&mut heads.response, Some(&heads.request));
    let mut out = client.shard.buffers.take();
    encode::response(&heads.response, &mut out);
    header_key_format::write(&mut out, client.service().manager.header_key_format, None);
    out.extend_from_slice(reply.body_for(Some(&heads.request)));
    let sent = client.send_all(&out).await;
    client.shard.buffers.give(out);
    sent
}

/// Whether `local_reply_config` rewrites replies.
fn rewrites(client: &Client) -> bool {
    !client.service().manager.reply_rewrite.is_empty()
}

/// Applies `local_reply_config` to a reply.
fn rewrite(client: &Client, heads: &mut Heads, reply: &mut LocalReply, stream: &Stream<'_>) {
    let rewrite = &client.service().manager.reply_rewrite;
    let Heads { request, response, .. } = heads;
    // A head that could not be parsed is empty.
    let request = Some(&*request).filter(|request| !request.target().is_empty());
    let random = client.shard.random.borrow_mut().u64(..);
    let details = reply.details.clone();
    let flags = reply_rewrite::visible_flags(reply.flags);
    let stream = |status| stream.with_local_reply(status, flags, &details);
    rewrite.apply(
        reply,
        response,
        request,
        random,
        stream,
        &mut client.service().scratch.borrow_mut(),
    );
}

/// Sends a reply to a request that never became an exchange; the connection is closed afterwards.
pub(super) async fn send_and_close(client: &mut Client, reply: LocalReply) -> After {
    let mut heads = client.service().heads.take();
    reply.begin(&mut heads.response);
    heads.request.clear();
    let stream = rewrites(client).then(|| Stream::of(client, heads.request.version));
    let sent = send(client, &mut heads, reply, ConnectionHeader::Close, stream).await;
    count(client, heads.response.status);
    client.service().heads.give(heads);
    match sent {
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
}

/// Encodes the head of an upstream response. As in Envoy, header names are written as the client's
/// codec is configured, unless the upstream codec has preserved them.
pub(super) fn encode(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let response = &exchange.heads.response;
    encode::response(response, out);
    let format = exchange.upstream_key_format;
    match format {
        HeaderKeyFormat::PreserveCase(preserved) => {
            header_key_format::write(out, format, Some(&exchange.heads.response_as_received));
            if preserved.reason_phrase == ReasonPhrase::Forwarded {
                header_key_format::write_reason(out, response.reason());
            }
        }
        HeaderKeyFormat::LowerCase | HeaderKeyFormat::ProperCaseWords => {
            header_key_format::write(out, exchange.service.manager.header_key_format, None);
        }
    }
}

/// Counts a response that was sent completely; as in Envoy also an interim one.
pub(super) fn count(client: &Client, status: u16) {
    let shard = client.shard.id;
    client.stats().record_response(status);
    client.service().listener_http.shard(shard).record_response(status);
}

/// Counts a response that is sent before the end of its request.
pub(super) fn count_early(stats: &HttpStats) {
    stats.downstream_rq_response_before_rq_complete.inc();
    stats.downstream_rq_rx_reset.inc();
}

/// Forwards the interim response in the response head to the client.
///
/// It is short and precedes the response, so either the socket buffer has room for it, or the
/// client does not read at all. In that case it is dropped, and the final response follows.
pub(super) fn forward_interim(exchange: &mut Exchange<'_>) -> Result<(), Failed> {
    //= rfc9110#section-15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client."
    if exchange.heads.request.version == Version::Http10 {
        return Ok(());
    }
    headers::from_origin(&mut exchange.heads.response, None);
    headers::remove_hop_by_hop(&mut exchange.heads.response, false);
    exchange.heads.response.fields.remove(FieldName::ContentLength);
    let client = &*exchange.client;
    let mut out = client.shard.buffers.take();
    encode(exchange, &mut out);
    let sent = client.socket.send(&out);
    let is_cut = sent.as_ref().is_ok_and(|&count| count != 0 && count != out.len());
    client.shard.buffers.give(out);
    if is_cut {
        return Err(Failed::ClientGone);
    }
    let sent = sent.map_err(|_| Failed::ClientGone)?;
    client.count_sent(sent);
    if sent > 0 {
        count(client, exchange.heads.response.status);
    }
    Ok(())
}

/// Adds the headers of every response to a client: `date`, `server`, `connection`.
pub(super) fn finish(client: &Client, heads: &mut Heads, connection: ConnectionHeader) {
    let Heads { request, response, .. } = heads;
    // RFC 9112 §2.3: the version in a message is the sender's own; an HTTP/1.0 client gets its own
    // back.
    response.version = request.version;
    let clock = &client.shard.clock;
    let rules = &client.service().manager.response;
    // As in Envoy, a client that forces a trace gets its request id.
    let adds_id = rules.always_set_request_id || request.fields.has(FieldName::XEnvoyForceTrace);
    let finish = Finish {
        date: clock.date(clock.now()),
        request_id: if adds_id { request.fields.get(FieldName::XRequestId) } else { None },
        connection,
    };
    headers::finish(response, rules, &finish);
}

impl Exchange<'_> {
    /// Sends `reply`.
    pub(super) async fn reply(&mut self, mut reply: LocalReply, route: Option<&Route>) -> After {
        let mut flags = self.flags;
        reply.flags.iter().for_each(|flag| flags.set(flag));
        reply.flags = flags;
        // The connection is closed: what is left of the request would have to be read and
        // discarded, and after a CONNECT that is not accepted the following bytes may not be HTTP.
        // As in Envoy, a 400 closes the connection unless configured otherwise.
        let lingers = reply.closes
            || (reply.status == 400
                && self.service.manager.bad_request == BadRequest::EndsConnection)
            || self.received.is_none()
            || self.upgrade != Upgrade::None
            || self.heads.request.method == Method::Connect;
        // As in Envoy, a request that the codec rejects counts as incomplete.
        let is_malformed = reply.flags.has(Flag::DownstreamProtocolError);
        let is_early = !self.is_complete() || is_malformed;
        if is_early {
            self.record_early_response();
        }
        if lingers {
            self.persistence = Persistence::Close;
        }
        let connection = self.connection_header();
        reply.begin(&mut self.heads.response);
        self.mutate_response(route, Some(&reply));
        let stream = rewrites(self.client).then(|| self.stream(route));
        self.arm();
        if send(self.client, self.heads, reply, connection, stream).await.is_err() {
            return After::Close;
        }
        self.count_response();
        self.end_response(is_early);
        match self.persistence {
            Persistence::KeepAlive => After::Next,
            Persistence::Close if lingers => After::Linger,
            Persistence::Close => After::Close,
        }
    }

    /// Whether the request has been received completely. As in Envoy, one that asks for an upgrade
    /// never is.
    pub(super) const fn is_complete(&self) -> bool {
        self.received.is_some() && matches!(self.upgrade, Upgrade::None)
    }

    /// Records that the response begins before the end of the request. The rest of the request is
    /// not awaited, so the connection closes.
    pub(super) fn record_early_response(&mut self) {
        self.persistence = Persistence::Close;
        self.client.stats().downstream_rq_response_before_rq_complete.inc();
    }

    /// Counts the end of a response that was sent completely. As in Envoy, no time is recorded for
    /// one that was cut off, and one that was sent early resets the request.
    #[inline]
    pub(super) fn end_response(&self, is_early: bool) {
        let stats = self.client.stats();
        let took = self.client.shard.clock.now().saturating_sub(self.began);
        stats.downstream_rq_time.record(took);
        if is_early {
            stats.downstream_rq_rx_reset.inc();
        }
    }

    /// The `connection` header for the client; makes the final decision whether the connection is
    /// kept.
    pub(super) fn connection_header(&mut self) -> ConnectionHeader {
        let shard = self.client.shard;
        let stats = self.client.stats();
        if self.persistence == Persistence::KeepAlive && self.client.is_draining() {
            stats.downstream_cx_drain_close.inc();
            self.persistence = Persistence::Close;
        }
        if self.persistence == Persistence::KeepAlive
            && self.client.has_reached_limit(shard.clock.now())
        {
            self.persistence = Persistence::Close;
        }
        match (self.persistence, self.heads.request.version) {
            (Persistence::Close, _) => ConnectionHeader::Close,
            (Persistence::KeepAlive, Version::Http10) => ConnectionHeader::KeepAlive,
            (Persistence::KeepAlive, Version::Http11) => ConnectionHeader::Absent,
        }
    }

    /// Counts the status of the response.
    pub(super) fn count_response(&self) {
        count(self.client, self.heads.response.status);
    }

    /// Whether the connection is kept after the response whose head was written.
    pub(super) const fn keeps_connection(&self) -> bool {
        matches!(self.persistence, Persistence::KeepAlive)
    }

    /// What happens to the connection after a response that was sent completely.
    pub(super) const fn after(&self) -> After {
        match self.persistence {
            Persistence::KeepAlive => After::Next,
            // The client may be sending bytes of another protocol.
            Persistence::Close if matches!(self.upgrade, Upgrade::Allowed) => After::Linger,
            Persistence::Close => After::Close,
        }
    }
}
