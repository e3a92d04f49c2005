//! `local_ratelimit`: new connections take a token from a bucket that fills over time. All shards share
//! the bucket.

use std::sync::Arc;

use super::Verdict;
use crate::runtime::RuntimeFlag;
use crate::shard::Shard;
use crate::stats::{Scope, stats};
use crate::token_bucket::TokenBucket;

stats! {
    /// `local_rate_limit.<stat_prefix>.`
    pub struct LocalRateLimitStats {
        counter rate_limited;
    }
}

/// The filter.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// Shared with the filters that have the same `share_key`.
    pub bucket: Arc<TokenBucket>,
    /// `runtime_enabled`
    pub enabled: RuntimeFlag,
    /// `local_rate_limit.<stat_prefix>.`
    pub stats: Arc<Scope<LocalRateLimitStats>>,
}

impl LocalRateLimit {
    /// Takes a token, or refuses the connection.
    pub(super) fn admit(&self, shard: &Shard) -> Verdict {
        if !self.enabled.get() || self.bucket.take(shard.clock.now()) {
            return Verdict::Continue;
        }
        self.stats.shard(shard.id).rate_limited.inc();
        Verdict::Close(None)
    }
}
