//! How long a connection lasts: its timers, and the two steps in which it goes away.
//!
//! The first GOAWAY announces the end without refusing anything: requests that are on their way are still
//! served. After `drain_timeout` the second one names the last stream that is served; if the process
//! drains, as soon as the client has answered the PING sent with the first. The connection ends with its
//! last stream.

use crate::http2::{ErrorCode, Last};
use crate::limits;
use crate::request::given::Given;
use crate::session::Session;
use crate::shard::clock::{Millis, millis};
use crate::shard::drain::Draining;

/// The timers of a connection.
#[derive(Debug)]
pub(super) struct Lifetime {
    phase: Phase,
    /// Since when no stream is open.
    idle_since: Millis,
    /// When the header block began that is still incomplete.
    block_began: Option<Millis>,
    keepalive: Keepalive,
}

/// The PINGs of `connection_keepalive`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keepalive {
    Off,
    /// The next one is due at this time.
    Idle(Millis),
    /// The last one is to be answered by this time.
    Waiting(Millis),
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

/// The opaque data of the PINGs of `connection_keepalive`.
const KEEPALIVE: u64 = 0x6b65_6570_616c_6976;

impl Lifetime {
    pub(super) fn new(given: &Given) -> Self {
        let idle_since = given.shard.clock.now();
        let mut lifetime = Self {
            phase: Phase::Serving,
            idle_since,
            block_began: None,
            keepalive: Keepalive::Off,
        };
        lifetime.schedule_ping(given);
        lifetime
    }

    /// Whether the connection ends with its last stream.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// Counts a request.
    pub(super) fn count_request(&mut self, given: &Given, requests: u32, session: &Session) {
        let most = given.service.manager.max_requests_per_connection;
        if most.is_some_and(|most| requests >= most) {
            self.go_away(given, Why::Requests, session);
        }
    }

    /// The client has answered a PING.
    pub(super) fn take_ack(&mut self, given: &Given, opaque: u64, session: &Session) {
        if opaque == KEEPALIVE {
            self.schedule_ping(given);
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
        if !session.codec(|codec| codec.expects_continuation()) {
            self.block_began = None;
        } else if self.block_began.is_none() {
            self.block_began = Some(now);
        }
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if passed(self.head_at(given)) {
            return Err(TooLate::Head);
        }
        self.ping(given, session)?;
        match self.phase {
            Phase::Serving if given.is_draining() => self.go_away(given, Why::Drain, session),
            Phase::Serving if passed(self.idle_at(given, streams)) => {
                self.go_away(given, Why::Idle, session);
            }
            Phase::Serving if passed(expires_at(given)) => {
                self.go_away(given, Why::Duration, session);
            }
            Phase::GoingAway(at) if at <= now => self.leave(session),
            Phase::Serving | Phase::GoingAway(_) | Phase::Leaving => {}
        }
        Ok(())
    }

    /// Sets the alarm to the next step.
    pub(super) fn arm(&self, given: &Given, streams: usize) {
        let phase = match self.phase {
            Phase::Serving => [self.idle_at(given, streams), expires_at(given)],
            Phase::GoingAway(at) => [Some(at), None],
            Phase::Leaving => [None, None],
        };
        let ping = match self.keepalive {
            Keepalive::Off => None,
            Keepalive::Idle(at) | Keepalive::Waiting(at) => Some(at),
        };
        let next = phase.into_iter().chain([self.head_at(given), ping]).flatten().min();
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
            Why::Requests => stats.downstream_cx_max_requests_reached.inc(),
            Why::Drain => stats.downstream_cx_drain_close.inc(),
        }
        session.codec(|codec| {
            codec.go_away(Last::Unlimited, ErrorCode::NoError);
            codec.ping(FAREWELL);
        });
        session.wake();
        let drain = millis(given.service.manager.timeouts.drain);
        let grace = match given.shard.draining() {
            Draining::Process => drain.min(limits::DRAIN_IDLE_GRACE_MS),
            _ => drain,
        };
        self.phase = Phase::GoingAway(given.shard.clock.now().saturating_add(grace));
    }

    /// Sends the PING that is due.
    fn ping(&mut self, given: &Given, session: &Session) -> Result<(), TooLate> {
        let now = given.shard.clock.now();
        let options = given.service.manager.http2.keepalive;
        match (self.keepalive, options) {
            (Keepalive::Idle(at), Some(options)) if at <= now => {
                session.codec(|codec| codec.ping(KEEPALIVE));
                session.wake();
                self.keepalive = Keepalive::Waiting(now.saturating_add(millis(options.timeout)));
            }
            (Keepalive::Waiting(at), _) if at <= now => return Err(TooLate::Ping),
            _ => {}
        }
        Ok(())
    }

    fn schedule_ping(&mut self, given: &Given) {
        let Some(options) = given.service.manager.http2.keepalive else { return };
        let Some(interval) = options.interval.map(millis) else { return };
        let jitter = interval.saturating_mul(options.interval_jitter_percent.into()) / 100;
        let jitter = given.shard.random.borrow_mut().u64(..=jitter);
        let at = given.shard.clock.now().saturating_add(interval).saturating_add(jitter);
        self.keepalive = Keepalive::Idle(at);
    }

    fn leave(&mut self, session: &Session) {
        session.codec(|codec| codec.go_away(Last::Seen, ErrorCode::NoError));
        session.wake();
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
        Some(self.block_began?.saturating_add(millis(most)))
    }
}

/// When `max_connection_duration` ends a connection.
fn expires_at(given: &Given) -> Option<Millis> {
    let most = given.service.manager.timeouts.max_connection_duration?;
    Some(given.opened.saturating_add(millis(most)))
}
