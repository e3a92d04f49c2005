//! Stats for Prometheus: `envoy_cluster_upstream_rq{envoy_response_code="200",…} 3`.
//!
//! Lines come by family: all counters, then gauges, then histograms, each by name. Only the plan (which stats
//! belong to which family) is in memory; values are read when their line is written.

mod by_name;
mod by_set;

use std::fmt::Write as _;
use std::sync::Arc;

use crate::stats::Registry;
use crate::stats::reading::{Reading, Value};
use crate::stats::rules::Rules;
use crate::stats::select::{HistogramBuckets, Select};
use crate::stats::summary::{Bound, QUANTILES, Summary, digits};

/// The selected stats, in pieces. Histograms as buckets, or as quantiles of the last flush interval if
/// `buckets` says `Summary`.
pub fn prometheus(
    registry: &Registry,
    select: Select,
    buckets: HistogramBuckets,
) -> Box<dyn Iterator<Item = String> + Send> {
    let rules = registry.rules();
    let are_default = rules.tags.are_default();
    let writer = Writer { select, buckets, rules };
    if are_default {
        Box::new(by_set::Exposition::new(registry, writer))
    } else {
        Box::new(by_name::Exposition::new(registry, writer))
    }
}

/// How lines are written, and which.
struct Writer {
    select: Select,
    buckets: HistogramBuckets,
    rules: Arc<Rules>,
}

impl Writer {
    /// Whether there is a line for this.
    fn takes(&self, prefix: &str, reading: &Reading<'_>) -> bool {
        if self.select.used_only && !reading.used {
            return false;
        }
        if self.select.filter.is_none() && self.rules.show_all() {
            return true;
        }
        let name = format!("{prefix}{}", reading.name);
        self.select.takes_name(&name) && self.rules.shows(&name)
    }

    /// Writes the lines of one stat, and before the first of a family its type.
    fn write(
        &self,
        out: &mut String,
        family: &mut Family,
        prefix: &str,
        reading: &Reading<'_>,
        labels: &str,
    ) {
        let written = family.announce(out, self.buckets).and_then(|()| match reading.value {
            Value::Counter(value) | Value::Gauge(value) => {
                writeln!(out, "{}{{{labels}}} {value}", family.name)
            }
            Value::Text(_) => Ok(()),
            Value::Histogram(summary) => {
                let name = format!("{prefix}{}", reading.name);
                let bounds = self.rules.bounds(&name);
                histogram(out, &family.name, labels, summary, self.buckets, bounds)
            }
        });
        debug_assert!(written.is_ok(), "a string takes everything");
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Metric {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// None: it is no metric.
    const fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Counter(_) => Some(Self::Counter),
            Value::Gauge(_) => Some(Self::Gauge),
            Value::Histogram(_) => Some(Self::Histogram),
            Value::Text(_) => None,
        }
    }
}

/// Lines with the same name.
struct Family {
    metric: Metric,
    /// `envoy_cluster_upstream_rq`
    name: String,
    /// Whether the `# TYPE` line is written: only a family that has a line gets one.
    announced: bool,
}

impl Family {
    /// `name` has dots.
    fn new(metric: Metric, name: &str) -> Self {
        Self { metric, name: metric_name(name), announced: false }
    }

    fn announce(&mut self, out: &mut String, buckets: HistogramBuckets) -> std::fmt::Result {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        let kind = match self.metric {
            Metric::Counter => "counter",
            Metric::Gauge => "gauge",
            Metric::Histogram if buckets == HistogramBuckets::Summary => "summary",
            Metric::Histogram => "histogram",
        };
        writeln!(out, "# TYPE {} {kind}", self.name)
    }
}

fn histogram(
    out: &mut String,
    family: &str,
    labels: &str,
    summary: &Summary,
    buckets: HistogramBuckets,
    bounds: &[Bound],
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    if buckets == HistogramBuckets::Summary {
        for (quantile, value) in QUANTILES.iter().zip(summary.interval.quantiles()) {
            let (quantile, value) = (quantile.label, digits(value));
            writeln!(out, "{family}{{{labels}{comma}quantile=\"{quantile}\"}} {value}")?;
        }
    } else {
        bucket_lines(out, family, &format!("{labels}{comma}"), summary, bounds)?;
    }
    let (sum, count) = (digits(summary.cumulative.sum()), summary.cumulative.count());
    writeln!(out, "{family}_sum{{{labels}}} {sum}")?;
    writeln!(out, "{family}_count{{{labels}}} {count}")
}

fn bucket_lines(
    out: &mut String,
    family: &str,
    labels: &str,
    summary: &Summary,
    bounds: &[Bound],
) -> std::fmt::Result {
    for (bound, count) in bounds.iter().zip(summary.cumulative.counts_below(bounds)) {
        writeln!(out, "{family}_bucket{{{labels}le=\"{}\"}} {count}", bound.label)?;
    }
    let count = summary.cumulative.count();
    writeln!(out, "{family}_bucket{{{labels}le=\"+Inf\"}} {count}")
}

/// What Prometheus allows in a name; everything else becomes `_`.
fn metric_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    "envoy_".chars().chain(name.chars().map(allowed)).collect()
}
