//! Consistent hashing: a table of hosts, in which the hash of a request finds its host.
//!
//! The control plane builds a table when it creates a host set, and all shards read it. For the same hosts,
//! settings and hashes it gives the same hosts as Envoy's.

mod bounded_load;
mod maglev;
mod ring;

use std::sync::Arc;

use crate::upstream::host::Host;

pub(super) use bounded_load::BoundedLoad;
pub use maglev::Maglev;
pub use ring::{HashFunction, Ring};

/// How the hosts of a cluster become a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableRule {
    /// Which table.
    pub kind: TableKind,
    /// `use_hostname_for_hashing`: a host is its name instead of its address.
    pub uses_hostname: bool,
    /// `hash_balance_factor`: how many requests a host may have, in percent of its share of all active
    /// requests, at least 100; none: any number.
    pub balance_factor: Option<u32>,
}

/// The two kinds of tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TableKind {
    /// `RING_HASH`
    Ring(Ring),
    /// `MAGLEV`
    Maglev(Maglev),
}

/// A table of hosts.
#[derive(Debug)]
pub struct Table {
    places: Places,
    /// How hosts with many requests are avoided; none: they are not.
    pub(super) bounded_load: Option<BoundedLoad>,
    /// What is shown in stats.
    pub sizes: Sizes,
}

#[derive(Debug)]
enum Places {
    Ring(ring::Points),
    Maglev(Box<[u32]>),
}

/// How large a table is, and how it is shared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Its entries.
    pub entries: u64,
    /// The entries of the host that has the fewest.
    pub min_per_host: u64,
    /// The entries of the host that has the most.
    pub max_per_host: u64,
}

/// A host as it goes into a table.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// Its index in the host set.
    pub index: usize,
    /// The host.
    pub host: &'a Arc<Host>,
    /// Its weight; 1.0 in total over all hosts of the table.
    pub weight: f64,
}

impl Table {
    /// The table of these hosts; none without hosts.
    pub fn new(rule: &TableRule, shares: &[Share<'_>]) -> Option<Self> {
        if shares.is_empty() {
            return None;
        }
        let key = |share: &Share<'_>| hash_key(share.host, rule.uses_hostname);
        let (places, sizes) = match rule.kind {
            TableKind::Ring(ring) => {
                let (points, sizes) = ring.build(shares, key);
                (Places::Ring(points), sizes)
            }
            TableKind::Maglev(maglev) => {
                let (entries, sizes) = maglev.build(shares, key);
                (Places::Maglev(entries), sizes)
            }
        };
        let bounded_load = rule.balance_factor.map(|factor| BoundedLoad::new(factor, shares));
        Some(Self { places, bounded_load, sizes })
    }

    /// The host of a hash, as its index in the host set. `attempt` counts the selections for one request
    /// that were refused: each selects another place.
    #[inline]
    pub(super) fn host(&self, hash: u64, attempt: u32) -> Option<usize> {
        let index = match &self.places {
            Places::Ring(points) => points.host(hash, attempt),
            Places::Maglev(entries) => maglev::host(entries, hash, attempt),
        };
        index.and_then(|index| usize::try_from(index).ok())
    }
}

//= envoy: RingHash, Maglev: the metadata `hash_key` of `envoy.lb`, the host name if it is used, or the address.
fn hash_key(host: &Host, uses_hostname: bool) -> String {
    let key = host.endpoint.metadata.find("envoy.lb", &["hash_key".into()]);
    match key.and_then(serde_json::Value::as_str) {
        Some(key) if !key.is_empty() => key.to_owned(),
        _ if uses_hostname => host.endpoint.hostname.clone(),
        _ => host.address.to_string(),
    }
}

/// An index of the host set in 32 bits: tables are large.
fn short(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
