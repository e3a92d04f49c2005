//! Stats of clusters, hosts and virtual clusters.

use crate::stats::stats;

stats! {
    /// `cluster.<name>.`
    pub struct ClusterStats {
        constant counter assignment_stale;
        constant counter assignment_timeout_received;
        constant counter assignment_use_cached;
        counter bind_errors;
        names ext_authz = "ext_authz.";
        counter lb_healthy_panic;
        counter lb_local_cluster_not_ok;
        counter lb_recalculate_zone_structures;
        gauge lb_subsets_active;
        counter lb_subsets_created;
        counter lb_subsets_fallback;
        counter lb_subsets_fallback_panic;
        counter lb_subsets_removed;
        counter lb_subsets_selected;
        counter lb_zone_cluster_too_small;
        counter lb_zone_no_capacity_left;
        counter lb_zone_routing_all_directly;
        counter lb_zone_routing_cross_zone;
        counter lb_zone_routing_sampled;
        gauge max_host_weight;
        counter membership_change;
        gauge membership_degraded;
        gauge membership_excluded;
        gauge membership_healthy;
        gauge membership_total;
        counter original_dst_host_invalid;
        names ratelimit = "ratelimit.";
        counter retry_or_shadow_abandoned;
        counter update_attempt;
        counter update_empty;
        counter update_failure;
        counter update_no_rebuild;
        counter update_success;
        gauge upstream_cx_active;
        counter upstream_cx_close_notify;
        counter upstream_cx_connect_attempts_exceeded;
        counter upstream_cx_connect_fail;
        histogram upstream_cx_connect_ms;
        counter upstream_cx_connect_timeout;
        constant counter upstream_cx_connect_with_0_rtt;
        counter upstream_cx_destroy;
        counter upstream_cx_destroy_local;
        counter upstream_cx_destroy_local_with_active_rq;
        counter upstream_cx_destroy_remote;
        counter upstream_cx_destroy_remote_with_active_rq;
        counter upstream_cx_destroy_with_active_rq;
        counter upstream_cx_http1_total;
        counter upstream_cx_http2_total;
        constant counter upstream_cx_http3_total;
        counter upstream_cx_idle_timeout;
        histogram upstream_cx_length_ms;
        counter upstream_cx_max_duration_reached;
        counter upstream_cx_max_requests;
        counter upstream_cx_none_healthy;
        counter upstream_cx_overflow;
        counter upstream_cx_pool_overflow;
        constant counter upstream_cx_preconnect_skipped;
        counter upstream_cx_protocol_error;
        gauge upstream_cx_rx_bytes_buffered;
        counter upstream_cx_rx_bytes_total;
        counter upstream_cx_total;
        gauge upstream_cx_tx_bytes_buffered;
        counter upstream_cx_tx_bytes_total;
        constant counter upstream_flow_control_backed_up_total;
        constant counter upstream_flow_control_drained_total;
        constant counter upstream_flow_control_paused_reading_total;
        constant counter upstream_flow_control_resumed_reading_total;
        constant counter upstream_http3_broken;
        counter upstream_internal_redirect_failed_total;
        counter upstream_internal_redirect_succeeded_total;
        constant gauge upstream_queue_overloaded;
        constant counter upstream_rq_0rtt;
        gauge upstream_rq_active;
        counter upstream_rq_active_overflow;
        counter upstream_rq_cancelled;
        constant counter upstream_rq_maintenance_mode;
        counter upstream_rq_max_duration_reached;
        gauge upstream_rq_pending_active;
        counter upstream_rq_pending_failure_eject;
        counter upstream_rq_pending_overflow;
        counter upstream_rq_pending_total;
        histogram upstream_rq_per_cx;
        counter upstream_rq_per_try_idle_timeout;
        counter upstream_rq_per_try_timeout;
        counter upstream_rq_retry;
        counter upstream_rq_retry_backoff_exponential;
        counter upstream_rq_retry_backoff_ratelimited;
        counter upstream_rq_retry_limit_exceeded;
        counter upstream_rq_retry_overflow;
        counter upstream_rq_retry_success;
        counter upstream_rq_rx_reset;
        constant counter upstream_rq_rx_reset_no_error;
        late histogram upstream_rq_time;
        counter upstream_rq_timeout;
        counter upstream_rq_total;
        counter upstream_rq_tx_reset;
        gauge version;
        gauge warming_state;

        late constant counter dropped_headers_with_underscores = "http1.dropped_headers_with_underscores";
        late constant counter metadata_not_supported_error = "http1.metadata_not_supported_error";
        late constant counter requests_rejected_with_underscores_in_headers =
            "http1.requests_rejected_with_underscores_in_headers";
        late constant counter response_flood = "http1.response_flood";

        declared codes codes = "";
        codes external = "external.";
        late histogram external_upstream_rq_time = "external.upstream_rq_time";
        codes internal = "internal.";
        late histogram internal_upstream_rq_time = "internal.upstream_rq_time";
        codes canary = "canary.";
        late histogram canary_upstream_rq_time = "canary.upstream_rq_time";
        codes retry = "retry.";
    }
}

