//! The pools of a host whose connections begin with a PROXY header: one for each pair of announced
//! addresses, as a connection can only serve the client that it announces.
//!
//! Invariant: the number of pools is bounded by a multiple of those in use.

pub(super) mod compile;

use std::collections::HashMap;
use std::rc::Rc;

use super::pool::{Pool, Purpose};
use crate::address::{Address, Ends};
use crate::proxy_protocol::{self, Addresses, Version};
use crate::shard::clock::Millis;

/// What the connections of a cluster announce.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// `config.version`
    pub version: Version,
}

impl Announcement {
    /// The header of a connection for a client with these addresses. A unix socket cannot be announced.
    #[must_use]
    pub fn header(self, ends: Ends) -> Vec<u8> {
        let addresses = match (ends.remote, ends.local) {
            (Address::Ip(source), Address::Ip(destination))
                if source.is_ipv4() == destination.is_ipv4() =>
            {
                Some(Addresses { source, destination })
            }
            _ => None,
        };
        proxy_protocol::write(self.version, addresses)
    }
}

/// The pools of one host.
#[derive(Debug)]
pub(super) struct AnnouncedPools {
    pools: HashMap<Purpose, Rc<Pool>>,
    /// At this number, unused pools are removed.
    most: usize,
}

/// So many unused pools may always stay.
const UNUSED_MAX: usize = 64;

impl Default for AnnouncedPools {
    fn default() -> Self {
        Self { pools: HashMap::new(), most: UNUSED_MAX }
    }
}

impl AnnouncedPools {
    /// The pool for these addresses and this use.
    pub(super) fn get(&mut self, purpose: Purpose, create: impl FnOnce() -> Rc<Pool>) -> Rc<Pool> {
        if self.pools.len() >= self.most {
            self.pools.retain(|_, pool| is_used(pool));
            self.most = UNUSED_MAX.max(2 * self.pools.len());
        }
        Rc::clone(self.pools.entry(purpose).or_insert_with(create))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.pools.values()
    }

    /// See [`Pool::sweep`].
    pub(super) fn sweep(&mut self, now: Millis) -> Option<Millis> {
        let next = self.pools.values().filter_map(|pool| pool.sweep(now)).min();
        self.pools.retain(|_, pool| is_used(pool));
        next
    }
}

/// Whether it has a connection, or a request is about to use it.
fn is_used(pool: &Rc<Pool>) -> bool {
    pool.has_connections() || Rc::strong_count(pool) > 1
}
