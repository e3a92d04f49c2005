//! Counters that get their names when they are first counted: ciphers, TLS versions, key exchange groups.
//!
//! Nothing is allocated before the first one, and then 200 bytes for every six different names.

use std::sync::OnceLock;

use crate::stats::Counter;

/// A counter for each name. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct NamedCounters {
    first: OnceLock<Box<Slots>>,
}

impl NamedCounters {
    /// Counts one occurrence of this name.
    pub fn record(&self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts so many occurrences of this name.
    pub fn add(&self, name: &'static str, count: u64) {
        let mut slots = self.first.get_or_init(Box::default);
        while !slots.add(name, count) {
            slots = slots.next.get_or_init(Box::default);
        }
    }

    /// Every name that was counted and its count, each name once, in no particular order.
    pub(super) fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
        let mut next = self.first.get();
        while let Some(slots) = next {
            for slot in &slots.slots {
                if let Some(name) = slot.name.get() {
                    visit(name, slot.count.value());
                }
            }
            next = slots.next.get();
        }
    }
}

/// A few names and a link to more. Most sets never need the link.
#[derive(Debug, Default)]
struct Slots {
    slots: [Slot; 6],
    next: OnceLock<Box<Self>>,
}

impl Slots {
    /// False: all slots belong to other names.
    fn add(&self, name: &'static str, count: u64) -> bool {
        let slot = self.slots.iter().find(|slot| *slot.name.get_or_init(|| name) == name);
        if let Some(slot) = slot {
            slot.count.add(count);
        }
        slot.is_some()
    }
}

#[derive(Debug, Default)]
struct Slot {
    name: OnceLock<&'static str>,
    count: Counter,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_name_is_counted_on_its_own_however_many_there_are() {
        const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let counters = NamedCounters::default();
        assert!(counters.first.get().is_none(), "nothing is allocated before the first");
        for (times, name) in NAMES.iter().enumerate() {
            (0..=times).for_each(|_| counters.record(name));
        }
        let mut counted = BTreeMap::new();
        counters.each(|name, count| assert!(counted.insert(name, count).is_none()));
        assert_eq!(
            counted.into_iter().collect::<Vec<_>>(),
            NAMES.into_iter().zip(1..).collect::<Vec<_>>()
        );
    }
}
