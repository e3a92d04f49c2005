//! The connection after a 101, or a 2xx to CONNECT: relays bytes in both directions until both have
//! ended.
//!
//! Nothing is parsed or framed. Bytes that the client sent before the 101 are sent first. Each
//! direction ends on its own; Envoy ends both with the first. A client that has ended its direction
//! gets the grace period of any half-closed client.
//!
//! Invariant: as of a [`Lane`].

use super::attempt::{Interrupted, UpstreamResponse};
use super::deadlines::Timer;
use super::end::{ClientEnd, Ended};
use super::log::VIA_UPSTREAM;
use super::route::Route;
use super::upload::Upload;
use super::wait::{Interest, Ready};
use super::{Core, Exchange, Upgrade};
use crate::access_log::entry_type::EntryType;
use crate::http::{BodyLength, EndStream, Fault, FieldName, Method};
use crate::pipe::lane::{Lane, Step};
use crate::pipe::outlet::Framing;
use crate::upstream::connection::ClosedBy;
use crate::upstream::error::Error;
use crate::upstream::origin::Origin;

/// Whether the response in the exchange's head switches the connection to a tunnel.
///
/// RFC 9110 §9.3.6: "Any 2xx (Successful) response indicates that the sender (and all inbound
/// proxies) will switch to tunnel mode immediately after the response header section".
#[inline]
pub(super) fn switches(core: &Core<'_>) -> bool {
    let status = core.heads.response.status;
    let is_connect = core.heads.request.method == Method::Connect;
    // The requests of filters are no tunnels, whatever their method.
    let may_be_tunnel = core.upgrade == Upgrade::Allowed;
    status == 101 || (is_connect && may_be_tunnel && (200..300).contains(&status))
}

/// If a WebSocket handshake failed without an error status, removes the body of the response, as
/// Envoy does, and returns true.
pub(super) fn strip_failed_websocket(core: &mut Core<'_>, response: &mut UpstreamResponse) -> bool {
    let super::Heads { request, response: head, .. } = &mut *core.heads;
    let protocol = request.upgrade().filter(|_| core.upgrade == Upgrade::Allowed);
    let is_websocket = protocol.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"));
    if !is_websocket || head.status == 101 || head.status >= 400 {
        return false;
    }
    for name in [FieldName::ContentLength, FieldName::TransferEncoding, FieldName::ContentType] {
        head.fields.remove(name);
    }
    if request.method != Method::Head {
        response.length = BodyLength::Length(0);
        // Bytes of the body already received are not a protocol error of the host.
        head.discard_surplus();
    }
    true
}

/// Answers a request that is terminated here: the tunnel is open once its host is connected. What the host
/// sends in answer to a POST is the body of the response.
pub(super) fn open<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    mut origin: Origin,
    upload: &mut Upload,
) -> UpstreamResponse {
    let super::Heads { request, response, .. } = &mut *exchange.core.heads;
    response.status = 200;
    if request.method == Method::Connect {
        return UpstreamResponse { origin, length: BodyLength::None };
    }
    upload.half_close(&mut origin);
    UpstreamResponse { origin, length: BodyLength::UntilClose }
}

/// Sends the response in the exchange's head to the client, then relays everything else.
pub(super) async fn run<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    route: &Route,
    response: UpstreamResponse,
    attempts: Option<u32>,
) -> Ended {
    let UpstreamResponse { mut origin, length } = response;
    // As in Envoy, the route's timeout ends with the 101; `max_stream_duration` and the idle
    // timeout continue.
    for timer in [Timer::Request, Timer::Route, Timer::PerTry, Timer::PerTryIdle] {
        exchange.core.deadlines.set(timer, None);
    }
    exchange.core.note_status();
    exchange.begin_response_head(route, length, attempts);
    exchange.finish_response_head(length);
    let mut head = exchange.core.shard.buffers.take();
    let format = exchange.core.upstream_key_format;
    exchange.client.encode_head(exchange.core.heads, format, EndStream::No, &mut head);
    let buffers = exchange.core.shard.buffers;
    let mut down = Lane::new(Framing::Identity, head, buffers);
    let mut up = Lane::new(Framing::Identity, Vec::new(), buffers);
    origin.become_tunnel(&exchange.core.heads.response, &mut down.outlet);
    exchange.client.become_tunnel(&mut up.outlet);
    exchange.core.count_response();
    if exchange.core.service().manager.log_times.on_tunnel {
        exchange.core.log_now(EntryType::DownstreamTunnelSuccessfullyEstablished);
    }

    let relayed = relay(exchange, &mut origin, &mut up, &mut down).await;
    let (ended, by) = match relayed {
        Ok(First::Client) => {
            exchange.client.gone();
            (Ended::Over, ClosedBy::Us)
        }
        Ok(First::Origin) => {
            if matches!(origin, Origin::Http2(_)) && origin.failure().is_none() {
                exchange.core.note_details(VIA_UPSTREAM);
            } else {
                // Envoy resets the client's stream.
                note_failure(exchange, &origin);
            }
            exchange.core.stats().downstream_rq_rx_reset.inc();
            exchange.core.stats().downstream_rq_tx_reset.inc();
            (Ended::Over, ClosedBy::Host)
        }
        Err(Broken::Client) => {
            exchange.client.gone();
            // A client that has only half-closed still reads, and must notice that something is
            // missing.
            (Ended::Cut, ClosedBy::Us)
        }
        Err(Broken::Origin) => {
            note_failure(exchange, &origin);
            (Ended::Cut, ClosedBy::Host)
        }
        Err(Broken::Deadline(timer)) => {
            exchange.core.count_timeout(timer);
            exchange.core.note_timeout(timer);
            (Ended::Early, ClosedBy::Us)
        }
    };
    origin.close(by);
    exchange.core.upstream.body_bytes = up.outlet.taken_bytes();
    exchange.core.record.bytes_sent = down.outlet.taken_bytes();
    up.outlet.recycle();
    down.outlet.recycle();
    ended
}

