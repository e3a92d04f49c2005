//! The wait of a filter for the answer to a call, perhaps while more of the body comes.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::body::Passage;
use super::{Piece, Way};
use crate::request::Exchange;
use crate::request::attempt::{self, Failed};
use crate::request::end::ClientEnd;
use crate::request::wait::{Interest, Ready};

impl<C: ClientEnd> Exchange<'_, C> {
    /// Waits until the call of the filter has news, or a part of the body is here.
    pub(super) async fn wait_for_call_or_body(&mut self) -> Result<(), Failed> {
        let manager = &self.core.service().manager;
        if self.core.client_may_send_trailers() {
            self.client.set_trailer_rules(manager.trailer_rules(true));
        }
        self.hold(Piece::default())?;
        let mut piece = self.core.take_piece();
        let taken = self.receive_at_hand(&mut piece);
        self.hold(piece)?;
        taken.map_err(|fault| attempt::upload_fault(self, fault))?;
        self.core.arm();
        while self.core.held_is_empty() {
            self.core.set_filter_timer();
            let client_in = self.core.passage(Way::Request) == Passage::Open;
            let want = Interest { client_in, ..Interest::default() };
            let Some(ready) = self.wait_for_next_answer(want).await? else { return Ok(()) };
            self.hold(Piece::default())?;
            if ready.io.client_in {
                let mut piece = self.core.take_piece();
                let more = self.client.pull(&mut piece);
                self.hold(piece)?;
                more.map_err(|fault| attempt::upload_fault(self, fault))?;
                self.core.reset_idle_timer();
            }
        }
        self.note_received();
        Ok(())
    }

    /// Waits for something of `want`; none: the next filter has its answer.
    async fn wait_for_next_answer(&mut self, want: Interest) -> Result<Option<Ready>, Failed> {
        self.begin_wait(want)?;
        let answered = {
            let mut others = pin!(self.wait(None, want));
            let (filters, clock) = (self.core.filters.as_deref(), &self.core.shard.clock);
            poll_fn(|cx| match filters {
                Some(active) if active.poll_answer(cx, clock.now()).is_pending() => {
                    others.as_mut().poll(cx).map(Some)
                }
                _ => Poll::Ready(None),
            })
            .await
        };
        let Some(ready) = answered else { return Ok(None) };
        if ready.client_gone {
            return Err(self.client_gone().into());
        }
        if ready.timed_out {
            self.check_deadlines()?;
        }
        Ok(Some(ready))
    }

    /// Waits until the filter that holds up the head of a local reply has its answer.
    pub(in crate::request) async fn wait_for_reply_answer(&mut self) -> Result<(), Failed> {
        self.core.arm();
        while !self.core.has_held_enough() {
            self.core.set_answer_timer();
            self.wait_once(Interest::default()).await?;
        }
        Ok(())
    }

    /// Waits until the call of the filter is done. Meanwhile the client may disconnect, and a timer may end the
    /// request; what the client sends waits.
    pub(super) async fn wait_for_call(&mut self) -> Result<(), Failed> {
        self.core.arm();
        loop {
            self.core.set_answer_timer();
            let want = Interest { client_in: self.client.listens_ahead(), ..Interest::default() };
            let Some(ready) = self.wait_for_next_answer(want).await? else { return Ok(()) };
            if ready.io.client_in {
                self.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
        }
    }
}
