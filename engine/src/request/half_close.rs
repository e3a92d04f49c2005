//! Clients that have closed their sending side (FIN) and wait for the rest of their response.
//!
//! A FIN says that the client sends no more. Whether it still reads (`printf … | nc`) or has
//! disconnected only shows when something is sent to it: a client that has disconnected answers
//! with a reset. So while there is nothing to send, the exchange continues for a short grace
//! period. After that the client counts as disconnected, as in Envoy with the FIN.
//!
//! Invariant: while a half-closed client waits for the upstream there is a deadline, and the number
//! of such waits per shard is bounded.

use super::Exchange;
use super::attempt::Interrupted;
use super::deadlines::Timer;
use super::end::ClientEnd;
use super::wait::Interest;
use crate::shard::clock::{Millis, millis};

impl<C: ClientEnd> Exchange<'_, C> {
    /// Sets the alarm for a wait for `want`. A half-closed client to which nothing is sent meanwhile
    /// is in its grace period.
    ///
    /// # Errors
    /// [`Interrupted::ClientGone`] if it gets none.
    #[inline]
    pub(super) fn begin_wait(&mut self, want: Interest) -> Result<(), Interrupted> {
        let now = self.core.shard.clock.now();
        if !want.client_out && self.client.has_half_closed() {
            self.begin_grace(now)?;
        }
        self.core.set_alarm(now);
        Ok(())
    }

    /// Checks whether a client that has sent its whole request has already closed, before a host
    /// gets work: if many clients ask and disconnect, the upstream sees only the requests of those
    /// in a grace period.
    ///
    /// # Errors
    /// [`Interrupted::ClientGone`], as [`Self::begin_wait`].
    #[inline]
    pub(super) fn detect_half_close(&mut self) -> Result<(), Interrupted> {
        if self.client.has_hung_up() && self.client.listens_ahead() {
            self.client.receive_ahead().map_err(|_| Interrupted::ClientGone)?;
            self.begin_wait(Interest::default())?;
        }
        Ok(())
    }

    /// Any progress ends a grace period (see [`Exchange::reset_idle_timer`]); the next wait has its
    /// own.
    #[cold]
    fn begin_grace(&mut self, now: Millis) -> Result<(), Interrupted> {
        if self.core.deadlines.get(Timer::HalfClosed).is_some() {
            return Ok(());
        }
        let grace = self.core.service().manager.timeouts.half_close_grace;
        if self.core.half_closed.is_none() && !grace.is_zero() {
            self.core.half_closed = self.core.shard.half_closed.acquire();
        }
        if self.core.half_closed.is_none() {
            return Err(self.client_gone());
        }
        self.core.deadlines.set(Timer::HalfClosed, Some(now.saturating_add(millis(grace))));
        Ok(())
    }

    /// Marks the client as disconnected.
    pub(super) fn client_gone(&mut self) -> Interrupted {
        self.client.gone();
        Interrupted::ClientGone
    }
}
