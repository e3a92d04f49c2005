//! One client connection, whatever it speaks: counted from accept to close.
//!
//! Invariant: every connection that was counted as opened is counted as destroyed exactly once, with
//! the side that closed it and the request that it may have interrupted.

use std::cell::Cell;
use std::rc::Rc;

use super::connection_balance::Assignment;
use super::connection_limit::Permits;
use super::local::LocalListener;
use super::log;
use crate::address::Address;
use crate::http::Version;
use crate::http2;
use crate::listener_facts::ListenerFacts;
use crate::request::given::Given;
use crate::request::manager::CodecType;
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::shard::socket::Socket;
use crate::stats::ListenerStats;
use crate::transport::tls::Failure;

/// The place of a connection in its listener's counts and limits, from accept to close.
#[derive(Debug)]
pub struct Seat {
    shard: &'static Shard,
    listener: Rc<LocalListener>,
    opened: Millis,
    _guards: (Permits, Assignment),
}

impl Seat {
    /// A connection just accepted or taken over.
    pub fn new(
        shard: &'static Shard,
        listener: &Rc<LocalListener>,
        guards: (Permits, Assignment),
    ) -> Self {
        let stats = listener.stats();
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        let opened = shard.clock.now();
        Self { shard, listener: Rc::clone(listener), opened, _guards: guards }
    }

    /// The listener.
    pub(super) fn listener(&self) -> &LocalListener {
        &self.listener
    }

    /// This shard's stats of the listener.
    #[must_use]
    pub fn stats(&self) -> &ListenerStats {
        self.listener.stats()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let stats = self.listener.stats();
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        stats.downstream_cx_length_ms.record(self.shard.clock.now().saturating_sub(self.opened));
    }
}

/// A client connection that serves HTTP.
#[derive(Debug)]
pub struct Client {
    /// What its exchanges read.
    pub given: Given,
    listener: Rc<LocalListener>,
    closed_by: Cell<ClosedBy>,
    exchange: Cell<Exchange>,
    input: Cell<Input>,
    codec: Cell<Codec>,
    /// The number of requests, including the current one.
    requests: Cell<u32>,
    /// Why the TLS handshake failed.
    transport_failure: Cell<Option<Failure>>,
    _guards: (Permits, Assignment),
}

/// A connection just accepted or taken over, before it has a filter chain.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket.
    pub socket: Socket,
    /// Received already.
    pub early: Vec<u8>,
    /// What is known about it.
    pub facts: Facts,
}

/// What is known about a connection when it gets its filter chain.
#[derive(Debug)]
pub struct Facts {
    /// The remote address.
    pub peer: Address,
    /// The local address.
    pub local: Address,
    /// What listener filters have found out about it.
    pub found: Option<Rc<ListenerFacts>>,
    /// Count the connection until they are dropped.
    pub guards: (Permits, Assignment),
}

impl Facts {
    /// The address that the connection comes from, whatever a PROXY header announces.
    #[must_use]
    pub fn direct_peer(&self) -> Address {
        self.found.as_ref().and_then(|found| found.direct_peer).unwrap_or(self.peer)
    }
}

/// Which side ended the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ClosedBy {
    /// This proxy.
    Us,
    /// The client.
    Client,
}

/// Whether the client may still send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Input {
    /// It may.
    Open,
    /// It has closed its side; it can still read.
    HalfClosed,
}

/// Whether an exchange is in progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exchange {
    None,
    Active,
    /// The connection has ended before exchanges that count themselves.
    Interrupted,
}

/// The version of HTTP with which a connection is counted: that of its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Codec {
    None,
    Http1,
    Http2,
}

/// Which version of HTTP a client is known to speak before it has sent anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speaks {
    /// HTTP/2.
    Http2,
    /// HTTP/1, or what its first bytes are.
    Http1,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Detected {
    /// Not the preface of HTTP/2.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// They may become the preface.
    Incomplete,
}

/// The part of HTTP/2's preface that tells it from a request of HTTP/1, as in Envoy.
const PREFACE: &[u8] = http2::PREFACE.split_at("PRI * HTTP/2".len()).0;

impl Client {
    /// A connection that gets this service, and is counted in the stats.
    pub fn new(
        shard: &'static Shard,
        listener: &Rc<LocalListener>,
        service: &Rc<LocalService>,
        facts: Facts,
    ) -> Self {
        let Facts { peer, local, found, guards } = facts;
        let given = Given {
            shard,
            service: Rc::clone(service),
            routes: service.newest_routes(),
            id: shard.connection_id(),
            peer,
            listener_facts: found,
            local,
            opened: shard.clock.now(),
            tls: None,
            buckets: service.filters.for_connection(),
            alarm: shard.timers.alarm(),
            received: Cell::new(0),
            sent: Cell::new(0),
        };
        let client = Self {
            given,
            listener: Rc::clone(listener),
            closed_by: Cell::new(ClosedBy::Us),
            exchange: Cell::new(Exchange::None),
            input: Cell::new(Input::Open),
            codec: Cell::new(Codec::None),
            requests: Cell::new(0),
            transport_failure: Cell::new(None),
            _guards: guards,
        };
        client.listener_stats().downstream_cx_total.inc();
        client.listener_stats().downstream_cx_active.inc();
        client.given.stats().downstream_cx_total.inc();
        client.given.stats().downstream_cx_active.inc();
        client
    }

