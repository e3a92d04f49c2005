//! Outlier detection: hosts that fail ordinary requests are ejected for a while.
//!
//! A shard notes each result in the host's [`Monitor`], and reports when enough failures came in a row. What
//! follows from reports and rates is decided by the [`Detector`] of the cluster, on the control plane.

pub(super) mod compile;
mod detector;
mod monitor;
mod rates;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::stats::{OutlierDetectionStats, Scope};

pub use detector::{Action, Detector, Ejection};
pub use monitor::{Monitor, Report, Result};
pub use rates::Rate;

/// `outlier_detection` of a cluster. Percentages are 0 to 100.
#[derive(Debug)]
pub struct OutlierDetection {
    /// So many 5xx responses in a row. Default 5.
    pub consecutive_5xx: u32,
    /// So many responses 502, 503 and 504 in a row. Default 5.
    pub consecutive_gateway_failure: u32,
    /// So many failures to connect in a row, if these are counted on their own. Default 5.
    pub consecutive_local_origin_failure: u32,
    /// Whether failures to connect are not counted as responses. Default no.
    pub splits_local_origin: bool,
    /// How often rates are computed and ejected hosts looked at. Default 10 s.
    pub interval: Duration,
    /// How long the first ejection lasts. Default 30 s.
    pub base_ejection_time: Duration,
    /// The longest ejection. Default 300 s.
    pub max_ejection_time: Duration,
    /// The bound of a random addition to each ejection. Default 0.
    pub max_ejection_time_jitter: Duration,
    /// How many of the hosts may be ejected. Default 10.
    pub max_ejection_percent: u32,
    /// Whether one host may be ejected in any case. Default no.
    pub always_eject_one_host: bool,
    /// Whether a host that passes an active health check comes back at once. Default yes.
    pub health_check_unejects: bool,
    /// The detector of hosts that fail more than the others.
    pub success_rate: SuccessRate,
    /// The detector of hosts that fail often.
    pub failure_percentage: FailurePercentage,
    /// How often each kind of ejection takes place.
    pub enforcing: Enforcing,
    /// Where ejections are logged; none: they are not.
    pub event_log_path: Option<PathBuf>,
    /// `cluster.<observability_name>.outlier_detection.`
    pub stats: Arc<Scope<OutlierDetectionStats>>,
}

/// Hosts whose success rate is this far below the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// How many hosts must have enough requests. Default 5.
    pub minimum_hosts: u32,
    /// How many requests a host must have had in an interval. Default 100.
    pub request_volume: u32,
    /// The factor of the standard deviation. Default 1.9.
    pub stdev_factor: f64,
}

/// Hosts that fail this often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailurePercentage {
    /// The percentage. Default 85.
    pub threshold: u32,
    /// How many hosts must have enough requests. Default 5.
    pub minimum_hosts: u32,
    /// How many requests a host must have had in an interval. Default 50.
    pub request_volume: u32,
}

/// In how many of a hundred cases a host that was detected is ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the kinds of ejections")]
pub struct Enforcing {
    pub consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub consecutive_local_origin_failure: u32,
    pub success_rate: u32,
    pub local_origin_success_rate: u32,
    pub failure_percentage: u32,
    pub failure_percentage_local_origin: u32,
}

/// Why a host is an outlier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of `OutlierEjectionType`")]
pub enum Kind {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    SuccessRateLocalOrigin,
    FailurePercentage,
    FailurePercentageLocalOrigin,
}

impl Enforcing {
    const fn of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Consecutive5xx => self.consecutive_5xx,
            Kind::ConsecutiveGatewayFailure => self.consecutive_gateway_failure,
            Kind::ConsecutiveLocalOriginFailure => self.consecutive_local_origin_failure,
            Kind::SuccessRate => self.success_rate,
            Kind::SuccessRateLocalOrigin => self.local_origin_success_rate,
            Kind::FailurePercentage => self.failure_percentage,
            Kind::FailurePercentageLocalOrigin => self.failure_percentage_local_origin,
        }
    }
}

impl Kind {
    /// As in the event log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "CONSECUTIVE_5XX",
            Self::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            Self::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            Self::SuccessRate => "SUCCESS_RATE",
            Self::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            Self::FailurePercentage => "FAILURE_PERCENTAGE",
            Self::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
        }
    }
}

/// Envoy's defaults.
impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1.9 }
    }
}

/// Envoy's defaults.
impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: 85, minimum_hosts: 5, request_volume: 50 }
    }
}

/// Envoy's defaults.
impl Default for Enforcing {
    fn default() -> Self {
        Self {
            consecutive_5xx: 100,
            consecutive_gateway_failure: 0,
            consecutive_local_origin_failure: 100,
            success_rate: 100,
            local_origin_success_rate: 100,
            failure_percentage: 0,
            failure_percentage_local_origin: 0,
        }
    }
}
