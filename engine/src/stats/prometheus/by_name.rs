//! Families when the configuration has tags of its own: a name without its tags may then be anything, so the
//! plan has an entry for every stat.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Family, Metric, Writer};
use crate::stats::Registry;
use crate::stats::listing::PIECE_BYTES;
use crate::stats::reading::{Listed, Name};
use crate::stats::tags;

pub(super) struct Exposition {
    writer: Writer,
    scopes: Vec<Arc<dyn Listed>>,
    families: std::vec::IntoIter<(Family, Vec<Entry>)>,
    current: Option<(Family, std::vec::IntoIter<Entry>)>,
}

/// A stat, by its places.
struct Entry {
    scope: usize,
    declared: usize,
    name: Name<'static>,
}

impl Exposition {
    pub(super) fn new(registry: &Registry, writer: Writer) -> Self {
        let scopes = registry.listed();
        let mut families: BTreeMap<(Metric, String), Vec<Entry>> = BTreeMap::new();
        for (place, scope) in scopes.iter().enumerate() {
            for declared in (0..).take_while(|index| scope.declared(*index).is_some()) {
                scope.read(declared, &mut |reading| {
                    let prefix = scope.prefix();
                    if let Some(metric) = Metric::of(&reading.value)
                        && writer.takes(prefix, reading)
                    {
                        let name =
                            tags::of_whole_name(prefix, reading.name, &writer.rules.tags).name;
                        let family = families.entry((metric, name)).or_default();
                        family.push(Entry { scope: place, declared, name: reading.name });
                    }
                });
            }
        }
        let families = families.into_iter();
        let families: Vec<_> = families
            .map(|((metric, name), entries)| (Family::new(metric, &name), entries))
            .collect();
        Self { writer, scopes, families: families.into_iter(), current: None }
    }
}

impl Iterator for Exposition {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        while out.len() < PIECE_BYTES {
            let Some((family, entries)) = &mut self.current else {
                let Some((family, entries)) = self.families.next() else { break };
                self.current = Some((family, entries.into_iter()));
                continue;
            };
            let Some(entry) = entries.next() else {
                self.current = None;
                continue;
            };
            let Some(scope) = self.scopes.get(entry.scope) else { continue };
            let (writer, prefix) = (&self.writer, scope.prefix());
            scope.read(entry.declared, &mut |reading| {
                if reading.name == entry.name {
                    let extracted = tags::of_whole_name(prefix, reading.name, &writer.rules.tags);
                    let labels = tags::labels(&extracted.tags);
                    writer.write(&mut out, family, prefix, reading, &labels);
                }
            });
        }
        (!out.is_empty()).then_some(out)
    }
}
