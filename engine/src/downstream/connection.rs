//! One client connection, from accept to close. Read `serve` first.
//!
//! Invariant: a connection that waits for its next request holds no buffer; what was received
//! beyond the current message is in `early`, and nothing else reads it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::Listener;
use super::connection_limit::Places;
use super::connection_manager::OldAndIdle;
use super::filter_chain::ConnectionChain;
use crate::http1::names::Names;
use crate::http1::{self, HeadLimits};
use crate::limits;
use crate::request;
use crate::shard::clock::Millis;
use crate::shard::mailbox::Draining;
use crate::shard::socket::{Peeked, Received, Socket};
use crate::shard::timers::Alarm;
use crate::shard::{Heads, Shard};
use crate::stats::{HttpStats, ListenerStats};

pub use super::interest::{After, ClosedBy, HeadLimit, Input, Interest, Ready};

/// Serves one client until one side has had enough.
pub async fn serve(mut client: Client) {
    let shard = client.shard;
    let after = loop {
        // What is waited for between two requests is small, and an exchange runs elsewhere: this is
        // what an idle connection costs.
        let next = client.next_request().await;
        let after = match next {
            Next::Request(mut heads) => {
                client.requests += 1;
                let after = shard.stage.enter(|| request::serve(&mut client, &mut heads)).await;
                shard.give_heads(heads);
                after
            }
            Next::Refused(error) => {
                client.begin_exchange();
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
            Next::Closed => return,
        };
        if after != After::Next {
            break after;
        }
    };
    if client.socket.is_posting() {
        client.settle().await;
    }
    match after {
        After::Close if client.may_be_sending() => client.linger().await,
        After::Linger => client.linger().await,
        After::Next | After::Close => {}
        After::Reset => client.socket.reset_on_close(),
    }
}

/// How the wait for a request ended.
#[derive(Debug)]
enum Next {
    Request(Box<Heads>),
    Refused(http1::Error),
    /// The head was not complete in time.
    TimedOut(HeadLimit),
    Closed,
}

/// A client connection and what it borrows.
#[derive(Debug)]
pub struct Client {
    /// Where it is served.
    pub shard: &'static Shard,
    /// Its socket.
    pub socket: Socket,
    /// The other side.
    pub peer: SocketAddr,
    /// Our side.
    pub local: SocketAddr,
    /// Its one deadline.
    pub alarm: Alarm,
    /// Received beyond the current message.
    pub early: Vec<u8>,
    /// Whether the client may still send.
    pub input: Input,
    listener: Arc<Listener>,
    chain: Rc<ConnectionChain>,
    opened: Millis,
    head_began: Millis,
    requests: u64,
    closed_by: ClosedBy,
    exchange: Exchange,
    _places: Places,
}

/// Whether a request is being answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exchange {
    None,
    Active,
}

impl Client {
    /// A connection just accepted; counts it.
    ///
    /// # Errors
    /// When the socket is broken already.
    pub fn new(
        shard: &'static Shard,
        listener: Arc<Listener>,
        socket: Socket,
        peer: SocketAddr,
        bound: SocketAddr,
        places: Places,
    ) -> io::Result<Self> {
        // A listener on one address is what its connections came to: no need to ask.
        let local = if bound.ip().is_unspecified() { socket.local_address()? } else { bound };
        let alarm = shard.timers.alarm();
        let client = Self {
            shard,
            socket,
            peer,
            local,
            alarm,
            early: Vec::new(),
            input: Input::Open,
            chain: ConnectionChain::new(&listener.filter_chain),
            listener,
            opened: shard.clock.now(),
            head_began: shard.clock.now(),
            requests: 0,
            closed_by: ClosedBy::Us,
            exchange: Exchange::None,
            _places: places,
        };
        shard.connection_opened();
        client.listener_stats().downstream_cx_total.inc();
        client.listener_stats().downstream_cx_active.inc();
        let http = client.stats();
        http.downstream_cx_total.inc();
        http.downstream_cx_active.inc();
        http.downstream_cx_http1_total.inc();
        http.downstream_cx_http1_active.inc();
        Ok(client)
    }

