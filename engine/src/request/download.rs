//! Sends the response to the client, while the rest of the request may still go upstream.
//!
//! Invariant: a response that is incomplete upstream does not look complete to the client.

use super::attempt::{self, Failed, Interrupted, UpstreamResponse};
use super::charge;
use super::deadlines::Timer;
use super::end::{ClientEnd, Ended};
use super::filters::{Passage, Way};
use super::forward::give_back;
use super::log::VIA_UPSTREAM;
use super::reply::LocalReply;
use super::route::Route;
use super::upload::Upload;
use super::wait::{Interest, Ready, send_all};
use super::{Core, Exchange};
use crate::http::{BodyLength, EndStream, Fault, Misdeed, More, TrailerRules, Version};
use crate::pipe::outlet::{Framing, Outlet};
use crate::shard::clock::millis;
use crate::upstream::connection::ClosedBy;
use crate::upstream::error::Error;
use crate::upstream::origin::Origin;

/// Sends the response whose head is in the exchange.
pub(super) async fn deliver<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    route: &Route,
    response: UpstreamResponse,
    upload: &mut Upload,
    attempts: Option<u32>,
) -> Ended {
    let UpstreamResponse { mut origin, length } = response;
    exchange.core.start_timers(upload);
    exchange.core.start_try_idle_timer(upload);
    // Checked before the hop-by-hop fields are removed.
    let origin_stays =
        exchange.core.heads.response.keep_alive() && length != BodyLength::UntilClose;
    let counts_at_end = charge::waits_for_trailers(&exchange.core, length);
    // Over HTTP/1 a body with a length has none.
    let may_have_trailers = length == BodyLength::Chunked || matches!(origin, Origin::Http2(_));
    let trailers = may_have_trailers.then(|| {
        let origin = &origin.pool().cluster().http;
        origin.trailer_rules(exchange.core.passes_trailers(origin))
    });
    exchange.begin_response_head(route, length, attempts);
    let held = exchange.core.is_held_up();
    if held {
        // Boxed, so that the future of every other request stays small.
        let held = Box::pin(hold(exchange, &mut origin, (length, trailers), upload)).await;
        if let Err(broken) = held {
            return Box::pin(end_held(exchange, origin, broken)).await;
        }
    }
    let (framing, length_for_client) = exchange.finish_response_head(length);
    exchange.core.count_response();
    exchange.core.note_status();
    let mut out = exchange.core.shard.buffers.take();
    let format = exchange.core.upstream_key_format;
    let end_stream = EndStream::with(length_for_client);
    exchange.client.encode_head(exchange.core.heads, format, end_stream, &mut out);
    let limit = exchange.core.service().buffer_limit;
    let buffers = exchange.core.shard.buffers;
    let mut down = Outlet::new(length_for_client, framing, out, limit, buffers);
    // A filter has made it a response that has no body: what the origin sends of one is dropped with its connection.
    let is_dropped = length_for_client == BodyLength::None && length != BodyLength::None;
    let begun = if held || is_dropped {
        Ok(())
    } else {
        exchange.begin_response_body(&mut origin, length, trailers, &mut down)
    };
    let origin_stays = origin_stays && !is_dropped;
    let mut relayed = match begun {
        Ok(()) => relay(exchange, &mut origin, &mut down, upload).await,
        Err(fault) => Err(Broken::Response(fault)),
    };
    if let Err(Broken::Response(Fault::Malformed(_))) = relayed {
        // The client still gets what preceded the violation.
        exchange.core.arm();
        if send_all(&mut exchange.client, exchange.core.given, &mut down).await.is_err() {
            relayed = Err(Broken::Client);
        }
    }
    let ended = match relayed {
        Ok(()) => {
            let known = (length, origin_stays, counts_at_end);
            complete(exchange, origin, &down, upload, known)
        }
        Err(Broken::Unflushed) => {
            exchange.core.note_unflushed();
            complete(exchange, origin, &down, upload, (length, origin_stays, counts_at_end));
            Ended::Cut
        }
        Err(broken) => {
            let (ended, by) = end(exchange, &origin, &broken);
            origin.close(by);
            ended
        }
    };
    exchange.core.record.bytes_sent = down.taken_bytes();
    exchange.core.note_trailers(down.trailers());
    exchange.core.note_upstream_trailers(down.trailers());
    down.recycle();
    ended
}

