//! What a connection is given when it begins, and what its exchanges read of it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::filters::local_ratelimit::ConnectionBuckets;
use super::routes::LocalRoutes;
use super::service::LocalService;
use crate::address::Address;
use crate::listener_facts::ListenerFacts;
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::shard::drain::Phase;
use crate::shard::timers::Alarm;
use crate::stats::HttpStats;
use crate::transport::tls::facts::TlsFacts;

/// The facts of one client connection.
#[derive(Debug)]
pub struct Given {
    /// The shard that serves it.
    pub shard: &'static Shard,
    /// What its requests are served with.
    pub service: Rc<LocalService>,
    /// The routes of the current request.
    pub routes: Rc<LocalRoutes>,
    /// Its id, unique in this process.
    pub id: u64,
    /// The remote address; behind a PROXY header the announced one.
    pub peer: Address,
    /// What filters have found out about it, and have set.
    pub listener_facts: Option<Rc<ListenerFacts>>,
    /// The local address; behind a PROXY header the announced one.
    pub local: Address,
    /// When this shard began to serve it.
    pub opened: Millis,
    /// What its TLS handshake has settled; none: it is plain, or not so far yet.
    pub tls: Option<Rc<TlsFacts>>,
    /// The token buckets of its own, if it may need some.
    pub buckets: Option<Rc<ConnectionBuckets>>,
    /// The deadline of its task.
    pub alarm: Alarm,
    /// Bytes received from the client on the connection.
    pub received: Cell<u64>,
    /// Bytes sent to the client on the connection.
    pub sent: Cell<u64>,
}

impl Given {
    /// The same for one of several requests at once, which has its own deadline.
    #[must_use]
    pub fn for_stream(&self) -> Self {
        Self {
            shard: self.shard,
            service: Rc::clone(&self.service),
            routes: self.service.newest_routes(),
            id: self.id,
            peer: self.peer,
            listener_facts: self.listener_facts.clone(),
            local: self.local,
            opened: self.opened,
            tls: self.tls.clone(),
            buckets: self.buckets.clone(),
            alarm: self.shard.timers.alarm(),
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// The same for a request that the proxy makes on behalf of the client; none: its connection manager
    /// makes none.
    #[must_use]
    pub fn for_call(&self) -> Option<Self> {
        let service = Rc::clone(self.service.calls.as_ref()?);
        Some(Self { routes: service.newest_routes(), service, ..self.for_stream() })
    }

    /// The same for a mirror of a request; none: its connection manager makes none.
    #[must_use]
    pub fn for_mirror(&self) -> Option<Self> {
        let service = Rc::clone(self.service.mirrors.as_ref()?);
        Some(Self { routes: service.newest_routes(), service, ..self.for_stream() })
    }

    /// For a request that the proxy makes on behalf of no client; `calls` is what it is served with.
    #[must_use]
    pub fn of_proxy(calls: &Rc<LocalService>, shard: &'static Shard) -> Self {
        let address =
            calls.manager.client.local_address.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into());
        let address = Address::Ip(SocketAddr::new(address, 0));
        Self {
            shard,
            service: Rc::clone(calls),
            routes: calls.newest_routes(),
            id: shard.connection_id(),
            peer: address,
            listener_facts: None,
            local: address,
            opened: shard.clock.now(),
            tls: None,
            buckets: None,
            alarm: shard.timers.alarm(),
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    /// The address that the connection comes from, whatever a PROXY header announces.
    #[must_use]
    pub fn direct_peer(&self) -> Address {
        let facts = self.listener_facts.as_ref();
        facts.and_then(|facts| facts.direct_peer).unwrap_or(self.peer)
    }

    /// This shard's stats of the connection manager.
    #[must_use]
    #[inline]
    pub fn stats(&self) -> &HttpStats {
        self.service.http.shard(self.shard.id)
    }

    /// When `max_connection_duration` ends the connection.
    #[must_use]
    #[inline]
    pub fn expires_at(&self) -> Option<Millis> {
        let most = self.service.manager.timeouts.max_connection_duration?;
        Some(self.opened.saturating_add(millis(most)))
    }

    /// Whether the connection is draining: responses carry `connection: close`.
    #[must_use]
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.shard.draining().includes(self.service.direction)
            || self.service.phase.get() != Phase::Serving
    }

    /// Counts bytes received from the client.
    #[inline]
    pub fn count_received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.stats().downstream_cx_rx_bytes_total.add(bytes as u64);
    }

    /// Counts bytes sent to the client.
    #[inline]
    pub fn count_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.stats().downstream_cx_tx_bytes_total.add(bytes as u64);
    }
}
