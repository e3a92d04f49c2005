//! Sends the response to the client, while the rest of the request may still go upstream.
//!
//! Invariant: a response that is incomplete upstream does not look complete to the client.

use super::attempt::{self, Failed, Interrupted, UpstreamResponse};
use super::body::{Fault, Framing, Pump};
use super::charge;
use super::deadlines::Timer;
use super::forward::give_back;
use super::route::Route;
use super::upload::Upload;
use super::{Exchange, response};
use crate::downstream::connection::{After, Interest, Ready};
use crate::http::TrailerRules;
use crate::http::{BodyLength, FieldName, Underscores};
use crate::upstream::connection::{ClosedBy, Connection};

/// Sends the response whose head is in the exchange.
pub(super) async fn deliver(
    exchange: &mut Exchange<'_>,
    route: &Route,
    response: UpstreamResponse,
    upload: &mut Upload,
    attempts: Option<u32>,
) -> After {
    let UpstreamResponse { connection, length } = response;
    exchange.start_timers(upload);
    exchange.start_try_idle_timer(upload);
    // Checked before the hop-by-hop fields are removed.
    let origin_stays = exchange.heads.response.keep_alive() && length != BodyLength::UntilClose;
    let framing = exchange.finish_response_head(route, length, attempts);
    exchange.count_response();
    let mut out = exchange.client.shard.buffers.take();
    response::encode(exchange, &mut out);
    let mut pump = Pump::new(&length, framing, out, exchange.client.buffer_limit());
    let origin = &connection.pool().cluster().http;
    if length == BodyLength::Chunked {
        pump.set_trailer_rules(TrailerRules {
            bytes_max: origin.head_limits.bytes_max,
            fields_max: origin.head_limits.fields_max,
            underscores: Underscores::Allow,
            kept: exchange.passes_trailers(origin),
        });
    }
    let early = exchange.heads.response.surplus();
    let taken = pump.take_early(early);
    let has_surplus = !matches!(taken, Ok(taken) if taken == early.len());
    let mut relayed = match taken {
        Ok(_) => relay(exchange, &connection, &mut pump, upload).await,
        Err(fault) => Err(Broken::Response(fault)),
    };
    if let Err(Broken::Response(Fault::Malformed(_))) = relayed {
        // The client still gets what preceded the violation.
        exchange.arm();
        if exchange.client.send_all(pump.unsent()).await.is_err() {
            relayed = Err(Broken::Client);
        }
    }
    let after = match relayed {
        Ok(()) => {
            exchange.end_response(!exchange.is_complete());
            if upload.has_ended() {
                charge::time(connection.pool().stats(), exchange);
            }
            let has_surplus = has_surplus || !pump.surplus().is_empty();
            if has_surplus {
                connection.pool().stats().upstream_cx_protocol_error.inc();
            }
            let by = if length == BodyLength::UntilClose { ClosedBy::Host } else { ClosedBy::Us };
            if !upload.is_done() {
                connection.close(by);
            } else if origin_stays && !has_surplus {
                give_back(exchange, connection);
            } else {
                connection.finish(by);
            }
            if upload.has_ended() { exchange.after() } else { After::Linger }
        }
        Err(broken) => {
            let (after, by) = end(exchange, &connection, &broken, framing);
            connection.close(by);
            after
        }
    };
    pump.recycle(exchange.client.shard.buffers);
    after
}

/// Why a response was cut off.
enum Broken {
    /// An error of the upstream body, or of either connection.
    Response(Fault),
    Deadline(Timer),
    /// The client has disconnected, or its request body is invalid.
    Client,
}

impl From<Interrupted> for Broken {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Deadline(timer) => Self::Deadline(timer),
            Interrupted::ClientGone => Self::Client,
        }
    }
}

