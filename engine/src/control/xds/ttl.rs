//! Resources that are valid for some time only.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

/// A resource by its type and name.
pub(super) type Key = (String, String);

/// When they end.
#[derive(Debug, Default)]
pub(super) struct Ttls {
    in_turn: BTreeSet<(Instant, Key)>,
    ends: HashMap<Key, Instant>,
}

impl Ttls {
    /// The resource is valid for `ttl` from `now`; none: for ever.
    pub(super) fn set(&mut self, key: Key, ttl: Option<Duration>, now: Instant) {
        self.forget(&key);
        if let Some(end) = ttl.and_then(|ttl| now.checked_add(ttl)) {
            self.ends.insert(key.clone(), end);
            self.in_turn.insert((end, key));
        }
    }

    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(end) = self.ends.remove(key) {
            self.in_turn.remove(&(end, key.clone()));
        }
    }

    /// When the first of them ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.in_turn.first().map(|(end, _)| *end)
    }

    /// Takes out one that has ended.
    pub(super) fn take_ended(&mut self, now: Instant) -> Option<Key> {
        let (_, key) = self.in_turn.first().filter(|(end, _)| *end <= now)?.clone();
        self.forget(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("cds".to_owned(), name.to_owned())
    }

    #[test]
    fn each_ends_at_its_time_unless_it_is_renewed() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut ttls = Ttls::default();
        ttls.set(key("a"), Some(seconds(1)), start);
        ttls.set(key("b"), Some(seconds(2)), start);
        ttls.set(key("c"), Some(seconds(3)), start);
        ttls.set(key("a"), Some(seconds(5)), start + seconds(1));
        ttls.set(key("c"), None, start + seconds(1));
        assert_eq!(ttls.next(), Some(start + seconds(2)));
        assert_eq!(ttls.take_ended(start + seconds(1)), None);
        assert_eq!(ttls.take_ended(start + seconds(6)), Some(key("b")));
        assert_eq!(ttls.take_ended(start + seconds(6)), Some(key("a")));
        assert_eq!(ttls.next(), None);
    }
}
