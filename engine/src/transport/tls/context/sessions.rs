//! Sessions that the server keeps, for clients of TLS 1.2 that do not support tickets, or if tickets
//! are off. Only such clients come here, so the locks are not on the path of others.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

/// The sessions of one context on all shards. The oldest are forgotten first.
#[derive(Debug)]
pub struct Sessions {
    /// How long one may be resumed, in seconds.
    lifetime: u64,
    parts: Vec<Arc<ServerSessionMemoryCache>>,
    hasher: RandomState,
}

/// As many as BoringSSL keeps.
const SESSIONS_MAX: usize = 20 * 1024;
const PARTS: usize = 32;

impl Sessions {
    /// No sessions; each may be resumed for `lifetime` seconds.
    #[must_use]
    pub fn new(lifetime: u32) -> Self {
        let part = |_| ServerSessionMemoryCache::new(SESSIONS_MAX / PARTS);
        Self {
            lifetime: lifetime.into(),
            parts: (0..PARTS).map(part).collect(),
            hasher: RandomState::new(),
        }
    }

    /// A stored session without its time, unless that is too long ago.
    fn current(&self, stamped: &[u8]) -> Option<Vec<u8>> {
        let (time, session) = stamped.split_first_chunk()?;
        let age = UnixTime::now().as_secs().saturating_sub(u64::from_be_bytes(*time));
        (age <= self.lifetime).then(|| session.to_vec())
    }

    fn part(&self, key: &[u8]) -> Option<&ServerSessionMemoryCache> {
        let index = self.hasher.hash_one(key) % PARTS as u64;
        self.parts.get(usize::try_from(index).ok()?).map(|part| &**part)
    }
}

/// The sessions as one shard has them: configurations are cloned for each connection, and then no reference
/// count of another shard is written.
#[derive(Debug)]
pub struct ShardSessions(pub Arc<Sessions>);

impl StoresServerSessions for ShardSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let stamped = [&UnixTime::now().as_secs().to_be_bytes()[..], &value].concat();
        self.0.part(&key).is_some_and(|part| part.put(key, stamped))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.current(&self.0.part(key)?.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.current(&self.0.part(key)?.take(key)?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
