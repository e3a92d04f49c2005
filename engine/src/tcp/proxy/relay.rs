//! Relays bytes between a client and its upstream connection, until both have closed their sides.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::Session;
use super::connect::{Failed, Upstream};
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::shard::timers::Alarm;
use crate::tcp::connection::{Connection, flush};
use crate::tcp::lane::{Fault, Lane, Moved};
use crate::transport::Transport;
use crate::upstream::connection::ClosedBy;

/// How a relay ended.
enum Ended {
    /// Both sides have closed, this one last.
    Closed(Side),
    /// The connection to this side is broken.
    Broken(Side),
    /// A filter has refused what was received.
    Denied(Option<Duration>),
    TimedOut(Limit),
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Upstream,
}

/// The time limit that was reached.
#[derive(Clone, Copy)]
enum Limit {
    Idle,
    Age,
}

/// What a wait is for, and what it found.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of six independent events")]
struct Interest {
    client_in: bool,
    client_out: bool,
    upstream_in: bool,
    upstream_out: bool,
    /// A reset by a side that is neither received from nor sent to.
    client_gone: bool,
    upstream_gone: bool,
}

/// Something else that ends a wait.
enum Woken {
    Io(Interest),
    Broken(Side),
    Expired,
}

/// The two ends of a relay and what limits it.
struct Ends<'a> {
    shard: &'static Shard,
    client: &'a Transport,
    upstream: &'a Transport,
    alarm: &'a Alarm,
    idle_timeout: Option<Millis>,
    expires: Option<Millis>,
}

impl Session<'_> {
    /// Relays until the connection ends.
    pub(super) async fn relay(&mut self, upstream: Upstream) -> Result<(), Failed> {
        let Upstream { connection, active } = upstream;
        let ended = self.pass(&connection).await;
        let (by, result) = match ended {
            Ended::Closed(last) => {
                let Connection { alarm, subject, .. } = &*self.client;
                flush(connection.socket(), alarm, subject.shard.clock.now()).await;
                let by = match last {
                    Side::Client => ClosedBy::Us,
                    Side::Upstream => ClosedBy::Host,
                };
                (by, Ok(()))
            }
            // As in Envoy, a reset is passed on, so that the other side can tell that bytes are missing.
            Ended::Broken(Side::Client) => {
                connection.socket().reset_on_close();
                (ClosedBy::Us, Err(Failed::Closed))
            }
            Ended::Broken(Side::Upstream) => (ClosedBy::Host, Err(Failed::Closed)),
            Ended::Denied(delay) => (ClosedBy::Us, Err(Failed::Denied(delay))),
            Ended::TimedOut(limit) => {
                match limit {
                    Limit::Idle => self.stats.idle_timeout.inc(),
                    Limit::Age => self.stats.max_downstream_connection_duration.inc(),
                }
                (ClosedBy::Us, Err(Failed::Closed))
            }
        };
        connection.close(by);
        drop(active);
        result
    }

    async fn pass(&mut self, connection: &crate::upstream::connection::Connection) -> Ended {
        let mut down = Lane::default();
        let ended = self.pass_lanes(connection, &mut down).await;
        // What a client has not been sent is lost; if that is nothing, it is not cut off.
        if matches!(ended, Ended::Broken(Side::Upstream)) && !down.has_ended() {
            self.client.transport.reset_on_close();
        }
        down.recycle(self.client.subject.shard.buffers);
        ended
    }

    async fn pass_lanes(
        &mut self,
        connection: &crate::upstream::connection::Connection,
        down: &mut Lane,
    ) -> Ended {
        let Self { proxy, filters, client, stats, data, expires, up } = self;
        let Connection { transport, alarm, subject, .. } = &mut **client;
        let (shard, pool) = (subject.shard, connection.pool());
        let idle_timeout = subject.state.idle_timeout.or(proxy.idle_timeout);
        let ends = Ends {
            shard,
            client: transport,
            upstream: connection.socket(),
            alarm,
            idle_timeout: idle_timeout.filter(|limit| !limit.is_zero()).map(millis),
            expires: *expires,
        };
        let mut idle_since = shard.clock.now();
        let mut accept = |bytes: usize| {
            stats.downstream_cx_rx_bytes_total.add(bytes as u64);
            filters.check(data, subject).into_result()
        };
        let mut ready = Interest { client_in: true, upstream_in: true, ..Interest::default() };
        loop {
            let moved =
                up.step(ends.client, ends.upstream, ready.client_in, shard.buffers, &mut accept);
            let sent_up = match moved {
                Ok(moved) => moved,
                Err(Fault::Source) => return Ended::Broken(Side::Client),
                Err(Fault::Sink) => return Ended::Broken(Side::Upstream),
                Err(Fault::Refused(delay)) => return Ended::Denied(delay),
            };
            pool.count_sent(sent_up.sent);
            let up_was_last = !down.has_ended();
            let receive = |bytes| {
                pool.count_received(bytes);
                Ok::<(), std::convert::Infallible>(())
            };
            let moved =
                down.step(ends.upstream, ends.client, ready.upstream_in, shard.buffers, receive);
            let sent_down = match moved {
                Ok(moved) => moved,
                Err(Fault::Source) => return Ended::Broken(Side::Upstream),
                Err(Fault::Sink) => return Ended::Broken(Side::Client),
                Err(Fault::Refused(never)) => match never {},
            };
            stats.downstream_cx_tx_bytes_total.add(sent_down.sent as u64);
            // Over TLS what counts as sent may still be here.
            let is_sent = !ends.client.has_unsent() && !ends.upstream.has_unsent();
            if up.has_ended() && down.has_ended() && is_sent {
                let last = if up_was_last { Side::Upstream } else { Side::Client };
                return Ended::Closed(last);
            }
            if sent_up != Moved::default() || sent_down != Moved::default() {
                idle_since = shard.clock.now();
            }
            let want = Interest {
                client_in: up.wants_source(),
                // Over TLS the transport may still hold what was sent last.
                client_out: down.wants_sink() || down.has_ended() && ends.client.has_unsent(),
                upstream_in: down.wants_source(),
                upstream_out: up.wants_sink() || up.has_ended() && ends.upstream.has_unsent(),
                // Once both sides of a connection are closed, the kernel reports a hang-up, even if
                // there is something left to receive.
                client_gone: !up.wants_source() && !down.wants_sink() && !down.has_ended(),
                upstream_gone: !down.wants_source() && !up.wants_sink() && !up.has_ended(),
            };
            ready = match ends.wait(want, idle_since).await {
                Ok(ready) => ready,
                Err(ended) => return ended,
            };
        }
    }
}

