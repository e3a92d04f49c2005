//! Fractions of requests: how many out of 100, 10 000 or 1 000 000.

/// A fraction of the requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fraction {
    /// The number of requests out of `denominator`.
    pub numerator: u32,
    /// 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

impl Fraction {
    /// Whether the request with this random number is included.
    pub fn includes(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}
