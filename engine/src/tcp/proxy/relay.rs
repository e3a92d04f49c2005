//! Relays bytes between a client and its upstream connection, until both have closed their sides.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::connect::{Failed, Kind, Upstream};
use super::{Limit, Session};
use crate::flags::Flag;
use crate::http::Fault;
use crate::pipe::inlet::Inlet;
use crate::pipe::lane::{Lane, Step};
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::shard::timers::Alarm;
use crate::tcp::connection::Connection;
use crate::tcp::log::Record;
use crate::transport::Transport;
use crate::upstream::connection::ClosedBy;
use crate::upstream::origin::Origin;

/// How a relay ended.
enum Ended {
    /// Both sides have closed, this one last.
    Closed(Side),
    /// The connection to this side is broken.
    Broken(Side),
    /// The body of the host's response is not valid.
    Invalid,
    /// A filter has refused what was received.
    Denied(Option<Duration>),
    TimedOut(Limit),
}

/// How a part of a relay ended.
enum Passed {
    Ended(Ended),
    /// A periodic entry of the access log is due.
    LogDue,
}

/// What is kept from one part of a relay to the next.
struct Progress {
    inlet: Inlet,
    ready: Interest,
    idle_since: Millis,
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Upstream,
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

/// What a relay waits on.
struct Ends<'a> {
    shard: &'static Shard,
    client: &'a Transport,
    alarm: &'a Alarm,
    idle_timeout: Option<Millis>,
    expires: Option<Millis>,
    log_at: Option<Millis>,
}

impl Session<'_> {
    /// Relays until the connection ends.
    pub(super) async fn relay(&mut self, mut upstream: Upstream) -> Result<(), Failed> {
        let buffers = self.client.subject.shard.buffers;
        let inlet = self.early.pour(&mut upstream.up.outlet, buffers);
        let ready = Interest { client_in: true, upstream_in: true, ..Interest::default() };
        let idle_since = self.client.subject.shard.clock.now();
        let mut progress = Progress { inlet, ready, idle_since };
        self.splice_if_possible(&mut upstream);
        let ended = loop {
            match self.pass(&mut upstream, &mut progress).await {
                Passed::Ended(ended) => break ended,
                Passed::LogDue => self.log_if_due(),
            }
        };
        let Upstream { origin, kind, up, down, _active } = upstream;
        let cuts_off = !down.has_ended();
        up.recycle();
        down.recycle();
        let (by, result) = match ended {
            // As in Envoy, the end of a tunnel is a local close, whichever side has ended it.
            Ended::Closed(Side::Upstream) if kind == Kind::Tcp => (ClosedBy::Host, Ok(())),
            Ended::Closed(_) => (ClosedBy::Us, Ok(())),
            // As in Envoy, a reset is passed on, so that the other side can tell that bytes are missing.
            Ended::Broken(Side::Client) => {
                origin.reset_on_close();
                (ClosedBy::Us, Err(Failed::Closed))
            }
            Ended::Broken(Side::Upstream) => {
                // A client that has been sent everything is not reset.
                self.client.record.flags.set(Flag::UpstreamRemoteReset);
                if cuts_off {
                    self.client.transport.reset_on_close();
                }
                (ClosedBy::Host, Err(Failed::Closed))
            }
            Ended::Invalid => {
                origin.pool().stats().upstream_cx_protocol_error.inc();
                self.client.transport.reset_on_close();
                (ClosedBy::Us, Err(Failed::Closed))
            }
            Ended::Denied(delay) => (ClosedBy::Us, Err(Failed::Denied(delay))),
            Ended::TimedOut(limit) => (ClosedBy::Us, Err(self.time_out(limit))),
        };
        origin.close(by);
        result
    }

    /// Without framing and TLS, bulk bytes need not be copied.
    fn splice_if_possible(&self, upstream: &mut Upstream) {
        let Upstream { origin, kind, up, down, .. } = upstream;
        let pipes = self.client.subject.shard.pipes;
        if *kind != Kind::Post && self.client.transport.can_splice() && origin.can_splice() {
            up.splice(pipes);
            down.splice(pipes);
        }
    }

    /// Relays until the connection ends, or until an entry of the access log is due.
    async fn pass(&mut self, upstream: &mut Upstream, progress: &mut Progress) -> Passed {
        let log_at = self.log_at;
        let Progress { inlet, ready, idle_since } = progress;
        let idle_timeout = self.proxy.idle_timeout(self.client);
        let Self { filters, client, stats, data, .. } = self;
        let Upstream { origin, kind, up, down, .. } = upstream;
        let Connection { transport, alarm, subject, expires, record, .. } = &mut **client;
        let (client, shard) = (&*transport, subject.shard);
        let ends = Ends { shard, client, alarm, idle_timeout, expires: *expires, log_at };
        let Record { received, sent: sent_down, .. } = record;
        let mut receive = |lane: &mut Lane| {
            let pulled = inlet.pull_lane(client, shard.buffers, lane).map_err(Stopped::source)?;
            // As in Envoy, the end alone is something that filters decide about too.
            if pulled.bytes > 0 || lane.outlet.has_ended() {
                stats.downstream_cx_rx_bytes_total.add(pulled.bytes as u64);
                *received += pulled.bytes as u64;
                filters.check(data, subject).into_result().map_err(Stopped::Denied)?;
            }
            Ok(pulled.more)
        };
        loop {
            let mut moved = false;
            let push = |lane: &mut Lane| {
                let sent = origin.push_lane(lane).map_err(Stopped::sink)?;
                moved |= sent > 0;
                Ok::<_, Stopped>(sent)
            };
            match up.step(ready.client_in, shard.budget(), push, &mut receive) {
                Ok(Step::Ends) if *kind != Kind::Post => origin.end_sending(),
                Ok(_) => {}
                Err(stopped) => {
                    return Passed::Ended(stopped.ended(Side::Client, Side::Upstream));
                }
            }
            let up_was_last = !down.has_ended();
            let push = |lane: &mut Lane| {
                let sent = lane.send(client).map_err(|_| Stopped::Sink)?;
                stats.downstream_cx_tx_bytes_total.add(sent as u64);
                *sent_down += sent as u64;
                moved |= sent > 0;
                Ok(sent)
            };
            let pull = |lane: &mut Lane| origin.pull_lane(lane).map_err(Stopped::source);
            match down.step(ready.upstream_in, shard.budget(), push, pull) {
                Ok(Step::Ends) => client.shutdown_write(),
                Ok(Step::Waits) => origin.give_blocks(),
                Ok(Step::Blocked) => {}
                Err(stopped) => {
                    return Passed::Ended(stopped.ended(Side::Upstream, Side::Client));
                }
            }
            // Over TLS, bytes that count as sent may still be buffered here.
            let is_sent = !client.has_unsent() && !origin.has_unsent();
            if up.has_ended() && down.has_ended() && is_sent {
                let last = if up_was_last { Side::Upstream } else { Side::Client };
                return Passed::Ended(Ended::Closed(last));
            }
            if moved {
                *idle_since = shard.clock.now();
            }
            let want = interest(client, origin, up, down);
            *ready = match ends.wait(origin, want, *idle_since).await {
                Ok(ready) => ready,
                Err(passed) => return passed,
            };
        }
    }
}

