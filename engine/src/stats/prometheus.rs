//! Stats for Prometheus: `envoy_cluster_upstream_rq{envoy_response_code="200",…} 3`.
//!
//! Lines come by family: all counters, then gauges, then histograms, each by name. Only the plan (which sets
//! have which family) is in memory; values are read when their line is written.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;

use crate::stats::listing::PIECE_BYTES;
use crate::stats::reading::{Listed, Value};
use crate::stats::select::{HistogramBuckets, Select};
use crate::stats::summary::{BOUNDS, QUANTILES, Summary};
use crate::stats::tags::{self, Shape};
use crate::stats::{Kind, Registry};

/// The selected stats, in pieces. Histograms as buckets, or as quantiles of the last flush interval if
/// `buckets` says `Summary`.
pub fn prometheus(
    registry: &Registry,
    select: Select,
    buckets: HistogramBuckets,
) -> impl Iterator<Item = String> + Send + use<> {
    let (classes, families) = plan(registry.listed());
    let families = families.into_iter();
    Exposition { select, buckets, classes, families, current: None }
}

struct Exposition {
    select: Select,
    buckets: HistogramBuckets,
    classes: Vec<Class>,
    families: std::vec::IntoIter<Family>,
    current: Option<Cursor>,
}

/// Scopes with the same set of stats and the same name without tags: they have the same families.
struct Class {
    scopes: Vec<Tagged>,
}

struct Tagged {
    scope: Arc<dyn Listed>,
    labels: String,
}

struct Family {
    metric: Metric,
    /// `envoy_cluster_upstream_rq`
    name: String,
    members: Vec<Member>,
}

/// The stats of one class that belong to a family.
struct Member {
    class: usize,
    stats: Vec<(usize, Shape)>,
}

/// The position of the next line in a family.
struct Cursor {
    family: Family,
    /// Whether the `# TYPE` line is written: only a family that has a line gets one.
    announced: bool,
    member: usize,
    scope: usize,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Metric {
    Counter,
    Gauge,
    Histogram,
}

/// Classes, and families in the order in which they are written.
fn plan(scopes: Vec<Arc<dyn Listed>>) -> (Vec<Class>, Vec<Family>) {
    let mut classes: BTreeMap<(String, TypeId), Class> = BTreeMap::new();
    for scope in scopes {
        let extracted = tags::of_prefix(scope.prefix());
        let class =
            classes.entry((extracted.name, scope.set())).or_insert(Class { scopes: Vec::new() });
        class.scopes.push(Tagged { scope, labels: extracted.labels });
    }
    let mut families: BTreeMap<(Metric, String), BTreeMap<usize, Vec<_>>> = BTreeMap::new();
    for (number, ((name, _), class)) in classes.iter().enumerate() {
        let Some(first) = class.scopes.first() else { continue };
        for index in 0.. {
            let Some((declared, kind)) = first.scope.declared(index) else { break };
            for (metric, shape) in shapes(kind) {
                let family = format!("{name}{}", shape.family(declared));
                let members = families.entry((*metric, family)).or_default();
                members.entry(number).or_default().push((index, *shape));
            }
        }
    }
    let families = families.into_iter().map(|((metric, name), members)| {
        let members = members.into_iter().map(|(class, stats)| Member { class, stats }).collect();
        Family { metric, name: metric_name(&name), members }
    });
    let families = families.collect();
    (classes.into_values().collect(), families)
}

/// Under which metrics and shapes the names of a declared stat appear.
fn shapes(kind: Kind) -> &'static [(Metric, Shape)] {
    match kind {
        Kind::ConstantCounter | Kind::LateConstantCounter | Kind::Counter => {
            &[(Metric::Counter, Shape::Plain)]
        }
        Kind::Names => &[(Metric::Counter, Shape::Named)],
        Kind::Codes | Kind::DeclaredCodes => &[
            (Metric::Counter, Shape::Code),
            (Metric::Counter, Shape::Class),
            (Metric::Counter, Shape::Completed),
            (Metric::Counter, Shape::Unknown),
        ],
        Kind::ConstantGauge | Kind::Gauge | Kind::PeakGauge => &[(Metric::Gauge, Shape::Plain)],
        Kind::Histogram | Kind::LateHistogram => &[(Metric::Histogram, Shape::Plain)],
        Kind::WorkerCounter => &[(Metric::Counter, Shape::Plain), (Metric::Counter, Shape::Worker)],
        Kind::WorkerGauge => &[(Metric::Gauge, Shape::Plain), (Metric::Gauge, Shape::Worker)],
    }
}

