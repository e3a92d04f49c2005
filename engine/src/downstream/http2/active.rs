//! A request in progress, as the stats count it.

use std::cell::Cell;
use std::rc::Rc;

use super::Shared;

/// Counts a request from its head to its end.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    shared: Rc<Shared>,
    outcome: Cell<Outcome>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// The client has reset it or has gone, or its task has panicked.
    Interrupted,
    /// It got its response, or has counted itself why not.
    Ended,
}

impl ActiveRequest {
    /// A request with a complete head.
    pub(super) fn begin(shared: Rc<Shared>) -> Self {
        let stats = shared.client.given.stats();
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http2_total.inc();
        stats.downstream_rq_active.inc();
        shared.http2_stats().streams_active.inc();
        Self { shared, outcome: Cell::new(Outcome::Interrupted) }
    }

    /// What its connection and others share.
    pub(super) const fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.outcome.set(Outcome::Ended);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let stats = self.shared.client.given.stats();
        stats.downstream_rq_active.dec();
        self.shared.http2_stats().streams_active.dec();
        if self.outcome.get() == Outcome::Interrupted {
            stats.downstream_rq_rx_reset.inc();
        }
    }
}
