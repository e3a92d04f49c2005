//! `connection_limit`: limits the number of active connections, over all shards.
//!
//! Invariant: the gauge is the number of permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Verdict;
use crate::runtime::RuntimeFlag;
use crate::stats::{Scope, stats};

stats! {
    /// `connection_limit.<stat_prefix>.`
    pub struct ConnectionLimitStats {
        gauge active_connections;
        counter limited_connections;
    }
}

/// The filter.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// `max_connections`
    pub most: u64,
    /// `runtime_enabled`
    pub enabled: RuntimeFlag,
    /// How long a connection beyond the limit is kept, so that its client does not retry at once.
    pub delay: Option<Duration>,
    /// The connections that have a permit.
    pub active: Arc<AtomicU64>,
    /// `connection_limit.<stat_prefix>.`
    pub stats: Arc<Scope<ConnectionLimitStats>>,
}

/// The permit of a connection, released when it is dropped on the shard that took it.
#[derive(Debug)]
pub(super) struct Permit {
    active: Arc<AtomicU64>,
    stats: Arc<Scope<ConnectionLimitStats>>,
    shard: usize,
}

impl ConnectionLimit {
    /// Takes a permit, or refuses the connection.
    pub(super) fn admit(&self, shard: usize, permits: &mut Vec<Permit>) -> Verdict {
        if !self.enabled.get() {
            return Verdict::Continue;
        }
        let stats = self.stats.shard(shard);
        if self.active.fetch_add(1, Relaxed) >= self.most {
            self.active.fetch_sub(1, Relaxed);
            stats.limited_connections.inc();
            return Verdict::Close(self.delay);
        }
        stats.active_connections.inc();
        let (active, stats) = (Arc::clone(&self.active), Arc::clone(&self.stats));
        permits.push(Permit { active, stats, shard });
        Verdict::Continue
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Relaxed);
        self.stats.shard(self.shard).active_connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_beyond_the_limit_is_closed_and_counted() {
        let limit = ConnectionLimit {
            most: 1,
            enabled: true.into(),
            delay: Some(Duration::from_millis(300)),
            active: Arc::default(),
            stats: Arc::new(Scope::unlisted(1)),
        };
        let mut permits = Vec::new();
        assert_eq!(limit.admit(0, &mut permits), Verdict::Continue);
        assert_eq!(limit.admit(0, &mut permits), Verdict::Close(limit.delay));
        assert_eq!(limit.stats.counter(|stats| &stats.limited_connections), 1);
        assert_eq!(limit.stats.gauge(|stats| &stats.active_connections), 1);
        permits.clear();
        assert_eq!(limit.stats.gauge(|stats| &stats.active_connections), 0);
        assert_eq!(limit.admit(0, &mut permits), Verdict::Continue);
    }
}
