//! A limit on connections across all shards. Its count exists only if there is a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit and the number of active connections.
#[derive(Debug)]
pub struct ConnectionLimit {
    most: u64,
    active: AtomicU64,
}

impl ConnectionLimit {
    /// At most `most` connections.
    #[must_use]
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, active: AtomicU64::new(0) })
    }

    /// How many connections it allows.
    #[must_use]
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// A permit for one more connection; `None` if the limit is reached.
    #[must_use]
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let before = self.active.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        (before < self.most).then_some(permit)
    }
}

/// The permit of one connection, released when it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<ConnectionLimit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits that apply to a listener.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The limit of all listeners together.
    pub global: Option<Arc<ConnectionLimit>>,
    /// The limit of this listener.
    pub listener: Option<Arc<ConnectionLimit>>,
}

/// The permits of a connection, one for each limit.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "held only to be dropped")]
// Boxed: limits are rare, and every idle connection holds this.
pub struct Permits(Option<Box<[Option<Permit>; 2]>>);

/// The limit that is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// The limit of all listeners together.
    Global,
    /// The limit of the listener.
    Listener,
}

impl Limits {
    /// Acquires the permits for a connection.
    ///
    /// # Errors
    /// When a limit is reached; as in Envoy the global one is checked first.
    pub fn acquire(&self) -> Result<Permits, Overflow> {
        if self.global.is_none() && self.listener.is_none() {
            return Ok(Permits::default());
        }
        let acquire = |limit: &Option<Arc<ConnectionLimit>>, overflow| match limit {
            Some(limit) => limit.acquire().map(Some).ok_or(overflow),
            None => Ok(None),
        };
        let global = acquire(&self.global, Overflow::Global)?;
        let listener = acquire(&self.listener, Overflow::Listener)?;
        Ok(Permits(Some(Box::new([global, listener]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_released_when_its_connection_ends() {
        let limits = Limits { listener: Some(ConnectionLimit::new(2)), ..Limits::default() };
        let permits = [limits.acquire(), limits.acquire()].map(|taken| taken.expect("a permit"));
        assert_eq!(limits.acquire().err(), Some(Overflow::Listener));
        drop(permits);
        assert!(limits.acquire().is_ok());
    }

    #[test]
    fn a_connection_refused_by_one_limit_holds_no_permit_of_the_other() {
        let global = ConnectionLimit::new(1);
        let limits =
            Limits { global: Some(Arc::clone(&global)), listener: Some(ConnectionLimit::new(0)) };
        assert_eq!(limits.acquire().err(), Some(Overflow::Listener));
        assert!(global.acquire().is_some());
    }
}
