//! A request in progress, as the stats count it.

use std::cell::Cell;
use std::rc::Rc;

use super::Shared;
use super::resets;
use crate::shard::clock::Millis;

/// Counts a request from its head to its end.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    shared: Rc<Shared>,
    began: Millis,
    progress: Cell<Progress>,
}

/// How far a request has come. One that is dropped before its end was reset by the client, which may have
/// gone, or its task has panicked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// No response has begun.
    Waits,
    /// The response has begun.
    Answered,
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
        let began = shared.client.given.shard.clock.now();
        Self { shared, began, progress: Cell::new(Progress::Waits) }
    }

    /// What its connection and others share.
    pub(super) const fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The response has begun.
    pub(super) fn answer(&self) {
        self.progress.set(Progress::Answered);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.progress.set(Progress::Ended);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let given = &self.shared.client.given;
        let stats = given.stats();
        stats.downstream_rq_active.dec();
        self.shared.http2_stats().streams_active.dec();
        if self.progress.get() != Progress::Ended {
            stats.downstream_rq_rx_reset.inc();
        }
        let end = match self.progress.get() {
            Progress::Waits => {
                resets::End::Unanswered(given.shard.clock.now().saturating_sub(self.began))
            }
            Progress::Answered | Progress::Ended => resets::End::Answered,
        };
        self.shared.resets.count(end, &given.service.manager.premature_resets);
    }
}
