//! Sessions that the server keeps, for clients of TLS 1.2 that do not support tickets, or if tickets
//! are off. Only such clients come here, so the locks are not on the path of others.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

/// The sessions of one context on all shards. The oldest are forgotten first.
#[derive(Debug)]
pub struct Sessions {
    parts: Vec<Arc<ServerSessionMemoryCache>>,
    hasher: RandomState,
}

/// As many as BoringSSL keeps.
const SESSIONS_MAX: usize = 20 * 1024;
const PARTS: usize = 32;

impl Sessions {
    /// No sessions.
    #[must_use]
    pub fn new() -> Self {
        let part = |_| ServerSessionMemoryCache::new(SESSIONS_MAX / PARTS);
        Self { parts: (0..PARTS).map(part).collect(), hasher: RandomState::new() }
    }

    fn part(&self, key: &[u8]) -> Option<&ServerSessionMemoryCache> {
        let index = self.hasher.hash_one(key) % PARTS as u64;
        self.parts.get(usize::try_from(index).ok()?).map(|part| &**part)
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.part(&key).is_some_and(|part| part.put(key, value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.part(key)?.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.part(key)?.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
