//! The connection after a 101, or a 2xx to CONNECT: relays bytes in both directions until both have
//! ended.
//!
//! Nothing is parsed or framed. Bytes that the client sent before the 101 are sent first. Each
//! direction ends on its own; Envoy ends both with the first. A client that has ended its direction
//! gets the grace period of any half-closed client.
//!
//! Invariant: a direction receives nothing before its buffered bytes are sent, and holds no buffer
//! while it waits.

use super::attempt::{Interrupted, UpstreamResponse};
use super::body::{Fault, Framing, Pump};
use super::deadlines::Timer;
use super::end::{ClientEnd, Ended};
use super::route::Route;
use super::wait::{Interest, Ready};
use super::{Core, Exchange, Upgrade};
use crate::http::{BodyLength, FieldName, Method};
use crate::shard::buffers::Buffers;
use crate::transport::Transport;
use crate::upstream::connection::{ClosedBy, Connection};

/// Whether the response in the exchange's head switches the connection to a tunnel.
///
/// RFC 9110 §9.3.6: "Any 2xx (Successful) response indicates that the sender (and all inbound
/// proxies) will switch to tunnel mode immediately after the response header section".
pub(super) fn switches(core: &Core<'_>) -> bool {
    let status = core.heads.response.status;
    status == 101 || (core.heads.request.method == Method::Connect && (200..300).contains(&status))
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

/// Sends the response in the exchange's head to the client, then relays everything else.
pub(super) async fn run<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    route: &Route,
    response: UpstreamResponse,
    attempts: Option<u32>,
) -> Ended {
    let UpstreamResponse { connection, length } = response;
    // As in Envoy, the route's timeout ends with the 101; `max_stream_duration` and the idle
    // timeout continue.
    for timer in [Timer::Request, Timer::Route, Timer::PerTry, Timer::PerTryIdle] {
        exchange.core.deadlines.set(timer, None);
    }
    exchange.finish_response_head(route, length, attempts);
    let mut head = exchange.core.shard.buffers.take();
    let format = exchange.core.upstream_key_format;
    exchange.client.encode_head(exchange.core.heads, format, &mut head);
    let mut down = Direction::new(head);
    let mut up = Direction::new(Vec::new());
    down.take_early(exchange.core.heads.response.surplus());
    up.take_early(exchange.client.early());
    exchange.client.early().clear();
    exchange.core.count_response();

    let relayed = relay(exchange, &connection, &mut up, &mut down).await;
    let (ended, by) = match relayed {
        Ok(First::Client) => {
            exchange.client.gone();
            (Ended::Over, ClosedBy::Us)
        }
        Ok(First::Origin) => {
            // Envoy resets the client's stream.
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
        Err(Broken::Origin) => (Ended::Cut, ClosedBy::Host),
        Err(Broken::Deadline(timer)) => {
            exchange.core.count_timeout(timer);
            (Ended::Early, ClosedBy::Us)
        }
    };
    connection.close(by);
    up.recycle(exchange.core.shard.buffers);
    down.recycle(exchange.core.shard.buffers);
    ended
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
    connection: &Connection,
    up: &mut Direction,
    down: &mut Direction,
) -> Result<First, Broken> {
    let origin = connection.socket();
    let io = Interest { client_in: true, origin_in: true, ..Interest::default() };
    let mut ready = Ready { io, ..Ready::default() };
    let mut first = First::Origin;
    loop {
        let buffers = &exchange.core.shard.buffers;
        let moved = up.step(exchange.client.transport(), origin, ready.io.client_in, buffers);
        let moved = moved.map_err(|fault| broken(&fault, Broken::Client, Broken::Origin))?;
        exchange.core.given.count_received(moved.received);
        connection.pool().count_sent(moved.sent);
        if up.has_ended() && !down.has_ended() {
            first = First::Client;
            exchange.client.half_close();
        }
        let moved = down.step(origin, exchange.client.transport(), ready.io.origin_in, buffers);
        let moved = moved.map_err(|fault| broken(&fault, Broken::Origin, Broken::Client))?;
        connection.pool().count_received(moved.received);
        exchange.core.given.count_sent(moved.sent);
        if up.has_ended() && down.has_ended() {
            return Ok(first);
        }
        let want = Interest {
            client_in: up.pump.wants_source(),
            client_out: down.pump.wants_sink(),
            origin_in: down.pump.wants_source(),
            origin_out: up.pump.wants_sink(),
        };
        exchange.begin_wait(want)?;
        ready = exchange.wait(Some(origin), want).await;
        if ready.client_gone {
            return Err(Broken::Client);
        }
        if ready.timed_out {
            exchange.check_deadlines()?;
        }
        exchange.core.reset_idle_timer();
    }
}

const fn broken(fault: &Fault, source: Broken, sink: Broken) -> Broken {
    match fault {
        Fault::Sink(_) => sink,
        Fault::Source(_) | Fault::Truncated | Fault::Malformed(_) => source,
    }
}

/// One direction of a tunnel.
struct Direction {
    pump: Pump,
    fin: Fin,
}

/// Whether the end of the direction has been signalled to the sink.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fin {
    Pending,
    Sent,
}

/// The bytes that a step moved.
struct Moved {
    received: usize,
    sent: usize,
}

impl Direction {
    /// `out` is sent first.
    fn new(out: Vec<u8>) -> Self {
        Self {
            pump: Pump::new(&BodyLength::UntilClose, Framing::Identity, out, 0),
            fin: Fin::Pending,
        }
    }

    fn take_early(&mut self, early: &[u8]) {
        let taken = self.pump.take_early(early);
        debug_assert!(taken.is_ok(), "bytes without framing cannot be invalid");
    }

    fn has_ended(&self) -> bool {
        self.fin == Fin::Sent
    }

    /// Moves bytes until it would block or the budget is spent. It is always at least one step, or
    /// the other direction could use up the budget forever.
    fn step(
        &mut self,
        source: &Transport,
        sink: &Transport,
        mut may_receive: bool,
        buffers: &Buffers,
    ) -> Result<Moved, Fault> {
        let mut moved = Moved { received: 0, sent: 0 };
        loop {
            if self.pump.wants_sink() {
                let sent = self.pump.push(sink)?;
                moved.sent += sent;
                if sent == 0 {
                    return Ok(moved);
                }
            } else if self.pump.wants_source() && may_receive {
                let pulled = self.pump.pull(source, buffers)?;
                moved.received += pulled.bytes;
                may_receive = pulled.more_likely;
            } else {
                break;
            }
            if source.budget().is_spent() {
                break;
            }
        }
        if self.pump.is_done() && self.fin == Fin::Pending {
            sink.shutdown_write();
            self.fin = Fin::Sent;
        } else if self.pump.wants_source() {
            std::mem::replace(&mut self.pump, Self::new(Vec::new()).pump).recycle(buffers);
        }
        Ok(moved)
    }

    fn recycle(self, buffers: &Buffers) {
        self.pump.recycle(buffers);
    }
}
