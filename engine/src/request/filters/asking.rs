//! The wait of a filter for the answer to a call.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::request::Exchange;
use crate::request::attempt::Failed;
use crate::request::end::ClientEnd;
use crate::request::wait::Interest;

impl<C: ClientEnd> Exchange<'_, C> {
    /// Waits until the call of the filter is done. Meanwhile the client may disconnect, and a timer may end the
    /// request; what the client sends waits.
    pub(super) async fn wait_for_call(&mut self) -> Result<(), Failed> {
        self.core.arm();
        loop {
            let want = Interest { client_in: self.client.listens_ahead(), ..Interest::default() };
            self.begin_wait(want)?;
            let answered = {
                let mut others = pin!(self.wait(None, want));
                let filters = self.core.filters.as_deref();
                poll_fn(|cx| match filters {
                    Some(active) if active.poll_answer(cx).is_pending() => {
                        others.as_mut().poll(cx).map(Some)
                    }
                    _ => Poll::Ready(None),
                })
                .await
            };
            let Some(ready) = answered else { return Ok(()) };
            if ready.client_gone {
                return Err(self.client_gone().into());
            }
            if ready.timed_out {
                self.check_deadlines()?;
            }
            if ready.io.client_in {
                self.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
        }
    }
}
