//! Counters, which only grow, and gauges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        // One writer: a load and a store are enough, and cost no locked instruction.
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The count of this thread alone.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Written by one thread, read by any.
///
/// The lowest bit says whether it was ever written: `?usedonly` shows a gauge that came back to zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less.
    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// `amount` more.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.write(self.0.load(Relaxed).wrapping_add(amount << 1));
    }

    /// `amount` less.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.write(self.0.load(Relaxed).wrapping_sub(amount << 1));
    }

    /// Exactly `value`.
    #[inline]
    pub fn set(&self, value: u64) {
        self.write(value << 1);
    }

    /// The value of this thread alone; 0 if it subtracted more than it added.
    #[inline]
    pub fn value(&self) -> u64 {
        self.signed().try_into().unwrap_or(0)
    }

    /// The value of this thread alone. Negative if what it subtracts was added by another thread's gauge.
    pub(super) fn signed(&self) -> i64 {
        self.0.load(Relaxed).cast_signed() >> 1
    }

    /// Whether it was ever written.
    pub(super) fn is_used(&self) -> bool {
        self.0.load(Relaxed) & 1 == 1
    }

    #[inline]
    fn write(&self, shifted: u64) {
        self.0.store(shifted | 1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_came_back_to_zero_was_used() {
        let gauge = Gauge::default();
        assert!(!gauge.is_used());
        gauge.inc();
        gauge.dec();
        assert_eq!((gauge.value(), gauge.is_used()), (0, true));
    }

    #[test]
    fn a_gauge_below_zero_keeps_its_debt() {
        let gauge = Gauge::default();
        gauge.sub(3);
        assert_eq!((gauge.value(), gauge.signed()), (0, -3));
        gauge.add(5);
        assert_eq!((gauge.value(), gauge.signed()), (2, 2));
        gauge.set(4_294_967_295);
        assert_eq!(gauge.value(), 4_294_967_295);
    }
}
