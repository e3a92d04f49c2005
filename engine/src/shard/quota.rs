//! A counting semaphore of one shard.

use std::cell::Cell;

/// Limits how many of something a shard has at a time.
#[derive(Debug)]
pub struct Quota {
    most: usize,
    taken: Cell<usize>,
}

/// One permit of a [`Quota`], released when it is dropped.
#[derive(Debug)]
pub struct Permit(&'static Quota);

impl Quota {
    /// A quota of `most` permits.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, taken: Cell::new(0) }
    }

    /// Acquires a permit; `None` if all are taken.
    #[must_use]
    pub fn acquire(&'static self) -> Option<Permit> {
        let taken = self.taken.get();
        if taken >= self.most {
            return None;
        }
        self.taken.set(taken + 1);
        Some(Permit(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_released_when_it_is_dropped() {
        let quota: &'static Quota = Box::leak(Box::new(Quota::new(2)));
        let (first, second) = (quota.acquire(), quota.acquire());
        assert!(first.is_some() && second.is_some());
        assert!(quota.acquire().is_none());
        drop(first);
        assert!(quota.acquire().is_some());
        drop(second);
    }
}
