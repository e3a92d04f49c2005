//! `envoy/extensions/filters/network` without HTTP, and `envoy/config/rbac/v3`.

use std::collections::BTreeMap;

use super::{
    AccessLog, BackoffStrategy, CidrRange, DataSource, Duration, HeaderValueOption, Int32Range,
    Percent, RuntimeFeatureFlag, StringMatcher, SubstitutionFormatString, TokenBucket, schema,
    schema_enum,
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
        metadata_match: "only subset load balancing reads it, and that is refused",
        hash_policy: "only hash-based load balancing reads it, and that is refused",
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
    } harmless {
        metadata_match: "only subset load balancing reads it, and that is refused",
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

    struct NetworkRbac = "envoy.extensions.filters.network.rbac.v3.RBAC" {
        rules: Option<RbacRules>,
        shadow_rules: Option<RbacRules>,
        shadow_rules_stat_prefix: String,
        stat_prefix: String,
        enforcement_type: RbacEnforcementType,
        delay_deny: Option<Duration>,
    }

    struct RbacRules = "envoy.config.rbac.v3.RBAC" {
        action: RbacAction,
        policies: BTreeMap<String, RbacPolicy>,
    }

    struct RbacPolicy = "envoy.config.rbac.v3.Policy" {
        permissions: Vec<RbacPermission>,
        principals: Vec<RbacPrincipal>,
    }

    struct RbacPermission = "envoy.config.rbac.v3.Permission" {
        and_rules: Option<RbacPermissionSet>,
        or_rules: Option<RbacPermissionSet>,
        any: Option<bool>,
        destination_ip: Option<CidrRange>,
        destination_port: Option<u32>,
        destination_port_range: Option<Int32Range>,
        not_rule: Option<Box<RbacPermission>>,
        requested_server_name: Option<StringMatcher>,
    }

    struct RbacPermissionSet = "envoy.config.rbac.v3.Permission.Set" {
        rules: Vec<RbacPermission>,
    }

    struct RbacPrincipal = "envoy.config.rbac.v3.Principal" {
        and_ids: Option<RbacPrincipalSet>,
        or_ids: Option<RbacPrincipalSet>,
        any: Option<bool>,
        authenticated: Option<RbacAuthenticated>,
        source_ip: Option<CidrRange>,
        direct_remote_ip: Option<CidrRange>,
        remote_ip: Option<CidrRange>,
        not_id: Option<Box<RbacPrincipal>>,
    }

    struct RbacAuthenticated = "envoy.config.rbac.v3.Principal.Authenticated" {
        principal_name: Option<StringMatcher>,
    }

    struct RbacPrincipalSet = "envoy.config.rbac.v3.Principal.Set" {
        ids: Vec<RbacPrincipal>,
    }
}

schema_enum! {
    enum UpstreamConnectMode = "envoy.extensions.filters.network.tcp_proxy.v3.UpstreamConnectMode" {
        Immediate, OnDownstreamData, OnDownstreamTlsHandshake,
    }

    enum RbacEnforcementType = "envoy.extensions.filters.network.rbac.v3.RBAC.EnforcementType" {
        OneTimeOnFirstByte, Continuous,
    }

    enum RbacAction = "envoy.config.rbac.v3.RBAC.Action" { Allow, Deny, Log }
}
