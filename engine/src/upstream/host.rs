//! One host: an address that requests can go to.

use std::fmt;
use std::ops::BitOr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::address::Address;
use crate::metadata::Metadata;
use crate::shard::clock::Millis;
use crate::stats::{HostStats, Scope};
use crate::upstream::health_check::EndpointCheck;
use crate::upstream::outlier_detection::Monitor;
use crate::upstream::override_host::HealthStatus;
use crate::upstream::transport_socket::TransportSocket;

/// An upstream address and its configuration.
///
/// Immutable except for its stats and its health, which the control plane writes; a host whose address
/// changes becomes a new host.
#[derive(Debug)]
pub struct Host {
    /// Where to connect.
    pub address: Address,
    /// The endpoint, shared by all its hosts.
    pub endpoint: Arc<Endpoint>,
    /// Whether its metadata says that it is a canary.
    pub canary: bool,
    /// What stays when only the endpoint changes.
    state: Arc<State>,
}

/// What is known of a host, whatever its endpoint says of it at the moment.
#[derive(Debug)]
struct State {
    /// Its stats, by shard.
    stats: Scope<HostStats>,
    /// What was found out about its health, as [`HealthFlags`].
    found: AtomicU32,
    /// Since when it serves, as [`Millis`].
    serves_since: AtomicU64,
    /// Its results for outlier detection, if there is any.
    monitor: OnceLock<Arc<Monitor>>,
    /// Notified when a response asks for no more requests; only if its health is checked.
    fails_itself: OnceLock<Arc<Notify>>,
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
    /// The weight of its locality in this priority; 0: none.
    pub locality_weight: u32,
    /// Its configured health.
    pub health_flags: HealthFlags,
    /// The same in the words of the configuration.
    pub health_status: HealthStatus,
    /// How it is checked.
    pub check: EndpointCheck,
    /// What carries its connections.
    pub transport_socket: Arc<TransportSocket>,
    /// The metadata of its configuration.
    pub metadata: Arc<Metadata>,
}

impl Endpoint {
    /// Whether a host may have this endpoint instead of the other and keep its connections: only its share of the
    /// traffic is different.
    #[must_use]
    pub fn connects_as(&self, other: &Self) -> bool {
        self.hostname == other.hostname
            && self.locality == other.locality
            && self.check.is_same(&other.check)
            && Arc::ptr_eq(&self.transport_socket, &other.transport_socket)
            && self.metadata == other.metadata
    }

    /// Whether a host at the same address may have this endpoint instead of the other, and nobody notices.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            hostname,
            weight,
            priority,
            locality,
            locality_weight,
            health_flags,
            health_status,
            check,
            transport_socket,
            metadata,
        } = self;
        *hostname == other.hostname
            && (*weight, *priority) == (other.weight, other.priority)
            && (locality, *locality_weight) == (&other.locality, other.locality_weight)
            && (*health_flags, *health_status) == (other.health_flags, other.health_status)
            && check.is_same(&other.check)
            && Arc::ptr_eq(transport_socket, &other.transport_socket)
            && *metadata == other.metadata
    }
}

/// The locality of a host; shown in `/clusters`, and the zone in stats.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
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
        let state = State {
            stats: Scope::unlisted(shards),
            found: AtomicU32::new(0),
            serves_since: AtomicU64::new(0),
            monitor: OnceLock::new(),
            fails_itself: OnceLock::new(),
        };
        Self::of(address, endpoint, Arc::new(state))
    }

    fn of(address: Address, endpoint: Arc<Endpoint>, state: Arc<State>) -> Arc<Self> {
        let canary = endpoint.metadata.find("envoy.lb", &["canary".into()]) == Some(&true.into());
        Arc::new(Self { address, endpoint, canary, state })
    }

    /// The same host with another endpoint: it keeps its stats, its health and its connections.
    #[must_use]
    pub fn with_endpoint(&self, endpoint: Arc<Endpoint>) -> Arc<Self> {
        Self::of(self.address, endpoint, Arc::clone(&self.state))
    }

    /// What tells hosts apart: those of the same host that differ in their endpoints have the same id.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Its stats, by shard.
    #[must_use]
    #[inline]
    pub fn stats(&self) -> &Scope<HostStats> {
        &self.state.stats
    }

    /// Its health flags: those of the configuration, and what was found out.
    pub fn health_flags(&self) -> HealthFlags {
        self.endpoint.health_flags | self.found()
    }

    /// What was found out about its health.
    pub fn found(&self) -> HealthFlags {
        HealthFlags(self.state.found.load(Relaxed))
    }

    /// Notes what was found out about its health. For the control plane; the host set has to be created anew.
    pub fn set_found(&self, flags: HealthFlags) {
        self.state.found.store(flags.0, Relaxed);
    }

    /// Changes what was found out. For the control plane, as [`Self::set_found`].
    pub fn change_found(&self, change: impl FnOnce(&mut HealthFlags)) {
        let mut flags = self.found();
        change(&mut flags);
        self.set_found(flags);
    }

    /// Since when it serves; 0: since the start.
    pub fn serves_since(&self) -> Millis {
        self.state.serves_since.load(Relaxed)
    }

    /// Notes since when it serves. For the control plane.
    pub fn set_serves_since(&self, at: Millis) {
        self.state.serves_since.store(at, Relaxed);
    }

    /// A response had `x-envoy-immediate-health-check-fail`: its health check fails at once, if it has one.
    #[cold]
    pub fn fail_itself(&self) {
        let known = HealthFlags::FAILED_ACTIVE_HC | HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL;
        if self.found().contains(known) {
            return;
        }
        if let Some(notify) = self.state.fails_itself.get() {
            notify.notify_one();
        }
    }

    /// Notified by [`Self::fail_itself`]. For its health check.
    pub fn when_it_fails_itself(&self) -> Arc<Notify> {
        Arc::clone(self.state.fails_itself.get_or_init(Arc::default))
    }

    /// Its results for outlier detection, if there is any.
    #[inline]
    pub fn monitor(&self) -> Option<&Arc<Monitor>> {
        self.state.monitor.get()
    }

    /// From here on its results are noted. A host is watched once.
    pub fn set_monitor(&self, monitor: Monitor) {
        self.state.monitor.get_or_init(|| Arc::new(monitor));
    }

    /// The open connections, over all shards.
    pub fn connections(&self) -> u64 {
        self.state.stats.gauge(|stats| &stats.cx_active)
    }

    /// The connections so far, over all shards.
    pub fn connections_so_far(&self) -> u64 {
        self.state.stats.counter(|stats| &stats.cx_total)
    }

    /// The active requests, over all shards.
    #[inline]
    pub fn active_requests(&self) -> u64 {
        self.state.stats.gauge(|stats| &stats.rq_active)
    }
}

