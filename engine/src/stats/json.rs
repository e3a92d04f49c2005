//! Stats as JSON, on one line: `{"stats":[{"name":…,"value":…},…,{"histograms":…}]}`.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use crate::format::shortest;
use crate::stats::Registry;
use crate::stats::listing::{Format, Listing};
use crate::stats::rules::Rules;
use crate::stats::select::{HistogramBuckets, Select};
use crate::stats::summary::{Bound, QUANTILES, Summary, Values};

/// The selected stats, in pieces.
pub fn json(
    registry: &Registry,
    select: Select,
    buckets: HistogramBuckets,
) -> impl Iterator<Item = String> + Send + use<> {
    let rules = registry.rules();
    Listing::new(registry, select, Json { buckets, rules, members: 0, histograms: 0 })
}

struct Json {
    buckets: HistogramBuckets,
    rules: Arc<Rules>,
    /// How many members the array has.
    members: usize,
    /// How many histograms its last member has.
    histograms: usize,
}

impl Json {
    fn begin_histograms(&mut self, out: &mut String) {
        comma(out, self.members);
        out.push_str(r#"{"histograms":"#);
        let percents = QUANTILES.map(|quantile| quantile.percent).join(",");
        let written = match self.buckets {
            HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => write!(out, "["),
            HistogramBuckets::Detailed => {
                write!(out, r#"{{"supported_percentiles":[{percents}],"details":["#)
            }
            HistogramBuckets::Summary => {
                write!(out, r#"{{"supported_quantiles":[{percents}],"computed_quantiles":["#)
            }
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
}

impl Format for Json {
    fn begin(&mut self, out: &mut String) {
        out.push_str(r#"{"stats":["#);
    }

    fn text(&mut self, out: &mut String, name: &str, value: &str) {
        comma(out, self.members);
        self.members += 1;
        out.push_str(r#"{"name":"#);
        string(out, name);
        out.push_str(r#","value":"#);
        string(out, value);
        out.push('}');
    }

    fn number(&mut self, out: &mut String, name: &str, value: u64) {
        comma(out, self.members);
        self.members += 1;
        out.push_str(r#"{"name":"#);
        string(out, name);
        out.push_str(r#","value":"#);
        out.push_str(itoa::Buffer::new().format(value));
        out.push('}');
    }

    fn histogram(&mut self, out: &mut String, name: &str, summary: &Summary) {
        match self.histograms {
            0 => self.begin_histograms(out),
            _ => out.push(','),
        }
        self.histograms += 1;
        out.push_str(r#"{"name":"#);
        string(out, name);
        let bounds = self.rules.bounds(name);
        let written = match self.buckets {
            HistogramBuckets::Summary => quantiles(out, "values", summary),
            HistogramBuckets::Cumulative => counts(out, summary, bounds, Values::counts_below),
            HistogramBuckets::Disjoint => counts(out, summary, bounds, Values::counts_between),
            HistogramBuckets::Detailed => bins(out, "totals", &summary.cumulative)
                .and_then(|()| bins(out, "intervals", &summary.interval))
                .and_then(|()| quantiles(out, "percentiles", summary)),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
        out.push('}');
    }

    fn end(&mut self, out: &mut String) {
        if self.histograms > 0 {
            out.push_str(match self.buckets {
                HistogramBuckets::Cumulative | HistogramBuckets::Disjoint => "]}",
                HistogramBuckets::Detailed | HistogramBuckets::Summary => "]}}",
            });
        }
        out.push_str("]}");
    }
}

fn quantiles(out: &mut String, key: &str, summary: &Summary) -> std::fmt::Result {
    write!(out, r#","{key}":["#)?;
    let values = summary.interval.quantiles().into_iter().zip(summary.cumulative.quantiles());
    for (at, (interval, cumulative)) in values.enumerate() {
        comma(out, at);
        let (cumulative, interval) = (number(cumulative), number(interval));
        write!(out, r#"{{"cumulative":{cumulative},"interval":{interval}}}"#)?;
    }
    write!(out, "]")
}

fn counts(
    out: &mut String,
    summary: &Summary,
    bounds: &[Bound],
    counts: fn(&Values, &[Bound]) -> Vec<u64>,
) -> std::fmt::Result {
    write!(out, r#","buckets":["#)?;
    let interval = counts(&summary.interval, bounds);
    let values = interval.into_iter().zip(counts(&summary.cumulative, bounds));
    for (at, (bound, (interval, cumulative))) in bounds.iter().zip(values).enumerate() {
        comma(out, at);
        let upper = number(bound.upper);
        write!(
            out,
            r#"{{"upper_bound":{upper},"interval":{interval},"cumulative":{cumulative}}}"#
        )?;
    }
    write!(out, "]")
}

fn bins(out: &mut String, key: &str, values: &Values) -> std::fmt::Result {
    write!(out, r#","{key}":["#)?;
    for (at, (bin, count)) in values.bins().enumerate() {
        comma(out, at);
        let (lower, width) = (number(bin.lower().into()), number(bin.width()));
        write!(out, r#"{{"lower_bound":{lower},"width":{width},"count":{count}}}"#)?;
    }
    write!(out, "]")
}

fn comma(out: &mut String, before: usize) {
    if before > 0 {
        out.push(',');
    }
}

fn string(out: &mut String, text: &str) {
    let written = write!(out, "{}", serde_json::Value::from(text));
    debug_assert!(written.is_ok(), "a string takes everything");
}

/// A number as JSON has it: `null` for NaN.
fn number(value: f64) -> impl Display {
    std::fmt::from_fn(move |f| {
        if value.is_nan() { f.write_str("null") } else { f.write_str(&shortest(value)) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_shorter_of_two_forms() {
        let written = [0.0, 0.5, 25_000.0, 99_999.0, 100_000.0, 250_000.0, 12_000_000.0, 1e21];
        let written = written.map(|value| number(value).to_string()).join(" ");
        assert_eq!(written, "0 0.5 25000 99999 1e+05 250000 1.2e+07 1e+21");
        assert_eq!(number(f64::NAN).to_string(), "null");
    }
}
