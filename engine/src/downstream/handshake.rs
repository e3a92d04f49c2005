//! The TLS handshake of a client connection, before it speaks HTTP.
//!
//! As in Envoy, the connection counts from its accept on; requests and the codec do not.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Client;
use super::http1;
use super::http1::Behind;
use crate::limits;
use crate::shard::clock::{Millis, millis};
use crate::shard::drain::Draining;
use crate::shard::socket::Socket;
use crate::stats::HttpStats;
use crate::tcp::filters::Verdict;
use crate::transport::Transport;
use crate::transport::tls::{Addresses, Failure, ServerTls, Tls};

/// Performs the handshake, then serves the client in a task of its own: this one is larger.
/// `early` has been received already.
pub(super) async fn serve(
    mut client: Client,
    socket: Socket,
    early: Vec<u8>,
    tls: Rc<ServerTls>,
    mut behind: Option<Behind>,
) {
    let addresses = Addresses { local: client.given.local.ip(), remote: client.given.peer.ip() };
    let transport = Transport::Tls(Box::new(Tls::server(socket, early, addresses, &tls)));
    let shard = client.given.shard;
    let service = Rc::clone(&client.given.service);
    if let Some(behind) = &mut behind
        && let Verdict::Close(delay) = behind.filters.admit(&mut behind.subject)
    {
        return wait_before_close(&client, &transport, delay).await;
    }
    let counted = Counted::new(service.http.shard(shard.id));
    match handshake(&client, &transport, tls.timeout).await {
        Ok(()) => {
            client.given.tls = transport.tls().cloned();
            if let Some(behind) = &mut behind {
                behind.subject.tls.clone_from(&client.given.tls);
            }
            if let Some(facts) = transport.tls() {
                tls.stats.shard(shard.id).record_handshake(facts);
            }
            let connection = http1::Connection::new(client, transport, Vec::new());
            counted.leave_to_connection();
            match behind {
                None => shard.spawn(http1::serve(connection)),
                Some(behind) => shard.spawn(behind.serve_admitted(connection)),
            }
        }
        Err(Ended::Limit(limit)) => count_limit(&client, limit),
        Err(Ended::Failure(failure)) => {
            let peer = client.given.peer;
            tracing::debug!(target: "connection", "{peer}: TLS handshake failed: {failure}");
            tls.stats.shard(shard.id).record_failure(failure);
            // As in Envoy, an error of the transport counts as a close by the client.
            client.gone();
        }
    }
}

/// Waits for `delay` before the connection is closed, unless the client resets it.
async fn wait_before_close(client: &Client, transport: &Transport, delay: Option<Duration>) {
    let Some(delay) = delay else { return };
    let (now, alarm) = (client.given.shard.clock.now(), &client.given.alarm);
    alarm.set(Some(now.saturating_add(millis(delay))), now);
    transport.broken_or_expired(alarm).await;
}

/// Why a handshake was not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    Failure(Failure),
    Limit(Limit),
}

/// What limits the time of a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Limit {
    /// `transport_socket_connect_timeout`
    Transport,
    /// `idle_timeout`
    Idle,
    /// `max_connection_duration`
    Duration,
    /// The shard drains.
    Drain,
}

/// A limit, and when it is reached; none: there is no limit.
type At = Option<(Millis, Limit)>;

/// Performs the handshake within the limits for a connection without requests.
async fn handshake(
    client: &Client,
    transport: &Transport,
    timeout: Option<Duration>,
) -> Result<(), Ended> {
    let (shard, alarm) = (client.given.shard, &client.given.alarm);
    let mut limit = first_limit(client, timeout);
    alarm.set(limit.map(|(at, _)| at), shard.clock.now());
    let mut draining = Draining::No;
    let mut handshake = pin!(transport.handshake(shard, alarm));
    let done = poll_fn(|cx| {
        if shard.draining() == Draining::Process && draining != Draining::Process {
            draining = Draining::Process;
            limit = hurry(client, limit);
        }
        handshake.as_mut().poll(cx)
    });
    let done = done.await;
    done.map_err(|failure| match (failure, limit) {
        (Failure::TimedOut, Some((_, limit))) => Ended::Limit(limit),
        (failure, _) => Ended::Failure(failure),
    })
}

fn first_limit(client: &Client, timeout: Option<Duration>) -> At {
    let timeouts = &client.given.service.manager.timeouts;
    let limits = [
        (timeout, Limit::Transport),
        (timeouts.idle, Limit::Idle),
        (timeouts.max_connection_duration, Limit::Duration),
    ];
    let opened = client.given.opened;
    let at =
        |(time, limit): (Option<Duration>, _)| Some((opened.saturating_add(millis(time?)), limit));
    limits.into_iter().filter_map(at).min_by_key(|(at, _)| *at)
}

/// A drain waits for a handshake as long as for a request that is on its way.
fn hurry(client: &Client, limit: At) -> At {
    let now = client.given.shard.clock.now();
    let drained = (now + limits::DRAIN_IDLE_GRACE_MS, Limit::Drain);
    let limit = limit.filter(|(at, _)| *at < drained.0).unwrap_or(drained);
    client.given.alarm.set(Some(limit.0), now);
    Some(limit)
}

fn count_limit(client: &Client, limit: Limit) {
    let stats = client.given.stats();
    match limit {
        Limit::Transport => {
            client.listener_stats().downstream_cx_transport_socket_connect_timeout.inc();
        }
        Limit::Idle => stats.downstream_cx_idle_timeout.inc(),
        Limit::Duration => stats.downstream_cx_max_duration_reached.inc(),
        Limit::Drain => stats.downstream_cx_drain_close.inc(),
    }
}

/// Counts a TLS connection during its handshake.
struct Counted<'a>(&'a HttpStats);

impl<'a> Counted<'a> {
    fn new(stats: &'a HttpStats) -> Self {
        stats.downstream_cx_ssl_total.inc();
        stats.downstream_cx_ssl_active.inc();
        Self(stats)
    }

    /// The HTTP connection counts its end itself.
    fn leave_to_connection(self) {
        std::mem::forget(self);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.downstream_cx_ssl_active.dec();
    }
}
