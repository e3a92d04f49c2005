//! The results of a run: latencies, counts, failures; as JSON and as an `.hgrm` percentile table.

use std::io::{self, Write};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::load::pace::SECOND_NS;

/// Why a request got no valid answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The connection could not be made.
    Connect,
    /// The TLS handshake failed, or was not the one that was expected.
    Tls,
    /// The connection broke or closed before the answer was complete.
    Broken,
    /// The answer was not HTTP, or did not have the expected length.
    Malformed,
    /// An unexpected status.
    Status,
}

/// Latencies in nanoseconds, and counts.
#[derive(Debug)]
pub(crate) struct Record {
    /// From the time a request was due to the last byte of its answer.
    pub(crate) latency: Histogram<u64>,
    /// From the time it was sent: what a closed-loop tool would have measured.
    pub(crate) service: Histogram<u64>,
    /// From due to sent: waiting for a free connection, and the generator's own delay.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) body_bytes: u64,
    pub(crate) reconnects: u64,
    pub(crate) failures: Failures,
}

/// Requests without a valid answer, by reason.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Failures {
    pub(crate) connect: u64,
    #[serde(default)]
    pub(crate) tls: u64,
    pub(crate) broken: u64,
    pub(crate) malformed: u64,
    pub(crate) status: u64,
    /// Sent, but not answered at the end of the run.
    pub(crate) unanswered: u64,
    /// Due, but never sent because no connection was free.
    pub(crate) unsent: u64,
}

/// A run as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) body_bytes: u64,
    pub(crate) reconnects: u64,
    pub(crate) failures: Failures,
    pub(crate) latency_us: Percentiles,
    pub(crate) service_us: Percentiles,
    pub(crate) lateness_us: Percentiles,
}

/// The usual percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Record {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("histogram");
        Ok(Self {
            latency: histogram()?,
            service: histogram()?,
            lateness: histogram()?,
            body_bytes: 0,
            reconnects: 0,
            failures: Failures::default(),
        })
    }

    pub(crate) fn answered(&mut self, due_ns: u64, sent_ns: u64, answered_ns: u64) {
        self.latency.saturating_record(answered_ns.saturating_sub(due_ns));
        self.service.saturating_record(answered_ns.saturating_sub(sent_ns));
        self.lateness.saturating_record(sent_ns.saturating_sub(due_ns));
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        match failure {
            Failure::Connect => self.failures.connect += 1,
            Failure::Tls => self.failures.tls += 1,
            Failure::Broken => self.failures.broken += 1,
            Failure::Malformed => self.failures.malformed += 1,
            Failure::Status => self.failures.status += 1,
        }
    }

    /// A request that was not answered by the end of the run: its latency is its age.
    pub(crate) fn unanswered(&mut self, due_ns: u64, end_ns: u64) {
        self.failures.unanswered += 1;
        self.latency.saturating_record(end_ns.saturating_sub(due_ns));
    }

    /// A request that was due but found no free connection.
    pub(crate) fn unsent(&mut self, due_ns: u64, end_ns: u64) {
        self.failures.unsent += 1;
        self.latency.saturating_record(end_ns.saturating_sub(due_ns));
    }

    pub(crate) fn summary(&self, elapsed_ns: u64) -> Summary {
        let requests = self.service.len();
        let seconds = elapsed_ns as f64 / SECOND_NS as f64;
        Summary {
            requests,
            seconds,
            requests_per_second: requests as f64 / seconds.max(f64::MIN_POSITIVE),
            body_bytes: self.body_bytes,
            reconnects: self.reconnects,
            failures: self.failures,
            latency_us: Percentiles::of(&self.latency),
            service_us: Percentiles::of(&self.service),
            lateness_us: Percentiles::of(&self.lateness),
        }
    }
}

impl Failures {
    pub(crate) fn total(&self) -> u64 {
        let Self { connect, tls, broken, malformed, status, unanswered, unsent } = self;
        connect + tls + broken + malformed + status + unanswered + unsent
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

/// Writes the table format of HdrHistogram's plotters; values in milliseconds.
pub(crate) fn write_hgrm(histogram: &Histogram<u64>, mut out: impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", INVERSE)?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1e6, step.quantile());
        write!(out, "{value:12.6} {quantile:2.12} {count:10}")?;
        match 1.0 / (1.0 - quantile) {
            inverse if inverse.is_finite() => writeln!(out, " {inverse:14.2}")?,
            _ => writeln!(out, " {:>14}", "inf")?,
        }
    }
    let (mean, deviation) = (histogram.mean() / 1e6, histogram.stdev() / 1e6);
    writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    let (max, total) = (histogram.max() as f64 / 1e6, histogram.len());
    writeln!(out, "#[Max     = {max:12.6}, Total count    = {total:12}]")?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), SUB_BUCKETS)
}

const LATENCY_NS_MAX: u64 = 60 * SECOND_NS;
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const INVERSE: &str = "1/(1-Percentile)";
/// What three significant digits take.
const SUB_BUCKETS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_due_time_and_service_from_the_send() {
        let mut record = Record::new().unwrap();
        record.answered(1_000_000, 5_000_000, 6_000_000);
        let summary = record.summary(SECOND_NS);
        assert!((summary.latency_us.p50 - 5000.0).abs() < 10.0);
        assert!((summary.service_us.p50 - 1000.0).abs() < 2.0);
        assert!((summary.lateness_us.p50 - 4000.0).abs() < 8.0);
    }

    #[test]
    fn what_the_end_of_the_run_cuts_off_is_a_failure_and_a_latency() {
        let mut record = Record::new().unwrap();
        record.unanswered(0, 2 * SECOND_NS);
        record.unsent(SECOND_NS, 2 * SECOND_NS);
        assert_eq!((record.failures.total(), record.summary(SECOND_NS).requests), (2, 0));
        assert_eq!(record.latency.len(), 2);
        assert!(record.latency.max() >= 2 * SECOND_NS);
    }

    #[test]
    fn the_percentile_table_ends_with_every_request_and_the_largest_value() {
        let mut record = Record::new().unwrap();
        for millisecond in 1..=1000 {
            record.answered(0, 0, millisecond * 1_000_000);
        }
        let mut table = Vec::new();
        write_hgrm(&record.latency, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let rows: Vec<Vec<f64>> = table
            .lines()
            .filter(|line| line.starts_with(' ') && !line.contains("Value"))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1000.0));
        assert!((last[0] - 1000.0).abs() < 1.0);
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0, "median {} ms", median[0]);
    }
}
