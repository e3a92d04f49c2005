//! One host: an address that requests can go to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::stats::{HostStats, Scope};

/// An address that requests can go to, with what the configuration says of it.
///
/// Immutable but for its stats; a host whose address changes is another host.
#[derive(Debug)]
pub struct Host {
    /// Where to connect.
    pub address: SocketAddr,
    /// What all hosts of the same endpoint share.
    pub endpoint: Arc<Endpoint>,
    /// What the shards count of it.
    pub stats: Scope<HostStats>,
}

/// An endpoint of the configuration without its address: what each of its hosts inherits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The name for `auto_host_rewrite` and for display: the DNS name, or `endpoint.hostname`; may
    /// be empty.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// 0 is served first; up to 128.
    pub priority: u32,
    /// Where it stands.
    pub locality: Locality,
    /// What the configuration says of its health.
    pub health_flags: HealthFlags,
}

/// Where a host stands; for display, and for the policies that look at it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(
    missing_docs,
    reason = "the words of the configuration, and strings without a meaning here"
)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

/// What keeps traffic from a host, as `/clusters` shows it. None: healthy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthFlags(u32);

/// How much a policy may rely on a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// First choice.
    Healthy,
    /// Chosen when the healthy ones cannot carry all traffic.
    Degraded,
    /// Chosen in panic only.
    Unhealthy,
}

impl Host {
    /// A host of `endpoint` at `address`, not yet used by anybody, counted by `shards` shards.
    pub fn new(address: SocketAddr, endpoint: Arc<Endpoint>, shards: usize) -> Arc<Self> {
        Arc::new(Self { address, endpoint, stats: Scope::unlisted(shards) })
    }

    /// What keeps traffic from it.
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
    /// Nothing keeps traffic from the host.
    pub const EMPTY: Self = Self(0);
    /// `health_status: DEGRADED`.
    pub const DEGRADED_EDS_HEALTH: Self = Self(1);
    /// `health_status: DRAINING`: no new requests, and not counted among those that should be
    /// healthy.
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

    /// How much a policy may rely on a host with these flags.
    pub fn health(self) -> Health {
        if self.contains(Self::FAILED_EDS_HEALTH) || self.contains(Self::EDS_STATUS_DRAINING) {
            Health::Unhealthy
        } else if self.contains(Self::DEGRADED_EDS_HEALTH) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    /// Whether the host is left out when the share of healthy hosts is reckoned.
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

/// `health_flags` in the text of `/clusters`: `healthy`, or the flags one after the other.
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
    fn flags_read_as_in_clusters() {
        assert_eq!(HealthFlags::default().to_string(), "healthy");
        assert_eq!(HealthFlags::EDS_STATUS_DRAINING.to_string(), "/eds_status_draining");
        assert_eq!(HealthFlags::FAILED_EDS_HEALTH.to_string(), "/failed_eds_health");
    }

    #[test]
    fn a_draining_host_gets_nothing_and_does_not_count() {
        assert_eq!(HealthFlags::EDS_STATUS_DRAINING.health(), Health::Unhealthy);
        assert!(HealthFlags::EDS_STATUS_DRAINING.is_excluded());
        assert!(!HealthFlags::FAILED_EDS_HEALTH.is_excluded());
    }
}
