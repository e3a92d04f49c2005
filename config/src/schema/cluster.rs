//! `envoy/config/cluster/v3`, `envoy/config/endpoint/v3`, and the DNS cluster.

use super::{
    Address, Any, BTreeMap, BindConfig, ClusterProtocolSelection, CommonLbConfig, ConfigSource,
    Duration, EndpointHealthCheckConfig, HealthCheck, HealthStatus, Http1ProtocolOptions,
    Http2ProtocolOptions, HttpProtocolOptions, LbPolicy, LbSubsetConfig, LeastRequestLbConfig,
    LoadBalancingPolicy, Locality, MaglevLbConfig, Metadata, MetadataKey, Percent,
    RingHashLbConfig, RoundRobinLbConfig, RoutingPriority, SocketAddress, TcpKeepalive,
    TransportSocket, TypedExtensionConfig, UpstreamHttpProtocolOptions, schema, schema_enum,
};

schema! {
    const CLUSTER;

    struct Cluster = "envoy.config.cluster.v3.Cluster" {
        name: String,
        alt_stat_name: String,
        r#type: Option<DiscoveryType>,
        cluster_type: Option<CustomClusterType>,
        connect_timeout: Option<Duration>,
        per_connection_buffer_limit_bytes: Option<u32>,
        lb_policy: LbPolicy,
        load_assignment: Option<ClusterLoadAssignment>,
        eds_cluster_config: Option<EdsClusterConfig>,
        max_requests_per_connection: Option<u32>,
        circuit_breakers: Option<CircuitBreakers>,
        common_http_protocol_options: Option<HttpProtocolOptions>,
        http_protocol_options: Option<Http1ProtocolOptions>,
        http2_protocol_options: Option<Http2ProtocolOptions>,
        protocol_selection: ClusterProtocolSelection,
        typed_extension_protocol_options: BTreeMap<String, Any>,
        upstream_http_protocol_options: Option<UpstreamHttpProtocolOptions>,
        dns_refresh_rate: Option<Duration>,
        dns_jitter: Option<Duration>,
        dns_failure_refresh_rate: Option<RefreshRate>,
        respect_dns_ttl: bool,
        dns_lookup_family: DnsLookupFamily,
        typed_dns_resolver_config: Option<TypedExtensionConfig>,
        common_lb_config: Option<CommonLbConfig>,
        upstream_connection_options: Option<UpstreamConnectionOptions>,
        upstream_bind_config: Option<BindConfig>,
        track_cluster_stats: Option<TrackClusterStats>,
        round_robin_lb_config: Option<RoundRobinLbConfig>,
        least_request_lb_config: Option<LeastRequestLbConfig>,
        ring_hash_lb_config: Option<RingHashLbConfig>,
        maglev_lb_config: Option<MaglevLbConfig>,
        original_dst_lb_config: Option<OriginalDstLbConfig>,
        cleanup_interval: Option<Duration>,
        lb_subset_config: Option<LbSubsetConfig>,
        load_balancing_policy: Option<LoadBalancingPolicy>,
        health_checks: Vec<HealthCheck>,
        outlier_detection: Option<OutlierDetection>,
        ignore_health_on_host_removal: bool,
        wait_for_warm_on_init: Option<bool>,
        transport_socket: Option<TransportSocket>,
        transport_socket_matches: Vec<TransportSocketMatch>,
        metadata: Option<Metadata>,
    }

    struct OriginalDstLbConfig = "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig" {
        use_http_header: bool,
        http_header_name: String,
        upstream_port_override: Option<u32>,
        metadata_key: Option<MetadataKey>,
    }

    struct EdsClusterConfig = "envoy.config.cluster.v3.Cluster.EdsClusterConfig" {
        eds_config: Option<ConfigSource>,
        service_name: String,
    }

    struct OutlierDetection = "envoy.config.cluster.v3.OutlierDetection" {
        consecutive_5xx: Option<u32>,
        interval: Option<Duration>,
        base_ejection_time: Option<Duration>,
        max_ejection_percent: Option<u32>,
        enforcing_consecutive_5xx: Option<u32>,
        enforcing_success_rate: Option<u32>,
        success_rate_minimum_hosts: Option<u32>,
        success_rate_request_volume: Option<u32>,
        success_rate_stdev_factor: Option<u32>,
        consecutive_gateway_failure: Option<u32>,
        enforcing_consecutive_gateway_failure: Option<u32>,
        split_external_local_origin_errors: bool,
        consecutive_local_origin_failure: Option<u32>,
        enforcing_consecutive_local_origin_failure: Option<u32>,
        enforcing_local_origin_success_rate: Option<u32>,
        failure_percentage_threshold: Option<u32>,
        enforcing_failure_percentage: Option<u32>,
        enforcing_failure_percentage_local_origin: Option<u32>,
        failure_percentage_minimum_hosts: Option<u32>,
        failure_percentage_request_volume: Option<u32>,
        max_ejection_time: Option<Duration>,
        max_ejection_time_jitter: Option<Duration>,
        successful_active_health_check_uneject_host: Option<bool>,
        always_eject_one_host: Option<bool>,
    }

    struct TransportSocketMatch = "envoy.config.cluster.v3.Cluster.TransportSocketMatch" {
        name: String,
        r#match: Option<serde_json::Value>,
        transport_socket: Option<TransportSocket>,
    }

    struct CustomClusterType = "envoy.config.cluster.v3.Cluster.CustomClusterType" {
        name: String,
        typed_config: Option<Any>,
    }

    struct RefreshRate = "envoy.config.cluster.v3.Cluster.RefreshRate" {
        base_interval: Option<Duration>,
        max_interval: Option<Duration>,
    }

    struct UpstreamConnectionOptions = "envoy.config.cluster.v3.UpstreamConnectionOptions" {
        tcp_keepalive: Option<TcpKeepalive>,
    }

    struct TrackClusterStats = "envoy.config.cluster.v3.TrackClusterStats" {
        timeout_budgets: bool,
        request_response_sizes: bool,
        per_endpoint_stats: bool,
    }

    struct CircuitBreakers = "envoy.config.cluster.v3.CircuitBreakers" {
        thresholds: Vec<Thresholds>,
        per_host_thresholds: Vec<Thresholds>,
    }

    struct Thresholds = "envoy.config.cluster.v3.CircuitBreakers.Thresholds" {
        priority: RoutingPriority,
        max_connections: Option<u32>,
        max_pending_requests: Option<u32>,
        max_requests: Option<u32>,
        max_retries: Option<u32>,
        retry_budget: Option<RetryBudget>,
        track_remaining: bool,
        max_connection_pools: Option<u32>,
    }

    struct RetryBudget = "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget" {
        budget_percent: Option<Percent>,
        min_retry_concurrency: Option<u32>,
    }

    struct ClusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment" {
        cluster_name: String,
        endpoints: Vec<LocalityLbEndpoints>,
        policy: Option<Policy>,
    }

    struct Policy = "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy" {
        overprovisioning_factor: Option<u32>,
        weighted_priority_health: bool,
    }

    struct LocalityLbEndpoints = "envoy.config.endpoint.v3.LocalityLbEndpoints" {
        locality: Option<Locality>,
        lb_endpoints: Vec<LbEndpoint>,
        load_balancing_weight: Option<u32>,
        priority: u32,
        metadata: Option<Metadata>,
    } harmless {
        proximity: "Envoy does not read it either",
    }

    struct LbEndpoint = "envoy.config.endpoint.v3.LbEndpoint" {
        endpoint: Option<Endpoint>,
        health_status: HealthStatus,
        load_balancing_weight: Option<u32>,
        metadata: Option<Metadata>,
    }

    struct Endpoint = "envoy.config.endpoint.v3.Endpoint" {
        address: Option<Address>,
        hostname: String,
        health_check_config: Option<EndpointHealthCheckConfig>,
    }

    struct DnsCluster = "envoy.extensions.clusters.dns.v3.DnsCluster" {
        dns_refresh_rate: Option<Duration>,
        dns_failure_refresh_rate: Option<DnsClusterRefreshRate>,
        respect_dns_ttl: bool,
        dns_jitter: Option<Duration>,
        dns_lookup_family: DnsClusterLookupFamily,
        all_addresses_in_single_endpoint: bool,
        dns_min_refresh_rate: Option<Duration>,
        typed_dns_resolver_config: Option<TypedExtensionConfig>,
    }

    struct OriginalDstCluster = "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster" {
        use_http_header: bool,
        http_header_name: String,
        upstream_port_override: Option<u32>,
        metadata_key: Option<MetadataKey>,
    }

    struct AggregateCluster = "envoy.extensions.clusters.aggregate.v3.ClusterConfig" {
        clusters: Vec<String>,
    }

    struct DynamicForwardProxyCluster =
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig" {
        dns_cache_config: Option<DnsCacheConfig>,
        allow_insecure_cluster_options: bool,
    }

    struct DnsCacheConfig = "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig" {
        name: String,
        dns_lookup_family: DnsLookupFamily,
        dns_refresh_rate: Option<Duration>,
        dns_min_refresh_rate: Option<Duration>,
        host_ttl: Option<Duration>,
        max_hosts: Option<u32>,
        disable_dns_refresh_on_failure: bool,
        dns_failure_refresh_rate: Option<RefreshRate>,
        dns_cache_circuit_breaker: Option<DnsCacheCircuitBreakers>,
        preresolve_hostnames: Vec<SocketAddress>,
        dns_query_timeout: Option<Duration>,
        typed_dns_resolver_config: Option<TypedExtensionConfig>,
    }

    struct CaresDnsResolver =
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig" {
        resolvers: Vec<Address>,
        dns_resolver_options: Option<DnsResolverOptions>,
        query_timeout_seconds: Option<u64>,
        query_tries: Option<u32>,
        rotate_nameservers: bool,
    } harmless {
        udp_max_queries: "each lookup has a socket of its own",
        max_udp_channel_duration: "each lookup has a socket of its own",
        reinit_channel_on_timeout: "each lookup has a socket of its own",
        qcache_max_ttl: "nothing is cached",
    }

    struct DnsResolverOptions = "envoy.config.core.v3.DnsResolverOptions" {
        use_tcp_for_dns_lookups: bool,
        no_default_search_domain: bool,
    }

    struct GetAddrInfoDnsResolver =
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig" {
    } harmless {
        num_retries: "the resolver of the system repeats as resolv.conf says",
        num_resolver_threads: "no lookup blocks a thread",
    }

    struct DnsCacheCircuitBreakers =
        "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheCircuitBreakers" {
        max_pending_requests: Option<u32>,
    }

    struct DnsClusterRefreshRate = "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate" {
        base_interval: Option<Duration>,
        max_interval: Option<Duration>,
    }
}

schema_enum! {
    enum DiscoveryType = "envoy.config.cluster.v3.Cluster.DiscoveryType" {
        Static, StrictDns, LogicalDns, Eds, OriginalDst,
    }

    enum DnsLookupFamily = "envoy.config.cluster.v3.Cluster.DnsLookupFamily" {
        Auto, V4Only, V6Only, V4Preferred, All,
    }

    enum DnsClusterLookupFamily = "envoy.extensions.clusters.common.dns.v3.DnsLookupFamily" {
        Unspecified, Auto, V4Only, V6Only, V4Preferred, All,
    }
}