    /// Bytes of a request body that are kept for a retry at the most.
    #[must_use]
    pub fn buffer_limit(&self) -> usize {
        self.listener.buffer_limit
    }

    /// The filter chain that the connection was given.
    #[must_use]
    pub const fn chain(&self) -> &Rc<ConnectionChain> {
        &self.chain
    }

    /// This shard's counters of the connection manager.
    #[must_use]
    pub fn stats(&self) -> &HttpStats {
        self.listener.filter_chain.http.shard(self.shard.id)
    }

    fn listener_stats(&self) -> &ListenerStats {
        self.listener.stats.shard(self.shard.id)
    }

    /// Requests on this connection so far, the current one included.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// When the connection was accepted.
    #[must_use]
    pub const fn opened(&self) -> Millis {
        self.opened
    }

    /// When the first byte of the current request came.
    #[must_use]
    pub const fn head_began(&self) -> Millis {
        self.head_began
    }

    /// A request has begun.
    pub fn begin_exchange(&mut self) {
        self.exchange = Exchange::Active;
        let stats = self.stats();
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http1_total.inc();
        stats.downstream_rq_active.inc();
    }

    /// It has ended, unless the client has gone. One that ends with its connection, be it by a
    /// panic, is counted there.
    pub fn end_exchange(&mut self) {
        if self.closed_by == ClosedBy::Us {
            self.exchange = Exchange::None;
            self.stats().downstream_rq_active.dec();
        }
    }

    /// The client is gone: counted when the connection is dropped.
    pub fn gone(&mut self) {
        self.closed_by = ClosedBy::Client;
    }

    /// Waits for the first thing of `want`, or for the deadline, which was set before.
    pub async fn wait(&self, origin: Option<&Socket>, want: Interest) -> Ready {
        poll_fn(|cx| {
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
            if self.alarm.poll_rang(cx).is_ready() {
                (ready.rang, any) = (true, true);
            }
            if any { self.shard.poll_patience(cx).map(|()| ready) } else { Poll::Pending }
        })
        .await
    }

    /// Receives what the client sent ahead of the answer, to notice when it goes away.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn receive_ahead(&mut self) -> io::Result<()> {
        if self.early.capacity() == 0 {
            self.early = self.shard.buffers.take();
        }
        // Without room nothing would be received, and the wait for it would end at once for ever.
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

    /// Whether it makes sense to look for bytes ahead of the answer.
    #[must_use]
    pub fn listens_ahead(&self) -> bool {
        self.input == Input::Open && self.early.len() < limits::PIPELINED_BYTES_MAX
    }

