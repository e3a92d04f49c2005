//! What the control plane keeps of a histogram: everything so far, and the last flush interval.
//!
//! Quantiles, sums and bucket counts are computed as Envoy's circllhist does, so that the same values print
//! the same digits.

use std::borrow::Cow;
use std::fmt::Display;

use crate::stats::histogram::Bin;

/// The merged values of one histogram. Both parts are empty until the first flush after the first value.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) interval: Values,
    pub(super) cumulative: Values,
}

impl Summary {
    /// Begins a new interval. The one that ended has what the shards have counted since the last flush.
    pub(super) fn flush(&mut self, now: &Merge) {
        let now = now.values();
        self.interval = now.since(&self.cumulative);
        self.cumulative = now;
    }
}

/// Merges the values of all shards, one histogram after the other.
///
/// The buckets of `hdrhistogram` at two digits are finer than ours everywhere (1/128 of the value against
/// 1/99), so a bin recorded at its lower bound comes back as the same bin.
#[derive(Debug)]
pub(super) struct Merge(hdrhistogram::Histogram<u64>);

impl Merge {
    /// Empty, for the values of all bins. None only if their range were invalid, which it is not.
    pub(super) fn new() -> Option<Self> {
        hdrhistogram::Histogram::new_with_bounds(1, u32::MAX.into(), SIGNIFICANT_DIGITS)
            .ok()
            .map(Self)
    }

    pub(super) fn clear(&mut self) {
        self.0.reset();
    }

    pub(super) fn record(&mut self, bin: Bin, count: u64) {
        let recorded = self.0.record_n(bin.lower().into(), count);
        debug_assert!(recorded.is_ok(), "every bin is in range");
    }

    fn values(&self) -> Values {
        let recorded = self.0.iter_recorded();
        let bins = recorded.map(|step| (Bin::of(step.value_iterated_to()), step.count_at_value()));
        Values(bins.collect())
    }
}

/// Values by bin, in rising order: only the bins that have values, 16 bytes each, because there is one for
/// each histogram of each cluster.
#[derive(Debug, Default)]
pub(super) struct Values(Box<[(Bin, u64)]>);

impl Values {
    /// The values since `before`.
    fn since(&self, before: &Self) -> Self {
        let since = self.bins().filter_map(|(bin, count)| {
            let at = before.0.binary_search_by_key(&bin, |(bin, _)| *bin);
            let known = at.ok().and_then(|at| before.0.get(at)).map_or(0, |(_, count)| *count);
            (count > known).then(|| (bin, count - known))
        });
        Self(since.collect())
    }

    /// The bins that have values, in rising order.
    pub(super) fn bins(&self) -> impl Iterator<Item = (Bin, u64)> {
        self.0.iter().copied()
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.bins().map(|(_, count)| count).sum()
    }

    /// Whether there are no values.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value at each of [`QUANTILES`], interpolated within its bin; NaN without values.
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not happen")]
    pub(super) fn quantiles(&self) -> [f64; QUANTILES.len()] {
        let total = self.count() as f64;
        let (mut bins, mut bin, mut below) = (self.bins(), None, 0.0);
        QUANTILES
            .map(|Quantile { quantile, .. }| {
                let rank = (quantile * total).ceil().max(1.0);
                loop {
                    match bin {
                        None => bin = Some(bins.next()?),
                        Some((_, count)) if below + (count as f64) < rank => {
                            below += count as f64;
                            bin = None;
                        }
                        Some((at, count)) => {
                            let (left, count): (Bin, f64) = (at, count as f64);
                            let inside = left.width() * (rank - below) / (count + 1.0);
                            return Some(f64::from(left.lower()) + inside);
                        }
                    }
                }
            })
            .map(|value| value.unwrap_or(f64::NAN))
    }

    /// The sum, where each value counts as the harmonic mean of its bin's ends.
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not happen")]
    pub(super) fn sum(&self) -> f64 {
        let middle = |bin: Bin| {
            let (left, right) = (f64::from(bin.lower()), f64::from(bin.lower()) + bin.width());
            if left == 0.0 { 0.0 } else { left * 2.0 * right / (left + right) }
        };
        // The `sum()` of no values is -0.
        self.bins().fold(0.0, |sum, (bin, count)| sum + middle(bin) * count as f64)
    }

