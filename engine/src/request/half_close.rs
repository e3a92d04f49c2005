//! Clients that have closed their sending side and wait for the rest of their answer.
//!
//! A FIN says that a client sends no more. Whether it still reads (`printf … | nc`) or has gone shows
//! only when something is sent to it: one that has gone answers with a reset. So while there is nothing
//! to send, it is waited for during a short grace. After that it has left, as in Envoy with the FIN.
//!
//! Invariant: the wait of a half-closed client for its origin has a deadline, and a shard has a bounded
//! number of such waits.

use super::Exchange;
use super::attempt::Failed;
use super::deadlines::Timer;
use crate::downstream::connection::Input;
use crate::shard::clock::{Millis, millis};

impl Exchange<'_> {
    /// Sets the alarm for a wait for the origin, with nothing to send to the client.
    ///
    /// # Errors
    /// [`Failed::ClientGone`] when the client has half-closed and there is no grace for it.
    #[inline]
    pub(super) fn begin_wait(&mut self) -> Result<(), Failed> {
        let now = self.client.shard.clock.now();
        if self.client.input == Input::HalfClosed {
            self.begin_grace(now)?;
        }
        self.set_alarm(now);
        Ok(())
    }

    /// Looks whether a client that has sent its whole request has closed behind it, before a host is
    /// given work: of a crowd that asks and leaves, the origin sees only those with a grace.
    ///
    /// # Errors
    /// [`Failed::ClientGone`], as [`Self::begin_wait`].
    #[inline]
    pub(super) fn notice_half_close(&mut self) -> Result<(), Failed> {
        if self.client.socket.has_hung_up() && self.client.listens_ahead() {
            self.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            self.begin_wait()?;
        }
        Ok(())
    }

    /// Whatever moves on the request ends a grace (see [`Exchange::reset_idle_timer`]): the next wait has one of
    /// its own.
    #[cold]
    fn begin_grace(&mut self, now: Millis) -> Result<(), Failed> {
        if self.deadlines.get(Timer::HalfClosed).is_some() {
            return Ok(());
        }
        let grace = self.chain.manager.timeouts.half_close_grace;
        if self.half_closed.is_none() && !grace.is_zero() {
            self.half_closed = self.client.shard.half_closed.acquire();
        }
        if self.half_closed.is_none() {
            return Err(self.client_gone());
        }
        self.deadlines.set(Timer::HalfClosed, Some(now.saturating_add(millis(grace))));
        Ok(())
    }

    /// The client is gone, or must be taken to be.
    pub(super) fn client_gone(&mut self) -> Failed {
        self.client.gone();
        Failed::ClientGone
    }
}