    /// Sends all of `bytes`; the alarm ends it.
    ///
    /// # Errors
    /// When the connection is broken or the deadline passes.
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
            if self.wait(None, want).await.rang {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Counts bytes from the client.
    pub fn count_received(&self, bytes: usize) {
        self.stats().downstream_cx_rx_bytes_total.add(bytes as u64);
    }

    /// Counts bytes to the client.
    pub fn count_sent(&self, bytes: usize) {
        self.stats().downstream_cx_tx_bytes_total.add(bytes as u64);
    }

    /// Waits for a request head. Holds no buffer until something comes.
    async fn next_request(&mut self) -> Next {
        if self.early.is_empty() {
            if self.early.capacity() > 0 {
                self.shard.buffers.give(std::mem::take(&mut self.early));
            }
            if self.input == Input::HalfClosed {
                return self.closed_by_client();
            }
        }
        let mut heads = match self.first_bytes().await {
            Ok(heads) => heads,
            Err(closed) => return closed,
        };
        match self.receive_head(&mut heads).await {
            Ok(()) => Next::Request(heads),
            Err(next) => {
                self.shard.give_heads(heads);
                next
            }
        }
    }

    /// Waits for the first bytes of a head. What wakes us need not bring any.
    async fn first_bytes(&mut self) -> Result<Box<Heads>, Next> {
        if !self.early.is_empty() {
            let mut heads = self.shard.take_heads();
            heads.request.received().append(&mut self.early);
            return Ok(heads);
        }
        loop {
            if let Some(closed) = self.idle().await {
                return Err(closed);
            }
            let mut heads = self.shard.take_heads();
            let received = self.socket.receive(heads.request.received());
            if let Ok(Received::Bytes(n)) = received {
                self.count_received(n);
                return Ok(heads);
            }
            self.shard.give_heads(heads);
            if let Ok(Received::End) | Err(_) = received {
                return Err(self.closed_by_client());
            }
        }
    }

    /// Waits for the first byte of the next request.
    async fn idle(&mut self) -> Option<Next> {
        let began = self.shard.clock.now();
        let manager = &self.listener.filter_chain.manager;
        let idle_max = manager.timeouts.idle.map(|idle| millis(idle + manager.timeouts.drain));
        let expires_at = match manager.timeouts.old_and_idle {
            OldAndIdle::AnswersOnce if self.requests > 0 => None,
            OldAndIdle::AnswersOnce | OldAndIdle::Closed => self.expires_at(),
        };
        let mut leave_at = None;
        loop {
            if self.shard.draining() == Draining::Leave && leave_at.is_none() {
                // A request may be on its way already: it is still answered.
                leave_at = Some(self.shard.clock.now() + limits::DRAIN_IDLE_GRACE_MS);
            }
            let idle_at = idle_max.map(|most| began.saturating_add(most));
            let deadline = [idle_at, leave_at, expires_at].into_iter().flatten().min();
            self.alarm.set(deadline, self.shard.clock.now());
            let draining = self.shard.draining();
            let readable = poll_fn(|cx| {
                if self.socket.poll_readable(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let rang = self.alarm.poll_rang(cx).is_ready();
                let told = self.shard.draining() != draining;
                if rang || told { Poll::Ready(false) } else { Poll::Pending }
            });
            if readable.await {
                return None;
            }
            let now = self.shard.clock.now();
            let passed = |at: Option<Millis>| at.is_some_and(|at| at <= now);
            if passed(idle_at) {
                self.stats().downstream_cx_idle_timeout.inc();
                return Some(Next::Closed);
            }
            if passed(expires_at) {
                self.stats().downstream_cx_max_duration_reached.inc();
                return Some(Next::Closed);
            }
            if passed(leave_at) {
                self.stats().downstream_cx_drain_close.inc();
                return Some(Next::Closed);
            }
        }
    }

    /// When `max_connection_duration` ends the connection.
    fn expires_at(&self) -> Option<Millis> {
        let most = self.listener.filter_chain.manager.timeouts.max_connection_duration?;
        Some(self.opened.saturating_add(millis(most)))
    }

    /// Whether the connection has lived long enough, in requests or in time.
    #[must_use]
    pub fn is_worn_out(&self, now: Millis) -> bool {
        let manager = &self.listener.filter_chain.manager;
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

    async fn receive_head(&mut self, heads: &mut Heads) -> Result<(), Next> {
        let Heads { request: head, request_as_received: as_received, .. } = heads;
        let keeps_names = matches!(self.listener.filter_chain.manager.names, Names::Preserved(_));
        let limits = self.listener.filter_chain.manager.limits;
        let began = self.shard.clock.now();
        self.head_began = began;
        loop {
            if keeps_names {
                as_received.keep(head.received());
            }
            match head.parse(&limits) {
                Ok(Some(head_bytes)) => {
                    as_received.end(head_bytes);
                    if head.received().len() > head_bytes {
                        if self.early.capacity() == 0 {
                            self.early = self.shard.buffers.take();
                        }
                        head.split_off(head_bytes, &mut self.early);
                    }
                    return Ok(());
                }
                Ok(None) => self.receive_some(head.received(), &limits).await?,
                Err(error) => {
                    self.set_head_alarm();
                    return Err(Next::Refused(error));
                }
            }
        }
    }

    /// Receives at least one more byte of a head.
    async fn receive_some(
        &mut self,
        buffer: &mut Vec<u8>,
        head_limits: &HeadLimits,
    ) -> Result<(), Next> {
        if buffer.len() == buffer.capacity() {
            // The parser refuses a head beyond its limit, so this grows a few times at the most.
            buffer.reserve(limits::BLOCK_BYTES.min(head_limits.bytes_max.max(1)));
        }
        loop {
            match self.socket.receive(buffer) {
                Ok(Received::Bytes(n)) => {
                    self.count_received(n);
                    return Ok(());
                }
                Ok(Received::End) | Err(_) => {
                    self.begin_exchange(); // and it ends with the connection
                    return Err(self.closed_by_client());
                }
                Ok(Received::Nothing) => {}
            }
            let want = Interest { client_in: true, ..Interest::default() };
            self.set_head_alarm();
            if self.wait(None, want).await.rang {
                let limit = self.head_limit().map_or(HeadLimit::Head, |(_, limit)| limit);
                match limit {
                    HeadLimit::Head => self.stats().downstream_rq_header_timeout.inc(),
                    HeadLimit::Request => self.stats().downstream_rq_timeout.inc(),
                }
                return Err(Next::TimedOut(limit));
            }
        }
    }

    /// Sets the alarm to when the head must have come.
    pub fn set_head_alarm(&self) {
        let at = self.head_limit().map(|(most, _)| self.head_began.saturating_add(most));
        self.alarm.set(at, self.shard.clock.now());
    }

    /// How long a head may take.
    fn head_limit(&self) -> Option<(Millis, HeadLimit)> {
        let timeouts = &self.listener.filter_chain.manager.timeouts;
        let head = timeouts.request_headers.map(|most| (millis(most), HeadLimit::Head));
        let request = timeouts.request.map(|most| (millis(most), HeadLimit::Request));
        [head, request].into_iter().flatten().min_by_key(|(most, _)| *most)
    }

    fn closed_by_client(&mut self) -> Next {
        self.gone();
        Next::Closed
    }

    /// Whether a close now could be a reset: the client has sent what nobody will read, or does
    /// not know yet that its connection ends.
    fn may_be_sending(&self) -> bool {
        let knows = self.shard.draining() == Draining::No;
        self.input == Input::Open && !(knows && self.socket.peek() == Peeked::Silent)
    }

    /// Waits until the kernel has taken the whole answer, as long as a close may be delayed.
    async fn settle(&mut self) {
        let now = self.shard.clock.now();
        let most = self.listener.filter_chain.manager.timeouts.delayed_close.map(millis);
        self.alarm.set(most.map(|most| now.saturating_add(most)), now);
        let want = Interest { client_out: true, ..Interest::default() };
        let _ready = self.wait(None, want).await;
    }

    /// Closes once the client has seen the answer: it may still be sending, and a close with
    /// unread bytes would reset the connection and take the answer away from it.
    async fn linger(&mut self) {
        let now = self.shard.clock.now();
        let Some(most) = self.listener.filter_chain.manager.timeouts.delayed_close else { return };
        self.socket.shutdown_write();
        let until = now.saturating_add(millis(most));
        self.alarm.set(Some(until), now);
        let mut scratch = self.shard.buffers.take();
        loop {
            scratch.clear();
            if let Ok(Received::End) | Err(_) = self.socket.receive(&mut scratch) {
                self.gone();
                break;
            }
            // After every receive: a client that never stops sending must not hold the shard up.
            let want = Interest { client_in: true, ..Interest::default() };
            let _ready = self.wait(None, want).await;
            if self.shard.clock.now() >= until {
                self.stats().downstream_cx_delayed_close_timeout.inc();
                break;
            }
        }
        self.shard.buffers.give(scratch);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shard.connection_closed();
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

/// A duration of the configuration in the shard's unit.
#[must_use]
pub fn millis(duration: std::time::Duration) -> Millis {
    let whole = duration.as_secs().saturating_mul(1000);
    whole.saturating_add(duration.subsec_millis().into())
}
