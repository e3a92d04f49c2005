//! `direct_response`: sends a fixed text and closes the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::connection::Connection;
use crate::limits;
use crate::shard::socket::Received;

/// The text to send.
#[derive(Clone, Debug)]
pub struct DirectResponse(pub Arc<[u8]>);

/// Sends the response, then waits a moment for the client to close: a close with unread bytes would
/// be a reset, and the client could lose the response.
pub(super) async fn serve(client: &Connection, response: &DirectResponse) {
    let mut rest = &*response.0;
    client.set_alarm(limits::TCP_STALL_MS);
    while !rest.is_empty() {
        let Ok(sent) = client.transport.send(rest) else { return };
        rest = rest.get(sent..).unwrap_or_default();
        if sent > 0 {
            client.set_alarm(limits::TCP_STALL_MS);
        }
        if !rest.is_empty() && wait(client, Wait::Writable).await == Woken::Expired {
            return;
        }
    }
    client.flush().await;
    client.transport.shutdown_write();
    client.set_alarm(limits::TCP_LINGER_MS);
    let mut left = limits::LINGER_BYTES_MAX;
    while left > 0 && wait(client, Wait::Readable).await == Woken::Ready {
        let mut scratch = client.subject.shard.buffers.take();
        let received = client.transport.receive(&mut scratch);
        client.subject.shard.buffers.give(scratch);
        match received {
            Ok(Received::Bytes(bytes)) => left = left.saturating_sub(bytes),
            Ok(Received::Nothing) => {}
            Ok(Received::End) | Err(_) => return,
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Wait {
    Readable,
    Writable,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Woken {
    Ready,
    Expired,
}

async fn wait(client: &Connection, wait: Wait) -> Woken {
    poll_fn(|cx| {
        if client.alarm.poll_expired(cx).is_ready() {
            return Poll::Ready(Woken::Expired);
        }
        let ready = match wait {
            Wait::Readable => client.transport.poll_readable(cx),
            Wait::Writable => client.transport.poll_writable(cx),
        };
        if ready.is_ready() {
            client.subject.shard.poll_proceed(cx).map(|()| Woken::Ready)
        } else {
            Poll::Pending
        }
    })
    .await
}