    /// How many values are at or below each of the bounds, which rise.
    pub(super) fn counts_below(&self, bounds: &[Bound]) -> Vec<u64> {
        let (mut bins, mut below) = (self.bins().peekable(), 0);
        let counts = bounds.iter().map(|bound| {
            while let Some((_, count)) =
                bins.next_if(|(bin, _)| f64::from(bin.lower()) <= bound.upper)
            {
                below += count;
            }
            below
        });
        counts.collect()
    }

    /// How many values are in each of the buckets that these bounds end, and in none before.
    pub(super) fn counts_between(&self, bounds: &[Bound]) -> Vec<u64> {
        let (mut counts, mut below) = (self.counts_below(bounds), 0);
        for count in &mut counts {
            *count -= std::mem::replace(&mut below, *count);
        }
        counts
    }
}

/// A quantile that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantile {
    pub(super) quantile: f64,
    /// As in `P99.5`.
    pub(super) percent: &'static str,
    /// As in `quantile="0.995"`.
    pub(super) label: &'static str,
}

const fn quantile(quantile: f64, percent: &'static str, label: &'static str) -> Quantile {
    Quantile { quantile, percent, label }
}

/// Envoy's.
pub(super) const QUANTILES: [Quantile; 10] = [
    quantile(0.0, "0", "0"),
    quantile(0.25, "25", "0.25"),
    quantile(0.5, "50", "0.5"),
    quantile(0.75, "75", "0.75"),
    quantile(0.9, "90", "0.9"),
    quantile(0.95, "95", "0.95"),
    quantile(0.99, "99", "0.99"),
    quantile(0.995, "99.5", "0.995"),
    quantile(0.999, "99.9", "0.999"),
    quantile(1.0, "100", "1"),
];

/// The upper bound of a bucket that is shown.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) upper: f64,
    /// As in `le="1800000"`.
    pub(super) label: Cow<'static, str>,
    /// As in `B1.8e+06`.
    pub(super) short: Cow<'static, str>,
}

impl Bound {
    /// One of the configuration.
    pub(super) fn new(upper: f64) -> Self {
        let label = digits(upper).to_string().into();
        Self { upper, label, short: six_digits(upper).into() }
    }
}

const fn bound(upper: f64, label: &'static str, short: &'static str) -> Bound {
    Bound { upper, label: Cow::Borrowed(label), short: Cow::Borrowed(short) }
}

/// A number with 32 significant digits, without zeros at its end: the exact value, as Envoy writes it.
pub(super) fn digits(value: f64) -> impl Display {
    std::fmt::from_fn(move |f| {
        if value.is_nan() {
            return f.write_str("nan");
        }
        let whole = if value < 1.0 { 0 } else { format!("{:.0}", value.trunc()).len() };
        let digits = format!("{value:.*}", 32_usize.saturating_sub(whole));
        f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
    })
}

/// A positive number as `%g` of C writes it.
fn six_digits(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let short = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    match usize::try_from(5 - exponent) {
        Ok(decimals) if exponent >= -4 => {
            let plain = format!("{value:.decimals$}");
            if decimals == 0 { plain } else { short(&plain) }
        }
        _ => format!("{}e{exponent:+03}", short(mantissa)),
    }
}

/// Envoy's default buckets.
pub(super) static BOUNDS: [Bound; 19] = [
    bound(0.5, "0.5", "0.5"),
    bound(1.0, "1", "1"),
    bound(5.0, "5", "5"),
    bound(10.0, "10", "10"),
    bound(25.0, "25", "25"),
    bound(50.0, "50", "50"),
    bound(100.0, "100", "100"),
    bound(250.0, "250", "250"),
    bound(500.0, "500", "500"),
    bound(1_000.0, "1000", "1000"),
    bound(2_500.0, "2500", "2500"),
    bound(5_000.0, "5000", "5000"),
    bound(10_000.0, "10000", "10000"),
    bound(30_000.0, "30000", "30000"),
    bound(60_000.0, "60000", "60000"),
    bound(300_000.0, "300000", "300000"),
    bound(600_000.0, "600000", "600000"),
    bound(1_800_000.0, "1800000", "1.8e+06"),
    bound(3_600_000.0, "3600000", "3.6e+06"),
];