/// What there is to wait for after a step of both directions.
fn interest(client: &Transport, origin: &Origin, up: &Lane, down: &Lane) -> Interest {
    let (up_out, down_out) = (up.wants_sink(), down.wants_sink());
    Interest {
        client_in: up.wants_source(),
        // Over TLS the last bytes may still be buffered.
        client_out: down_out || down.has_ended() && client.has_unsent(),
        upstream_in: down.wants_source(),
        upstream_out: up_out || up.has_ended() && origin.has_unsent(),
        // Once both sides of a connection are closed, the kernel reports a hang-up, even if there is
        // something left to receive.
        client_gone: !up.wants_source() && !down_out && !down.has_ended(),
        upstream_gone: !down.wants_source() && !up_out && !up.has_ended(),
    }
}

/// Why a step of one direction failed.
enum Stopped {
    Source,
    Sink,
    Invalid,
    Denied(Option<Duration>),
}

impl Stopped {
    const fn source(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(_) => Self::Invalid,
            Fault::Source | Fault::Truncated | Fault::Sink | Fault::Replaced => Self::Source,
        }
    }

    const fn sink(_: Fault) -> Self {
        Self::Sink
    }

    const fn ended(self, source: Side, sink: Side) -> Ended {
        match self {
            Self::Source => Ended::Broken(source),
            Self::Sink => Ended::Broken(sink),
            Self::Invalid => Ended::Invalid,
            Self::Denied(delay) => Ended::Denied(delay),
        }
    }
}

impl Ends<'_> {
    /// Waits until one of `want` is ready.
    async fn wait(
        &self,
        upstream: &Origin,
        want: Interest,
        idle_since: Millis,
    ) -> Result<Interest, Passed> {
        let idle_at = self.idle_timeout.map(|limit| idle_since.saturating_add(limit));
        loop {
            let deadline = [idle_at, self.expires, self.log_at].into_iter().flatten().min();
            self.alarm.set(deadline, self.shard.clock.now());
            match self.woken(upstream, want).await {
                Woken::Io(ready) => return Ok(ready),
                Woken::Broken(side) => return Err(Passed::Ended(Ended::Broken(side))),
                Woken::Expired => {}
            }
            let now = self.shard.clock.now();
            let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
            if passed(self.expires) {
                return Err(Passed::Ended(Ended::TimedOut(Limit::Age)));
            }
            if passed(idle_at) {
                return Err(Passed::Ended(Ended::TimedOut(Limit::Idle)));
            }
            if passed(self.log_at) {
                return Err(Passed::LogDue);
            }
        }
    }

    async fn woken(&self, upstream: &Origin, want: Interest) -> Woken {
        let Self { shard, client, alarm, .. } = self;
        poll_fn(|cx| {
            let ready = Interest {
                client_in: want.client_in && client.poll_readable(cx).is_ready(),
                client_out: want.client_out && client.poll_writable(cx).is_ready(),
                upstream_in: want.upstream_in && upstream.poll_in(cx).is_ready(),
                upstream_out: want.upstream_out && upstream.poll_out(cx).is_ready(),
                ..Interest::default()
            };
            if ready.client_in || ready.client_out || ready.upstream_in || ready.upstream_out {
                return shard.poll_proceed(cx).map(|()| Woken::Io(ready));
            }
            if want.client_gone && client.poll_broken(cx).is_ready() {
                return Poll::Ready(Woken::Broken(Side::Client));
            }
            if want.upstream_gone && upstream.poll_gone(cx).is_ready() {
                return Poll::Ready(Woken::Broken(Side::Upstream));
            }
            alarm.poll_expired(cx).map(|()| Woken::Expired)
        })
        .await
    }
}