/// The response is complete.
#[inline(always)]
fn complete<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: Origin,
    down: &Outlet,
    upload: &Upload,
    (length, origin_stays, counts_at_end): (BodyLength, bool, bool),
) -> Ended {
    if counts_at_end {
        let trailers = exchange.core.origin_trailers.as_deref();
        let trailers = trailers.unwrap_or_else(|| down.trailers());
        charge::grpc_trailers(origin.pool().host_stats(), trailers);
    }
    exchange.core.end_response(!exchange.core.is_complete());
    if upload.has_ended() {
        charge::time(origin.pool().stats(), &exchange.core);
    }
    let has_surplus = origin.has_surplus();
    if has_surplus {
        origin.pool().stats().upstream_cx_protocol_error.inc();
    }
    let by = if length == BodyLength::UntilClose { ClosedBy::Host } else { ClosedBy::Us };
    if !upload.is_done() {
        origin.close(by);
    } else if origin_stays && !has_surplus && origin.has_ended() {
        give_back(&exchange.core, origin);
    } else {
        origin.finish(by);
    }
    let is_received = upload.has_ended() && exchange.client.has_received_all();
    if is_received { Ended::Whole } else { Ended::Early }
}

/// Receives the body of a response whose head is held up in the filters, until the head has passed them.
async fn hold<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    (length, trailers): (BodyLength, Option<TrailerRules>),
    upload: &mut Upload,
) -> Result<(), Broken> {
    // Nothing gets as far as this.
    let (buffers, framing) = (exchange.core.shard.buffers, Framing::Identity);
    let mut down = Outlet::new(BodyLength::Chunked, framing, Vec::new(), 0, buffers);
    let mut begun = exchange.core.has_held_enough();
    while exchange.core.is_held_up() {
        if !std::mem::replace(&mut begun, true) {
            exchange
                .begin_response_body(origin, length, trailers, &mut down)
                .map_err(Broken::Response)?;
        }
        relay(exchange, origin, &mut down, upload).await?;
        if let Some(reply) = exchange.core.go_on_with_response_head(None, length) {
            return Err(Broken::Replaced(reply));
        }
    }
    exchange.core.complete_response_head();
    Ok(())
}

/// Ends an exchange whose response was cut off, or is to be replaced, before its head was sent.
async fn end_held<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: Origin,
    broken: Broken,
) -> Ended {
    let replaced = match broken {
        Broken::Replaced(reply) => Some(reply),
        Broken::Response(Fault::Replaced) => exchange.core.replacement.take(),
        broken => {
            let (ended, by) = end(exchange, &origin, &broken);
            origin.close(by);
            return ended;
        }
    };
    origin.close(ClosedBy::Us);
    match replaced {
        Some(reply) => exchange.reply_past_filters(reply).await,
        None => Ended::Cut,
    }
}

/// Why a response was cut off.
enum Broken {
    /// An error of the upstream body, or of either origin.
    Response(Fault),
    Deadline(Timer),
    /// The client has disconnected, or its request body is invalid.
    Client,
    /// The client did not take the rest of a response that was received in time.
    Unflushed,
    /// A filter has replaced it with this reply, before its head was sent.
    Replaced(Box<LocalReply>),
}

impl From<Interrupted> for Broken {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Deadline(timer) => Self::Deadline(timer),
            Interrupted::ClientGone => Self::Client,
        }
    }
}

