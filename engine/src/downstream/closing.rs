//! The end of a client connection: the answer is flushed, and the client gets time to read it.
//!
//! A socket that is closed with unread bytes in it sends a reset, and a client that receives a reset
//! may lose an answer that it has not read yet. So the client is told first that nothing more comes,
//! and what it still sends is discarded until it closes too.
//!
//! Invariant: both the time of this wait and the bytes that are discarded are bounded.

use super::connection::Client;
use super::interest::{After, Input, Interest};
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

impl Client {
    /// Ends the connection after its last exchange; the descriptor is closed when the client is
    /// dropped.
    pub(super) async fn close(&mut self, after: After) {
        if self.socket.is_posting() {
            self.flush().await;
        }
        match after {
            After::Close if self.may_be_sending() => self.linger().await,
            After::Linger => self.linger().await,
            After::Next | After::Close => {}
            After::Reset => self.socket.reset_on_close(),
        }
    }

    /// Whether a close now could be a reset: the client has sent what nobody will read, or does
    /// not know yet that its connection ends.
    fn may_be_sending(&self) -> bool {
        let knows = !self.is_draining();
        self.input == Input::Open && !(knows && self.socket.peek() == Peeked::Silent)
    }

    /// Waits until the kernel has taken the whole answer, as long as a close may be delayed.
    async fn flush(&mut self) {
        let now = self.shard.clock.now();
        let most = self.chain.manager.timeouts.delayed_close.map(millis);
        self.alarm.set(most.map(|most| now.saturating_add(most)), now);
        let want = Interest { client_out: true, ..Interest::default() };
        let _ready = self.wait(None, want).await;
    }

    /// Says that nothing more comes, and waits for the client to close, at most
    /// `delayed_close_timeout`. Who sends more than a bounded number of bytes meanwhile is not read
    /// any further: the receive window closes, and the wait costs nothing until it ends.
    async fn linger(&mut self) {
        let now = self.shard.clock.now();
        let Some(most) = self.chain.manager.timeouts.delayed_close else { return };
        self.socket.shutdown_write();
        let until = now.saturating_add(millis(most));
        self.alarm.set(Some(until), now);
        let mut left = limits::LINGER_BYTES_MAX;
        loop {
            if left > 0 && self.discard(&mut left) == Sending::Ended {
                return self.gone();
            }
            // After every receive: other connections have their turn.
            let want = Interest { client_in: left > 0, ..Interest::default() };
            if self.wait(None, want).await.client_gone {
                return self.gone();
            }
            if self.shard.clock.now() >= until {
                return self.stats().downstream_cx_delayed_close_timeout.inc();
            }
        }
    }

    /// Receives once, and takes what came off `left`.
    fn discard(&self, left: &mut usize) -> Sending {
        let mut scratch = self.shard.buffers.take();
        let received = self.socket.receive(&mut scratch);
        self.shard.buffers.give(scratch);
        match received {
            Ok(Received::Bytes(n)) => {
                self.count_received(n);
                *left = left.saturating_sub(n);
                Sending::Open
            }
            Ok(Received::Nothing) => Sending::Open,
            Ok(Received::End) | Err(_) => Sending::Ended,
        }
    }
}
