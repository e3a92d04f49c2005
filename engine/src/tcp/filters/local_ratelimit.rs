//! `local_ratelimit`: new connections take a token from a bucket that fills over time. All shards share
//! the bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Verdict;
use crate::shard::Shard;
use crate::shard::clock::Millis;
use crate::stats::{Scope, stats};

stats! {
    /// `local_rate_limit.<stat_prefix>.`
    pub struct LocalRateLimitStats {
        counter rate_limited;
    }
}

/// The filter.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// Shared with the filters that have the same `share_key`; `None`: the filter is disabled.
    pub bucket: Option<Arc<TokenBucket>>,
    /// `local_rate_limit.<stat_prefix>.`
    pub stats: Arc<Scope<LocalRateLimitStats>>,
}

/// A token bucket. As in Envoy it fills continuously, not in steps.
///
/// It keeps only the time at which it was, or would have been, empty: the tokens follow from that.
#[derive(Debug)]
pub struct TokenBucket {
    max_tokens: f64,
    /// Milliseconds for one token.
    interval: f64,
    /// In milliseconds, as the bits of a float; may be negative.
    empty_at: AtomicU64,
}

impl LocalRateLimit {
    /// Takes a token, or refuses the connection.
    pub(super) fn admit(&self, shard: &Shard) -> Verdict {
        if self.bucket.as_ref().is_none_or(|bucket| bucket.take(shard.clock.now())) {
            return Verdict::Continue;
        }
        self.stats.shard(shard.id).rate_limited.inc();
        Verdict::Close(None)
    }
}

impl TokenBucket {
    /// A full bucket of `max_tokens`, which gets `tokens_per_fill` tokens in each `fill_interval`.
    #[must_use]
    pub fn new(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Self {
        let interval = fill_interval.as_secs_f64() * 1000.0 / f64::from(tokens_per_fill.max(1));
        let max_tokens = f64::from(max_tokens);
        let empty_at = AtomicU64::new((-max_tokens * interval).to_bits());
        Self { max_tokens, interval, empty_at }
    }

    /// Takes a token, if there is one at `now`.
    #[must_use]
    pub fn take(&self, now: Millis) -> bool {
        // Exact for some hundred thousand years.
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of uptime are below 2^53")]
        let now = now as f64;
        let spend = |bits| {
            let empty_at = f64::from_bits(bits).max(self.max_tokens.mul_add(-self.interval, now));
            let after = empty_at + self.interval;
            (after <= now).then(|| after.to_bits())
        };
        self.empty_at.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_full_and_fills_continuously() {
        let bucket = TokenBucket::new(2, 10, Duration::from_secs(1));
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
        assert!(!TokenBucket::new(0, 1, Duration::from_secs(1)).take(1_000_000));
    }
}