    pub(super) fn listener_stats(&self) -> &ListenerStats {
        self.listener.stats()
    }

    /// Whether the client may still send.
    #[inline]
    pub(super) const fn input(&self) -> Input {
        self.input.get()
    }

    /// Notes that the client has closed its side.
    pub(super) fn half_close(&self) {
        self.input.set(Input::HalfClosed);
    }

    /// What is known about its version of HTTP.
    pub(super) fn speaks(&self) -> Speaks {
        let negotiated = self.given.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        match self.given.service.manager.codec_type {
            CodecType::Http2 => Speaks::Http2,
            CodecType::Auto if negotiated == Some(b"h2".as_slice()) => Speaks::Http2,
            CodecType::Auto | CodecType::Http1 => Speaks::Http1,
        }
    }

    /// Whether its version of HTTP is settled.
    #[inline]
    pub(super) fn has_codec(&self) -> bool {
        self.codec.get() != Codec::None
    }

    /// Finds out the version of HTTP from the first bytes, if it is still open.
    pub(super) fn detect(&self, bytes: &[u8]) -> Detected {
        let negotiated = self.given.tls.as_ref().is_some_and(|tls| tls.alpn.is_some());
        if self.given.service.manager.codec_type == CodecType::Auto && !negotiated {
            if bytes.starts_with(PREFACE) {
                return Detected::Http2;
            }
            if PREFACE.starts_with(bytes) {
                return Detected::Incomplete;
            }
        }
        self.codec.set(Codec::Http1);
        self.given.stats().downstream_cx_http1_total.inc();
        self.given.stats().downstream_cx_http1_active.inc();
        Detected::Http1
    }

    /// Counts it as one of HTTP/2.
    pub(super) fn begin_http2(&self) {
        self.codec.set(Codec::Http2);
        self.given.stats().downstream_cx_http2_total.inc();
        self.given.stats().downstream_cx_http2_active.inc();
    }

    /// Notes that the connection ends before its exchanges, which count themselves.
    pub(super) fn interrupt(&self) {
        self.exchange.set(Exchange::Interrupted);
    }

    /// The number of requests with a complete head, including the current one.
    #[inline]
    pub(super) const fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// Counts a request with a complete head.
    #[inline]
    pub(super) fn count_request(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// Counts that a request has begun.
    #[inline]
    pub(super) fn begin_exchange(&self) {
        self.exchange.set(Exchange::Active);
        let stats = self.given.stats();
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
    }

    /// Counts that a request has ended, unless the client is gone. A request that ends with its
    /// connection, for example by a panic, is counted when the connection is dropped.
    #[inline]
    pub(super) fn end_exchange(&self) {
        if self.closed_by.get() == ClosedBy::Us {
            self.exchange.set(Exchange::None);
            self.given.stats().downstream_rq_active.dec();
        }
    }

    /// The version of HTTP that it turned out to speak.
    pub(super) fn protocol(&self) -> Option<Version> {
        match self.codec.get() {
            Codec::None => None,
            Codec::Http1 => Some(Version::Http11),
            Codec::Http2 => Some(Version::Http2),
        }
    }

    /// Notes why the TLS handshake failed.
    pub(super) fn handshake_failed(&self, failure: Failure) {
        self.transport_failure.set(Some(failure));
    }

    /// Why the TLS handshake failed, in words.
    pub(super) fn transport_failure(&self) -> Option<&'static str> {
        self.transport_failure.get().map(Failure::words)
    }

    /// Notes that the client is gone; counted when the connection is dropped.
    #[inline]
    pub(super) fn gone(&self) {
        self.closed_by.set(ClosedBy::Client);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.listener.access_logs.is_empty() {
            log::http(self, &self.listener);
        }
        let length = self.given.shard.clock.now().saturating_sub(self.given.opened);
        let listener = self.listener_stats();
        listener.downstream_cx_active.dec();
        listener.downstream_cx_destroy.inc();
        listener.downstream_cx_length_ms.record(length);
        let http = self.given.stats();
        http.downstream_cx_active.dec();
        http.downstream_cx_destroy.inc();
        http.downstream_cx_length_ms.record(length);
        match self.codec.get() {
            Codec::None => {}
            Codec::Http1 => http.downstream_cx_http1_active.dec(),
            Codec::Http2 => http.downstream_cx_http2_active.dec(),
        }
        if self.given.tls.is_some() {
            http.downstream_cx_ssl_active.dec();
        }
        let closed_by = self.closed_by.get();
        match closed_by {
            ClosedBy::Us => http.downstream_cx_destroy_local.inc(),
            ClosedBy::Client => http.downstream_cx_destroy_remote.inc(),
        }
        if self.exchange.get() == Exchange::Active {
            http.downstream_rq_active.dec();
            http.downstream_rq_rx_reset.inc();
        }
        if self.exchange.get() != Exchange::None {
            http.downstream_cx_destroy_active_rq.inc();
            match closed_by {
                ClosedBy::Us => http.downstream_cx_destroy_local_active_rq.inc(),
                ClosedBy::Client => http.downstream_cx_destroy_remote_active_rq.inc(),
            }
        }
    }
}
