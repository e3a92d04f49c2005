//! The results of one host, written by the shards.
//!
//! Counts of failures in a row are shared by all shards: they are written when a request fails, or when the
//! first one succeeds after a failure. So the requests of a host that is well only read them. How many
//! requests there were is counted by each shard on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc::UnboundedSender;

use super::{Kind, OutlierDetection, Rate};
use crate::stats::{Counter, Scope, stats};

/// The results of one host.
#[derive(Debug)]
pub struct Monitor {
    /// The number of the host in its cluster.
    id: u64,
    config: Arc<OutlierDetection>,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    counts: Scope<Counts>,
    /// The success rates of the last interval, as in `/clusters`: of responses, and of connections. The bits
    /// of percentages; -1 if there were too few requests.
    shown: [AtomicU64; 2],
    reports: UnboundedSender<Report>,
}

/// A host has failed often enough in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// The number of the host.
    pub id: u64,
    /// What has failed.
    pub kind: Kind,
}

/// The result of an attempt to use a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Result {
    /// There is a connection; a response is still to come.
    Connected,
    /// There is a connection, and nothing else is expected.
    ConnectedFinal,
    /// Connecting failed, or the connection broke before a response.
    ConnectFailed,
    /// There was no response, or no connection, in time.
    TimedOut,
    /// A response, with its status; of gRPC, the HTTP status that means the same.
    Response(u16),
}

stats! {
    /// The requests of a host.
    struct Counts {
        counter requests;
        counter successes;
        counter local_requests;
        counter local_successes;
    }
}

impl Monitor {
    /// Of a host that is number `id` of its cluster.
    pub fn new(
        id: u64,
        config: Arc<OutlierDetection>,
        shards: usize,
        reports: UnboundedSender<Report>,
    ) -> Self {
        Self {
            id,
            config,
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway_failure: AtomicU32::new(0),
            consecutive_local_origin_failure: AtomicU32::new(0),
            counts: Scope::unlisted(shards),
            shown: [(); 2].map(|()| AtomicU64::new((-1.0_f64).to_bits())),
            reports,
        }
    }

    /// The success rates of the last interval, in percent: of responses, and of connections. -1 if there were
    /// too few requests.
    pub fn success_rates(&self) -> [f64; 2] {
        self.shown.each_ref().map(|bits| f64::from_bits(bits.load(Relaxed)))
    }

    pub(super) fn show(&self, rates: [f64; 2]) {
        for (shown, rate) in self.shown.iter().zip(rates) {
            shown.store(rate.to_bits(), Relaxed);
        }
    }

    /// The number of the host.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Notes a result, on a shard.
    //= envoy: OutlierDetection.split_external_local_origin_errors
    // Unless they are split, a failure to connect is a 503, and a timeout a 504.
    pub fn note(&self, shard: usize, result: Result) {
        match (result, self.config.splits_local_origin) {
            (Result::Response(status), _) => self.response(shard, status),
            (Result::Connected, false) => {}
            (Result::ConnectedFinal, false) => self.response(shard, 200),
            (Result::ConnectFailed, false) => self.response(shard, 503),
            (Result::TimedOut, false) => self.response(shard, 504),
            (Result::Connected | Result::ConnectedFinal, true) => {
                let counts = self.counts.shard(shard);
                counts.local_requests.inc();
                counts.local_successes.inc();
                reset(&self.consecutive_local_origin_failure);
            }
            (Result::ConnectFailed | Result::TimedOut, true) => {
                self.counts.shard(shard).local_requests.inc();
                let limit = self.config.consecutive_local_origin_failure;
                let kind = Kind::ConsecutiveLocalOriginFailure;
                self.count(&self.consecutive_local_origin_failure, limit, kind);
            }
        }
    }