/// Enough for bins of two decimal digits to come back unchanged.
const SIGNIFICANT_DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn values(counts: &[(u64, u64)]) -> Values {
        merged(counts.iter().map(|(value, count)| (Bin::of(*value), *count))).values()
    }

    fn merged(counts: impl IntoIterator<Item = (Bin, u64)>) -> Merge {
        let mut merge = Merge::new().unwrap();
        counts.into_iter().for_each(|(bin, count)| merge.record(bin, count));
        merge
    }

    /// The distribution of `upstream_rq_time` in a recording of Envoy 1.40.
    const RECORDED: [(u64, u64); 4] = [(1, 11), (2, 5), (3, 3), (5, 2)];

    #[test]
    fn quantiles_are_envoys_to_the_last_digit() {
        let quantiles = values(&RECORDED).quantiles().map(|value| value.to_string());
        assert_eq!(
            quantiles[..6],
            [
                "1.0083333333333333",
                "1.05",
                "1.0916666666666668",
                "2.0833333333333335",
                "3.075",
                "5.033333333333333"
            ]
        );
        assert_eq!(quantiles[6..], ["5.066666666666666"; 4]);
        let wide = values(&[(1001, 3), (1540, 1)]).quantiles().map(|value| value.to_string());
        assert_eq!(wide[..4], ["1025", "1025", "1050", "1075"]);
        assert_eq!(
            values(&[(0, 5), (1, 1)]).quantiles().map(|value| value.to_string())[3..5],
            ["0", "1.05"]
        );
    }

    #[test]
    fn without_values_every_quantile_is_nan() {
        assert!(Values::default().quantiles().iter().all(|value| value.is_nan()));
    }

    #[test]
    fn the_sum_without_values_is_positive_zero() {
        assert_eq!(Values::default().sum().to_string(), "0");
    }

    #[test]
    fn the_sum_is_envoys_to_the_last_digit() {
        assert_eq!(format!("{:.30}", values(&RECORDED).sum()), "41.014262847430572378470969852060");
        assert_eq!(
            format!("{:.31}", values(&[(0, 5), (1, 1)]).sum()),
            "1.0476190476190476719153821250075"
        );
        assert_eq!(format!("{:.20}", values(&[(22, 1)]).sum()), "22.48888888888888715201");
    }

    #[test]
    fn buckets_count_values_at_or_below_their_bound() {
        let values = values(&[(0, 3), (1, 1), (25, 1), (26, 2), (4_000_000, 7)]);
        assert_eq!(values.counts_below(&BOUNDS)[..7], [3, 4, 4, 4, 5, 7, 7]);
        assert_eq!(values.counts_between(&BOUNDS)[..7], [3, 1, 0, 0, 1, 2, 0]);
        assert_eq!(values.counts_below(&BOUNDS)[18], 7);
    }

    #[test]
    fn a_bound_of_the_configuration_is_named_as_those_of_envoy() {
        for bound in &BOUNDS {
            let made = Bound::new(bound.upper);
            assert_eq!((made.label, made.short), (bound.label.clone(), bound.short.clone()));
        }
        assert_eq!(Bound::new(0.1).short, "0.1");
        assert_eq!(Bound::new(1_234_567.0).short, "1.23457e+06");
        assert_eq!(Bound::new(0.000_012).short, "1.2e-05");
    }

    #[test]
    fn sums_have_the_digits_that_envoy_writes() {
        assert_eq!(digits(0.0).to_string(), "0");
        assert_eq!(digits(44.494_382_022_471_91).to_string(), "44.494382022471910431704600341618");
        assert_eq!(digits(31_982.915_886_316_78).to_string(), "31982.915886316779506159946322441");
        assert_eq!(digits(44.5).to_string(), "44.5");
        assert_eq!(digits(f64::NAN).to_string(), "nan");
    }

    #[test]
    fn an_interval_has_the_values_since_the_last_flush() {
        let mut summary = Summary::default();
        let (seven, later) = (Bin::of(7), Bin::of(70_000));
        summary.flush(&merged([(seven, 2)]));
        summary.flush(&merged([(seven, 3), (later, 5)]));
        assert_eq!(summary.interval.bins().collect::<Vec<_>>(), [(seven, 1), (later, 5)]);
        summary.flush(&merged([(seven, 3), (later, 5)]));
        assert!(summary.interval.is_empty());
        assert_eq!(summary.cumulative.count(), 8);
    }

    proptest! {
        #[test]
        fn bins_come_back_as_they_went_in(
            counts in prop::collection::btree_map(0..=u64::from(u32::MAX), 1..1000u64, 0..200),
        ) {
            let mut expected = BTreeMap::new();
            let mut merge = Merge::new().unwrap();
            for (value, count) in counts {
                merge.record(Bin::of(value), count);
                *expected.entry(Bin::of(value)).or_insert(0) += count;
            }
            prop_assert_eq!(merge.values().bins().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
