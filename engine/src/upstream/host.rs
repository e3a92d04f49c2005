//! One host: an address that requests can go to.

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::metadata::Metadata;
use crate::stats::{HostStats, Scope};
use crate::upstream::transport_socket::TransportSocket;

/// An upstream address and its configuration.
///
/// Immutable except for its stats; a host whose address changes becomes a new host.
#[derive(Debug)]
pub struct Host {
    /// Where to connect.
    pub address: Address,
    /// The endpoint, shared by all its hosts.
    pub endpoint: Arc<Endpoint>,
    /// Its stats, by shard.
    pub stats: Scope<HostStats>,
}

/// An endpoint of the configuration, without its address: what all its hosts have in common.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The name for `auto_host_rewrite` and `/clusters`: the DNS name, or `endpoint.hostname`; may be
    /// empty.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// 0 is the highest priority, 128 the lowest.
    pub priority: u32,
    /// Its locality.
    pub locality: Locality,
    /// Its configured health.
    pub health_flags: HealthFlags,
    /// What carries its connections.
    pub transport_socket: Arc<TransportSocket>,
    /// The metadata of its configuration.
    pub metadata: Arc<Metadata>,
}

/// The locality of a host; shown in `/clusters`, and the zone in stats.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the names of the configuration; the strings have no further meaning here"
)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

/// Why a host is not healthy, as shown in `/clusters`. Empty: healthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthFlags(u32);

/// The health of a host, for load balancing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Used first.
    Healthy,
    /// Used when the healthy hosts cannot carry all traffic.
    Degraded,
    /// Used in panic mode only.
    Unhealthy,
}

impl Host {
    /// A host of `endpoint` at `address`, with stats for `shards` shards.
    pub fn new(address: Address, endpoint: Arc<Endpoint>, shards: usize) -> Arc<Self> {
        Arc::new(Self { address, endpoint, stats: Scope::unlisted(shards) })
    }

    /// Its health flags.
    pub fn health_flags(&self) -> HealthFlags {
        self.endpoint.health_flags
    }
}

impl Endpoint {
    /// `locality.zone`; may be empty.
    pub fn zone(&self) -> &str {
        &self.locality.zone
    }
}

impl HealthFlags {
    /// Healthy.
    pub const EMPTY: Self = Self(0);
    /// `health_status: DEGRADED`.
    pub const DEGRADED_EDS_HEALTH: Self = Self(1);
    /// `health_status: DRAINING`: gets no requests, and is excluded from the share of healthy hosts.
    pub const EDS_STATUS_DRAINING: Self = Self(1 << 1);
    /// `health_status: UNHEALTHY` or `TIMEOUT`.
    pub const FAILED_EDS_HEALTH: Self = Self(1 << 2);

    const NAMES: [(Self, &str); 3] = [
        (Self::FAILED_EDS_HEALTH, "/failed_eds_health"),
        (Self::DEGRADED_EDS_HEALTH, "/degraded_eds_health"),
        (Self::EDS_STATUS_DRAINING, "/eds_status_draining"),
    ];

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The health of a host with these flags.
    pub fn health(self) -> Health {
        if self.contains(Self::FAILED_EDS_HEALTH) || self.contains(Self::EDS_STATUS_DRAINING) {
            Health::Unhealthy
        } else if self.contains(Self::DEGRADED_EDS_HEALTH) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    /// Whether the host is excluded from the share of healthy hosts.
    pub fn is_excluded(self) -> bool {
        self.contains(Self::EDS_STATUS_DRAINING)
    }

    /// `eds_health_status` in the JSON of `/clusters`.
    pub fn eds_health_status(self) -> &'static str {
        if self.contains(Self::FAILED_EDS_HEALTH) {
            "UNHEALTHY"
        } else if self.contains(Self::EDS_STATUS_DRAINING) {
            "DRAINING"
        } else if self.contains(Self::DEGRADED_EDS_HEALTH) {
            "DEGRADED"
        } else {
            "HEALTHY"
        }
    }
}

/// `health_flags` in the text of `/clusters`: `healthy`, or all flags.
impl fmt::Display for HealthFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::EMPTY {
            return f.write_str("healthy");
        }
        Self::NAMES
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .try_for_each(|(_, name)| f.write_str(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_in_clusters() {
        assert_eq!(HealthFlags::default().to_string(), "healthy");
        assert_eq!(HealthFlags::EDS_STATUS_DRAINING.to_string(), "/eds_status_draining");
        assert_eq!(HealthFlags::FAILED_EDS_HEALTH.to_string(), "/failed_eds_health");
    }

    #[test]
    fn a_draining_host_gets_no_requests_and_is_excluded() {
        assert_eq!(HealthFlags::EDS_STATUS_DRAINING.health(), Health::Unhealthy);
        assert!(HealthFlags::EDS_STATUS_DRAINING.is_excluded());
        assert!(!HealthFlags::FAILED_EDS_HEALTH.is_excluded());
    }
}
