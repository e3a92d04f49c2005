//! One client connection, from accept to close. Read `serve` first.
//!
//! Invariant: bytes received after the current message are in `early`, and nowhere else.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use super::connection_balance::Assignment;
use super::connection_limit::Permits;
use super::local::LocalListener;
use super::next_request::Next;
use crate::limits;
use crate::request;
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::shard::socket::Received;
use crate::shard::timers::Alarm;
use crate::stats::{HttpStats, ListenerStats};
use crate::transport::Transport;

pub use super::interest::{After, ClosedBy, HeadLimit, Input, Interest, Ready};

/// Serves one client until either side closes the connection.
#[expect(clippy::manual_async_fn, reason = "an async function would store its argument twice")]
pub fn serve(mut client: Client) -> impl Future<Output = ()> {
    async move {
        let after = loop {
            // This future is what an idle connection costs in memory. So the wait for a request is
            // small, and an exchange runs in a pooled block.
            let next = client.next_request().await;
            let after = match next {
                Next::Request(mut heads) => {
                    client.requests += 1;
                    let futures = &client.shard.futures;
                    let after = futures.place(|| request::serve(&mut client, &mut heads)).await;
                    client.service.heads.give(heads);
                    after
                }
                Next::Refused(error) => {
                    client.begin_exchange();
                    client.set_head_alarm();
                    Box::pin(request::refuse(&mut client, error)).await;
                    client.end_exchange();
                    After::Linger
                }
                Next::TimedOut(limit) => {
                    client.begin_exchange();
                    Box::pin(request::time_out_head(&mut client, limit)).await;
                    client.end_exchange();
                    After::Linger
                }
                // The last response may still be on its way: a client that has half-closed reads it.
                Next::Closed => return client.flush().await,
            };
            if after != After::Next {
                break after;
            }
        };
        client.close(after).await;
    }
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    /// The shard that serves it.
    pub shard: &'static Shard,
    /// Its id, unique in this process.
    pub id: u64,
    /// Its socket, or TLS over it.
    pub socket: Transport,
    /// The remote address.
    pub peer: SocketAddr,
    /// The local address.
    pub local: SocketAddr,
    /// Its deadline.
    pub alarm: Alarm,
    /// Received after the current message.
    pub early: Vec<u8>,
    /// Whether the client may still send.
    pub input: Input,
    listener: Rc<LocalListener>,
    pub(super) service: Rc<LocalService>,
    opened: Millis,
    pub(super) head_began: Millis,
    pub(super) requests: u64,
    closed_by: ClosedBy,
    exchange: Exchange,
    _guards: (Permits, Assignment),
}

/// Whether an exchange is in progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exchange {
    None,
    Active,
}

impl Client {
    /// A connection just accepted or taken over, which is counted in the stats.
    pub fn new(
        shard: &'static Shard,
        listener: &Rc<LocalListener>,
        service: &Rc<LocalService>,
        socket: Transport,
        peer: SocketAddr,
        local: SocketAddr,
        guards: (Permits, Assignment),
    ) -> Self {
        let client = Self {
            shard,
            id: shard.connection_id(),
            socket,
            peer,
            local,
            alarm: shard.timers.alarm(),
            early: Vec::new(),
            input: Input::Open,
            listener: Rc::clone(listener),
            service: Rc::clone(service),
            opened: shard.clock.now(),
            head_began: shard.clock.now(),
            requests: 0,
            closed_by: ClosedBy::Us,
            exchange: Exchange::None,
            _guards: guards,
        };
        client.listener_stats().downstream_cx_total.inc();
        client.listener_stats().downstream_cx_active.inc();
        let http = client.stats();
        http.downstream_cx_total.inc();
        http.downstream_cx_active.inc();
        http.downstream_cx_http1_total.inc();
        http.downstream_cx_http1_active.inc();
        client
    }

    /// How many bytes of a request body are kept for a retry.
    #[must_use]
    pub fn buffer_limit(&self) -> usize {
        self.listener.listener().buffer_limit
    }

    /// What its requests are served with.
    #[must_use]
    pub const fn service(&self) -> &Rc<LocalService> {
        &self.service
    }

    /// This shard's stats of the connection manager.
    #[must_use]
    pub fn stats(&self) -> &HttpStats {
        self.service.http.shard(self.shard.id)
    }

