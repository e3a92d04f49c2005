//! The answer on its way to the client, while the rest of the request may still go the other way.
//!
//! Invariant: an answer that does not end as its origin announced does not end cleanly for the
//! client either.

use super::attempt::{self, Answer, Failed};
use super::body::{Fault, Framing, Pump};
use super::charge;
use super::deadlines::Passed;
use super::forward::give_back;
use super::route::Route;
use super::upload::Upload;
use super::{Exchange, answer};
use crate::downstream::connection::{After, Interest, Ready};
use crate::http::TrailerRules;
use crate::http::{BodyLength, FieldName, Underscores};
use crate::upstream::connection::{ClosedBy, Connection};

/// Sends the answer that stands in the exchange's response head.
pub(super) async fn deliver(
    x: &mut Exchange<'_>,
    route: &Route,
    answer: Answer,
    upload: &mut Upload,
    attempts: Option<u32>,
) -> After {
    let Answer { connection, length } = answer;
    x.start_timers(upload);
    x.start_try_idle_timer(upload);
    // Asked before the hop-by-hop fields go.
    let origin_stays = x.heads.response.keep_alive() && length != BodyLength::UntilClose;
    let framing = x.finish_response_head(route, length, attempts);
    x.count_response();
    let mut out = x.client.shard.buffers.take();
    answer::encode(x, &mut out);
    let mut pump = Pump::new(&length, framing, out, x.client.buffer_limit());
    let origin = &connection.pool().cluster().http;
    if length == BodyLength::Chunked {
        pump.mind_trailers(TrailerRules {
            bytes_max: origin.head_limits.bytes_max,
            fields_max: origin.head_limits.fields_max,
            underscores: Underscores::Allow,
            kept: x.passes_trailers(origin),
        });
    }
    let early = x.heads.response.surplus();
    let taken = pump.take_early(early);
    let has_surplus = !matches!(taken, Ok(taken) if taken == early.len());
    let mut relayed = match taken {
        Ok(_) => relay(x, &connection, &mut pump, upload).await,
        Err(fault) => Err(Broken::Answer(fault)),
    };
    if let Err(Broken::Answer(Fault::Malformed(_))) = relayed {
        // What came before the misdeed is the client's.
        x.arm();
        if x.client.send_all(pump.unsent()).await.is_err() {
            relayed = Err(Broken::Client);
        }
    }
    let after = match relayed {
        Ok(()) => {
            x.end_answer(!x.is_complete());
            if upload.has_ended() {
                charge::time(connection.pool().stats(), x);
            }
            let has_surplus = has_surplus || !pump.surplus().is_empty();
            if has_surplus {
                connection.pool().stats().upstream_cx_protocol_error.inc();
            }
            let by = if length == BodyLength::UntilClose { ClosedBy::Host } else { ClosedBy::Us };
            if !upload.is_done() {
                connection.close(by);
            } else if origin_stays && !has_surplus {
                give_back(x, connection);
            } else {
                connection.finish(by);
            }
            if upload.has_ended() { x.after() } else { After::Linger }
        }
        Err(broken) => {
            let (after, by) = end(x, &connection, &broken, framing);
            connection.close(by);
            after
        }
    };
    pump.recycle(x.client.shard.buffers);
    after
}

/// Why an answer broke off.
enum Broken {
    /// The origin, or the way to the client.
    Answer(Fault),
    Deadline(Passed),
    /// The client has gone, or its request is malformed.
    Client,
}

/// Moves the answer, and what is left of the request, until the answer is sent.
async fn relay(
    x: &mut Exchange<'_>,
    connection: &Connection,
    pump: &mut Pump,
    upload: &mut Upload,
) -> Result<(), Broken> {
    let mut ready = Ready::default();
    loop {
        step(x, connection, pump, ready.io.origin_in, upload.has_ended())?;
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
                x.client.receive_ahead().map_err(|_| Broken::Client)?;
            }
            want.client_in = x.client.listens_ahead();
        } else if let Some(uploading) = step_upload(x, connection, upload, ready)? {
            want.client_in = uploading.client_in;
            want.origin_out = uploading.origin_out;
        }
        x.start_timers(upload);
        x.start_try_idle_timer(upload);
        if pump.wants_sink() {
            x.set_alarm(x.client.shard.clock.now());
        } else {
            x.begin_wait().map_err(|_| Broken::Client)?;
        }
        ready = x.client.wait(Some(connection.socket()), want).await;
        if ready.client_gone {
            x.client.gone();
            return Err(Broken::Client);
        }
        if ready.timed_out {
            x.check_deadlines().map_err(|failed| match failed {
                Failed::Deadline(passed) => Broken::Deadline(passed),
                _ => Broken::Client,
            })?;
        }
        x.touch();
        if ready.io.origin_in || ready.io.origin_out {
            x.touch_try();
        }
    }
}

