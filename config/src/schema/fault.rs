//! Fault injection.

use std::time::Duration;

use super::{FractionalPercent, HeaderMatcher, schema};

schema! {
    const FAULT;

    struct HttpFault = "envoy.extensions.filters.http.fault.v3.HTTPFault" {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
        upstream_cluster: String,
        headers: Vec<HeaderMatcher>,
        downstream_nodes: Vec<String>,
        max_active_faults: Option<u32>,
        response_rate_limit: Option<FaultRateLimit>,
        delay_percent_runtime: String,
        abort_percent_runtime: String,
        delay_duration_runtime: String,
        abort_http_status_runtime: String,
        max_active_faults_runtime: String,
        response_rate_limit_percent_runtime: String,
        abort_grpc_status_runtime: String,
        filter_metadata: Option<serde_json::Value>,
    } harmless {
        disable_downstream_cluster_stats: "there are no stats by downstream cluster: clients choose its name",
    }

    struct FaultAbort = "envoy.extensions.filters.http.fault.v3.FaultAbort" {
        http_status: Option<u32>,
        grpc_status: Option<u32>,
        header_abort: Option<HeaderAbort>,
        percentage: Option<FractionalPercent>,
        response_body: String,
    }

    struct HeaderAbort = "envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort" {}

    struct FaultDelay = "envoy.extensions.filters.common.fault.v3.FaultDelay" {
        fixed_delay: Option<Duration>,
        header_delay: Option<HeaderDelay>,
        percentage: Option<FractionalPercent>,
    }

    struct HeaderDelay = "envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay" {}

    struct FaultRateLimit = "envoy.extensions.filters.common.fault.v3.FaultRateLimit" {
        fixed_limit: Option<FixedLimit>,
        header_limit: Option<HeaderLimit>,
        percentage: Option<FractionalPercent>,
    }

    struct FixedLimit = "envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit" {
        limit_kbps: u64,
    }

    struct HeaderLimit = "envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit" {}
}
