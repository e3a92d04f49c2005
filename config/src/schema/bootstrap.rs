//! `envoy/config/bootstrap/v3`, and the node it describes.

use super::{
    AccessLog, Address, Any, ApiConfigSource, BindConfig, Cluster, ConfigSource, Duration,
    Listener, Locality, Secret, SocketOption, StatsConfig, StatsSink, StringMatcher, schema,
};

schema! {
    const BOOTSTRAP;

    struct Bootstrap = "envoy.config.bootstrap.v3.Bootstrap" {
        node: Option<Node>,
        static_resources: Option<StaticResources>,
        stats_flush_interval: Option<Duration>,
        admin: Option<Admin>,
        layered_runtime: Option<LayeredRuntime>,
        overload_manager: Option<OverloadManager>,
        dynamic_resources: Option<DynamicResources>,
        cluster_manager: Option<ClusterManager>,
        stats_config: Option<StatsConfig>,
        stats_sinks: Vec<StatsSink>,
        stats_flush_on_admin: Option<bool>,
        application_log_config: Option<ApplicationLogConfig>,
    } harmless {
        deferred_stat_options: "the stats of a cluster cost little anyway",
        enable_worker_cpu_affinity: "each shard is always pinned to its core",
        memory_allocator_manager: "Corvoy does not use that allocator",
    }

    struct DynamicResources = "envoy.config.bootstrap.v3.Bootstrap.DynamicResources" {
        lds_config: Option<ConfigSource>,
        cds_config: Option<ConfigSource>,
        ads_config: Option<ApiConfigSource>,
    }

    struct ClusterManager = "envoy.config.bootstrap.v3.ClusterManager" {
        local_cluster_name: String,
        upstream_bind_config: Option<BindConfig>,
        outlier_detection: Option<ClusterManagerOutlierDetection>,
    }

    struct ClusterManagerOutlierDetection =
        "envoy.config.bootstrap.v3.ClusterManager.OutlierDetection" {
        event_log_path: String,
    }

    struct ApplicationLogConfig = "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig" {
        log_format: Option<ApplicationLogFormat>,
    }

    struct ApplicationLogFormat =
        "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat" {
        json_format: Option<serde_json::Value>,
        text_format: Option<String>,
    }

    struct StaticResources = "envoy.config.bootstrap.v3.Bootstrap.StaticResources" {
        listeners: Vec<Listener>,
        clusters: Vec<Cluster>,
        secrets: Vec<Secret>,
    }

    struct LayeredRuntime = "envoy.config.bootstrap.v3.LayeredRuntime" {
        layers: Vec<RuntimeLayer>,
    }

    struct RuntimeLayer = "envoy.config.bootstrap.v3.RuntimeLayer" {
        name: String,
        static_layer: Option<serde_json::Value>,
        disk_layer: Option<DiskLayer>,
        admin_layer: Option<AdminLayer>,
        rtds_layer: Option<RtdsLayer>,
    }

    struct DiskLayer = "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer" {
        symlink_root: String,
        append_service_cluster: bool,
        subdirectory: String,
    }

    struct AdminLayer = "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer" {}

    struct RtdsLayer = "envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer" {
        name: String,
        rtds_config: Option<ConfigSource>,
    }

    struct Runtime = "envoy.service.runtime.v3.Runtime" {
        name: String,
        layer: Option<serde_json::Value>,
    }

    struct OverloadManager = "envoy.config.overload.v3.OverloadManager" {
        resource_monitors: Vec<ResourceMonitor>,
    } harmless {
        refresh_interval: "only monitors that Corvoy refuses are polled",
    }

    struct ResourceMonitor = "envoy.config.overload.v3.ResourceMonitor" {
        name: String,
        typed_config: Option<Any>,
    }

    struct DownstreamConnectionsConfig =
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig" {
        max_active_downstream_connections: i64,
    }

    struct Admin = "envoy.config.bootstrap.v3.Admin" {
        address: Option<Address>,
        ignore_global_conn_limit: bool,
        access_log: Vec<AccessLog>,
        access_log_path: String,
        allow_paths: Vec<StringMatcher>,
        socket_options: Vec<SocketOption>,
    } harmless {
        profile_path: "Corvoy has no CPU profiler",
    }

    struct Node = "envoy.config.core.v3.Node" {
        id: String,
        cluster: String,
        metadata: Option<serde_json::Value>,
        locality: Option<Locality>,
    } harmless {
        user_agent_name: "as in Envoy, management servers get the name of the proxy itself",
        user_agent_version: "as in Envoy, management servers get the version of the proxy itself",
        user_agent_build_version: "as in Envoy, management servers get the version of the proxy itself",
        extensions: "sent to management servers as it is; nothing else uses it",
        client_features: "sent to management servers as it is; nothing else uses it",
        listening_addresses: "sent to management servers as it is; nothing else uses it",
        dynamic_parameters: "sent to management servers as it is; nothing else uses it",
    }
}
