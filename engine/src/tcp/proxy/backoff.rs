//! The delay between two attempts to connect: exponential with full jitter.

use std::time::Duration;

use crate::shard::clock::{Millis, millis};

/// `backoff_options`: the delay before attempt n + 1 is below `base`·2ⁿ⁻¹ and below `max`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// At least 1 ms.
    pub base: Duration,
    /// At least `base`.
    pub max: Duration,
}

impl Backoff {
    /// The delay after this many attempts, at least 1; `random` is any number.
    pub(crate) fn delay(&self, attempts: u32, random: u64) -> Millis {
        let factor = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(factor).min(self.max);
        random.checked_rem(millis(bound)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_millis(300) };
        let longest = |attempts, bound: u64| backoff.delay(attempts, bound - 1);
        assert_eq!(longest(1, 100), 99);
        assert_eq!(longest(2, 200), 199);
        assert_eq!(longest(3, 300), 299);
        assert_eq!(backoff.delay(40, 300), 0, "never as much as the maximum");
    }
}
