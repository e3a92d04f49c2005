//! HTTP/1 behind network filters: they decide about a connection before anything of it is read.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::{Connection, Want, serve};
use crate::downstream::connection::Input;
use crate::downstream::filter_chain::LocalFilters;
use crate::listener_facts::ListenerFacts;
use crate::shard::clock::millis;
use crate::shard::socket::Received;
use crate::tcp::filters::{Data, Subject, Verdict};

/// The network filters in front of an HTTP connection, and what they know about it.
#[derive(Debug)]
pub struct Behind {
    /// The filters.
    pub filters: Rc<LocalFilters>,
    /// The connection as they see it.
    pub subject: Subject,
}

impl Behind {
    /// Serves a client if the filters admit it.
    pub async fn serve(mut self, connection: Connection) {
        match self.filters.admit(&mut self.subject) {
            Verdict::Continue => self.serve_admitted(connection).await,
            Verdict::Close(delay) => connection.wait_before_close(delay).await,
        }
    }

    /// Serves a client that the filters have admitted, unless they refuse it when it has sent
    /// something.
    pub async fn serve_admitted(mut self, mut connection: Connection) {
        let mut data = self.filters.data();
        if data != Data::Never {
            if !connection.has_first_bytes().await {
                return connection.leave().await;
            }
            if let Verdict::Close(delay) = self.filters.check(&mut data, &mut self.subject) {
                connection.discard_received();
                connection.wait_before_close(delay).await;
                return connection.leave().await;
            }
        }
        if let Some(options) = self.subject.state.options.take() {
            let facts = &mut connection.client.given.listener_facts;
            let known = facts.take().map(Rc::unwrap_or_clone).unwrap_or_default();
            *facts = Some(Rc::new(ListenerFacts { options: Some(options), ..known }));
        }
        serve(connection).await;
        // Filters count the connection until it ends.
        drop(self);
    }
}

impl Connection {
    /// Waits for the first bytes of the client; false: there will be none.
    async fn has_first_bytes(&mut self) -> bool {
        while self.wire.early.is_empty() {
            let mut idle = self.idle();
            let closed = poll_fn(|cx| idle.poll(self, cx)).await.is_some();
            if closed || self.wire.receive_ahead(&self.client).is_err() {
                return false;
            }
            if self.wire.early.is_empty() && self.client.input() == Input::HalfClosed {
                self.client.gone();
                return false;
            }
        }
        true
    }

    /// Discards what a refused client has sent: a close with unread bytes would be a reset.
    fn discard_received(&self) {
        let given = &self.client.given;
        let mut scratch = given.shard.buffers.take();
        if let Ok(Received::Bytes(bytes)) = self.wire.transport.receive(&mut scratch) {
            given.count_received(bytes);
        }
        given.shard.buffers.give(scratch);
    }

    /// Waits for `delay` before the connection is closed, unless the client resets it.
    async fn wait_before_close(&self, delay: Option<Duration>) {
        let Some(delay) = delay else { return };
        let given = &self.client.given;
        let now = given.shard.clock.now();
        given.alarm.set(Some(now.saturating_add(millis(delay))), now);
        let _waited = self.wait(Want::Nothing).await;
    }
}
