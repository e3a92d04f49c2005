//! One attempt: sends the request to one host and receives the head of its response.
//!
//! It does not decide whether to retry (`retry/`), or what the client gets.
//!
//! Invariant: a connection on which anything unexpected happened is closed, never returned to the
//! pool.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use super::charge;
use super::deadlines::Timer;
use super::end::ClientEnd;
use super::filters::{Passage, Way};
use super::retry::Reset;
use super::upload::Upload;
use super::wait::{Interest, Ready};
use super::{Exchange, Interim, Upgrade, response};
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, Fault, HeadLimits, Method, Misdeed, More, Reject};
use crate::limits;
use crate::upstream::connection::ClosedBy;
use crate::upstream::error::Error;
use crate::upstream::origin::{HeadReceived, Origin};
use crate::upstream::pool::Pool;
use crate::upstream::pool_key::Speaks;

/// A host's response. The head, and what was received together with it, is in the exchange's
/// response head.
#[derive(Debug)]
pub(super) struct UpstreamResponse {
    /// The origin, from which the rest of the body is still to be received.
    pub(super) origin: Origin,
    /// How the body ends.
    pub(super) length: BodyLength,
}

/// Why an attempt got no response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    /// An error on the upstream side.
    Upstream {
        /// The error.
        error: Error,
        /// How much of the request had been sent.
        sent: Sent,
    },
    /// The cluster has no host that may be used.
    NoHealthyHost,
    /// A timer expired.
    Deadline(Timer),
    /// The client has disconnected.
    ClientGone,
    /// The framing of the request body is invalid.
    ClientError(Reject),
    /// A filter of the cluster has replied: the reply is in the exchange.
    Replied,
}

impl Failed {
    /// What the attempt is for the retry policy, and whether the host may have seen the request.
    pub(super) fn reset(self) -> Option<(Reset, bool)> {
        match self {
            Self::Upstream { error, sent } => {
                let reset = match error {
                    Error::Overflow => Reset::Overflow,
                    Error::LocalConnectionFailure
                    | Error::RemoteConnectionFailure(_)
                    | Error::TlsFailure(_) => Reset::ConnectFailure,
                    Error::ConnectionTimeout => Reset::ConnectTimeout,
                    Error::ConnectionTermination => Reset::ConnectionTermination,
                    Error::ProtocolError => Reset::ProtocolError,
                    Error::RemoteRefusedStreamReset => Reset::RefusedStream,
                    Error::RemoteReset => Reset::RemoteReset,
                };
                Some((reset, sent != Sent::Nothing))
            }
            Self::Deadline(Timer::PerTry | Timer::PerTryIdle) => Some((Reset::PerTryTimeout, true)),
            Self::Deadline(Timer::UpstreamDuration) => Some((Reset::LocalReset, true)),
            Self::Deadline(_)
            | Self::NoHealthyHost
            | Self::ClientGone
            | Self::ClientError(_)
            | Self::Replied => None,
        }
    }
}

/// Why a wait of an exchange ended before what it waited for came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Interrupted {
    /// A timer expired.
    Deadline(Timer),
    /// The client has disconnected.
    ClientGone,
}

impl From<Interrupted> for Failed {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Deadline(timer) => Self::Deadline(timer),
            Interrupted::ClientGone => Self::ClientGone,
        }
    }
}

/// How much of a request had been sent when its attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    /// The host has seen none of it.
    Nothing,
    /// It was sent on a reused connection, and not one byte was received: the host may have closed
    /// the connection at the same moment.
    OnStaleConnection,
    /// The host has seen it, and says that it has not processed it.
    NotProcessed,
    /// The host may have seen it.
    Something,
}

/// Waits for a connection of `pool`. Fails if a timer expires or the client disconnects meanwhile.
pub(super) async fn lease<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    pool: &Rc<Pool>,
) -> Result<Origin, Failed> {
    // One packet may bring a request and its reset.
    if exchange.client.was_reset() {
        return Err(exchange.client_gone().into());
    }
    if pool.speaks() != Speaks::Http1 {
        // Boxed, so that the future of every other request stays small.
        return wait_for(exchange, Box::pin(pool.lease_shared()).as_mut()).await;
    }
    wait_for(exchange, pin!(pool.lease())).await.map(Origin::Http1)
}

async fn wait_for<T, C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    mut lease: Pin<&mut impl Future<Output = Result<T, Error>>>,
) -> Result<T, Failed> {
    loop {
        exchange.begin_wait(Interest::default())?;
        let (client, given) = (&exchange.client, exchange.core.given);
        let listens = client.listens_ahead();
        let woken = poll_fn(|cx| {
            if let Poll::Ready(leased) = lease.as_mut().poll(cx) {
                return Poll::Ready(Woken::Leased(leased));
            }
            if listens && client.poll_in(cx).is_ready() {
                return Poll::Ready(Woken::Client);
            }
            if !listens && client.poll_gone(cx).is_ready() {
                return Poll::Ready(Woken::ClientGone);
            }
            given.alarm.poll_expired(cx).map(|()| Woken::TimedOut)
        });
        match woken.await {
            Woken::Leased(leased) => {
                return leased.map_err(|error| Failed::Upstream { error, sent: Sent::Nothing });
            }
            Woken::Client => exchange.client.receive_ahead().map_err(|_| Failed::ClientGone)?,
            Woken::ClientGone => return Err(exchange.client_gone().into()),
            Woken::TimedOut => exchange.check_deadlines()?,
        }
    }
}

