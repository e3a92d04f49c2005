//! Hosts that requests ask for by their addresses, before the policy of the cluster chooses one.

use crate::upstream::host::HealthFlags;

/// The health of an endpoint as it is configured or discovered: `health_status`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of the configuration")]
pub enum HealthStatus {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
    Draining,
    Timeout,
    Degraded,
}

/// Some of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthStatuses(u8);

impl HealthStatuses {
    /// These.
    pub fn new(statuses: impl IntoIterator<Item = HealthStatus>) -> Self {
        Self(statuses.into_iter().fold(0, |all, status| all | 1 << status as u8))
    }

    const fn has(self, status: HealthStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// Whether a host that is configured so, and with these flags, has one of them. As in Envoy, what is
    /// configured counts before what was found out.
    pub fn allow(self, configured: HealthStatus, flags: HealthFlags) -> bool {
        let found = match configured {
            HealthStatus::Unknown | HealthStatus::Healthy => flags.found_status(),
            HealthStatus::Unhealthy
            | HealthStatus::Draining
            | HealthStatus::Timeout
            | HealthStatus::Degraded => None,
        };
        self.has(found.unwrap_or(configured))
    }
}

//= envoy: Cluster.CommonLbConfig.override_host_status
impl Default for HealthStatuses {
    fn default() -> Self {
        Self::new([HealthStatus::Unknown, HealthStatus::Healthy, HealthStatus::Degraded])
    }
}

/// The load balancing policy `override_host`: requests name their hosts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OverrideHost {
    /// Where they do.
    pub sources: Box<[Source]>,
    /// Where the host that was chosen is noted.
    pub selected: Option<MetadataPath>,
}

/// Where a request names hosts, separated by commas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A header, in lower case.
    Header(Box<[u8]>),
    /// Its dynamic metadata.
    Metadata(MetadataPath),
}

/// A value in dynamic metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetadataPath {
    /// The namespace.
    pub namespace: Box<str>,
    /// The keys from there on, at least one.
    pub path: Box<[Box<str>]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_counts_before_what_was_found_out() {
        let allowed = HealthStatuses::default();
        let failed = HealthFlags::FAILED_ACTIVE_HC;
        assert!(allowed.allow(HealthStatus::Unknown, HealthFlags::EMPTY));
        assert!(!allowed.allow(HealthStatus::Unknown, failed));
        assert!(allowed.allow(HealthStatus::Degraded, failed));
        assert!(!allowed.allow(HealthStatus::Draining, HealthFlags::EDS_STATUS_DRAINING));
        let only_healthy = HealthStatuses::new([HealthStatus::Healthy]);
        assert!(!only_healthy.allow(HealthStatus::Unknown, HealthFlags::EMPTY));
        assert!(only_healthy.allow(HealthStatus::Healthy, HealthFlags::EMPTY));
        let unhealthy = HealthStatuses::new([HealthStatus::Unhealthy]);
        assert!(unhealthy.allow(HealthStatus::Healthy, HealthFlags::FAILED_OUTLIER_CHECK));
    }
}
