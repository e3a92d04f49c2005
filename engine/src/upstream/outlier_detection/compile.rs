//! Compiles `outlier_detection`.

use std::sync::Arc;
use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use super::{Enforcing, FailurePercentage, OutlierDetection, SuccessRate};
use crate::stats::{OutlierDetectionStats, Scope};

/// The outlier detection of a cluster; none: it has none. `event_log_path` is that of the bootstrap.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub(in crate::upstream) fn outlier_detection(
    schema: Option<&config::OutlierDetection>,
    at: &Path,
    event_log_path: Option<&str>,
    stats: impl FnOnce() -> Arc<Scope<OutlierDetectionStats>>,
    problems: &mut Problems,
) -> Option<Arc<OutlierDetection>> {
    let config::OutlierDetection {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        always_eject_one_host,
    } = schema?;
    let base_ejection_time = base_ejection_time.unwrap_or(Duration::from_secs(30));
    let max_ejection_time = match max_ejection_time {
        Some(max) if *max < base_ejection_time => {
            let message = "max_ejection_time cannot be smaller than base_ejection_time";
            problems.error(&at.field("max_ejection_time"), message);
            *max
        }
        Some(max) => *max,
        None => base_ejection_time.max(Duration::from_secs(300)),
    };
    let enforcing = Enforcing::default();
    let success_rate = SuccessRate::default();
    let failure_percentage = FailurePercentage::default();
    Some(Arc::new(OutlierDetection {
        consecutive_5xx: consecutive_5xx.unwrap_or(5),
        consecutive_gateway_failure: consecutive_gateway_failure.unwrap_or(5),
        consecutive_local_origin_failure: consecutive_local_origin_failure.unwrap_or(5),
        splits_local_origin: *split_external_local_origin_errors,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: max_ejection_time_jitter.unwrap_or_default(),
        max_ejection_percent: max_ejection_percent.unwrap_or(10),
        always_eject_one_host: always_eject_one_host.unwrap_or(false),
        health_check_unejects: successful_active_health_check_uneject_host.unwrap_or(true),
        success_rate: SuccessRate {
            minimum_hosts: success_rate_minimum_hosts.unwrap_or(success_rate.minimum_hosts),
            request_volume: success_rate_request_volume.unwrap_or(success_rate.request_volume),
            stdev_factor: f64::from(success_rate_stdev_factor.unwrap_or(1900)) / 1000.0,
        },
        failure_percentage: FailurePercentage {
            threshold: failure_percentage_threshold.unwrap_or(failure_percentage.threshold),
            minimum_hosts: failure_percentage_minimum_hosts
                .unwrap_or(failure_percentage.minimum_hosts),
            request_volume: failure_percentage_request_volume
                .unwrap_or(failure_percentage.request_volume),
        },
        enforcing: Enforcing {
            consecutive_5xx: enforcing_consecutive_5xx.unwrap_or(enforcing.consecutive_5xx),
            consecutive_gateway_failure: enforcing_consecutive_gateway_failure
                .unwrap_or(enforcing.consecutive_gateway_failure),
            consecutive_local_origin_failure: enforcing_consecutive_local_origin_failure
                .unwrap_or(enforcing.consecutive_local_origin_failure),
            success_rate: enforcing_success_rate.unwrap_or(enforcing.success_rate),
            local_origin_success_rate: enforcing_local_origin_success_rate
                .unwrap_or(enforcing.local_origin_success_rate),
            failure_percentage: enforcing_failure_percentage
                .unwrap_or(enforcing.failure_percentage),
            failure_percentage_local_origin: enforcing_failure_percentage_local_origin
                .unwrap_or(enforcing.failure_percentage_local_origin),
        },
        event_log_path: event_log_path.filter(|path| !path.is_empty()).map(Into::into),
        stats: stats(),
    }))
}
