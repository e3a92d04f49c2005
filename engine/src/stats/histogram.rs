//! A histogram: its shard writes it and the control plane reads it in place.
//!
//! Buckets are those of Envoy's circllhist: two significant decimal digits, so `1`, `2`, … `10`, `11`, …
//! `99`, `100–109`, …. A decade's 90 buckets are allocated with its first value: 16 bytes unused, 224 bytes
//! with the first value below 10, 720 more for each decade above. `docs/decisions/0001-…` says why the
//! buckets are read where they are.

use std::sync::OnceLock;

use crate::stats::Counter;

/// How often each value was recorded: milliseconds in `*_time` and `*_ms`, a plain number otherwise.
/// Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: OnceLock<Box<Buckets>>,
}

impl Histogram {
    /// Counts one value. Values from 2³² on count as 2³² − 1.
    #[inline]
    pub fn record(&self, value: u64) {
        let buckets = self.buckets.get_or_init(Box::default);
        // Most times are below ten milliseconds.
        match usize::try_from(value).ok().and_then(|value| buckets.below_ten.get(value)) {
            Some(bucket) => bucket.inc(),
            None => buckets.record_from_ten(value),
        }
    }

    /// Whether a value was ever recorded.
    pub(super) fn is_used(&self) -> bool {
        self.buckets.get().is_some()
    }

    /// The bins that have values, in ascending order.
    pub(super) fn each(&self, mut visit: impl FnMut(Bin, u64)) {
        let Some(buckets) = self.buckets.get() else { return };
        let above = buckets.decades.iter().enumerate().flat_map(|(decade, buckets)| {
            let buckets = buckets.get().into_iter().flat_map(|buckets| buckets.iter());
            buckets.enumerate().map(move |(digit, bucket)| (Bin::at(decade + 1, digit), bucket))
        });
        let below = buckets.below_ten.iter().enumerate();
        for (bin, bucket) in below.map(|(digit, bucket)| (Bin::at(0, digit), bucket)).chain(above) {
            let count = bucket.value();
            if count > 0 {
                visit(bin, count);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Buckets {
    below_ten: [Counter; 10],
    decades: [OnceLock<Box<[Counter; 90]>>; DECADES],
}

impl Buckets {
    fn record_from_ten(&self, value: u64) {
        let (decade, digit) = Bin::of(value).place();
        let bucket = decade.checked_sub(1).and_then(|decade| {
            let buckets = self.decades.get(decade)?;
            buckets.get_or_init(new_decade).get(digit)
        });
        debug_assert!(bucket.is_some(), "every value has a bucket");
        if let Some(bucket) = bucket {
            bucket.inc();
        }
    }
}

fn new_decade() -> Box<[Counter; 90]> {
    Box::new(std::array::from_fn(|_| Counter::default()))
}

/// 10–99, 100–999, … up to 2³².
const DECADES: usize = 9;

/// A range of values that share their first two digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Bin {
    /// The lowest value in it.
    lower: u32,
}

impl Bin {
    /// The bin that the value falls into.
    pub(super) fn of(value: u64) -> Self {
        let (mut digits, mut unit) = (u32::try_from(value).unwrap_or(u32::MAX), 1);
        while digits >= 100 {
            digits /= 10;
            unit *= 10;
        }
        Self { lower: digits * unit }
    }

    fn at(decade: usize, digit: usize) -> Self {
        let digit = u32::try_from(digit).unwrap_or(0);
        match decade.checked_sub(1) {
            None => Self { lower: digit },
            // The last bucket of the last decade would end above 2³²; no value is ever there.
            Some(power) => Self { lower: (digit + 10).saturating_mul(unit(power)) },
        }
    }

    /// Decade (0: below ten) and bucket in it.
    fn place(self) -> (usize, usize) {
        let (mut digits, mut decade) = (self.lower, 1);
        if digits < 10 {
            return (0, digits as usize);
        }
        while digits >= 100 {
            digits /= 10;
            decade += 1;
        }
        (decade, (digits - 10) as usize)
    }

    /// The lowest value in it.
    pub(super) fn lower(self) -> u32 {
        self.lower
    }

    /// Its width. `1` is the bin from 1.0 to 1.1: Envoy's bins are not made for integers.
    pub(super) fn width(self) -> f64 {
        match self.place() {
            (0, 0) => 0.0,
            (0, _) => 0.1,
            (decade, _) => f64::from(unit(decade - 1)),
        }
    }
}

/// The width of a bin in the decade above ten.
fn unit(power: usize) -> u32 {
    10_u32.saturating_pow(u32::try_from(power).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_is_in_its_bin(
            values in prop::collection::vec(prop_oneof![0..200u64, 0..70_000u64, any::<u64>()], 0..300),
        ) {
            let histogram = Histogram::default();
            let mut expected = BTreeMap::new();
            for value in values {
                histogram.record(value);
                *expected.entry(Bin::of(value)).or_insert(0) += 1;
            }
            let mut counted = Vec::new();
            histogram.each(|bin, count| counted.push((bin, count)));
            prop_assert_eq!(counted, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_bin_begins_at_or_below_its_values_and_ends_above(value in 0..=u64::from(u32::MAX)) {
            let bin = Bin::of(value);
            prop_assert!(u64::from(bin.lower()) <= value);
            #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
            let (lower, value) = (f64::from(bin.lower()), value as f64);
            prop_assert!(value == 0.0 || value < lower + bin.width());
        }
    }

    #[test]
    fn bins_have_two_digits() {
        let lower = |value| Bin::of(value).lower();
        assert_eq!([0, 1, 9, 10, 99].map(lower), [0, 1, 9, 10, 99]);
        assert_eq!([100, 109, 110, 1999, 65_535].map(lower), [100, 100, 110, 1900, 65_000]);
        assert_eq!(lower(u64::MAX), 4_200_000_000);
    }

    #[test]
    fn a_histogram_is_a_pointer_until_it_is_used_and_then_grows_by_decades() {
        assert_eq!(size_of::<Histogram>(), 16);
        assert_eq!(size_of::<Buckets>(), 224);
        assert_eq!(size_of::<[Counter; 90]>(), 720);
    }
}