/// Gets a new connection for a tunnel, never a reused one: the host of a tunnel need not speak
/// HTTP.
pub(super) async fn lease_new<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    pool: &Rc<Pool>,
) -> Result<Origin, Failed> {
    if pool.speaks() != Speaks::Http1 {
        let leased = wait_for(exchange, Box::pin(pool.lease_for_tunnel()).as_mut()).await;
        return leased.map(Origin::Http1);
    }
    loop {
        let origin = lease(exchange, pool).await?;
        if !origin.is_reused() {
            return Ok(origin);
        }
        origin.close(ClosedBy::Us);
    }
}

/// Gives the connection back when the circuit breaker allows no further request.
pub(super) fn overflow(pool: &Rc<Pool>, origin: Origin) -> Failed {
    pool.host_stats().rq_error.inc();
    origin.give_back();
    Failed::Upstream { error: Error::Overflow, sent: Sent::Nothing }
}

enum Woken<T> {
    Leased(Result<T, Error>),
    Client,
    ClientGone,
    TimedOut,
}

/// Sends the request to `origin` and receives the head of the final response.
pub(super) async fn run<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: Origin,
    upload: &mut Upload,
    limits: &HeadLimits,
) -> Result<UpstreamResponse, Failed> {
    let (host_state, closed_by) = (HostState::Silent, ClosedBy::Us);
    let mut attempt = Attempt { origin, host_state, closed_by, interim: 0, limits };
    let mut ready = Ready::default();
    ready.io.client_in = upload.wants_client();
    loop {
        let mut receives = ready.io.origin_in;
        if let Err(failed) = step_upload(exchange, &mut attempt.origin, upload, ready) {
            // The host may respond, and close, before it has read the whole request.
            if !matches!(failed, Failed::Upstream { .. }) {
                return Err(attempt.fail(failed));
            }
            receives = true;
        }
        if receives && let Err(failed) = attempt.receive(exchange) {
            return Err(attempt.fail(failed));
        }
        match attempt.parse(exchange, upload) {
            Ok(Some(length)) => {
                if !exchange.core.heads.response.keep_alive() {
                    attempt.origin.pool().stats().upstream_cx_close_notify.inc();
                }
                exchange.core.reset_idle_timer();
                exchange.core.reset_try_idle_timer();
                return Ok(UpstreamResponse { origin: attempt.origin, length });
            }
            Ok(None) => {}
            Err(failed) => return Err(attempt.fail(failed)),
        }
        exchange.core.start_timers(upload);
        exchange.core.start_try_timers(upload);
        let want = Interest {
            origin_in: true,
            origin_out: upload.wants_origin(),
            client_in: (upload.wants_client()
                && exchange.core.passage(Way::Request) == Passage::Open)
                || (upload.has_ended() && exchange.client.listens_ahead()),
            client_out: false,
        };
        exchange.core.set_filter_timer();
        if let Err(interrupted) = exchange.begin_wait(want) {
            return Err(attempt.fail(interrupted.into()));
        }
        ready = exchange.wait(Some(&attempt.origin), want).await;
        if ready.client_gone {
            return Err(attempt.fail(exchange.client_gone().into()));
        }
        if ready.timed_out
            && let Err(interrupted) = exchange.check_deadlines()
        {
            return Err(attempt.fail(interrupted.into()));
        }
        // As in Envoy, an incomplete head does not restart the idle timers.
        if ready.io.client_in || ready.io.origin_out {
            exchange.core.reset_idle_timer();
        }
        if ready.io.origin_out {
            exchange.core.reset_try_idle_timer();
        }
    }
}

/// Moves the request on until it would block or the budget is spent; always at least one step.
pub(super) fn step_upload<C: ClientEnd>(
    exchange: &mut Exchange<'_, C>,
    origin: &mut Origin,
    upload: &mut Upload,
    ready: Ready,
) -> Result<(), Failed> {
    let mut may_receive = ready.io.client_in;
    loop {
        if upload.wants_origin() {
            let sent = upload.push(origin).map_err(|fault| upload_fault(exchange, fault))?;
            if sent == 0 {
                break;
            }
        } else if !upload.wants_client() {
            break;
        } else {
            match exchange.core.passage(Way::Request) {
                Passage::Open if may_receive => {
                    let more = exchange.pull_request(upload);
                    let more = more.map_err(|fault| upload_fault(exchange, fault))?;
                    may_receive = more == More::Likely;
                }
                Passage::Ready => {
                    let moved = exchange.core.advance(Way::Request, upload);
                    moved.map_err(|fault| upload_fault(exchange, fault))?;
                }
                Passage::Open | Passage::Until(_) | Passage::Blocked => break,
            }
        }
        if exchange.core.shard.budget().is_spent() {
            break;
        }
    }
    upload.half_close(origin);
    upload.rest();
    if upload.has_ended() && ready.io.client_in && may_receive && exchange.client.listens_ahead() {
        exchange.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
    }
    Ok(())
}

