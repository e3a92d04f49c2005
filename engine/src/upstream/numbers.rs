//! Numbers for the names of clusters, by which routes find them.
//!
//! Invariant: a name keeps its number as long as anything holds it. So a listener that stays when the
//! configuration changes finds the clusters of the new one, whatever their order.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

/// The number of a cluster's name.
#[derive(Debug, Eq, PartialEq)]
pub struct Number(usize);

impl Number {
    /// The number itself: the place of the cluster in the lists of the shards.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.0
    }
}

/// The numbers that are in use.
#[derive(Debug, Default)]
pub struct Numbers(RefCell<InUse>);

#[derive(Debug, Default)]
struct InUse {
    by_name: HashMap<String, Weak<Number>>,
    /// Numbers that nothing holds any more.
    free: Vec<usize>,
    /// All below were given out.
    next: usize,
}

impl Numbers {
    /// The number of this name.
    pub fn of(&self, name: &str) -> Arc<Number> {
        let mut in_use = self.0.borrow_mut();
        if let Some(number) = in_use.by_name.get(name).and_then(Weak::upgrade) {
            return number;
        }
        let index = in_use.free.pop().unwrap_or_else(|| {
            in_use.next += 1;
            in_use.next - 1
        });
        let number = Arc::new(Number(index));
        in_use.by_name.insert(name.to_owned(), Arc::downgrade(&number));
        number
    }

    /// Numbers that nothing holds any more may be given out again.
    pub fn collect(&self) {
        let mut in_use = self.0.borrow_mut();
        in_use.by_name.retain(|_, number| number.strong_count() > 0);
        let numbers = in_use.by_name.values().filter_map(Weak::upgrade);
        let held: HashSet<usize> = numbers.map(|number| number.index()).collect();
        // The smallest ones are given out first.
        in_use.free = (0..in_use.next).rev().filter(|index| !held.contains(index)).collect();
    }
}

/// The clusters that a part of the configuration names.
#[derive(Debug, Default)]
pub struct Uses {
    found: HashMap<String, Arc<Number>>,
    missing: HashSet<String>,
}

impl Uses {
    /// A name was looked up; none: there is no such cluster.
    pub fn note(&mut self, name: &str, number: Option<&Arc<Number>>) {
        match number {
            Some(number) => drop(self.found.insert(name.to_owned(), Arc::clone(number))),
            None => drop(self.missing.insert(name.to_owned())),
        }
    }

    /// Whether each of the names would be found among these clusters as before.
    #[must_use]
    pub fn hold(&self, clusters: &HashMap<&str, &Arc<Number>>) -> bool {
        self.missing.iter().all(|name| !clusters.contains_key(name.as_str()))
            && self.found.iter().all(|(name, number)| {
                clusters.get(name.as_str()).is_some_and(|it| Arc::ptr_eq(it, number))
            })
    }

    /// The numbers of those that exist.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.found.values().map(|number| number.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_while_somebody_holds_it() {
        let numbers = Numbers::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| numbers.of(name));
        assert_eq!([a.index(), b.index(), c.index()], [0, 1, 2]);
        assert_eq!(numbers.of("b"), b);
        drop((a, b));
        numbers.collect();
        assert_eq!(numbers.of("c"), c);
        let [d, e, f] = ["d", "e", "f"].map(|name| numbers.of(name));
        assert_eq!([d.index(), e.index(), f.index()], [0, 1, 3]);
    }
}
