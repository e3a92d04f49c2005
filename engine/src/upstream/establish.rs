//! Opens the connections of a pool, and counts them: from the attempt to the end.
//!
//! Invariant: what was counted as opened is counted as destroyed exactly once.

use std::rc::Rc;

use super::circuit_breaker::Permit;
use super::connection::{Closed, ClosedBy, Connection, Occupied};
use super::error::Error;
use super::pool::Pool;
use super::pool_key::{Carries, Speaks};
use crate::shard::clock::Millis;
use crate::transport::Transport;

/// A connection that has just been opened.
#[derive(Debug)]
pub(super) struct Established {
    /// Unique in this process.
    pub(super) id: u64,
    pub(super) transport: Transport,
    /// When it was.
    pub(super) at: Millis,
}

impl Pool {
    pub(super) async fn connect(self: &Rc<Self>, permit: Permit) -> Result<Connection, Error> {
        let established = self.establish().await.inspect_err(|_| {
            self.stats().upstream_rq_pending_failure_eject.inc();
        })?;
        Ok(Connection::of(established, self, permit))
    }

    /// Connects; from then on whoever has the connection does the counting. The caller has a permit.
    pub(super) async fn establish(self: &Rc<Self>) -> Result<Established, Error> {
        let started = self.now();
        let stats = self.stats();
        stats.upstream_cx_total.inc();
        if self.carries() == Carries::Requests {
            match self.speaks() {
                Speaks::Http1 => stats.upstream_cx_http1_total.inc(),
                Speaks::Http2 => stats.upstream_cx_http2_total.inc(),
                Speaks::Negotiated => {} // it is not known yet
            }
        }
        stats.upstream_cx_active.inc();
        self.host_stats().cx_total.inc();
        self.host_stats().cx_active.inc();
        self.connection_begins();
        let mut attempt = Attempt { pool: self, started, closed_by: ClosedBy::Us };
        match self.connected(started).await {
            Ok(transport) => {
                std::mem::forget(attempt);
                let at = self.now();
                stats.upstream_cx_connect_ms.record(at.saturating_sub(started));
                self.host_stats().connected_ms.set(at);
                Ok(Established { id: self.shard().connection_id(), transport, at })
            }
            Err(error) => {
                if let Error::RemoteConnectionFailure(_) | Error::TlsFailure(_) = error {
                    attempt.closed_by = ClosedBy::Host;
                }
                stats.upstream_cx_connect_fail.inc();
                self.count_connect_failure(error);
                if self.connections() == 1 {
                    self.eject(error); // there is no other connection or attempt
                }
                Err(error)
            }
        }
    }

    /// Counts a connection that has ended.
    pub(super) fn connection_closed(&self, closed: Closed) {
        let Closed { opened, requests, by, occupied } = closed;
        let stats = self.stats();
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_active.dec();
        stats.upstream_cx_length_ms.record(self.now().saturating_sub(opened));
        match by {
            ClosedBy::Us => stats.upstream_cx_destroy_local.inc(),
            ClosedBy::Host => stats.upstream_cx_destroy_remote.inc(),
        }
        if occupied == Occupied::Active {
            stats.upstream_cx_destroy_with_active_rq.inc();
            match by {
                ClosedBy::Us => stats.upstream_cx_destroy_local_with_active_rq.inc(),
                ClosedBy::Host => stats.upstream_cx_destroy_remote_with_active_rq.inc(),
            }
        }
        if self.carries() == Carries::Requests {
            stats.upstream_rq_per_cx.record(requests);
        }
        self.connection_ended();
    }

    fn count_connect_failure(&self, error: Error) {
        let host = self.host_stats();
        host.cx_connect_fail.inc();
        host.connect_errno.set(u64::from(error.connect_errno().unsigned_abs()));
        host.connect_failed_ms.set(self.now());
    }
}

/// A connection attempt in progress. Dropped when it fails or is cancelled.
struct Attempt<'a> {
    pool: &'a Pool,
    started: Millis,
    closed_by: ClosedBy,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let stats = self.pool.stats();
        stats.upstream_cx_active.dec();
        stats.upstream_cx_destroy.inc();
        match self.closed_by {
            ClosedBy::Us => stats.upstream_cx_destroy_local.inc(),
            ClosedBy::Host => stats.upstream_cx_destroy_remote.inc(),
        }
        stats.upstream_cx_length_ms.record(self.pool.now().saturating_sub(self.started));
        self.pool.connection_ended();
    }
}