impl Locality {
    /// Whether it has no name at all.
    pub const fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

impl Endpoint {
    /// `locality.zone`; may be empty.
    pub fn zone(&self) -> &str {
        &self.locality.zone
    }
}

impl BitOr for HealthFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl HealthFlags {
    /// Healthy.
    pub const EMPTY: Self = Self(0);
    /// It has failed its health checks, or has not passed one yet.
    pub const FAILED_ACTIVE_HC: Self = Self(1);
    /// Outlier detection has ejected it.
    pub const FAILED_OUTLIER_CHECK: Self = Self(1 << 1);
    /// `health_status: UNHEALTHY` or `TIMEOUT`.
    pub const FAILED_EDS_HEALTH: Self = Self(1 << 2);
    /// It says that it is degraded.
    pub const DEGRADED_ACTIVE_HC: Self = Self(1 << 3);
    /// `health_status: DEGRADED`.
    pub const DEGRADED_EDS_HEALTH: Self = Self(1 << 4);
    /// Discovery has removed it, but it passes its health checks.
    pub const PENDING_DYNAMIC_REMOVAL: Self = Self(1 << 5);
    /// It waits for its first health check.
    pub const PENDING_ACTIVE_HC: Self = Self(1 << 6);
    /// It has asked to be left out, by `x-envoy-immediate-health-check-fail`.
    pub const EXCLUDED_VIA_IMMEDIATE_HC_FAIL: Self = Self(1 << 7);
    /// Its last health check timed out.
    pub const ACTIVE_HC_TIMEOUT: Self = Self(1 << 8);
    /// `health_status: DRAINING`: gets no requests, and is excluded from the share of healthy hosts.
    pub const EDS_STATUS_DRAINING: Self = Self(1 << 9);
    /// Outlier detection has found it degraded.
    pub const DEGRADED_OUTLIER_DETECTION: Self = Self(1 << 10);

    const NAMES: [(Self, &str); 11] = [
        (Self::FAILED_ACTIVE_HC, "/failed_active_hc"),
        (Self::FAILED_OUTLIER_CHECK, "/failed_outlier_check"),
        (Self::FAILED_EDS_HEALTH, "/failed_eds_health"),
        (Self::DEGRADED_ACTIVE_HC, "/degraded_active_hc"),
        (Self::DEGRADED_EDS_HEALTH, "/degraded_eds_health"),
        (Self::PENDING_DYNAMIC_REMOVAL, "/pending_dynamic_removal"),
        (Self::PENDING_ACTIVE_HC, "/pending_active_hc"),
        (Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL, "/excluded_via_immediate_hc_fail"),
        (Self::ACTIVE_HC_TIMEOUT, "/active_hc_timeout"),
        (Self::EDS_STATUS_DRAINING, "/eds_status_draining"),
        (Self::DEGRADED_OUTLIER_DETECTION, "/degraded_outlier_detection"),
    ];

    const UNHEALTHY: Self = Self(
        Self::FAILED_ACTIVE_HC.0
            | Self::FAILED_OUTLIER_CHECK.0
            | Self::FAILED_EDS_HEALTH.0
            | Self::EDS_STATUS_DRAINING.0,
    );
    const DEGRADED: Self = Self(
        Self::DEGRADED_ACTIVE_HC.0
            | Self::DEGRADED_EDS_HEALTH.0
            | Self::DEGRADED_OUTLIER_DETECTION.0,
    );
    const EXCLUDED: Self = Self(
        Self::PENDING_ACTIVE_HC.0
            | Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL.0
            | Self::EDS_STATUS_DRAINING.0,
    );

    /// Sets flags.
    pub const fn insert(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    /// Clears flags.
    pub const fn remove(&mut self, flags: Self) {
        self.0 &= !flags.0;
    }

    const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The health of a host with these flags.
    pub fn health(self) -> Health {
        if self.intersects(Self::UNHEALTHY) {
            Health::Unhealthy
        } else if self.intersects(Self::DEGRADED) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    /// The status of a host whose configuration says nothing bad; none: nothing bad was found out either.
    pub fn found_status(self) -> Option<HealthStatus> {
        if self.intersects(Self::FAILED_ACTIVE_HC | Self::FAILED_OUTLIER_CHECK) {
            Some(HealthStatus::Unhealthy)
        } else if self.intersects(Self::DEGRADED) {
            Some(HealthStatus::Degraded)
        } else {
            None
        }
    }

    /// Whether the host is excluded from the share of healthy hosts.
    pub fn is_excluded(self) -> bool {
        self.intersects(Self::EXCLUDED)
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
