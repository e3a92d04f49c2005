//! The success rates of an interval.

/// Requests, and how many of them were successful.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rate {
    /// All of them.
    pub requests: u64,
    /// The successful ones.
    pub successes: u64,
}

impl Rate {
    /// What came in addition to `earlier`.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.wrapping_sub(earlier.requests),
            successes: self.successes.wrapping_sub(earlier.successes),
        }
    }

    /// In percent; none without requests.
    pub(super) fn percent(self) -> Option<f64> {
        (self.requests > 0).then(|| 100.0 * self.successes as f64 / self.requests as f64)
    }
}

/// The mean of at least one success rate, and the rate below which a host is an outlier.
pub(super) fn threshold(rates: &[f64], stdev_factor: f64) -> (f64, f64) {
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    (mean, stdev_factor.mul_add(-variance.sqrt(), mean))
}
