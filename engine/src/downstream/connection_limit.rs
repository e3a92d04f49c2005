//! A limit on connections that holds over all shards.
//!
//! Its count is shared by all shards, and only there if there is a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many connections there may be, and how many there are.
#[derive(Debug)]
pub struct ConnectionLimit {
    most: u64,
    active: AtomicU64,
}

impl ConnectionLimit {
    /// At most so many.
    #[must_use]
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, active: AtomicU64::new(0) })
    }

    /// A permit for one more; none if there are as many as there may be.
    #[must_use]
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        (before < self.most).then_some(permit)
    }
}

/// The permit of a connection; free again when it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<ConnectionLimit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits that hold for a listener.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// For all listeners together.
    pub global: Option<Arc<ConnectionLimit>>,
    /// For this one.
    pub listener: Option<Arc<ConnectionLimit>>,
}

/// The permits of a connection, one for each limit.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "they count by being there")]
pub struct Permits {
    global: Option<Permit>,
    listener: Option<Permit>,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// That of all listeners.
    Global,
    /// That of the listener.
    Listener,
}

impl Limits {
    /// The permits for a connection.
    ///
    /// # Errors
    /// When a limit is reached; as in Envoy that of all listeners counts first.
    pub fn acquire(&self) -> Result<Permits, Overflow> {
        if self.global.is_none() && self.listener.is_none() {
            return Ok(Permits::default());
        }
        let acquire = |limit: &Option<Arc<ConnectionLimit>>, overflow| match limit {
            Some(limit) => limit.acquire().map(Some).ok_or(overflow),
            None => Ok(None),
        };
        Ok(Permits {
            global: acquire(&self.global, Overflow::Global)?,
            listener: acquire(&self.listener, Overflow::Listener)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let limits = Limits { listener: Some(ConnectionLimit::new(2)), ..Limits::default() };
        let permits = [limits.acquire(), limits.acquire()].map(|taken| taken.expect("a permit"));
        assert_eq!(limits.acquire().err(), Some(Overflow::Listener));
        drop(permits);
        assert!(limits.acquire().is_ok());
    }

    #[test]
    fn who_is_refused_by_one_limit_takes_no_place_of_the_other() {
        let global = ConnectionLimit::new(1);
        let limits =
            Limits { global: Some(Arc::clone(&global)), listener: Some(ConnectionLimit::new(0)) };
        assert_eq!(limits.acquire().err(), Some(Overflow::Listener));
        assert!(global.acquire().is_some());
    }
}
