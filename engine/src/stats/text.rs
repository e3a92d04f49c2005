//! Stats as text: `cluster.httpbin.upstream_rq_total: 3`.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::stats::Registry;
use crate::stats::listing::{Format, Listing};
use crate::stats::rules::Rules;
use crate::stats::select::{HistogramBuckets, Select};
use crate::stats::summary::{Bound, QUANTILES, Summary, Values};

/// The selected stats, one on each line, in pieces.
pub fn text(
    registry: &Registry,
    select: Select,
    buckets: HistogramBuckets,
) -> impl Iterator<Item = String> + Send + use<> {
    let rules = registry.rules();
    Listing::new(registry, select, Text { buckets, rules })
}

struct Text {
    buckets: HistogramBuckets,
    rules: Arc<Rules>,
}

impl Format for Text {
    fn begin(&mut self, _: &mut String) {}

    fn text(&mut self, out: &mut String, name: &str, value: &str) {
        let written = writeln!(out, "{name}: \"{value}\"");
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    fn number(&mut self, out: &mut String, name: &str, value: u64) {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(itoa::Buffer::new().format(value));
        out.push('\n');
    }

    fn histogram(&mut self, out: &mut String, name: &str, summary: &Summary) {
        out.push_str(name);
        if summary.cumulative.is_empty() {
            out.push_str(": No recorded values\n");
            return;
        }
        let bounds = self.rules.bounds(name);
        let written = match self.buckets {
            HistogramBuckets::Summary => quantiles(out, ": ", summary),
            HistogramBuckets::Cumulative => counts(out, summary, bounds, Values::counts_below),
            HistogramBuckets::Disjoint => counts(out, summary, bounds, Values::counts_between),
            HistogramBuckets::Detailed => detailed(out, summary),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
        out.push('\n');
    }

    fn end(&mut self, _: &mut String) {}
}

/// `P0(nan,1) P25(nan,1.05) …`: the last interval, then the total.
fn quantiles(out: &mut String, separator: &str, summary: &Summary) -> std::fmt::Result {
    let values = summary.interval.quantiles().into_iter().zip(summary.cumulative.quantiles());
    let mut separator = separator;
    for (quantile, (interval, cumulative)) in QUANTILES.iter().zip(values) {
        let percent = quantile.percent;
        write!(out, "{separator}P{percent}({},{})", number(interval), number(cumulative))?;
        separator = " ";
    }
    Ok(())
}

/// `B0.5(0,3) B1(0,3) …`: the last interval, then the total.
fn counts(
    out: &mut String,
    summary: &Summary,
    bounds: &[Bound],
    counts: fn(&Values, &[Bound]) -> Vec<u64>,
) -> std::fmt::Result {
    let interval = counts(&summary.interval, bounds);
    let values = interval.into_iter().zip(counts(&summary.cumulative, bounds));
    let mut separator = ": ";
    for (bound, (interval, cumulative)) in bounds.iter().zip(values) {
        write!(out, "{separator}B{}({interval},{cumulative})", bound.short)?;
        separator = " ";
    }
    Ok(())
}

/// Bins as `lower,width:count`, and quantiles, on lines of their own.
fn detailed(out: &mut String, summary: &Summary) -> std::fmt::Result {
    for (label, values) in [("totals", &summary.cumulative), ("intervals", &summary.interval)] {
        write!(out, "{}\n  {label}=", if label == "totals" { ":" } else { "" })?;
        for (at, (bin, count)) in values.bins().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(out, "{separator}{},{}:{count}", bin.lower(), bin.width())?;
        }
    }
    out.push_str("\n  summary=");
    quantiles(out, "", summary)
}

/// A number in text: `nan` in lower case.
pub(super) fn number(value: f64) -> impl std::fmt::Display {
    std::fmt::from_fn(
        move |f| if value.is_nan() { f.write_str("nan") } else { write!(f, "{value}") },
    )
}
