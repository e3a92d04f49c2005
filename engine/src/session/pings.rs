//! `connection_keepalive`: PINGs, and how long the peer may take to answer.

use std::cell::Cell;

use super::Session;
use crate::http2::Keepalive;
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};

/// The PINGs of one connection.
#[derive(Debug)]
pub struct Pings {
    keepalive: Option<Keepalive>,
    shard: &'static Shard,
    /// When the next one is sent; none: it is not known yet, or there is none.
    next: Cell<Option<Millis>>,
    /// When the peer must have answered the one that was sent.
    deadline: Cell<Option<Millis>>,
    /// When anything was received last.
    received: Cell<Millis>,
}

/// The peer has not answered in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unanswered;

/// The opaque data of each PING.
pub const KEEPALIVE: u64 = 0x6b65_6570_616c_6976;

impl Pings {
    /// Those of a connection that begins now.
    #[must_use]
    pub fn new(keepalive: Option<Keepalive>, shard: &'static Shard, now: Millis) -> Self {
        let pings = Self {
            keepalive,
            shard,
            next: Cell::new(None),
            deadline: Cell::new(None),
            received: Cell::new(now),
        };
        pings.schedule(now);
        pings
    }

    /// When [`Self::step`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Millis> {
        self.deadline.get().or_else(|| self.next.get())
    }

    /// Sends the next one, if its time has come.
    ///
    /// # Errors
    /// The answer to the last one is missing.
    pub fn step(&self, now: Millis, session: &Session) -> Result<(), Unanswered> {
        let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if passed(self.deadline.get()) {
            return Err(Unanswered);
        }
        if passed(self.next.get()) {
            self.send(now, session);
        }
        Ok(())
    }

    /// Something was received: as in Envoy, the answer may take its whole time again.
    pub fn heard(&self, now: Millis) {
        self.received.set(now);
        if let (Some(_), Some(keepalive)) = (self.deadline.get(), self.keepalive) {
            self.deadline.set(Some(now.saturating_add(millis(keepalive.timeout))));
        }
    }

    /// The answer has come.
    pub fn answered(&self, now: Millis) {
        self.deadline.set(None);
        self.schedule(now);
    }

    /// Asks whether a connection that was silent for long is still alive, before a request uses it.
    pub fn before_request(&self, session: &Session) {
        let now = self.shard.clock.now();
        let idle = self.keepalive.and_then(|keepalive| keepalive.connection_idle_interval);
        let silent = now.saturating_sub(self.received.get());
        if idle.is_some_and(|idle| silent >= millis(idle)) && self.deadline.get().is_none() {
            self.send(now, session);
        }
    }

    fn send(&self, now: Millis, session: &Session) {
        let Some(keepalive) = self.keepalive else { return };
        session.write(|codec| codec.ping(KEEPALIVE));
        self.next.set(None);
        self.deadline.set(Some(now.saturating_add(millis(keepalive.timeout))));
    }

    fn schedule(&self, now: Millis) {
        let Some(keepalive) = self.keepalive else { return };
        let Some(interval) = keepalive.interval.map(millis) else { return };
        let jitter = interval.saturating_mul(u64::from(keepalive.interval_jitter_percent)) / 100;
        let jitter = self.shard.random.borrow_mut().u64(..=jitter);
        self.next.set(Some(now.saturating_add(interval).saturating_add(jitter)));
    }
}
