//! What an exchange waits for, and how the wait ends.

use std::future::poll_fn;
use std::task::Poll;

use super::end::ClientEnd;
use super::filters::Active;
use super::given::Given;
use crate::pipe::outlet::Outlet;
use crate::upstream::origin::Origin;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four independent readinesses")]
pub struct Interest {
    /// The client has sent something.
    pub client_in: bool,
    /// The client takes more.
    pub client_out: bool,
    /// The origin has sent something.
    pub origin_in: bool,
    /// The origin takes more.
    pub origin_out: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// What of it has come true.
    pub io: Interest,
    /// The alarm has expired.
    pub timed_out: bool,
    /// The client has disconnected, during a wait for neither direction of it.
    pub client_gone: bool,
}

impl Ready {
    /// Whether something can be received or sent.
    pub(super) const fn has_io(self) -> bool {
        let Interest { client_in, client_out, origin_in, origin_out } = self.io;
        client_in || client_out || origin_in || origin_out
    }
}

/// Why [`send_all`] has not sent everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unsent;

/// Waits until something of `want` is ready, a filter gets an answer that it waits for, or the alarm, which
/// the caller has set, expires.
pub(super) fn wait<'a, C: ClientEnd>(
    client: &'a C,
    given: &'a Given,
    filters: Option<&'a Active>,
    origin: Option<&'a Origin>,
    want: Interest,
) -> impl Future<Output = Ready> + use<'a, C> {
    poll_fn(move |cx| {
        let mut ready = Ready::default();
        let mut any = false;
        if want.origin_in && origin.is_some_and(|o| o.poll_in(cx).is_ready()) {
            (ready.io.origin_in, any) = (true, true);
        }
        if want.origin_out && origin.is_some_and(|o| o.poll_out(cx).is_ready()) {
            (ready.io.origin_out, any) = (true, true);
        }
        if want.client_in && client.poll_in(cx).is_ready() {
            (ready.io.client_in, any) = (true, true);
        }
        if want.client_out && client.poll_out(cx).is_ready() {
            (ready.io.client_out, any) = (true, true);
        }
        if !want.client_in && !want.client_out && client.poll_gone(cx).is_ready() {
            (ready.client_gone, any) = (true, true);
        }
        if let Some(filters) = filters
            && filters.poll_answers(cx, given.shard.clock.now()).is_ready()
        {
            any = true;
        }
        if given.alarm.poll_expired(cx).is_ready() {
            (ready.timed_out, any) = (true, true);
        }
        if any { given.shard.poll_proceed(cx).map(|()| ready) } else { Poll::Pending }
    })
}

/// Sends all of `out` to the client, unless the alarm expires first.
///
/// # Errors
/// When the connection is broken or the alarm expires.
pub(super) async fn send_all<C: ClientEnd>(
    client: &mut C,
    given: &Given,
    out: &mut Outlet,
) -> Result<(), Unsent> {
    loop {
        if client.push(out).is_err() {
            client.gone();
            return Err(Unsent);
        }
        if !out.wants_sink() {
            return Ok(());
        }
        let want = Interest { client_out: true, ..Interest::default() };
        if wait(client, given, None, None, want).await.timed_out {
            return Err(Unsent);
        }
    }
}