impl ClusterStats {
    /// Counts a response that the client gets.
    #[inline]
    pub fn record_response(&self, status: u16, origin: Origin, canary: bool) {
        self.codes.record(status);
        match origin {
            Origin::External => self.external.record(status),
            Origin::Internal => self.internal.record(status),
        }
        if canary {
            self.canary.record(status);
        }
    }

    /// Counts how long the response took, from the end of the request to the response's end.
    #[inline]
    pub fn record_response_time(&self, milliseconds: u64, origin: Origin, canary: bool) {
        self.upstream_rq_time.record(milliseconds);
        match origin {
            Origin::External => self.external_upstream_rq_time.record(milliseconds),
            Origin::Internal => self.internal_upstream_rq_time.record(milliseconds),
        }
        if canary {
            self.canary_upstream_rq_time.record(milliseconds);
        }
    }
}

/// The origin of a request, by `x-envoy-internal`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// External, as all are unless `internal_address_config` is set.
    External,
    /// Internal.
    Internal,
}

stats! {
    /// `cluster.<name>.circuit_breakers.<default|high>.`: 1 while the limit is reached.
    pub struct CircuitBreakerStats {
        peak gauge cx_open;
        peak gauge cx_pool_open;
        peak gauge rq_open;
        peak gauge rq_pending_open;
        peak gauge rq_retry_open;
    }
}

stats! {
    /// `cluster.<name>.circuit_breakers.<default|high>.`, with `track_remaining`. Written by one thread.
    pub struct CircuitBreakerRemainingStats {
        gauge remaining_cx;
        gauge remaining_cx_pools;
        gauge remaining_pending;
        gauge remaining_retries;
        gauge remaining_rq;
    }
}

stats! {
    /// `cluster.<name>.health_check.`
    pub struct HealthCheckStats {
        counter attempt;
        gauge degraded;
        counter failure;
        gauge healthy;
        counter network_failure;
        counter passive_failure;
        counter success;
        counter verify_cluster;
    }
}

stats! {
    /// `cluster.<name>.outlier_detection.`
    pub struct OutlierDetectionStats {
        gauge ejections_active;
        counter ejections_consecutive_5xx;
        counter ejections_detected_consecutive_5xx;
        counter ejections_detected_consecutive_gateway_failure;
        counter ejections_detected_consecutive_local_origin_failure;
        constant counter ejections_detected_degradation;
        counter ejections_detected_failure_percentage;
        counter ejections_detected_local_origin_failure_percentage;
        counter ejections_detected_local_origin_success_rate;
        counter ejections_detected_success_rate;
        counter ejections_enforced_consecutive_5xx;
        counter ejections_enforced_consecutive_gateway_failure;
        counter ejections_enforced_consecutive_local_origin_failure;
        counter ejections_enforced_failure_percentage;
        counter ejections_enforced_local_origin_failure_percentage;
        counter ejections_enforced_local_origin_success_rate;
        counter ejections_enforced_success_rate;
        counter ejections_enforced_total;
        counter ejections_overflow;
        counter ejections_success_rate;
        counter ejections_total;
    }
}

stats! {
    /// `cluster.<name>.ring_hash_lb.`
    pub struct RingHashStats {
        gauge max_hashes_per_host;
        gauge min_hashes_per_host;
        gauge size;
    }
}

stats! {
    /// `cluster.<name>.maglev_lb.`
    pub struct MaglevStats {
        gauge max_entries_per_host;
        gauge min_entries_per_host;
    }
}

stats! {
    /// `cluster.<name>.zone.<from>.<to>.`: responses from hosts of a zone, where our own zone is configured too.
    pub struct ZoneStats {
        late histogram upstream_rq_time;
        codes codes = "";
    }
}

stats! {
    /// One host. Not in `/stats`: `/clusters` shows the first nine, as Envoy does. The control
    /// plane uses the others to detect whether the host is failing.
    pub struct HostStats {
        gauge cx_active;
        counter cx_connect_fail;
        counter cx_total;
        gauge rq_active;
        counter rq_error;
        gauge rq_pending_active;
        counter rq_success;
        counter rq_timeout;
        counter rq_total;

        gauge connect_errno;
        gauge connect_failed_ms;
        gauge connected_ms;
        counter rq_connect_wait_timeout;
        counter rq_error_response;
        counter rq_reset;
    }
}

stats! {
    /// `vhost.<virtual host>.vcluster.<virtual cluster>.` and `vhost.<virtual host>.route.<stat_prefix>.`
    pub struct VirtualClusterStats {
        counter upstream_rq_retry;
        counter upstream_rq_retry_limit_exceeded;
        counter upstream_rq_retry_overflow;
        counter upstream_rq_retry_success;
        late histogram upstream_rq_time;
        counter upstream_rq_timeout;
        counter upstream_rq_total;
        codes codes = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_a_cluster_fits_seven_pairs_of_cache_lines() {
        assert!(size_of::<ClusterStats>() <= 7 * 128, "{}", size_of::<ClusterStats>());
    }

    #[test]
    fn the_block_of_a_host_fits_a_pair_of_cache_lines() {
        assert!(size_of::<HostStats>() <= 128, "{}", size_of::<HostStats>());
    }
}
