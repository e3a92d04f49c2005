//! What a filter waits for before the head of the request goes on: a time, a body, or an answer.

use super::body::Passage;
use super::{Piece, Wait, Way};
use crate::http::More;
use crate::request::attempt::{self, Failed};
use crate::request::deadlines::Timer;
use crate::request::end::{ClientEnd, Ended};
use crate::request::reply::LocalReply;
use crate::request::wait::Interest;
use crate::request::{Exchange, Outcome};
use crate::shard::clock::Millis;

/// What happens when a filter holds as much of a body as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WhenFull {
    /// The request is answered with 413.
    Refuse,
    /// What it holds is dropped.
    Drop,
    /// The filter goes on.
    GoOn,
}

/// Why a filter has waited in vain.
enum Unmet {
    /// The body is too large.
    TooLarge,
    Client(Failed),
}

impl From<Failed> for Unmet {
    fn from(failed: Failed) -> Self {
        Self::Client(failed)
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Waits for what the next filter wants. An error is how the request ends instead.
    pub(super) async fn wait_for_filter(&mut self, wait: Wait) -> Result<(), Outcome> {
        let waited = match wait {
            Wait::Body { bytes_max } => self.hold_body(bytes_max, WhenFull::Refuse).await,
            Wait::BodyUpTo { bytes } => self.hold_body(bytes, WhenFull::GoOn).await,
            Wait::Call => self.wait_for_call().await.map_err(Unmet::from),
            Wait::CallOrBody => self.wait_for_call_or_body().await.map_err(Unmet::from),
            Wait::End => self.hold_body(0, WhenFull::Drop).await,
            Wait::Until(time) => self.wait_until(time).await.map_err(Unmet::from),
        };
        waited.map_err(|unmet| match unmet {
            Unmet::TooLarge => {
                // As in Envoy, only what filters of the connection manager refuse.
                if !self.core.waits_upstream() {
                    self.core.stats().downstream_rq_too_large.inc();
                }
                Outcome::reply(LocalReply::too_large())
            }
            Unmet::Client(Failed::ClientError(error)) => {
                self.core.stats().downstream_cx_protocol_error.inc();
                Outcome::reply(LocalReply::protocol_error(error))
            }
            Unmet::Client(Failed::Replied) => match self.core.replacement.take() {
                Some(reply) => Outcome::Reply(reply),
                None => Outcome::Done(Ended::Over),
            },
            Unmet::Client(Failed::Deadline(timer)) => Outcome::reply(self.core.timed_out(timer)),
            Unmet::Client(_) => Outcome::Done(Ended::Over),
        })
    }

    /// Waits for a time. Meanwhile the client may disconnect, and a timer may end the request.
    async fn wait_until(&mut self, time: Millis) -> Result<(), Failed> {
        self.core.arm();
        while self.core.shard.clock.now() < time {
            self.core.deadlines.set(Timer::Filter, Some(time));
            let want = Interest { client_in: self.client.listens_ahead(), ..Interest::default() };
            if self.wait_once(want).await?.client_in {
                self.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
        }
        Ok(())
    }

    /// Receives the request body until its end. It has passed the filters before the one that waits.
    async fn hold_body(&mut self, bytes_max: usize, when_full: WhenFull) -> Result<(), Unmet> {
        let manager = &self.core.service().manager;
        if self.core.client_may_send_trailers() {
            self.client.set_trailer_rules(manager.trailer_rules(true));
        }
        let received = self.receive_into_filter(bytes_max, when_full).await;
        if when_full != WhenFull::Drop {
            self.core.upstream.body_bytes = self.core.held_bytes() as u64;
        }
        received?;
        self.note_received();
        Ok(())
    }

    /// Notes that the filter that waits has all of the request, if it has.
    pub(super) fn note_received(&mut self) {
        if !self.core.holds_end() {
            return;
        }
        let now = self.core.shard.clock.now();
        self.core.received.get_or_insert(now);
        self.core.deadlines.set(Timer::Request, None);
    }

    async fn receive_into_filter(
        &mut self,
        bytes_max: usize,
        when_full: WhenFull,
    ) -> Result<(), Unmet> {
        // What waits before it came first.
        self.hold(Piece::default())?;
        let mut piece = self.core.take_piece();
        let taken = self.receive_at_hand(&mut piece);
        self.hold(piece)?;
        taken.map_err(|fault| attempt::upload_fault(self, fault))?;
        self.core.arm();
        loop {
            match when_full {
                WhenFull::Refuse if self.core.held_bytes() > bytes_max => {
                    return Err(Unmet::TooLarge);
                }
                WhenFull::GoOn if self.core.held_bytes() >= bytes_max => return Ok(()),
                WhenFull::Drop => self.core.upstream.body_bytes += self.core.drop_held_bytes(),
                WhenFull::Refuse | WhenFull::GoOn => {}
            }
            if self.core.holds_end() {
                return Ok(());
            }
            self.core.set_filter_timer();
            let client_in = self.core.passage(Way::Request) == Passage::Open;
            self.wait_once(Interest { client_in, ..Interest::default() }).await?;
            self.hold(Piece::default())?;
            while self.core.passage(Way::Request) == Passage::Open {
                let mut piece = self.core.take_piece();
                let more = self.client.pull(&mut piece);
                self.hold(piece)?;
                let more = more.map_err(|fault| attempt::upload_fault(self, fault))?;
                let is_enough = self.core.holds_end() || self.core.held_bytes() > bytes_max;
                if more == More::Unlikely || is_enough || self.core.shard.budget().is_spent() {
                    break;
                }
            }
            self.core.reset_idle_timer();
        }
    }

    /// Passes what was received through the filters before the one that waits, which keeps it.
    pub(super) fn hold(&mut self, piece: Piece) -> Result<(), Failed> {
        self.core.hold(piece).map_err(|fault| attempt::upload_fault(self, fault))
    }

    /// Waits until something of `want` is ready or a timer expires.
    pub(super) async fn wait_once(&mut self, want: Interest) -> Result<Interest, Failed> {
        self.begin_wait(want)?;
        let ready = self.wait(None, want).await;
        if ready.client_gone {
            return Err(self.client_gone().into());
        }
        if ready.timed_out {
            self.check_deadlines()?;
        }
        Ok(ready.io)
    }
}
