//! Local replies on their way to the client, and the head that every answer gets.

use super::headers::{self, ConnectionHeader, Finish};
use super::reply::LocalReply;
use super::route::Route;
use super::{Exchange, Persistence, Upgrade};
use crate::downstream::connection::{After, Client};
use crate::http1::{FieldName, Method, Version, encode};
use crate::shard::Heads;
use crate::shard::mailbox::Draining;

/// Describes the reply behind what the route has added, adds what every answer has, and sends.
///
/// Envoy: with a body `content-length, content-type, date, server[, connection]`; without one
/// `date, server[, connection], content-length: 0`.
async fn send(
    client: &mut Client,
    heads: &mut Heads,
    reply: &LocalReply,
    connection: ConnectionHeader,
) -> std::io::Result<()> {
    reply.describe(&mut heads.response, Some(&heads.request));
    finish(client, heads, connection);
    reply.end(&mut heads.response, Some(&heads.request));
    let mut out = client.shard.buffers.take();
    encode::response(&heads.response, &mut out);
    out.extend_from_slice(reply.body_for(Some(&heads.request)));
    let sent = client.send_all(&out).await;
    client.shard.buffers.give(out);
    sent
}

/// Sends a reply to a request that never became an exchange, and ends the connection.
pub(super) async fn say(client: &mut Client, reply: &LocalReply) -> After {
    let mut heads = client.shard.take_heads();
    reply.begin(&mut heads.response);
    heads.request.clear();
    let sent = send(client, &mut heads, reply, ConnectionHeader::Close).await;
    count(client, reply.status);
    client.shard.give_heads(heads);
    match sent {
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
}

/// Counts an answer that was sent whole.
fn count(client: &Client, status: u16) {
    let shard = client.shard.id;
    client.stats().record_response(status);
    client.chain().listener_http.shard(shard).record_response(status);
}

/// What every answer to a client has: `date`, `server`, `connection`.
pub(super) fn finish(client: &Client, heads: &mut Heads, connection: ConnectionHeader) {
    let Heads { request, response } = heads;
    // RFC 9112 §2.3: the version is the sender's own, and an HTTP/1.0 client is told its own.
    response.version = request.version;
    let clock = &client.shard.clock;
    let finish = Finish {
        date: &clock.date(clock.now()),
        request_id: request.fields.get(FieldName::XRequestId),
        connection,
    };
    headers::finish(response, &client.chain().manager.response, &finish);
}

impl Exchange<'_> {
    /// Answers with `reply`.
    pub(super) async fn reply(&mut self, reply: LocalReply, route: Option<&Route>) -> After {
        // What is left of the request would have to be read and thrown away: the connection ends.
        // After a CONNECT that is not taken, nothing on the connection would be understood.
        let lingers = reply.closes
            || self.received.is_none()
            || self.upgrade != Upgrade::None
            || self.heads.request.method == Method::Connect;
        if lingers {
            self.persistence = Persistence::Close;
        }
        let connection = self.connection_header();
        reply.begin(&mut self.heads.response);
        self.mutate_response(route, Some(&reply));
        if send(self.client, self.heads, &reply, connection).await.is_err() {
            return After::Close;
        }
        self.count_response();
        match self.persistence {
            Persistence::KeepAlive => After::Next,
            Persistence::Close if lingers => After::Linger,
            Persistence::Close => After::Close,
        }
    }

    /// What `connection` says to the client; decides about the connection for good.
    pub(super) fn connection_header(&mut self) -> ConnectionHeader {
        let shard = self.client.shard;
        let stats = self.client.stats();
        if self.persistence == Persistence::KeepAlive && shard.draining() != Draining::No {
            stats.downstream_cx_drain_close.inc();
            self.persistence = Persistence::Close;
        }
        if self.persistence == Persistence::KeepAlive && self.client.is_worn_out(shard.clock.now())
        {
            self.persistence = Persistence::Close;
        }
        match (self.persistence, self.heads.request.version) {
            (Persistence::Close, _) => ConnectionHeader::Close,
            (Persistence::KeepAlive, Version::Http10) => ConnectionHeader::KeepAlive,
            (Persistence::KeepAlive, Version::Http11) => ConnectionHeader::Absent,
        }
    }

    /// Counts an answer that was sent whole.
    pub(super) fn count_response(&self) {
        count(self.client, self.heads.response.status);
    }

    /// What becomes of the connection after an answer that was sent whole.
    pub(super) const fn after(&self) -> After {
        match self.persistence {
            Persistence::KeepAlive => After::Next,
            // The client may be sending what is no request.
            Persistence::Close if matches!(self.upgrade, Upgrade::Allowed) => After::Linger,
            Persistence::Close => After::Close,
        }
    }
}
