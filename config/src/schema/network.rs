//! `envoy/extensions/filters/network` without HTTP.

use super::{
    AccessLog, BackoffStrategy, DataSource, Duration, HeaderValueOption, Percent,
    RuntimeFeatureFlag, SubstitutionFormatString, TokenBucket, schema, schema_enum,
};

schema! {
    const NETWORK;

    struct TcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" {
        stat_prefix: String,
        cluster: Option<String>,
        weighted_clusters: Option<TcpWeightedCluster>,
        idle_timeout: Option<Duration>,
        max_connect_attempts: Option<u32>,
        backoff_options: Option<BackoffStrategy>,
        max_downstream_connection_duration: Option<Duration>,
        max_downstream_connection_duration_jitter_percentage: Option<Percent>,
        upstream_connect_mode: UpstreamConnectMode,
        max_early_data_bytes: Option<u32>,
        tunneling_config: Option<TunnelingConfig>,
        access_log: Vec<AccessLog>,
        access_log_flush_interval: Option<Duration>,
        flush_access_log_on_connected: bool,
        access_log_options: Option<TcpAccessLogOptions>,
    } harmless {
        downstream_idle_timeout: "not implemented by Envoy either",
        upstream_idle_timeout: "not implemented by Envoy either",
    }

    struct TcpAccessLogOptions =
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions" {
        access_log_flush_interval: Option<Duration>,
        flush_access_log_on_connected: bool,
        flush_access_log_on_start: bool,
    }

    struct TunnelingConfig =
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig" {
        hostname: String,
        use_post: bool,
        post_path: String,
        headers_to_add: Vec<HeaderValueOption>,
    } harmless {
        propagate_response_headers: "they set filter state that no format and no filter of Corvoy reads",
        propagate_response_trailers: "they set filter state that no format and no filter of Corvoy reads",
        request_id_header: "read only with request_id_extension, and that is refused",
        request_id_metadata_key: "read only with request_id_extension, and that is refused",
    }

    struct TcpWeightedCluster =
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster" {
        clusters: Vec<TcpClusterWeight>,
    }

    struct TcpClusterWeight =
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" {
        name: String,
        weight: u32,
    }

    struct Echo = "envoy.extensions.filters.network.echo.v3.Echo" {}

    struct NetworkDirectResponse =
        "envoy.extensions.filters.network.direct_response.v3.Config" {
        response: Option<DataSource>,
    }

    struct ConnectionLimit =
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit" {
        stat_prefix: String,
        max_connections: Option<u64>,
        delay: Option<Duration>,
        runtime_enabled: Option<RuntimeFeatureFlag>,
    }

    struct NetworkLocalRateLimit =
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit" {
        stat_prefix: String,
        token_bucket: Option<TokenBucket>,
        runtime_enabled: Option<RuntimeFeatureFlag>,
        share_key: String,
    }

    struct SniCluster = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster" {}

    struct NetworkSetFilterState =
        "envoy.extensions.filters.network.set_filter_state.v3.Config" {
        on_new_connection: Vec<FilterStateValue>,
        on_downstream_data: Vec<FilterStateValue>,
    }

    struct FilterStateValue =
        "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue" {
        object_key: Option<String>,
        factory_key: String,
        format_string: Option<SubstitutionFormatString>,
        skip_if_empty: bool,
    } harmless {
        read_only: "Envoy 1.40 does not keep such an object from being set again, either",
        shared_with_upstream: "the objects that Corvoy has are not read by upstream filters",
    }
}

schema_enum! {
    enum UpstreamConnectMode = "envoy.extensions.filters.network.tcp_proxy.v3.UpstreamConnectMode" {
        Immediate, OnDownstreamData, OnDownstreamTlsHandshake,
    }
}
