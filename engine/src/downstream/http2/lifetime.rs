//! How long a connection lasts: its timers, and the two steps in which it goes away.
//!
//! The first GOAWAY announces the end without refusing anything: requests that are on their way are still
//! served. After `drain_timeout` the second one names the last stream that is served; if the process
//! drains, as soon as the client has answered the PING sent with the first. The connection ends with its
//! last stream.

use crate::http2::{ErrorCode, Last, StreamId};
use crate::limits;
use crate::request::given::Given;
use crate::session::Session;
use crate::session::pings::{KEEPALIVE, Pings, Unanswered};
use crate::shard::clock::{Millis, millis};
use crate::shard::drain::Draining;

/// The timers of a connection.
#[derive(Debug)]
pub(super) struct Lifetime {
    phase: Phase,
    /// Since when no stream is open.
    idle_since: Millis,
    /// The stream of the header block that is still incomplete, and when it began.
    block_began: Option<(StreamId, Millis)>,
    pings: Pings,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serving,
    /// The first GOAWAY is sent; the second follows at this time.
    GoingAway(Millis),
    /// The second GOAWAY is sent.
    Leaving,
}

/// The opaque data of the PING that is sent with the first GOAWAY.
const FAREWELL: u64 = 0x676f_696e_6720_6177;

/// Why a connection goes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    Idle,
    Duration,
    Requests,
    Drain,
}

/// What the client did not do in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TooLate {
    /// To complete a header block.
    Head,
    /// To answer a PING.
    Ping,
}

impl Lifetime {
    pub(super) fn new(given: &Given) -> Self {
        let idle_since = given.shard.clock.now();
        let options = given.service.manager.http2.keepalive;
        let pings = Pings::new(options, given.shard, idle_since);
        Self { phase: Phase::Serving, idle_since, block_began: None, pings }
    }

    /// Whether the connection ends with its last stream.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// Counts a request.
    pub(super) fn count_request(&mut self, given: &Given, requests: u32, session: &Session) {
        let most = given.service.manager.max_requests_per_connection;
        if most.is_some_and(|most| requests >= most) {
            given.stats().downstream_cx_max_requests_reached.inc();
            self.go_away(given, Why::Requests, session);
        }
    }

    /// Something was received: the client has more time to answer a PING.
    pub(super) fn heard(&self, now: Millis) {
        self.pings.heard(now);
    }

    /// The client has answered a PING.
    pub(super) fn take_ack(&mut self, given: &Given, opaque: u64, session: &Session) {
        if opaque == KEEPALIVE {
            self.pings.answered(given.shard.clock.now());
        }
        if opaque == FAREWELL
            && given.shard.draining() == Draining::Process
            && matches!(self.phase, Phase::GoingAway(_))
        {
            self.leave(session);
        }
    }

    /// Takes the steps whose time has come.
    ///
    /// # Errors
    /// When the client is too late with something.
    pub(super) fn step(
        &mut self,
        given: &Given,
        streams: usize,
        session: &Session,
    ) -> Result<(), TooLate> {
        let now = given.shard.clock.now();
        if streams > 0 {
            self.idle_since = now;
        }
        let unfinished = session.codec(|codec| codec.unfinished_block());
        if self.block_began.map(|(stream, _)| stream) != unfinished {
            self.block_began = unfinished.map(|stream| (stream, now));
        }
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if passed(self.head_at(given)) {
            return Err(TooLate::Head);
        }
        self.pings.step(now, session).map_err(|Unanswered| TooLate::Ping)?;
        match self.phase {
            Phase::Serving if drains(given, streams) => self.go_away(given, Why::Drain, session),
            Phase::Serving if passed(self.idle_at(given, streams)) => {
                self.go_away(given, Why::Idle, session);
            }
            Phase::Serving if passed(given.expires_at()) => {
                self.go_away(given, Why::Duration, session);
            }
            Phase::GoingAway(at) if at <= now => self.leave(session),
            // The client may have answered the PING before the drain.
            Phase::GoingAway(at) if given.shard.draining() == Draining::Process => {
                let latest = now.saturating_add(limits::DRAIN_IDLE_GRACE_MS);
                self.phase = Phase::GoingAway(at.min(latest));
            }
            Phase::Serving | Phase::GoingAway(_) | Phase::Leaving => {}
        }
        Ok(())
    }

    /// Sets the alarm to the next step.
    pub(super) fn arm(&self, given: &Given, streams: usize) {
        let phase = match self.phase {
            Phase::Serving => [self.idle_at(given, streams), given.expires_at()],
            Phase::GoingAway(at) => [Some(at), None],
            Phase::Leaving => [None, None],
        };
        let next = phase.into_iter().chain([self.head_at(given), self.pings.due()]).flatten().min();
        given.alarm.set(next, given.shard.clock.now());
    }

    fn go_away(&mut self, given: &Given, why: Why, session: &Session) {
        if self.phase != Phase::Serving {
            return;
        }
        let stats = given.stats();
        match why {
            Why::Idle => stats.downstream_cx_idle_timeout.inc(),
            Why::Duration => stats.downstream_cx_max_duration_reached.inc(),
            Why::Requests => {}
            Why::Drain => stats.downstream_cx_drain_close.inc(),
        }
        session.write(|codec| {
            codec.go_away(Last::Unlimited, ErrorCode::NoError);
            codec.ping(FAREWELL);
        });
        let drain = millis(given.service.manager.timeouts.drain);
        let grace = match given.shard.draining() {
            Draining::Process => drain.min(limits::DRAIN_IDLE_GRACE_MS),
            _ => drain,
        };
        self.phase = Phase::GoingAway(given.shard.clock.now().saturating_add(grace));
    }

    fn leave(&mut self, session: &Session) {
        session.write(|codec| codec.go_away(Last::Seen, ErrorCode::NoError));
        self.phase = Phase::Leaving;
    }

    /// When `idle_timeout` ends a connection without streams.
    fn idle_at(&self, given: &Given, streams: usize) -> Option<Millis> {
        let idle = given.service.manager.timeouts.idle.filter(|_| streams == 0)?;
        Some(self.idle_since.saturating_add(millis(idle)))
    }

    /// When `request_headers_timeout` ends the wait for the rest of a header block.
    fn head_at(&self, given: &Given) -> Option<Millis> {
        let most = given.service.manager.timeouts.request_headers?;
        let (_, began) = self.block_began?;
        Some(began.saturating_add(millis(most)))
    }
}

/// Whether the connection goes away because of a drain. If the process will end, at once; if its listener
/// drains, not before the next request, as in Envoy.
fn drains(given: &Given, streams: usize) -> bool {
    given.is_draining() && (given.shard.draining() == Draining::Process || streams > 0)
}