    /// Whether the connection is draining: responses carry `connection: close`.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shard.draining().includes(self.listener.listener().direction)
    }

    fn listener_stats(&self) -> &ListenerStats {
        self.listener.stats()
    }

    /// The number of requests on this connection, including the current one.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// When this shard began to serve the connection.
    #[must_use]
    pub const fn opened(&self) -> Millis {
        self.opened
    }

    /// When the first byte of the current request was received.
    #[must_use]
    pub const fn head_began(&self) -> Millis {
        self.head_began
    }

    /// Counts that a request has begun.
    pub fn begin_exchange(&mut self) {
        self.exchange = Exchange::Active;
        let stats = self.stats();
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http1_total.inc();
        stats.downstream_rq_active.inc();
    }

    /// Counts that a request has ended, unless the client is gone. A request that ends with its
    /// connection, for example by a panic, is counted when the connection is dropped.
    pub fn end_exchange(&mut self) {
        if self.closed_by == ClosedBy::Us {
            self.exchange = Exchange::None;
            self.stats().downstream_rq_active.dec();
        }
    }

    /// Notes that the client is gone; counted when the connection is dropped.
    pub fn gone(&mut self) {
        self.closed_by = ClosedBy::Client;
    }

    /// Waits until something of `want` is ready or the alarm, which the caller has set, expires.
    pub fn wait<'a>(
        &'a self,
        origin: Option<&'a Transport>,
        want: Interest,
    ) -> impl Future<Output = Ready> + use<'a> {
        poll_fn(move |cx| {
            let mut ready = Ready::default();
            let mut any = false;
            if want.origin_in && origin.is_some_and(|o| o.poll_readable(cx).is_ready()) {
                (ready.io.origin_in, any) = (true, true);
            }
            if want.origin_out && origin.is_some_and(|o| o.poll_writable(cx).is_ready()) {
                (ready.io.origin_out, any) = (true, true);
            }
            if want.client_in && self.socket.poll_readable(cx).is_ready() {
                (ready.io.client_in, any) = (true, true);
            }
            if want.client_out && self.socket.poll_writable(cx).is_ready() {
                (ready.io.client_out, any) = (true, true);
            }
            if !want.client_in && !want.client_out && self.socket.poll_broken(cx).is_ready() {
                (ready.client_gone, any) = (true, true);
            }
            if self.alarm.poll_expired(cx).is_ready() {
                (ready.timed_out, any) = (true, true);
            }
            if any { self.shard.poll_proceed(cx).map(|()| ready) } else { Poll::Pending }
        })
    }

    /// Receives what the client sends before its response is complete (pipelined requests), which also
    /// detects that it disconnects.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn receive_ahead(&mut self) -> io::Result<()> {
        if self.early.capacity() == 0 {
            self.early = self.shard.buffers.take();
        }
        // Without spare capacity nothing would be received, and the wait would be over at once, forever.
        if self.early.len() == self.early.capacity() {
            self.early.reserve(limits::PIPELINED_BYTES_MAX.saturating_sub(self.early.len()));
        }
        match self.socket.receive(&mut self.early) {
            Ok(Received::Bytes(n)) => self.count_received(n),
            Ok(Received::End) => self.input = Input::HalfClosed,
            Ok(Received::Nothing) => {}
            Err(error) => {
                self.gone();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether [`Self::receive_ahead`] can receive anything.
    #[must_use]
    pub fn listens_ahead(&self) -> bool {
        self.input == Input::Open && self.early.len() < limits::PIPELINED_BYTES_MAX
    }

    /// Sends all of `bytes`, unless the alarm expires first.
    ///
    /// # Errors
    /// When the connection is broken or the alarm expires.
    pub async fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes) {
                Ok(n) => {
                    self.count_sent(n);
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Err(error) => {
                    self.gone();
                    return Err(error);
                }
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let want = Interest { client_out: true, ..Interest::default() };
            if self.wait(None, want).await.timed_out {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Counts bytes received from the client.
    pub fn count_received(&self, bytes: usize) {
        self.stats().downstream_cx_rx_bytes_total.add(bytes as u64);
    }

    /// Counts bytes sent to the client.
    pub fn count_sent(&self, bytes: usize) {
        self.stats().downstream_cx_tx_bytes_total.add(bytes as u64);
    }

    /// When `max_connection_duration` ends the connection.
    pub(super) fn expires_at(&self) -> Option<Millis> {
        let most = self.service.manager.timeouts.max_connection_duration?;
        Some(self.opened.saturating_add(millis(most)))
    }

    /// Whether the connection has reached `max_requests_per_connection` or `max_connection_duration`.
    #[must_use]
    pub fn has_reached_limit(&self, now: Millis) -> bool {
        let manager = &self.service.manager;
        if manager.max_requests_per_connection.is_some_and(|most| self.requests >= u64::from(most))
        {
            self.stats().downstream_cx_max_requests_reached.inc();
            return true;
        }
        let expired = self.expires_at().is_some_and(|at| at <= now);
        if expired {
            self.stats().downstream_cx_max_duration_reached.inc();
        }
        expired
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let length = self.shard.clock.now().saturating_sub(self.opened);
        let listener = self.listener_stats();
        listener.downstream_cx_active.dec();
        listener.downstream_cx_destroy.inc();
        listener.downstream_cx_length_ms.record(length);
        let http = self.stats();
        http.downstream_cx_active.dec();
        http.downstream_cx_http1_active.dec();
        http.downstream_cx_destroy.inc();
        http.downstream_cx_length_ms.record(length);
        match self.closed_by {
            ClosedBy::Us => http.downstream_cx_destroy_local.inc(),
            ClosedBy::Client => http.downstream_cx_destroy_remote.inc(),
        }
        if self.exchange == Exchange::Active {
            http.downstream_rq_active.dec();
            http.downstream_rq_rx_reset.inc();
            http.downstream_cx_destroy_active_rq.inc();
            match self.closed_by {
                ClosedBy::Us => http.downstream_cx_destroy_local_active_rq.inc(),
                ClosedBy::Client => http.downstream_cx_destroy_remote_active_rq.inc(),
            }
        }
        if self.early.capacity() > 0 {
            self.shard.buffers.give(std::mem::take(&mut self.early));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs its task and its entries in the tables of its shard.
    #[test]
    fn a_connection_is_a_small_task() {
        const fn size_of_task<T>(_serve: fn(Client) -> T) -> usize {
            size_of::<T>()
        }
        assert!(size_of_task(serve) <= 352, "{} bytes", size_of_task(serve));
    }
}
