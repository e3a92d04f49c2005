//! How many of something a shard may have at one time.

use std::cell::Cell;

/// A number of places.
#[derive(Debug)]
pub struct Quota {
    most: usize,
    taken: Cell<usize>,
}

/// One place of a [`Quota`]; free again when it is dropped.
#[derive(Debug)]
pub struct Place(&'static Quota);

impl Quota {
    /// At most `most` places.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, taken: Cell::new(0) }
    }

    /// Takes a place; none if all are taken.
    #[must_use]
    pub fn take(&'static self) -> Option<Place> {
        let taken = self.taken.get();
        if taken >= self.most {
            return None;
        }
        self.taken.set(taken + 1);
        Some(Place(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let quota: &'static Quota = Box::leak(Box::new(Quota::new(2)));
        let (first, second) = (quota.take(), quota.take());
        assert!(first.is_some() && second.is_some());
        assert!(quota.take().is_none());
        drop(first);
        assert!(quota.take().is_some());
        drop(second);
    }
}
