//! HTTP/2 with a client: many requests at once, on one connection. Read `serve` first.
//!
//! The frames are `crate::http2`'s, what the streams share is `crate::session`'s, and what becomes of a
//! request is decided in `crate::request`, in a task of its own.
//!
//! Invariant: a stream counts against the limit of concurrent streams until its exchange has ended, so a
//! client that resets its requests gets no more of them served at once than any other.

mod active;
mod end;
mod lifetime;
mod resets;

use std::rc::Rc;

use self::active::ActiveRequest;
use self::end::End;
use self::lifetime::{Lifetime, TooLate};
use self::resets::Resets;
use super::closing::{self, Ending};
use super::connection::Client;
use crate::http::BodyLength;
use crate::http2::{self, Block, Cause, ConnectionError, Event, Flood, RequestLimits};
use crate::pipe::heads::Heads;
use crate::request;
use crate::session::{Broken, Incoming, Session, Stream, Until, counts};
use crate::shard::socket::Received;
use crate::stats::Http2Stats;
use crate::transport::Transport;

/// Serves one client until either side closes the connection. `early` was received already.
pub(super) async fn serve(client: Client, transport: Transport, early: Vec<u8>) {
    let mut connection = Connection::new(client, transport, early);
    let ended = connection.run().await;
    connection.close(ended).await;
}

/// What the connection and the tasks of its streams share.
#[derive(Debug)]
struct Shared {
    client: Client,
    resets: Resets,
}

impl Shared {
    fn http2_stats(&self) -> &Http2Stats {
        let given = &self.client.given;
        given.service.http2.shard(given.shard.id)
    }
}

/// An HTTP/2 connection with a client.
struct Connection {
    shared: Rc<Shared>,
    session: Rc<Session>,
    incoming: Incoming,
    lifetime: Lifetime,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    /// In order: no stream is open.
    InOrder,
    /// The client has gone.
    ByClient,
    /// The client has violated the protocol, or an attack is suspected.
    ByViolation,
    /// The client does not answer.
    TooLate,
}

impl Connection {
    fn new(client: Client, transport: Transport, early: Vec<u8>) -> Self {
        let given = &client.given;
        let manager = &given.service.manager;
        let trailers = manager.trailer_rules(true);
        client.begin_http2();
        given.service.http2.shard(given.shard.id).nghttp2_downstream_connections.inc();
        let codec = http2::Connection::server(&manager.http2);
        let session = Session::new(given.shard, transport, codec, trailers);
        let lifetime = Lifetime::new(given);
        let incoming = Incoming::new(early);
        let shared = Rc::new(Shared { client, resets: Resets::default() });
        Self { shared, session, incoming, lifetime }
    }

    async fn run(&mut self) -> Ended {
        loop {
            if let Err(error) = self.take_events() {
                return self.violated(error);
            }
            let given = &self.shared.client.given;
            if self.shared.resets.are_too_many(&given.service.manager.premature_resets) {
                return self.violated(ConnectionError::premature_resets());
            }
            let streams = self.session.streams();
            match self.lifetime.step(given, streams, &self.session) {
                Ok(()) => {}
                Err(TooLate::Head) => return self.violated(ConnectionError::slow_head()),
                Err(TooLate::Ping) => {
                    self.stats().keepalive_timeout.inc();
                    return Ended::TooLate;
                }
            }
            self.session.count(self.stats());
            match self.session.flush() {
                Ok(sent) => given.count_sent(sent),
                Err(_) => return Ended::ByClient,
            }
            if self.lifetime.is_over() && streams == 0 {
                return Ended::InOrder;
            }
            self.lifetime.arm(given, streams);
            self.session.show_waiting(self.stats());
            self.session.wait(&mut self.incoming, &given.alarm, Until::Work).await;
            match self.session.receive(&mut self.incoming) {
                Ok(Received::Bytes(bytes)) => {
                    given.count_received(bytes);
                    self.lifetime.heard(given.shard.clock.now());
                }
                Ok(Received::Nothing) => {}
                // As in Envoy, a client that sends no more has gone: it could not open a window either.
                Ok(Received::End) | Err(_) => return Ended::ByClient,
            }
        }
    }

