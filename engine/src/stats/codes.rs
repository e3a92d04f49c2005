//! Response codes: `upstream_rq_200`, `upstream_rq_2xx`, `upstream_rq_completed`.
//!
//! Only codes are counted; classes and the total are computed from them on demand. Nothing is
//! allocated before the first response, and then 96 bytes for every five different codes.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU16,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::stats::Counter;

/// A counter for each response code. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct CodeStats {
    first: OnceLock<Box<Slots>>,
}

impl CodeStats {
    /// Counts one response with this status.
    #[inline]
    pub fn record(&self, status: u16) {
        let status = status.min(UNKNOWN);
        let mut slots = self.first.get_or_init(Box::default);
        loop {
            if slots.record(status) {
                return;
            }
            slots = slots.next.get_or_init(Box::default);
        }
    }

    /// Every code that was counted and its count, each code once, in no particular order.
    pub(super) fn each(&self, mut visit: impl FnMut(u16, u64)) {
        let mut next = self.first.get();
        while let Some(slots) = next {
            for slot in &slots.slots {
                // Acquire: a thread that sees the code also sees its count.
                let status = slot.status.load(Acquire);
                if status != FREE {
                    visit(status, slot.count.value());
                }
            }
            next = slots.next.get();
        }
    }
}

/// A few codes and a link to more. Most clusters never need the link.
#[derive(Debug, Default)]
struct Slots {
    slots: [Slot; 5],
    next: OnceLock<Box<Self>>,
}

impl Slots {
    /// False: all slots belong to other codes.
    fn record(&self, status: u16) -> bool {
        for slot in &self.slots {
            let of = slot.status.load(Relaxed);
            if of == status {
                slot.count.inc();
                return true;
            }
            if of == FREE {
                slot.count.inc();
                slot.status.store(status, Release);
                return true;
            }
        }
        false
    }
}

#[derive(Debug, Default)]
struct Slot {
    count: Counter,
    status: AtomicU16,
}

/// Envoy: a status above 599 is unknown, and of no class.
pub(super) const UNKNOWN: u16 = 600;

/// No response has this status.
const FREE: u16 = 0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_code_is_counted_once_for_each_response(statuses in prop::collection::vec(100..600u16, 0..400)) {
            let codes = CodeStats::default();
            let mut expected = BTreeMap::new();
            for status in statuses {
                codes.record(status);
                *expected.entry(status).or_insert(0) += 1;
            }
            let mut counted = BTreeMap::new();
            codes.each(|status, count| assert!(counted.insert(status, count).is_none()));
            prop_assert_eq!(counted, expected);
        }
    }

    #[test]
    fn nothing_is_allocated_before_the_first_response() {
        let codes = CodeStats::default();
        assert!(codes.first.get().is_none());
        codes.record(200);
        assert_eq!(size_of_val(codes.first.get().map(Box::as_ref).unwrap()), 96);
    }
}