/// Relays the response, and the rest of the request, until the response is sent.
async fn relay(
    exchange: &mut Exchange<'_>,
    connection: &Connection,
    pump: &mut Pump,
    upload: &mut Upload,
) -> Result<(), Broken> {
    let mut ready = Ready::default();
    loop {
        step(exchange, connection, pump, ready.io.origin_in, upload.has_ended())?;
        if pump.is_done() {
            return Ok(());
        }
        let mut want = Interest {
            client_out: pump.wants_sink(),
            origin_in: pump.wants_source(),
            ..Interest::default()
        };
        if upload.is_done() {
            if ready.io.client_in {
                exchange.client.receive_ahead().map_err(|_| Broken::Client)?;
            }
            want.client_in = exchange.client.listens_ahead();
        } else if let Some(uploading) = step_upload(exchange, connection, upload, ready)? {
            want.client_in = uploading.client_in;
            want.origin_out = uploading.origin_out;
        }
        exchange.start_timers(upload);
        exchange.start_try_idle_timer(upload);
        exchange.begin_wait(want)?;
        ready = exchange.client.wait(Some(connection.socket()), want).await;
        if ready.client_gone {
            exchange.client.gone();
            return Err(Broken::Client);
        }
        if ready.timed_out {
            exchange.check_deadlines()?;
        }
        exchange.reset_idle_timer();
        if ready.io.origin_in || ready.io.origin_out {
            exchange.reset_try_idle_timer();
        }
    }
}

/// Moves the response on until it would block or the budget is spent; always at least one step.
fn step(
    exchange: &mut Exchange<'_>,
    connection: &Connection,
    pump: &mut Pump,
    origin_in: bool,
    request_ended: bool,
) -> Result<(), Broken> {
    // A connection that closes after this response would have to wait for the turn of the ring
    // first.
    let may_post = request_ended && exchange.keeps_connection();
    let mut may_receive = origin_in;
    loop {
        if may_post
            && exchange.client.socket.may_post()
            && let Some(response) = pump.take_whole()
        {
            exchange.client.count_sent(response.len());
            exchange.client.socket.post(response);
        } else if pump.wants_sink() {
            let sent = pump.push(&exchange.client.socket).map_err(Broken::Response)?;
            exchange.client.count_sent(sent);
            if sent == 0 {
                return Ok(());
            }
        } else if pump.wants_source() && may_receive {
            let pulled = pump.pull(connection.socket(), exchange.client.shard.buffers);
            let pulled = pulled.map_err(Broken::Response)?;
            connection.pool().count_received(pulled.bytes);
            may_receive = pulled.more_likely;
        } else {
            return Ok(());
        }
        if exchange.client.shard.budget().is_spent() {
            return Ok(());
        }
    }
}

/// Moves the rest of the request on. It is not an error if the host stops reading: its response
/// counts.
fn step_upload(
    exchange: &mut Exchange<'_>,
    connection: &Connection,
    upload: &mut Upload,
    ready: Ready,
) -> Result<Option<Interest>, Broken> {
    match attempt::step_upload(exchange, connection, upload, ready) {
        Ok(()) => Ok(Some(Interest {
            client_in: upload.wants_client(),
            origin_out: upload.wants_origin(),
            ..Interest::default()
        })),
        Err(Failed::Upstream { .. }) => Ok(None),
        Err(_) => Err(Broken::Client),
    }
}

/// Counts a response that was cut off; returns what to do with the two connections.
fn end(
    exchange: &mut Exchange<'_>,
    connection: &Connection,
    broken: &Broken,
    framing: Framing,
) -> (After, ClosedBy) {
    if !matches!(broken, Broken::Client | Broken::Response(Fault::Sink(_))) {
        exchange.client.stats().downstream_rq_tx_reset.inc();
        exchange.client.stats().downstream_rq_rx_reset.inc();
    }
    // A body that ends with the close of the connection would look complete after an orderly close.
    let by_close = framing == Framing::Identity
        && !exchange.heads.response.fields.has(FieldName::ContentLength);
    let cut = if by_close { After::Reset } else { After::Close };
    match *broken {
        Broken::Response(Fault::Sink(_)) => {
            exchange.client.gone();
            (After::Close, ClosedBy::Us)
        }
        Broken::Response(Fault::Malformed(_)) => {
            connection.pool().stats().upstream_cx_protocol_error.inc();
            (cut, ClosedBy::Us)
        }
        Broken::Response(Fault::Truncated | Fault::Source(_)) => {
            connection.pool().stats().upstream_cx_protocol_error.inc();
            (cut, ClosedBy::Host)
        }
        Broken::Deadline(timer) => {
            match timer {
                Timer::Route => {
                    connection.pool().stats().upstream_rq_timeout.inc();
                    connection.pool().host_stats().rq_timeout.inc();
                }
                Timer::PerTryIdle => {
                    connection.pool().stats().upstream_rq_per_try_idle_timeout.inc();
                }
                timer => exchange.count_timeout(timer),
            }
            (cut, ClosedBy::Us)
        }
        // A client that has only half-closed still reads.
        Broken::Client => (cut, ClosedBy::Us),
    }
}