    /// Handles everything that was received.
    fn take_events(&mut self) -> Result<(), ConnectionError> {
        while let Some(event) = self.session.next_event(&mut self.incoming)? {
            match event {
                Event::Head(block) => self.begin_request(&block)?,
                Event::PingAck(opaque) => {
                    let given = &self.shared.client.given;
                    self.lifetime.take_ack(given, opaque, &self.session);
                }
                // As in Envoy, the connection stays.
                Event::GoAway { .. } | Event::PeerSettings => {}
                Event::Data { .. }
                | Event::Trailers(_)
                | Event::Reset { .. }
                | Event::WindowOpened { .. } => {
                    debug_assert!(false, "the session handles {event:?}")
                }
            }
        }
        Ok(())
    }

    /// Begins the request whose head has arrived, in a task of its own.
    fn begin_request(&mut self, block: &Block) -> Result<(), ConnectionError> {
        let given = &self.shared.client.given;
        let mut heads = given.service.stream_heads.take();
        heads.began = given.shard.clock.now();
        let manager = &given.service.manager;
        let limits = RequestLimits { head: &manager.limits, underscores: manager.underscores };
        let head = &mut heads.request;
        // As in Envoy, one that is refused counts as well.
        let active = ActiveRequest::begin(Rc::clone(&self.shared));
        let begun = self.session.begin_request(block, &mut self.incoming, head, limits);
        let begun = begun.inspect_err(|_| self.shared.client.interrupt())?;
        let Some((stream, body)) = begun else {
            given.service.stream_heads.give(heads);
            return Ok(());
        };
        given.shard.budget().charge_request(heads.request.received().len());
        given.shard.spawn_pooled(move || answer(active, stream, heads, body));
        self.shared.client.count_request();
        let requests = self.shared.client.requests();
        self.lifetime.count_request(given, requests, &self.session);
        Ok(())
    }

    /// Ends the connection with GOAWAY. Envoy sends none for many of these errors.
    ///
    /// RFC 9113 §5.4.1: "An endpoint that encounters a connection error SHOULD first send a GOAWAY frame".
    fn violated(&self, error: ConnectionError) -> Ended {
        let given = &self.shared.client.given;
        tracing::debug!(target: "http2", "{}: {error}", given.peer);
        match error.cause {
            Cause::Flood(flood) => self.count_flood(flood),
            Cause::Frame(_) | Cause::Block(_) | Cause::Message(_) => {
                given.stats().downstream_cx_protocol_error.inc();
            }
        }
        self.session.codec(|codec| codec.fail(&error));
        self.session.count(self.stats());
        Ended::ByViolation
    }

    fn stats(&self) -> &Http2Stats {
        self.shared.http2_stats()
    }

    fn count_flood(&self, flood: Flood) {
        let stats = self.shared.client.given.stats();
        match flood {
            Flood::PrematureResets => {
                stats.downstream_rq_too_many_premature_resets.inc();
                stats.downstream_cx_protocol_error.inc();
            }
            Flood::Resets | Flood::HeaderBlock => stats.downstream_cx_protocol_error.inc(),
            // As in Envoy, these are not errors of the protocol.
            Flood::Outbound
            | Flood::OutboundControl
            | Flood::InboundEmpty
            | Flood::InboundPriority
            | Flood::InboundWindowUpdate => {}
        }
        counts::flood(self.stats(), flood);
    }

    async fn close(&self, ended: Ended) {
        let Self { shared, session, .. } = self;
        let client = &shared.client;
        let has_half_a_head = session.codec(|codec| codec.begins_request());
        if has_half_a_head {
            drop(ActiveRequest::begin(Rc::clone(shared)));
        }
        if has_half_a_head || session.streams() > 0 {
            client.interrupt();
        }
        if ended == Ended::ByClient {
            client.gone();
        }
        session.fail_all(Broken::ConnectionLost);
        if ended != Ended::ByClient {
            closing::set_alarm(client);
            session.flush_all(&client.given.alarm).await;
            closing::linger(self).await;
        }
    }
}

impl Ending for Connection {
    fn client(&self) -> &Client {
        &self.shared.client
    }

    fn transport(&self) -> &Transport {
        self.session.transport()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.show_ended(self.stats());
        self.session.fail_all(Broken::ConnectionLost);
    }
}

/// Answers one request.
async fn answer(active: ActiveRequest, stream: Stream, mut heads: Box<Heads>, body: BodyLength) {
    let given = active.shared().client.given.for_stream();
    let end = || End::new(&stream, &active, body);
    request::serve(end, &given, &mut heads, body).await;
    given.service.stream_heads.give(heads);
}
