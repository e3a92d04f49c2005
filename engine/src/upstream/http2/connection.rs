//! One HTTP/2 connection to a host.
//!
//! Invariant: it is counted as destroyed exactly once, when its task ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::address::Address;
use crate::http::ResponseHead;
use crate::http2;
use crate::limits;
use crate::session::pings::Pings;
use crate::session::{Broken, Session};
use crate::shard::clock::Millis;
use crate::stats::Http2Stats;
use crate::upstream::circuit_breaker::Permit;
use crate::upstream::connection::{Closed, ClosedBy, Occupied};
use crate::upstream::establish::Established;
use crate::upstream::pool::Pool;

/// A connection that carries many requests.
#[derive(Debug)]
pub(in crate::upstream) struct Connection {
    pub(super) session: Rc<Session>,
    pub(super) pool: Rc<Pool>,
    pub(super) id: u64,
    pub(super) local: Option<Address>,
    pub(super) opened: Millis,
    /// Requests so far.
    requests: Cell<u64>,
    /// When the last request ended.
    idle_since: Cell<Millis>,
    phase: Cell<Phase>,
    pub(super) pings: Pings,
    /// Heads that are not in use.
    #[expect(clippy::vec_box, reason = "they move between streams and this list all the time")]
    spare: RefCell<Vec<Box<ResponseHead>>>,
    _permit: Permit,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// It takes requests.
    Open,
    /// It takes no more.
    Draining,
}

/// So many unused heads are kept for the next responses.
const SPARE_MAX: usize = 16;

impl Connection {
    pub(super) fn new(established: Established, pool: Rc<Pool>, permit: Permit) -> Rc<Self> {
        let Established { id, transport, at } = established;
        let options = &pool.cluster().http;
        let trailers = options.http2_trailer_rules();
        let local = transport.local_address().ok().map(Address::Ip);
        let codec = http2::Connection::client(&options.http2);
        let session = Session::new(pool.shard(), transport, codec, trailers);
        let pings = Pings::new(options.http2.keepalive, pool.shard(), at);
        let stats = pool.cluster().http2_stats.shard(pool.shard().id);
        stats.nghttp2_upstream_connections.inc();
        Rc::new(Self {
            session,
            pool,
            id,
            local,
            opened: at,
            requests: Cell::new(0),
            idle_since: Cell::new(at),
            phase: Cell::new(Phase::Open),
            pings,
            spare: RefCell::default(),
            _permit: permit,
        })
    }

    /// `cluster.<name>.http2.`
    pub(super) fn stats(&self) -> &Http2Stats {
        self.pool.cluster().http2_stats.shard(self.pool.shard().id)
    }

    /// How many more requests it takes now.
    pub(super) fn room(&self) -> usize {
        if self.phase.get() == Phase::Draining {
            return 0;
        }
        let own = self.pool.cluster().http.http2.max_concurrent_streams;
        self.session.codec(|codec| {
            let most = if codec.may_open() { codec.peer_allows_streams().min(own) } else { 0 };
            (most as usize).saturating_sub(codec.streams())
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        self.session.streams() == 0
    }

    /// Since when it carries no request, if it carries none.
    pub(super) fn idle_since(&self) -> Option<Millis> {
        self.is_idle().then(|| self.idle_since.get())
    }

    /// Counts a request that begins. At the limit of the connection it is the last one.
    pub(super) fn begin_request(&self) {
        let requests = self.requests.get() + 1;
        self.requests.set(requests);
        let most = self.pool.cluster().http.max_requests_per_connection;
        if most.is_some_and(|most| requests >= u64::from(most)) {
            self.pool.stats().upstream_cx_max_requests.inc();
            self.drain();
        }
    }

    /// A request has ended, or was never begun.
    pub(super) fn end_request(&self) {
        if self.is_idle() {
            self.idle_since.set(self.pool.now());
        }
        if self.phase.get() == Phase::Open {
            if self.pool.is_retired() && !self.pool.has_waiting() {
                return self.drain();
            }
            self.pool.wake_waiting(1);
        }
    }

    /// Takes no more requests; the connection ends with its last one.
    pub(super) fn drain(&self) {
        self.phase.set(Phase::Draining);
        self.pool.shared.remove(self);
        self.session.wake();
    }

    /// Whether it takes no more requests.
    pub(super) fn is_draining(&self) -> bool {
        self.phase.get() == Phase::Draining
    }

    /// An empty head for a response.
    pub(super) fn take_head(&self) -> Box<ResponseHead> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a head for another response; one that had to grow is freed.
    pub(super) fn give_head(&self, mut head: Box<ResponseHead>) {
        head.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && head.received().capacity() <= 2 * limits::BLOCK_BYTES {
            spare.push(head);
        }
    }

    /// Called once, when its task ends.
    pub(super) fn ended(&self, by: ClosedBy) {
        self.phase.set(Phase::Draining);
        self.pool.shared.remove(self);
        let occupied = if self.is_idle() { Occupied::Idle } else { Occupied::Active };
        self.session.show_ended(self.stats());
        self.session.fail_all(Broken::ConnectionLost);
        if by == ClosedBy::Us {
            self.session.transport().notify_close();
        }
        let (opened, requests) = (self.opened, self.requests.get());
        self.pool.connection_closed(Closed { opened, requests, by, occupied });
    }
}