impl Iterator for Exposition {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while out.len() < PIECE_BYTES {
            let Some(cursor) = &mut self.current else {
                let Some(family) = self.families.next() else { break };
                self.current = Some(Cursor { family, announced: false, member: 0, scope: 0 });
                continue;
            };
            if !cursor.step(&self.classes, &self.select, self.buckets, &mut out) {
                self.current = None;
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

impl Cursor {
    /// Writes the lines of the next scope. False after the last.
    fn step(
        &mut self,
        classes: &[Class],
        select: &Select,
        buckets: HistogramBuckets,
        out: &mut String,
    ) -> bool {
        let Self { family, announced, member, scope } = self;
        let Some(present) = family.members.get(*member) else { return false };
        let Some(tagged) = classes.get(present.class).and_then(|class| class.scopes.get(*scope))
        else {
            (*member, *scope) = (*member + 1, 0);
            return true;
        };
        *scope += 1;
        for (index, shape) in &present.stats {
            tagged.scope.read(*index, &mut |reading| {
                let named = || format!("{}{}", tagged.scope.prefix(), reading.name);
                if Shape::of(reading.name) != *shape
                    || (select.used_only && !reading.used)
                    || (select.filter.is_some() && !select.takes_name(&named()))
                {
                    return;
                }
                let kind = match family.metric {
                    Metric::Counter => "counter",
                    Metric::Gauge => "gauge",
                    Metric::Histogram if buckets == HistogramBuckets::Summary => "summary",
                    Metric::Histogram => "histogram",
                };
                let mut labels =
                    tags::of_name(reading.name, tagged.scope.prefix()).unwrap_or_default();
                if !labels.is_empty() && !tagged.labels.is_empty() {
                    labels.push(',');
                }
                labels.push_str(&tagged.labels);
                let announce = !std::mem::replace(announced, true);
                let written = if announce { type_line(out, &family.name, kind) } else { Ok(()) }
                    .and_then(|()| lines(out, &family.name, &labels, &reading.value, buckets));
                debug_assert!(written.is_ok(), "a string takes everything");
            });
        }
        true
    }
}

fn type_line(out: &mut String, family: &str, kind: &str) -> std::fmt::Result {
    writeln!(out, "# TYPE {family} {kind}")
}

fn lines(
    out: &mut String,
    family: &str,
    labels: &str,
    value: &Value<'_>,
    buckets: HistogramBuckets,
) -> std::fmt::Result {
    match value {
        Value::Counter(value) | Value::Gauge(value) => {
            writeln!(out, "{family}{{{labels}}} {value}")
        }
        Value::Histogram(summary) => {
            let comma = if labels.is_empty() { "" } else { "," };
            if buckets == HistogramBuckets::Summary {
                for (quantile, value) in QUANTILES.iter().zip(summary.interval.quantiles()) {
                    let (quantile, value) = (quantile.label, digits(value));
                    writeln!(out, "{family}{{{labels}{comma}quantile=\"{quantile}\"}} {value}")?;
                }
            } else {
                bucket_lines(out, family, &format!("{labels}{comma}"), summary)?;
            }
            let (sum, count) = (digits(summary.cumulative.sum()), summary.cumulative.count());
            writeln!(out, "{family}_sum{{{labels}}} {sum}")?;
            writeln!(out, "{family}_count{{{labels}}} {count}")
        }
    }
}

fn bucket_lines(
    out: &mut String,
    family: &str,
    labels: &str,
    summary: &Summary,
) -> std::fmt::Result {
    for (bound, count) in BOUNDS.iter().zip(summary.cumulative.counts_below()) {
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

/// A number with 32 significant digits, without zeros at its end: the exact value, as Envoy writes it.
fn digits(value: f64) -> impl Display {
    std::fmt::from_fn(move |f| {
        if value.is_nan() {
            return f.write_str("nan");
        }
        let whole = if value < 1.0 { 0 } else { format!("{:.0}", value.trunc()).len() };
        let digits = format!("{value:.*}", 32_usize.saturating_sub(whole));
        f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_digits_that_envoy_writes() {
        assert_eq!(digits(0.0).to_string(), "0");
        assert_eq!(digits(44.494_382_022_471_91).to_string(), "44.494382022471910431704600341618");
        assert_eq!(digits(31_982.915_886_316_78).to_string(), "31982.915886316779506159946322441");
        assert_eq!(digits(44.5).to_string(), "44.5");
        assert_eq!(digits(f64::NAN).to_string(), "nan");
    }
}
