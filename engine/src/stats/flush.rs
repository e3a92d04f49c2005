//! What sinks get at the end of a flush interval: the stats that were used, counters as what was added since
//! the last flush.

use std::sync::Arc;

use crate::stats::Registry;
use crate::stats::reading::{Listed, Name, Value};
use crate::stats::rules::Rules;
use crate::stats::summary::{QUANTILES, Summary, Values};
use crate::stats::tags;

/// A flush in progress, in steps of one scope each.
#[derive(Debug)]
pub struct Flush {
    scopes: std::vec::IntoIter<Arc<dyn Listed>>,
    rules: Arc<Rules>,
}

impl Flush {
    pub(super) fn new(registry: &Registry) -> Self {
        Self { scopes: registry.listed().into_iter(), rules: registry.rules() }
    }

    /// Visits the stats of the next scope. False after the last scope.
    pub fn step(&mut self, visit: &mut dyn FnMut(&Sample<'_>)) -> bool {
        let Some(scope) = self.scopes.next() else { return false };
        let mut counters = Vec::new();
        for declared in (0..).take_while(|index| scope.declared(*index).is_some()) {
            scope.read(declared, &mut |reading| {
                if !reading.used {
                    return;
                }
                match reading.value {
                    // What it had before is kept by the scope, which is being read.
                    Value::Counter(value) => counters.push((declared, reading.name, value)),
                    Value::Gauge(value) => {
                        self.visit(&*scope, reading.name, Amount::Gauge(value), visit);
                    }
                    Value::Text(_) => {}
                    Value::Histogram(summary) => {
                        let values = Amount::Histogram(Recorded(summary));
                        self.visit(&*scope, reading.name, values, visit);
                    }
                }
            });
        }
        for (declared, name, value) in counters {
            let added = scope.latch(declared, name, value);
            self.visit(&*scope, name, Amount::Counter { added, value }, visit);
        }
        true
    }

    fn visit(
        &self,
        scope: &dyn Listed,
        name: Name<'static>,
        amount: Amount<'_>,
        visit: &mut dyn FnMut(&Sample<'_>),
    ) {
        let whole = format!("{}{name}", scope.prefix());
        if self.rules.shows(&whole) {
            let (prefix, rules) = (scope.prefix(), &self.rules);
            visit(&Sample { name: whole, amount, prefix, last: name, rules });
        }
    }
}

/// One stat.
#[derive(Debug)]
pub struct Sample<'a> {
    /// With its tags in it: `cluster.httpbin.upstream_rq_total`.
    pub name: String,
    /// Its value.
    pub amount: Amount<'a>,
    prefix: &'a str,
    last: Name<'static>,
    rules: &'a Rules,
}

impl Sample<'_> {
    /// How the values since the last flush are distributed; none: it is no histogram.
    #[must_use]
    pub fn interval(&self) -> Option<Distribution> {
        self.distribution(|summary| &summary.interval)
    }

    /// How the values since the start are distributed; none: it is no histogram.
    #[must_use]
    pub fn cumulative(&self) -> Option<Distribution> {
        self.distribution(|summary| &summary.cumulative)
    }

    fn distribution(&self, of: impl Fn(&Summary) -> &Values) -> Option<Distribution> {
        let Amount::Histogram(Recorded(summary)) = &self.amount else { return None };
        let values = of(summary);
        let bounds = self.rules.bounds(&self.name);
        let quantiles = QUANTILES.iter().map(|quantile| quantile.quantile);
        Some(Distribution {
            count: values.count(),
            sum: values.sum(),
            quantiles: quantiles.zip(values.quantiles()).collect(),
            buckets: bounds
                .iter()
                .map(|bound| bound.upper)
                .zip(values.counts_below(bounds))
                .collect(),
        })
    }

    /// The name without its tags, and the tags.
    #[must_use]
    pub fn tagged(&self) -> (String, Vec<(String, String)>) {
        let extracted = tags::of_whole_name(self.prefix, self.last, &self.rules.tags);
        let tags = extracted.tags.into_iter().map(|tag| (tag.name.into_owned(), tag.value));
        (extracted.name, tags.collect())
    }
}

/// The value of a stat.
#[derive(Debug)]
pub enum Amount<'a> {
    /// A counter.
    Counter {
        /// Since the last flush.
        added: u64,
        /// Since the start, or since counters were reset.
        value: u64,
    },
    /// A gauge.
    Gauge(u64),
    /// What a histogram recorded since the last flush.
    Histogram(Recorded<'a>),
}

/// Values of a histogram.
#[derive(Debug)]
pub struct Recorded<'a>(&'a Summary);

/// How the values of a histogram are distributed.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// How many values there are.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Quantiles between 0 and 1, each with its value; that is not a number if there are no values.
    pub quantiles: Vec<(f64, f64)>,
    /// Upper bounds, each with how many values are at or below it.
    pub buckets: Vec<(f64, u64)>,
}

impl Recorded<'_> {
    /// Each value and how often it was recorded. Values are exact to two digits.
    pub fn values(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.interval.bins().map(|(bin, count)| (bin.lower(), count))
    }
}
