//! The end of a client connection: what was sent is flushed, and the client gets time to read it (a
//! lingering close).
//!
//! A socket that is closed with unread bytes sends a reset, and a client that receives a reset may
//! lose a response that it has not read yet. So the sending side is closed first, and what the
//! client still sends is discarded until it closes too.
//!
//! Invariant: the time of this wait and the number of discarded bytes are bounded.

use std::future::poll_fn;
use std::task::Poll;

use super::connection::Client;
use crate::limits;
use crate::shard::clock::millis;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// A connection that ends. One reference to both, because a wait is kept in the task of every connection.
pub(super) trait Ending {
    /// What it is counted with.
    fn client(&self) -> &Client;
    /// What carries it.
    fn transport(&self) -> &Transport;
}

/// Whether the client may still send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    /// It may.
    Open,
    /// It has closed the connection, at least its own side.
    Ended,
}

/// What a wait is for, besides the alarm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Want {
    /// Bytes of the client.
    In,
    /// Room for bytes to the client.
    Out,
    /// Nothing but that the client disconnects.
    Nothing,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waited {
    Ready,
    TimedOut,
}

/// Closes in order: the client can tell that it has got everything.
pub(super) async fn leave(connection: &impl Ending) {
    connection.transport().notify_close();
    flush(connection).await;
}

/// Waits until the kernel has accepted all that was sent, at most `delayed_close_timeout`.
pub(super) async fn flush(connection: &impl Ending) {
    if !connection.transport().has_unsent() {
        return;
    }
    set_alarm(connection.client());
    while connection.transport().has_unsent()
        && wait(connection, Want::Out).await != Waited::TimedOut
    {}
}

/// Limits what follows to `delayed_close_timeout`.
pub(super) fn set_alarm(client: &Client) {
    let now = client.given.shard.clock.now();
    let most = client.given.service.manager.timeouts.delayed_close.map(millis);
    client.given.alarm.set(most.map(|most| now.saturating_add(most)), now);
}

/// Closes the sending side and waits for the client to close, at most `delayed_close_timeout`.
/// After a bounded number of bytes nothing more is read: the receive window closes, and the wait
/// costs nothing.
pub(super) async fn linger(connection: &impl Ending) {
    let now = connection.client().given.shard.clock.now();
    let Some(most) = connection.client().given.service.manager.timeouts.delayed_close else {
        return leave(connection).await;
    };
    connection.transport().shutdown_write();
    let until = now.saturating_add(millis(most));
    connection.client().given.alarm.set(Some(until), now);
    let mut left = limits::LINGER_BYTES_MAX;
    loop {
        if left > 0 && discard(connection, &mut left) == Sending::Ended {
            return connection.client().gone();
        }
        // After every receive: yields to other connections.
        let want = if left > 0 { Want::In } else { Want::Nothing };
        if wait(connection, want).await == Waited::Ready && want == Want::Nothing {
            return connection.client().gone();
        }
        if connection.client().given.shard.clock.now() >= until {
            return connection.client().given.stats().downstream_cx_delayed_close_timeout.inc();
        }
    }
}

/// Receives once, and subtracts the bytes received from `left`.
fn discard(connection: &impl Ending, left: &mut usize) -> Sending {
    let mut scratch = connection.client().given.shard.buffers.take();
    let received = connection.transport().receive(&mut scratch);
    connection.client().given.shard.buffers.give(scratch);
    match received {
        Ok(Received::Bytes(n)) => {
            connection.client().given.count_received(n);
            *left = left.saturating_sub(n);
            Sending::Open
        }
        Ok(Received::Nothing) => Sending::Open,
        Ok(Received::End) | Err(_) => Sending::Ended,
    }
}

/// Waits until `want` has come true or the alarm, which the caller has set, expires.
fn wait(connection: &impl Ending, want: Want) -> impl Future<Output = Waited> {
    poll_fn(move |cx| {
        let (given, transport) = (&connection.client().given, connection.transport());
        let ready = match want {
            Want::In => transport.poll_readable(cx),
            Want::Out => transport.poll_writable(cx),
            Want::Nothing => transport.poll_closed(cx),
        };
        let waited = match (given.alarm.poll_expired(cx), ready) {
            (Poll::Ready(()), _) => Waited::TimedOut,
            (Poll::Pending, Poll::Ready(())) => Waited::Ready,
            (Poll::Pending, Poll::Pending) => return Poll::Pending,
        };
        given.shard.poll_proceed(cx).map(|()| waited)
    })
}