/// Whether only the client keeps an exchange from its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flush {
    /// No: the response has not been received.
    NotBegun,
    /// The stream's only timer is how long the client may take.
    Timed,
    /// The timers of the connection go on.
    Untimed,
}

impl Core<'_> {
    /// The response has been received: only the client is waited for. On a stream that is limited as a whole,
    /// whether the client reads or not, and by nothing else.
    fn begin_flush(&mut self) -> Flush {
        //= envoy: the codec of HTTP/1 has no timeout for that
        if self.heads.request.version != Version::Http2 {
            return Flush::Untimed;
        }
        let of_route =
            self.record.route.and_then(Route::forward).and_then(|plan| plan.flush_timeout);
        let timeouts = &self.service().manager.timeouts;
        //= envoy: RouteAction.flush_timeout; the route's idle_timeout, which its documentation names as well,
        // has no effect here
        let limit = of_route.or(timeouts.stream_flush).or(timeouts.stream_idle);
        let limit = limit.filter(|limit| !limit.is_zero());
        let now = self.shard.clock.now();
        self.deadlines.set(Timer::StreamDuration, None);
        self.deadlines.set(Timer::StreamIdle, limit.map(|limit| now.saturating_add(millis(limit))));
        Flush::Timed
    }

    /// The client did not take the rest of its response in time. As in Envoy the request counts as answered.
    #[cold]
    fn note_unflushed(&mut self) {
        self.service().http2.shard(self.shard.id).tx_flush_timeout.inc();
        self.note_details(VIA_UPSTREAM);
    }
}

/// Relays the response, and the rest of the request, until the response is sent.
async fn relay<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    down: &mut Outlet,
    upload: &mut Upload,
) -> Result<(), Broken> {
    let mut ready = Ready::default();
    let mut flush = Flush::NotBegun;
    loop {
        step(exchange, origin, down, ready.io.origin_in)?;
        if down.is_done() || exchange.core.has_held_enough() {
            return Ok(());
        }
        let mut want = Interest {
            client_out: down.wants_sink(),
            origin_in: down.wants_source() && exchange.core.passage(Way::Response) == Passage::Open,
            ..Interest::default()
        };
        if upload.is_done() {
            if ready.io.client_in {
                exchange.client.receive_ahead().map_err(|_| Broken::Client)?;
            }
            want.client_in = exchange.client.listens_ahead();
        } else if let Some(uploading) = step_upload(exchange, origin, upload, ready)? {
            want.client_in = uploading.client_in;
            want.origin_out = uploading.origin_out;
        }
        down.give_block();
        exchange.core.start_timers(upload);
        exchange.core.start_try_idle_timer(upload);
        if down.has_ended() || exchange.core.origin_trailers.is_some() {
            // All of it was received in time; what is left is for the client, or a filter slows it down.
            exchange.core.stop_response_timers();
        }
        if flush == Flush::NotBegun && down.has_ended() {
            flush = exchange.core.begin_flush();
        }
        exchange.core.set_filter_timer();
        exchange.begin_wait(want)?;
        ready = exchange.wait(Some(origin), want).await;
        if ready.client_gone {
            exchange.client.gone();
            return Err(Broken::Client);
        }
        if ready.timed_out {
            exchange.core.record.bytes_sent = down.taken_bytes();
            match exchange.check_deadlines() {
                Err(Interrupted::Deadline(Timer::StreamIdle)) if flush == Flush::Timed => {
                    return Err(Broken::Unflushed);
                }
                checked => checked?,
            }
            if !ready.has_io() {
                continue;
            }
        }
        if flush != Flush::Timed {
            exchange.core.reset_idle_timer();
        }
        if ready.io.origin_in || ready.io.origin_out {
            exchange.core.reset_try_idle_timer();
        }
    }
}

