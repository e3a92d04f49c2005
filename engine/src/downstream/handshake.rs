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

/// Performs the handshake, then serves the client in a new task, which is smaller than this one. `early` are
/// bytes that listener filters have received.
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
            counted.hand_over_to_connection();
            match behind {
                None => service.spawn(shard, http1::serve(connection)),
                Some(behind) => service.spawn(shard, behind.serve_admitted(connection)),
            }
        }
        Err(HandshakeError::Timeout(timeout)) => {
            client.handshake_failed(Failure::TimedOut);
            count_timeout(&client, timeout);
        }
        Err(HandshakeError::Failure(failure)) => {
            let peer = client.given.peer;
            tracing::debug!(target: "connection", "{peer}: TLS handshake failed: {failure}");
            tls.stats.shard(shard.id).record_failure(failure);
            // As in Envoy, an error of the transport counts as a close by the client.
            client.handshake_failed(failure);
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

/// Why a handshake did not complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HandshakeError {
    Failure(Failure),
    Timeout(Timeout),
}

/// A timeout of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Timeout {
    /// `transport_socket_connect_timeout`
    Transport,
    /// `idle_timeout`
    Idle,
    /// `max_connection_duration`
    Duration,
    /// The process drains.
    Drain,
}

/// The timeout that expires first, and when; none: there is no timeout.
type Deadline = Option<(Millis, Timeout)>;

/// Performs the handshake with the timeouts of a connection without requests. `connect_timeout` is
/// `transport_socket_connect_timeout`.
async fn handshake(
    client: &Client,
    transport: &Transport,
    connect_timeout: Option<Duration>,
) -> Result<(), HandshakeError> {
    let (shard, alarm) = (client.given.shard, &client.given.alarm);
    let mut deadline = earliest_deadline(client, connect_timeout);
    alarm.set(deadline.map(|(at, _)| at), shard.clock.now());
    let mut draining = Draining::No;
    let mut handshake = pin!(transport.handshake(shard, alarm));
    let done = poll_fn(|cx| {
        if shard.draining() == Draining::Process && draining != Draining::Process {
            draining = Draining::Process;
            deadline = deadline_for_drain(client, deadline);
        }
        handshake.as_mut().poll(cx)
    });
    let done = done.await;
    done.map_err(|failure| match (failure, deadline) {
        (Failure::TimedOut, Some((_, timeout))) => HandshakeError::Timeout(timeout),
        (failure, _) => HandshakeError::Failure(failure),
    })
}

fn earliest_deadline(client: &Client, connect_timeout: Option<Duration>) -> Deadline {
    let timeouts = &client.given.service.manager.timeouts;
    let candidates = [
        (connect_timeout, Timeout::Transport),
        (timeouts.idle, Timeout::Idle),
        (timeouts.max_connection_duration, Timeout::Duration),
    ];
    let opened = client.given.opened;
    let deadline = |(duration, timeout): (Option<Duration>, _)| {
        Some((opened.saturating_add(millis(duration?)), timeout))
    };
    candidates.into_iter().filter_map(deadline).min_by_key(|(at, _)| *at)
}

/// A drain waits for a handshake as long as for the first byte of a request on an idle connection.
fn deadline_for_drain(client: &Client, deadline: Deadline) -> Deadline {
    let now = client.given.shard.clock.now();
    let drained = (now + limits::DRAIN_IDLE_GRACE_MS, Timeout::Drain);
    let earliest = deadline.filter(|(at, _)| *at < drained.0).unwrap_or(drained);
    client.given.alarm.set(Some(earliest.0), now);
    Some(earliest)
}

fn count_timeout(client: &Client, timeout: Timeout) {
    let stats = client.given.stats();
    match timeout {
        Timeout::Transport => {
            client.listener_stats().downstream_cx_transport_socket_connect_timeout.inc();
        }
        Timeout::Idle => stats.downstream_cx_idle_timeout.inc(),
        Timeout::Duration => stats.downstream_cx_max_duration_reached.inc(),
        Timeout::Drain => stats.downstream_cx_drain_close.inc(),
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

    /// From here on the HTTP connection counts its own end.
    fn hand_over_to_connection(self) {
        std::mem::forget(self);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.downstream_cx_ssl_active.dec();
    }
}
