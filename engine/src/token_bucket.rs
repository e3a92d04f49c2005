//! Token buckets that several threads share: one atomic number each, no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::shard::clock::Millis;

/// How many tokens a bucket holds, and how fast it fills. As in Envoy it fills continuously, not in steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    tokens_max: f64,
    /// Milliseconds for one token.
    interval: f64,
}

/// The tokens of a bucket.
///
/// It keeps only the time at which it was, or would have been, empty: the tokens follow from that, and
/// taking some moves it on.
#[derive(Debug)]
pub struct Tokens {
    /// In milliseconds, as the bits of a float; may be negative.
    empty_at: AtomicU64,
}

/// A token bucket.
#[derive(Debug)]
pub struct TokenBucket {
    rate: Rate,
    tokens: Tokens,
}

impl Rate {
    /// At most `max_tokens`, of which `tokens_per_fill` arrive in each `fill_interval`.
    #[must_use]
    pub fn new(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Self {
        let interval = fill_interval.as_secs_f64() * 1000.0 / f64::from(tokens_per_fill.max(1));
        Self { tokens_max: max_tokens.into(), interval }
    }

    /// So many tokens a second, of which those of a second are kept.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact to the last byte")]
    pub fn per_second(tokens: u64) -> Self {
        let tokens_max = tokens as f64;
        Self { tokens_max, interval: 1000.0 / tokens_max.max(1.0) }
    }

    /// The most tokens.
    #[must_use]
    pub const fn tokens_max(&self) -> f64 {
        self.tokens_max
    }

    /// Milliseconds for one token.
    #[must_use]
    pub const fn interval(&self) -> f64 {
        self.interval
    }

    /// When a bucket that is full at `now` would have been empty.
    fn full_at(&self, now: f64) -> f64 {
        self.tokens_max.mul_add(-self.interval, now)
    }
}

impl Default for Tokens {
    /// A full bucket.
    fn default() -> Self {
        Self { empty_at: AtomicU64::new(f64::NEG_INFINITY.to_bits()) }
    }
}

impl Tokens {
    /// Takes so many tokens, if there are so many at `now`.
    pub fn take(&self, tokens: f64, rate: &Rate, now: Millis) -> bool {
        let now = float(now);
        let spend = |bits| {
            let empty_at = f64::from_bits(bits).max(rate.full_at(now));
            let after = tokens.mul_add(rate.interval, empty_at);
            (after <= now).then(|| after.to_bits())
        };
        // An interval of zero would let everything pass.
        tokens <= rate.tokens_max && self.empty_at.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }

    /// Takes as many whole tokens as there are at `now`, at most `wanted`; returns how many.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and at most `wanted`"
    )]
    pub fn take_up_to(&self, wanted: u64, rate: &Rate, now: Millis) -> u64 {
        loop {
            let left = self.left(rate, now).floor() as u64;
            let taken = left.min(wanted);
            if taken == 0 || self.take(taken as f64, rate, now) {
                return taken;
            }
        }
    }

    /// Puts so many tokens back, as far as the bucket holds them.
    pub fn put_back(&self, tokens: f64, rate: &Rate, now: Millis) {
        let full_at = rate.full_at(float(now));
        let fill = |bits| {
            let empty_at = f64::from_bits(bits).max(full_at);
            Some((empty_at - tokens * rate.interval).max(full_at).to_bits())
        };
        // It always has a new value.
        let _ = self.empty_at.fetch_update(Relaxed, Relaxed, fill);
    }

    /// Fills the bucket.
    pub fn fill(&self) {
        self.empty_at.store(f64::NEG_INFINITY.to_bits(), Relaxed);
    }

    /// How many tokens there are at `now`, with the fraction that has arrived of the next one.
    #[must_use]
    pub fn left(&self, rate: &Rate, now: Millis) -> f64 {
        let empty_at = f64::from_bits(self.empty_at.load(Relaxed));
        ((float(now) - empty_at) / rate.interval).clamp(0.0, rate.tokens_max)
    }
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, tokens: Tokens::default() }
    }

    /// Takes a token, if there is one at `now`.
    #[must_use]
    pub fn take(&self, now: Millis) -> bool {
        self.tokens.take(1.0, &self.rate, now)
    }

    /// Its rate.
    #[must_use]
    pub const fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Its tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// Exact for some hundred thousand years.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of uptime are below 2^53")]
const fn float(now: Millis) -> f64 {
    now as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_begins_full_and_fills_continuously() {
        let bucket = TokenBucket::new(Rate::new(2, 10, SECOND));
        assert_eq!([0, 0, 0].map(|now| bucket.take(now)), [true, true, false]);
        assert!(!bucket.take(99));
        assert!(bucket.take(100), "a tenth of a second is one token");
        assert_eq!(
            [10_000; 3].map(|now| bucket.take(now)),
            [true, true, false],
            "never more than 2"
        );
    }

    #[test]
    fn an_empty_bucket_gives_nothing() {
        assert!(!TokenBucket::new(Rate::new(0, 1, SECOND)).take(1_000_000));
        assert!(!TokenBucket::new(Rate::new(0, 1, Duration::ZERO)).take(1_000_000));
    }

    #[test]
    fn several_tokens_are_taken_together_or_not_at_all() {
        let (rate, tokens) = (Rate::new(5, 1, SECOND), Tokens::default());
        assert!(!tokens.take(6.0, &rate, 0));
        assert!(tokens.take(3.0, &rate, 0));
        assert!(!tokens.take(3.0, &rate, 500));
        assert!((tokens.left(&rate, 500) - 2.5).abs() < 1e-9);
        tokens.put_back(1.0, &rate, 500);
        assert!((tokens.left(&rate, 500) - 3.5).abs() < 1e-9);
        tokens.put_back(100.0, &rate, 500);
        assert!((tokens.left(&rate, 500) - 5.0).abs() < 1e-9, "never more than 5");
    }

    #[test]
    fn two_threads_that_share_a_bucket_take_its_rate() {
        let bucket = TokenBucket::new(Rate::new(100, 1000, SECOND));
        // Each asks five times as often as there are tokens, for ten seconds.
        let count = || (0..10_000).flat_map(|now| [now; 5]).filter(|now| bucket.take(*now)).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [scope.spawn(count), scope.spawn(count)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // What it began with, and the tokens of ten seconds.
        assert!((9_990..=10_100).contains(&taken), "{taken}");
    }
}