/// Moves the response on until it would block or the budget is spent; always at least one step.
#[inline]
fn step<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    down: &mut Outlet,
    origin_in: bool,
) -> Result<(), Broken> {
    let mut may_receive = origin_in;
    loop {
        if down.wants_sink() {
            let sent = exchange.client.push(down).map_err(Broken::Response)?;
            if sent == 0 {
                return Ok(());
            }
        } else if !down.wants_source() {
            return Ok(());
        } else {
            match exchange.core.passage(Way::Response) {
                Passage::Open if may_receive => {
                    let more = exchange.pull_response(origin, down).map_err(Broken::Response)?;
                    may_receive = more == More::Likely;
                }
                Passage::Ready => {
                    exchange.core.advance(Way::Response, down).map_err(Broken::Response)?;
                }
                Passage::Open | Passage::Until(_) | Passage::Blocked => return Ok(()),
            }
        }
        if exchange.core.shard.budget().is_spent() {
            return Ok(());
        }
    }
}

/// Moves the rest of the request on. It is not an error if the host stops reading: its response
/// counts.
fn step_upload<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    upload: &mut Upload,
    ready: Ready,
) -> Result<Option<Interest>, Broken> {
    match attempt::step_upload(exchange, origin, upload, ready) {
        Ok(()) => Ok(Some(Interest {
            client_in: upload.wants_client()
                && exchange.core.passage(Way::Request) == Passage::Open,
            origin_out: upload.wants_origin(),
            ..Interest::default()
        })),
        Err(Failed::Upstream { .. }) => Ok(None),
        Err(Failed::Replied) => Err(Broken::Response(Fault::Replaced)),
        Err(_) => Err(Broken::Client),
    }
}

/// Counts a response that was cut off; returns how the exchange ends and who closes the upstream origin.
fn end<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &Origin,
    broken: &Broken,
) -> (Ended, ClosedBy) {
    if !matches!(broken, Broken::Client | Broken::Response(Fault::Sink)) {
        exchange.core.stats().downstream_rq_tx_reset.inc();
        exchange.core.stats().downstream_rq_rx_reset.inc();
    }
    match *broken {
        Broken::Response(Fault::Sink) => {
            exchange.client.gone();
            (Ended::Over, ClosedBy::Us)
        }
        // As in Envoy, it comes too late to be sent.
        Broken::Response(Fault::Replaced) => {
            if let Some(reply) = exchange.core.replacement.take() {
                exchange.core.note_details(reply.details);
            }
            (Ended::Cut, ClosedBy::Us)
        }
        Broken::Response(Fault::Malformed(reject)) if reject.misdeed == Misdeed::Content => {
            exchange.core.note_details(reject.details);
            (Ended::Cut, ClosedBy::Us)
        }
        Broken::Response(Fault::Malformed(_)) => {
            exchange.core.note_upstream_failure(Error::ProtocolError);
            origin.count_protocol_error();
            (Ended::Cut, ClosedBy::Us)
        }
        Broken::Response(Fault::Truncated | Fault::Source) => {
            let failure = origin.failure().unwrap_or(Error::ProtocolError);
            exchange.core.note_upstream_failure(failure);
            origin.count_protocol_error();
            (Ended::Cut, ClosedBy::Host)
        }
        Broken::Deadline(timer) => {
            exchange.core.note_timeout(timer);
            match timer {
                Timer::Route => {
                    origin.pool().stats().upstream_rq_timeout.inc();
                    exchange.core.groups.each(|stats| stats.upstream_rq_timeout.inc());
                    origin.pool().host_stats().rq_timeout.inc();
                }
                Timer::PerTryIdle => {
                    origin.pool().stats().upstream_rq_per_try_idle_timeout.inc();
                }
                Timer::UpstreamDuration => {
                    origin.pool().stats().upstream_rq_max_duration_reached.inc();
                }
                timer => exchange.core.count_timeout(timer),
            }
            (Ended::Cut, ClosedBy::Us)
        }
        // A client that has only half-closed still reads.
        Broken::Client | Broken::Replaced(_) | Broken::Unflushed => (Ended::Cut, ClosedBy::Us),
    }
}
