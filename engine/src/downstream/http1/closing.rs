//! The end of a client connection: the response is flushed, and the client gets time to read it
//! (a lingering close).
//!
//! A socket that is closed with unread bytes sends a reset, and a client that receives a reset may
//! lose a response that it has not read yet. So the sending side is closed first, and what the
//! client still sends is discarded until it closes too.
//!
//! Invariant: the time of this wait and the number of discarded bytes are bounded.

use super::{After, Connection, Waited, Want};
use crate::downstream::connection::Input;
use crate::limits;
use crate::shard::clock::millis;
use crate::shard::socket::{Peeked, Received};

/// Whether the client may still send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    /// It may.
    Open,
    /// It has closed the connection, at least its own side.
    Ended,
}

impl Connection {
    /// Ends the connection after its last exchange; the descriptor is closed when `self` is dropped.
    pub(super) async fn close(&mut self, after: After) {
        self.flush().await;
        match after {
            After::Close if self.may_be_sending() => self.linger().await,
            After::Linger => self.linger().await,
            After::Next | After::Close => self.leave().await,
            After::Reset => self.wire.transport.reset_on_close(),
        }
    }

    /// Closes in order: the client can tell that it has got everything.
    pub(super) async fn leave(&mut self) {
        self.wire.transport.notify_close();
        self.flush().await;
    }

    /// Whether a close now could be a reset: the client has sent bytes that will not be read, or is
    /// about to, because it does not know yet that the connection is draining.
    fn may_be_sending(&self) -> bool {
        let knows = !self.client.given.is_draining();
        self.client.input() == Input::Open
            && !(knows && self.wire.transport.peek() == Peeked::Silent)
    }

    /// Waits until the kernel has accepted all that was sent, at most `delayed_close_timeout`.
    pub(super) async fn flush(&mut self) {
        if !self.wire.transport.has_unsent() {
            return;
        }
        let now = self.client.given.shard.clock.now();
        let most = self.client.given.service.manager.timeouts.delayed_close.map(millis);
        self.client.given.alarm.set(most.map(|most| now.saturating_add(most)), now);
        while self.wire.transport.has_unsent() && self.wait(Want::Out).await != Waited::TimedOut {}
    }

    /// Closes the sending side and waits for the client to close, at most `delayed_close_timeout`.
    /// After a bounded number of bytes nothing more is read: the receive window closes, and the wait
    /// costs nothing.
    async fn linger(&mut self) {
        let now = self.client.given.shard.clock.now();
        let Some(most) = self.client.given.service.manager.timeouts.delayed_close else {
            return self.leave().await;
        };
        self.wire.transport.shutdown_write();
        let until = now.saturating_add(millis(most));
        self.client.given.alarm.set(Some(until), now);
        let mut left = limits::LINGER_BYTES_MAX;
        loop {
            if left > 0 && self.discard(&mut left) == Sending::Ended {
                return self.client.gone();
            }
            // After every receive: yields to other connections.
            let want = if left > 0 { Want::In } else { Want::Nothing };
            if self.wait(want).await == Waited::Gone {
                return self.client.gone();
            }
            if self.client.given.shard.clock.now() >= until {
                return self.client.given.stats().downstream_cx_delayed_close_timeout.inc();
            }
        }
    }

    /// Receives once, and subtracts the bytes received from `left`.
    fn discard(&self, left: &mut usize) -> Sending {
        let mut scratch = self.client.given.shard.buffers.take();
        let received = self.wire.transport.receive(&mut scratch);
        self.client.given.shard.buffers.give(scratch);
        match received {
            Ok(Received::Bytes(n)) => {
                self.client.given.count_received(n);
                *left = left.saturating_sub(n);
                Sending::Open
            }
            Ok(Received::Nothing) => Sending::Open,
            Ok(Received::End) | Err(_) => Sending::Ended,
        }
    }
}