impl Ends<'_> {
    /// Waits until one of `want` is ready.
    async fn wait(&self, want: Interest, idle_since: Millis) -> Result<Interest, Ended> {
        let idle_at = self.idle_timeout.map(|limit| idle_since.saturating_add(limit));
        loop {
            let deadline = [idle_at, self.expires].into_iter().flatten().min();
            self.alarm.set(deadline, self.shard.clock.now());
            match self.woken(want).await {
                Woken::Io(ready) => return Ok(ready),
                Woken::Broken(side) => return Err(Ended::Broken(side)),
                Woken::Expired => {}
            }
            let now = self.shard.clock.now();
            let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
            if passed(self.expires) {
                return Err(Ended::TimedOut(Limit::Age));
            }
            if passed(idle_at) {
                return Err(Ended::TimedOut(Limit::Idle));
            }
        }
    }

    async fn woken(&self, want: Interest) -> Woken {
        let Self { shard, client, upstream, alarm, .. } = self;
        poll_fn(|cx| {
            let ready = Interest {
                client_in: want.client_in && client.poll_readable(cx).is_ready(),
                client_out: want.client_out && client.poll_writable(cx).is_ready(),
                upstream_in: want.upstream_in && upstream.poll_readable(cx).is_ready(),
                upstream_out: want.upstream_out && upstream.poll_writable(cx).is_ready(),
                ..Interest::default()
            };
            if ready.client_in || ready.client_out || ready.upstream_in || ready.upstream_out {
                return shard.poll_proceed(cx).map(|()| Woken::Io(ready));
            }
            if want.client_gone && client.poll_broken(cx).is_ready() {
                return Poll::Ready(Woken::Broken(Side::Client));
            }
            if want.upstream_gone && upstream.poll_broken(cx).is_ready() {
                return Poll::Ready(Woken::Broken(Side::Upstream));
            }
            alarm.poll_expired(cx).map(|()| Woken::Expired)
        })
        .await
    }
}
