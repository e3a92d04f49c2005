//! Families as the default tags make them: all scopes with the same set of stats and the same name without
//! tags have the same ones, so the plan is small, however many clusters there are.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Family, Metric, Writer};
use crate::stats::listing::PIECE_BYTES;
use crate::stats::reading::Listed;
use crate::stats::tags::{self, Shape};
use crate::stats::{Kind, Registry};

pub(super) struct Exposition {
    writer: Writer,
    /// The labels that every line has.
    fixed: String,
    classes: Vec<Class>,
    families: std::vec::IntoIter<Planned>,
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

struct Planned {
    family: Family,
    members: Vec<Member>,
}

/// The stats of one class that belong to a family.
struct Member {
    class: usize,
    stats: Vec<(usize, Shape)>,
}

/// The position of the next line in a family.
struct Cursor {
    planned: Planned,
    member: usize,
    scope: usize,
}

impl Exposition {
    pub(super) fn new(registry: &Registry, writer: Writer) -> Self {
        let (classes, families) = plan(registry.listed());
        let fixed = tags::labels(&writer.rules.tags.fixed);
        Self { writer, fixed, classes, families: families.into_iter(), current: None }
    }
}

/// Classes, and families in the order in which they are written.
fn plan(scopes: Vec<Arc<dyn Listed>>) -> (Vec<Class>, Vec<Planned>) {
    let mut classes: BTreeMap<(String, TypeId), Class> = BTreeMap::new();
    for scope in scopes {
        let extracted = tags::of_prefix(scope.prefix());
        let class =
            classes.entry((extracted.name, scope.set())).or_insert(Class { scopes: Vec::new() });
        class.scopes.push(Tagged { scope, labels: tags::labels(&extracted.tags) });
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
        Planned { family: Family::new(metric, &name), members }
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
        Kind::ConstantGauge | Kind::Gauge | Kind::Hash | Kind::PeakGauge => {
            &[(Metric::Gauge, Shape::Plain)]
        }
        Kind::Histogram | Kind::LateHistogram => &[(Metric::Histogram, Shape::Plain)],
        // As in Envoy, unless they are asked for.
        Kind::Text => &[],
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
                let Some(planned) = self.families.next() else { break };
                self.current = Some(Cursor { planned, member: 0, scope: 0 });
                continue;
            };
            if !cursor.step(&self.classes, &self.writer, &self.fixed, &mut out) {
                self.current = None;
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

impl Cursor {
    /// Writes the lines of the next scope. False after the last.
    fn step(&mut self, classes: &[Class], writer: &Writer, fixed: &str, out: &mut String) -> bool {
        let Self { planned: Planned { family, members }, member, scope } = self;
        let Some(present) = members.get(*member) else { return false };
        let Some(tagged) = classes.get(present.class).and_then(|class| class.scopes.get(*scope))
        else {
            (*member, *scope) = (*member + 1, 0);
            return true;
        };
        *scope += 1;
        let prefix = tagged.scope.prefix();
        for (index, shape) in &present.stats {
            tagged.scope.read(*index, &mut |reading| {
                if Shape::of(reading.name) != *shape || !writer.takes(prefix, reading) {
                    return;
                }
                let own = tags::labels(tags::of_name(reading.name, prefix).as_slice());
                let labels = joined([fixed, &own, &tagged.labels]);
                writer.write(out, family, prefix, reading, &labels);
            });
        }
        true
    }
}

fn joined(parts: [&str; 3]) -> String {
    let mut joined = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(part);
    }
    joined
}