fn note_failure<C: ClientEnd>(exchange: &mut Exchange<'_, C>, origin: &Origin) {
    let failure = origin.failure().unwrap_or(Error::ConnectionTermination);
    exchange.core.note_upstream_failure(failure);
}

/// Which side ended first.
#[derive(Clone, Copy)]
enum First {
    Client,
    Origin,
}

/// Why a tunnel was cut off.
enum Broken {
    Client,
    Origin,
    Deadline(Timer),
}

impl From<Interrupted> for Broken {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Deadline(timer) => Self::Deadline(timer),
            Interrupted::ClientGone => Self::Client,
        }
    }
}

/// Relays bytes until both directions have ended.
async fn relay<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    up: &mut Lane,
    down: &mut Lane,
) -> Result<First, Broken> {
    let io = Interest { client_in: true, origin_in: true, ..Interest::default() };
    let mut ready = Ready { io, ..Ready::default() };
    let mut first = First::Origin;
    loop {
        step_up(exchange, origin, up, ready.io.client_in)
            .map_err(|fault| broken(fault, Broken::Client, Broken::Origin))?;
        if up.has_ended() && !down.has_ended() {
            first = First::Client;
            exchange.client.half_close();
        }
        step_down(exchange, origin, down, ready.io.origin_in)
            .map_err(|fault| broken(fault, Broken::Origin, Broken::Client))?;
        // Over TLS the origin's connection may hold what was sent to it.
        let flushes = up.has_ended() && origin.has_unsent();
        if up.has_ended() && down.has_ended() && !flushes {
            return Ok(first);
        }
        let want = Interest {
            client_in: up.outlet.wants_source(),
            client_out: down.outlet.wants_sink(),
            origin_in: down.outlet.wants_source(),
            origin_out: up.outlet.wants_sink() || flushes,
        };
        exchange.begin_wait(want)?;
        ready = exchange.wait(Some(origin), want).await;
        if ready.client_gone {
            return Err(Broken::Client);
        }
        if ready.timed_out {
            exchange.core.upstream.body_bytes = up.outlet.taken_bytes();
            exchange.core.record.bytes_sent = down.outlet.taken_bytes();
            exchange.check_deadlines()?;
            if !ready.has_io() {
                continue;
            }
        }
        exchange.core.reset_idle_timer();
    }
}

fn step_up<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    up: &mut Lane,
    may_receive: bool,
) -> Result<(), Fault> {
    let Exchange { client, core } = exchange;
    let push = |lane: &mut Lane| origin.push(&mut lane.outlet, false);
    let pull = |lane: &mut Lane| client.pull(&mut lane.outlet);
    match up.step(may_receive, core.shard.budget(), push, pull)? {
        Step::Blocked => {}
        Step::Ends => origin.end_sending(),
        Step::Waits => client.give_blocks(),
    }
    Ok(())
}

fn step_down<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    down: &mut Lane,
    may_receive: bool,
) -> Result<(), Fault> {
    let Exchange { client, core } = exchange;
    let push = |lane: &mut Lane| client.push(&mut lane.outlet);
    let pull = |lane: &mut Lane| origin.pull(&mut lane.outlet);
    match down.step(may_receive, core.shard.budget(), push, pull)? {
        Step::Blocked => {}
        Step::Ends => client.end_sending(),
        Step::Waits => origin.give_blocks(),
    }
    Ok(())
}

const fn broken(fault: Fault, source: Broken, sink: Broken) -> Broken {
    match fault {
        Fault::Sink => sink,
        Fault::Source | Fault::Truncated | Fault::Malformed(_) | Fault::Replaced => source,
    }
}