    fn response(&self, shard: usize, status: u16) {
        let counts = self.counts.shard(shard);
        counts.requests.inc();
        if !(500..600).contains(&status) {
            counts.successes.inc();
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway_failure);
            return;
        }
        if (502..=504).contains(&status) {
            let limit = self.config.consecutive_gateway_failure;
            let kind = Kind::ConsecutiveGatewayFailure;
            self.count(&self.consecutive_gateway_failure, limit, kind);
        } else {
            reset(&self.consecutive_gateway_failure);
        }
        self.count(&self.consecutive_5xx, self.config.consecutive_5xx, Kind::Consecutive5xx);
    }

    /// Counts one more failure in a row.
    fn count(&self, failures: &AtomicU32, limit: u32, kind: Kind) {
        if failures.fetch_add(1, Relaxed) + 1 == limit {
            // The control plane is gone only when the process ends.
            _ = self.reports.send(Report { id: self.id, kind });
        }
    }

    /// Counts failures of this kind from 0 again.
    pub(super) fn reset(&self, kind: Kind) {
        match kind {
            Kind::Consecutive5xx => reset(&self.consecutive_5xx),
            Kind::ConsecutiveGatewayFailure => reset(&self.consecutive_gateway_failure),
            Kind::ConsecutiveLocalOriginFailure => reset(&self.consecutive_local_origin_failure),
            Kind::SuccessRate
            | Kind::SuccessRateLocalOrigin
            | Kind::FailurePercentage
            | Kind::FailurePercentageLocalOrigin => {}
        }
    }

    /// All requests so far, and the successful ones: those with a response, and those that connected.
    pub(super) fn totals(&self) -> [Rate; 2] {
        let sum = |field: fn(&Counts) -> &Counter| self.counts.counter(field);
        [
            Rate { requests: sum(|it| &it.requests), successes: sum(|it| &it.successes) },
            Rate {
                requests: sum(|it| &it.local_requests),
                successes: sum(|it| &it.local_successes),
            },
        ]
    }
}

/// Writes only what is not 0 already: the shards share it.
fn reset(failures: &AtomicU32) {
    if failures.load(Relaxed) != 0 {
        failures.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::detector::tests::config;
    use super::*;

    fn monitor(change: impl FnOnce(&mut OutlierDetection)) -> (Monitor, UnboundedReceiver<Report>) {
        let (sender, reports) = unbounded_channel();
        let mut config = config();
        change(&mut config);
        (Monitor::new(7, Arc::new(config), 2, sender), reports)
    }

    fn kinds(reports: &mut UnboundedReceiver<Report>) -> Vec<Kind> {
        std::iter::from_fn(|| reports.try_recv().ok()).map(|report| report.kind).collect()
    }

    #[test]
    fn enough_failures_in_a_row_are_reported_once_whatever_shard_saw_them() {
        let (monitor, mut reports) = monitor(|_| {});
        for shard in [0, 1, 0, 1, 0, 1, 0] {
            monitor.note(shard, Result::Response(500));
        }
        assert_eq!(kinds(&mut reports), [Kind::Consecutive5xx]);
    }

    #[test]
    fn a_success_begins_the_count_again() {
        let (monitor, mut reports) = monitor(|_| {});
        for status in [500, 500, 500, 500, 200, 500, 500, 500, 500] {
            monitor.note(0, Result::Response(status));
        }
        assert_eq!(kinds(&mut reports), []);
        assert_eq!(monitor.totals()[0], Rate { requests: 9, successes: 1 });
    }

    #[test]
    fn gateway_failures_are_502_to_504_and_a_500_interrupts_them() {
        let (monitor, mut reports) = monitor(|config| config.consecutive_5xx = 100);
        for status in [502, 503, 504, 503, 500, 502, 503, 504, 503] {
            monitor.note(0, Result::Response(status));
        }
        assert_eq!(kinds(&mut reports), []);
        monitor.note(0, Result::Response(504));
        assert_eq!(kinds(&mut reports), [Kind::ConsecutiveGatewayFailure]);
    }

    #[test]
    fn a_failure_to_connect_is_a_503_unless_it_is_split() {
        let (whole, mut reports) = monitor(|_| {});
        for _ in 0..5 {
            whole.note(0, Result::Connected);
            whole.note(0, Result::ConnectFailed);
        }
        assert_eq!(kinds(&mut reports), [Kind::ConsecutiveGatewayFailure, Kind::Consecutive5xx]);

        let (split, mut reports) = monitor(|config| config.splits_local_origin = true);
        for _ in 0..5 {
            split.note(0, Result::TimedOut);
        }
        assert_eq!(kinds(&mut reports), [Kind::ConsecutiveLocalOriginFailure]);
        split.note(0, Result::Connected);
        let none = Rate { requests: 0, successes: 0 };
        assert_eq!(split.totals(), [none, Rate { requests: 6, successes: 1 }]);
    }
}
