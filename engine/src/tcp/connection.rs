//! A client connection that is served as a stream of bytes, without HTTP.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::filters::Subject;
use super::log::Record;
use crate::limits;
use crate::shard::clock::{Millis, millis};
use crate::shard::timers::Alarm;
use crate::transport::Transport;
use crate::transport::tls::Failure;

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    /// Its transport: a socket, or TLS over one.
    pub transport: Transport,
    /// Bytes received before the filters ran.
    pub early: Vec<u8>,
    /// Its deadline.
    pub alarm: Alarm,
    /// When it got its filter chain.
    pub opened: Millis,
    /// When `max_downstream_connection_duration` ends; set by [`super::admit`].
    pub expires: Option<Millis>,
    /// What filters know about it.
    pub subject: Subject,
    /// What it notes for access logs.
    pub(super) record: Record,
}

impl Connection {
    /// A connection on which the filters have not run yet. `early` was received already.
    #[must_use]
    pub fn new(subject: Subject, transport: Transport, early: Vec<u8>) -> Self {
        let (alarm, opened) = (subject.shard.timers.alarm(), subject.shard.clock.now());
        let record = Record::default();
        Self { transport, early, alarm, opened, expires: None, subject, record }
    }

    /// Notes why the TLS handshake failed.
    pub fn handshake_failed(&mut self, failure: Failure) {
        self.record.transport_failure = Some(failure);
    }

    /// Sets the alarm to expire in `delay` from now.
    pub(super) fn set_alarm(&self, delay: Millis) {
        let now = self.subject.shard.clock.now();
        self.alarm.set(Some(now.saturating_add(delay)), now);
    }

    /// Waits for `delay` before the connection is closed, unless the client resets it. Nothing is read
    /// meanwhile.
    pub async fn wait_before_close(&self, delay: Option<Duration>) {
        let Some(delay) = delay else { return };
        self.set_alarm(millis(delay));
        self.transport.broken_or_expired(&self.alarm).await;
    }

    /// Waits until the transport has sent everything that it has accepted, for a bounded time.
    pub(super) async fn flush(&self) {
        if !self.transport.has_unsent() {
            return;
        }
        self.set_alarm(limits::TCP_STALL_MS);
        poll_fn(|cx| {
            if self.transport.poll_writable(cx).is_ready() {
                return Poll::Ready(());
            }
            self.alarm.poll_expired(cx)
        })
        .await;
    }
}
