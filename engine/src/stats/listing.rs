//! All stats in the order of their names, a piece at a time: first texts, then counters and gauges, then histograms.
//!
//! Scopes whose prefixes begin alike (`cluster.a.`, `cluster.a.circuit_breakers.high.`) are sorted together;
//! groups follow each other in the order of their prefixes. So only one cluster's lines are ever in memory,
//! and the whole output is sorted: no name of one group sorts between two of another.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::stats::Registry;
use crate::stats::reading::{Listed, Value};
use crate::stats::rules::Rules;
use crate::stats::select::Select;

/// How a stat is written.
pub(super) trait Format {
    /// The beginning of the output.
    fn begin(&mut self, out: &mut String);
    /// A text. All come before the first number.
    fn text(&mut self, out: &mut String, name: &str, value: &str);
    /// A counter or gauge.
    fn number(&mut self, out: &mut String, name: &str, value: u64);
    /// A histogram. All come after the last number.
    fn histogram(&mut self, out: &mut String, name: &str, summary: &crate::stats::summary::Summary);
    /// The end of the output.
    fn end(&mut self, out: &mut String);
}

/// The selected stats, written in pieces of some KB.
pub(super) struct Listing<F> {
    scopes: Vec<Arc<dyn Listed>>,
    select: Select,
    rules: Arc<Rules>,
    format: F,
    phase: Phase,
    group: Group,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Begin,
    /// The scope whose group comes next.
    Texts(usize),
    /// The scope whose group comes next.
    Numbers(usize),
    Histograms(usize),
    Done,
}

impl<F: Format> Listing<F> {
    pub(super) fn new(registry: &Registry, select: Select, format: F) -> Self {
        Self {
            scopes: registry.listed(),
            select,
            rules: registry.rules(),
            format,
            phase: Phase::Begin,
            group: Group::default(),
        }
    }

    /// Writes the next group, or the separator between numbers and histograms.
    fn step(&mut self, out: &mut String) {
        self.phase = match self.phase {
            Phase::Begin => {
                self.format.begin(out);
                Phase::Texts(0)
            }
            Phase::Texts(from) => match group_end(&self.scopes, from) {
                None => Phase::Numbers(0),
                Some(to) => {
                    self.of_scopes(from..to, out, |value| matches!(value, Value::Text(_)));
                    Phase::Texts(to)
                }
            },
            Phase::Numbers(from) => match group_end(&self.scopes, from) {
                None => Phase::Histograms(0),
                Some(to) => {
                    self.numbers(from..to, out);
                    Phase::Numbers(to)
                }
            },
            Phase::Histograms(from) => match group_end(&self.scopes, from) {
                None => {
                    self.format.end(out);
                    Phase::Done
                }
                Some(to) => {
                    self.of_scopes(from..to, out, |value| matches!(value, Value::Histogram(_)));
                    Phase::Histograms(to)
                }
            },
            Phase::Done => Phase::Done,
        };
    }

    fn numbers(&mut self, group: std::ops::Range<usize>, out: &mut String) {
        self.group.clear();
        for scope in self.scopes.get(group).unwrap_or_default() {
            each_reading(scope.as_ref(), &mut |index, reading| {
                if let Value::Counter(value) | Value::Gauge(value) = reading.value
                    && self.select.takes_reading(reading)
                {
                    self.group.push(scope.prefix(), &reading.name, index, value);
                }
            });
        }
        let format = &mut self.format;
        for (name, _, value) in self.group.sorted() {
            if self.select.takes_name(name) && self.rules.shows(name) {
                format.number(out, name, value);
            }
        }
    }

    /// Writes the texts, or the histograms, of a group.
    fn of_scopes(
        &mut self,
        group: std::ops::Range<usize>,
        out: &mut String,
        is_wanted: impl Fn(&Value<'_>) -> bool,
    ) {
        self.group.clear();
        let scopes = self.scopes.get(group).unwrap_or_default();
        for (scope, at) in scopes.iter().zip(0..) {
            each_reading(scope.as_ref(), &mut |index, reading| {
                if is_wanted(&reading.value) && self.select.takes_reading(reading) {
                    self.group.push(scope.prefix(), &reading.name, index, at);
                }
            });
        }
        let format = &mut self.format;
        for (name, index, at) in self.group.sorted() {
            let scope = usize::try_from(at).ok().and_then(|at| scopes.get(at));
            let is_taken = self.select.takes_name(name) && self.rules.shows(name);
            if let Some(scope) = scope.filter(|_| is_taken) {
                scope.read(index, &mut |reading| match reading.value {
                    Value::Histogram(summary) => format.histogram(out, name, summary),
                    Value::Text(text) => format.text(out, name, text),
                    Value::Counter(_) | Value::Gauge(_) => {}
                });
            }
        }
    }
}

impl<F: Format> Iterator for Listing<F> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while out.len() < PIECE_BYTES && !matches!(self.phase, Phase::Done) {
            self.step(&mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

/// A piece is sent when it is this long.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// Where the group that begins with this scope ends; none after the last scope.
fn group_end(scopes: &[Arc<dyn Listed>], from: usize) -> Option<usize> {
    let first = scopes.get(from)?.prefix();
    let same = scopes.iter().skip(from).take_while(|scope| scope.prefix().starts_with(first));
    Some(from + same.count())
}

/// Every present name of a scope with its value and the number of the declared stat.
fn each_reading(
    scope: &dyn Listed,
    visit: &mut dyn FnMut(usize, &crate::stats::reading::Reading<'_>),
) {
    for index in (0..).take_while(|index| scope.declared(*index).is_some()) {
        scope.read(index, &mut |reading| visit(index, reading));
    }
}

/// The names of one group, in a buffer that is reused for the next.
#[derive(Debug, Default)]
struct Group {
    names: String,
    lines: Vec<(std::ops::Range<usize>, usize, u64)>,
}

impl Group {
    fn clear(&mut self) {
        self.names.clear();
        self.lines.clear();
    }

    fn push(&mut self, prefix: &str, name: &impl std::fmt::Display, index: usize, value: u64) {
        let start = self.names.len();
        let written = write!(self.names, "{prefix}{name}");
        debug_assert!(written.is_ok(), "a string takes everything");
        self.lines.push((start..self.names.len(), index, value));
    }

    fn sorted(&mut self) -> impl Iterator<Item = (&str, usize, u64)> {
        let name =
            |range: &std::ops::Range<usize>| self.names.get(range.clone()).unwrap_or_default();
        self.lines.sort_unstable_by(|(a, ..), (b, ..)| name(a).cmp(name(b)));
        self.lines.iter().map(move |(range, index, value)| (name(range), *index, *value))
    }
}