/// Moves the answer on, as far as it goes without waiting and the budget lasts; one step at least.
fn step(
    x: &mut Exchange<'_>,
    connection: &Connection,
    pump: &mut Pump,
    origin_in: bool,
    request_ended: bool,
) -> Result<(), Broken> {
    // A connection that ends with this answer would wait for the turn before it can be closed.
    let may_post = request_ended && x.keeps_connection();
    let mut may_receive = origin_in;
    loop {
        if may_post
            && x.client.socket.may_post()
            && let Some(answer) = pump.take_whole()
        {
            x.client.count_sent(answer.len());
            x.client.socket.post(answer);
        } else if pump.wants_sink() {
            let sent = pump.push(&x.client.socket).map_err(Broken::Answer)?;
            x.client.count_sent(sent);
            if sent == 0 {
                return Ok(());
            }
        } else if pump.wants_source() && may_receive {
            let pulled = pump.pull(connection.socket(), x.client.shard.buffers);
            let pulled = pulled.map_err(Broken::Answer)?;
            connection.pool().count_received(pulled.bytes);
            may_receive = pulled.more_likely;
        } else {
            return Ok(());
        }
        if x.client.shard.budget().is_spent() {
            return Ok(());
        }
    }
}

/// Moves the rest of the request on. An origin that reads no more is no error: its answer counts.
fn step_upload(
    x: &mut Exchange<'_>,
    connection: &Connection,
    upload: &mut Upload,
    ready: Ready,
) -> Result<Option<Interest>, Broken> {
    match attempt::step_upload(x, connection, upload, ready) {
        Ok(()) => Ok(Some(Interest {
            client_in: upload.wants_client(),
            origin_out: upload.wants_origin(),
            ..Interest::default()
        })),
        Err(Failed::Upstream { .. }) => Ok(None),
        Err(_) => Err(Broken::Client),
    }
}

/// Counts the end of an answer that broke off; says what becomes of the two connections.
fn end(
    x: &mut Exchange<'_>,
    connection: &Connection,
    broken: &Broken,
    framing: Framing,
) -> (After, ClosedBy) {
    if !matches!(broken, Broken::Client | Broken::Answer(Fault::Sink(_))) {
        x.client.stats().downstream_rq_tx_reset.inc();
        x.client.stats().downstream_rq_rx_reset.inc();
    }
    // A body that only the close ends would look whole if the connection were closed in peace.
    let by_close =
        framing == Framing::Identity && !x.heads.response.fields.has(FieldName::ContentLength);
    let cut = if by_close { After::Reset } else { After::Close };
    match *broken {
        Broken::Answer(Fault::Sink(_)) => {
            x.client.gone();
            (After::Close, ClosedBy::Us)
        }
        Broken::Answer(Fault::Malformed(_)) => {
            connection.pool().stats().upstream_cx_protocol_error.inc();
            (cut, ClosedBy::Us)
        }
        Broken::Answer(Fault::Truncated | Fault::Source(_)) => {
            connection.pool().stats().upstream_cx_protocol_error.inc();
            (cut, ClosedBy::Host)
        }
        Broken::Deadline(passed) => {
            match passed {
                Passed::Route => {
                    connection.pool().stats().upstream_rq_timeout.inc();
                    connection.pool().host_stats().rq_timeout.inc();
                }
                Passed::PerTryIdle => {
                    connection.pool().stats().upstream_rq_per_try_idle_timeout.inc();
                }
                passed => x.count_timeout(passed),
            }
            (cut, ClosedBy::Us)
        }
        // One that has only half-closed still reads.
        Broken::Client => (cut, ClosedBy::Us),
    }
}