pub(super) fn upload_fault<C: ClientEnd>(exchange: &mut Exchange<'_, C>, fault: Fault) -> Failed {
    match fault {
        Fault::Sink => Failed::Upstream {
            error: Error::ConnectionTermination,
            sent: Sent::Something, // corrected in `Attempt::fail`, which knows the connection
        },
        Fault::Source => exchange.client_gone().into(),
        Fault::Truncated => {
            exchange.client.half_close();
            exchange.client_gone().into()
        }
        Fault::Malformed(reject) => {
            if reject.misdeed == Misdeed::Underscore {
                let http1 = exchange.core.service().http1.shard(exchange.core.shard.id);
                http1.requests_rejected_with_underscores_in_headers.inc();
            }
            Failed::ClientError(reject)
        }
        Fault::Replaced => Failed::Replied,
    }
}

/// Whether the host has sent anything yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HostState {
    Silent,
    Answering,
}

struct Attempt<'a> {
    origin: Origin,
    host_state: HostState,
    closed_by: ClosedBy,
    interim: usize,
    limits: &'a HeadLimits,
}

impl Attempt<'_> {
    /// Receives once from the host.
    #[inline]
    fn receive<C: ClientEnd>(&mut self, exchange: &mut Exchange<'_, C>) -> Result<(), Failed> {
        match self.origin.receive_head(exchange.core.heads) {
            HeadReceived::Bytes => {
                self.host_state = HostState::Answering;
                Ok(())
            }
            HeadReceived::Nothing => Ok(()),
            HeadReceived::End => {
                self.closed_by = ClosedBy::Host;
                // As in Envoy, a truncated head is a protocol error; no bytes at all are a closed
                // connection.
                let silent = exchange.core.heads.response.received().is_empty();
                let error =
                    if silent { Error::ConnectionTermination } else { Error::ProtocolError };
                Err(Failed::Upstream { error, sent: Sent::Something })
            }
            HeadReceived::Failed(error @ Error::RemoteRefusedStreamReset) => {
                Err(Failed::Upstream { error, sent: Sent::NotProcessed })
            }
            HeadReceived::Failed(error) => Err(Failed::Upstream { error, sent: Sent::Something }),
        }
    }

    /// Parses the head; returns how the body ends once the head of the final response is complete.
    #[inline]
    fn parse<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
        upload: &Upload,
    ) -> Result<Option<BodyLength>, Failed> {
        let broken = Failed::Upstream { error: Error::ProtocolError, sent: Sent::Something };
        let format = exchange.core.upstream_key_format;
        let keeps_case = matches!(format, HeaderKeyFormat::PreserveCase(_));
        loop {
            let next = self.origin.next_head(exchange.core.heads, self.limits, keeps_case);
            let Some(length) = next.map_err(|_| broken)? else { return Ok(None) };
            let head = &exchange.core.heads.response;
            //= rfc9110#section-15.2.2: a 101 is valid only if the client asked for an upgrade, and not
            // before the whole request has been sent.
            let switches = head.status == 101
                && exchange.core.upgrade == Upgrade::Allowed
                && exchange.core.heads.request.method != Method::Connect
                && head.upgrade().is_some()
                && upload.is_done();
            if head.status >= 200 || switches {
                return Ok(Some(length));
            }
            self.interim += 1;
            if head.status == 101 || self.interim > limits::INTERIM_RESPONSES_MAX {
                return Err(broken);
            }
            self.take_interim(exchange)?;
            exchange.core.heads.response.advance();
        }
    }

    /// Handles the interim response in the response head. As in Envoy, only the first one of a
    /// known status counts; it is forwarded to the client if `proxy_100_continue` is set.
    fn take_interim<C: ClientEnd>(&self, exchange: &mut Exchange<'_, C>) -> Result<(), Failed> {
        let status = exchange.core.heads.response.status;
        if exchange.core.interim == Interim::Received || !matches!(status, 100 | 102..=104) {
            return Ok(());
        }
        exchange.core.interim = Interim::Received;
        exchange.core.deadlines.set(Timer::PerTry, None);
        charge::interim(self.origin.pool().stats(), &exchange.core, status);
        if exchange.core.service().manager.proxy_100_continue {
            exchange.core.reset_idle_timer();
            response::forward_interim(exchange)?;
        }
        Ok(())
    }

    /// Closes the connection and completes the error with how much of the request had been sent.
    fn fail(self, failed: Failed) -> Failed {
        let failed = match failed {
            Failed::Upstream { error: error @ Error::ConnectionTermination, .. }
                if self.origin.is_reused() && self.host_state == HostState::Silent =>
            {
                Failed::Upstream { error, sent: Sent::OnStaleConnection }
            }
            Failed::Upstream { error: Error::ProtocolError, .. } => {
                self.origin.count_protocol_error();
                failed
            }
            _ => failed,
        };
        self.origin.close(self.closed_by);
        failed
    }
}
