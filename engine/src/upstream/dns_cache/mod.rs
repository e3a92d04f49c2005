//! The DNS cache of `dynamic_forward_proxy`: the addresses of hosts that requests name.
//!
//! A cache is shared by all filters and clusters that name it. The control plane (`control/dns_cache.rs`) resolves
//! names and refreshes them; each shard has a copy of what is known ([`LocalCache`]), so that a request whose host
//! is known takes no lock.
//!
//! Invariant: the control plane answers every question of a shard, be it that there is no address.

pub(crate) mod compile;
mod local;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::destination;
use super::discovery::{FailureRefresh, LookupFamily, OwnResolver};
use crate::address::Address;
use crate::shard::clock::Millis;
use crate::stats::{Scope, stats};

pub use local::{LocalCache, LocalCaches, Lookup, Wait};

/// `DnsCacheConfig`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Its name, in stats and for those that share it.
    pub name: String,
    /// Which addresses are looked up.
    pub lookup_family: LookupFamily,
    /// When a name without an address is looked up again. Default 60 s.
    pub refresh_rate: Duration,
    /// A name with an address is looked up again when its TTL ends, but not before this. Default 5 s.
    pub min_refresh_rate: Duration,
    /// A host that no request has named for so long is removed. Default 5 min.
    pub host_ttl: Duration,
    /// How many hosts there may be. Default 1024.
    pub max_hosts: usize,
    /// Whether a name that cannot be resolved is forgotten at once.
    pub forgets_failures: bool,
    /// When a name without an address is looked up again, in place of the refresh rate.
    pub failure_refresh: Option<FailureRefresh>,
    /// How many requests may wait at once. Default 1024.
    pub max_pending_requests: usize,
    /// Hosts with their ports that are looked up before any request names them.
    pub preresolve: Vec<String>,
    /// How long a lookup may take; none: no limit. Default 5 s.
    pub query_timeout: Option<Duration>,
    /// What resolves names, if it is not the resolver of the process.
    pub resolver: Option<OwnResolver>,
}

#[cfg(test)]
impl Settings {
    /// A cache `c` with these limits.
    pub(crate) fn with_limits(max_hosts: usize, max_pending_requests: usize) -> Self {
        Self {
            name: "c".to_owned(),
            lookup_family: LookupFamily::V4Only,
            refresh_rate: Duration::from_secs(60),
            min_refresh_rate: Duration::from_secs(5),
            host_ttl: Duration::from_secs(300),
            max_hosts,
            forgets_failures: false,
            failure_refresh: None,
            max_pending_requests,
            preresolve: Vec::new(),
            query_timeout: None,
            resolver: None,
        }
    }
}

/// A DNS cache.
pub struct DnsCache {
    /// How it behaves.
    pub settings: Settings,
    /// `dns_cache.<name>.`
    pub stats: Arc<Scope<DnsCacheStats>>,
    /// How many hosts there are.
    hosts: AtomicUsize,
    /// How many requests wait.
    pending: AtomicUsize,
    asks: mpsc::UnboundedSender<String>,
    /// Taken by the control plane when it begins to follow the cache.
    asked: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

/// What is known about a host.
#[derive(Debug)]
pub struct Resolved {
    /// Where it is.
    pub address: Result<Address, Unresolved>,
    /// When a request named it last.
    last_used: AtomicU64,
}

/// Why a host has no address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unresolved {
    /// It could not be resolved, for this reason.
    Failed(&'static str),
    /// The cache has no room for another host: it was not looked up.
    NoRoom,
}

stats! {
    /// `dns_cache.<name>.`
    pub struct DnsCacheStats {
        constant counter cache_load;
        peak gauge rq_pending_open = "circuit_breakers.rq_pending_open";
        gauge rq_pending_remaining = "circuit_breakers.rq_pending_remaining";
        constant counter dns_address_filter_out;
        counter dns_query_attempt;
        counter dns_query_failure;
        counter dns_query_success;
        counter dns_query_timeout;
        counter dns_rq_pending_overflow;
        counter host_added;
        counter host_address_changed;
        counter host_overflow;
        counter host_removed;
        gauge num_hosts;
    }
}

impl DnsCache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: Settings, stats: Arc<Scope<DnsCacheStats>>) -> Arc<Self> {
        let (asks, asked) = mpsc::unbounded_channel();
        stats.control().rq_pending_remaining.set(settings.max_pending_requests as u64);
        Arc::new(Self {
            settings,
            stats,
            hosts: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            asks,
            asked: Mutex::new(Some(asked)),
        })
    }

    /// The questions of the shards, for the one that answers them; none: somebody does already.
    pub fn take_questions(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes how many hosts there are. For the control plane.
    pub fn set_hosts(&self, hosts: usize) {
        self.hosts.store(hosts, Relaxed);
        self.stats.control().num_hosts.set(hosts as u64);
    }

    /// Whether there is no room for another host.
    fn is_full(&self) -> bool {
        self.hosts.load(Relaxed) >= self.settings.max_hosts
    }

    /// Whether one more request may wait on this shard; counts it if not.
    #[must_use]
    pub fn may_wait(&self, shard: usize) -> bool {
        let may = self.pending.load(Relaxed) < self.settings.max_pending_requests;
        if !may {
            self.stats.shard(shard).dns_rq_pending_overflow.inc();
        }
        may
    }
}

impl fmt::Debug for DnsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsCache").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Resolved {
    /// What a lookup has found about a host that a request has named last at this time.
    #[must_use]
    pub fn new(address: Result<Address, Unresolved>, last_used: Millis) -> Arc<Self> {
        Arc::new(Self { address, last_used: AtomicU64::new(last_used) })
    }

    /// When a request named it last.
    #[must_use]
    pub fn last_used(&self) -> Millis {
        self.last_used.load(Relaxed)
    }

    /// A request names it. The time is written seldom: other shards read it.
    fn touch(&self, now: Millis) {
        const PRECISION: Millis = 100;
        if now.saturating_sub(self.last_used()) >= PRECISION {
            self.last_used.store(now, Relaxed);
        }
    }
}

/// The name by which a cache knows the host of an authority, and by which clusters know their hosts; none: there
/// is no host.
#[must_use]
pub fn name(authority: &str, default_port: u16) -> Option<Box<str>> {
    (!authority.is_empty()).then(|| destination::name(authority, default_port).into())
}
