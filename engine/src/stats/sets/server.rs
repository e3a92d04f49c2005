//! Stats of the process.

use std::sync::Arc;

use crate::stats::{Http1Stats, ListenerManagerStats, Registry, RouterStats, Scope, stats};

stats! {
    /// `server.`
    pub struct ServerStats {
        constant gauge fips_mode = "compilation_settings.fips_mode";
        gauge concurrency;
        gauge days_until_first_cert_expiring;
        constant counter debug_assertion_failures;
        constant counter dropped_stat_flushes;
        constant counter dynamic_unknown_fields;
        constant counter envoy_bug_failures;
        constant counter envoy_notifications;
        constant gauge hot_restart_epoch;
        gauge hot_restart_generation;
        histogram initialization_time_ms;
        gauge live;
        gauge memory_allocated;
        gauge memory_heap_size;
        gauge memory_physical_size;
        constant gauge parent_connections;
        gauge seconds_until_first_ocsp_response_expiring;
        gauge state;
        counter static_unknown_fields;
        constant gauge stats_recent_lookups;
        gauge total_connections;
        gauge uptime;
        gauge version;
        constant counter wip_protos;
    }
}

stats! {
    /// `cluster_manager.`
    pub struct ClusterManagerStats {
        gauge active_clusters;
        counter cluster_added;
        counter cluster_modified;
        counter cluster_removed;
        counter cluster_updated;
        counter cluster_updated_via_merge;
        counter update_merge_cancelled;
        counter update_out_of_merge_window;
        gauge warming_clusters;
    }
}

stats! {
    /// `runtime.`
    pub struct RuntimeStats {
        gauge admin_overrides_active;
        constant gauge deprecated_feature_seen_since_process_start;
        constant counter deprecated_feature_use;
        counter load_error;
        counter load_success;
        gauge num_keys;
        gauge num_layers;
        counter override_dir_exists;
        counter override_dir_not_exists;
    }
}

stats! {
    /// `filesystem.`: the files that access logs go to. The block of the control plane is the
    /// writer's.
    pub struct FilesystemStats {
        counter flushed_by_timer;
        counter reopen_failed;
        counter write_buffered;
        counter write_completed;
        counter write_failed;
        gauge write_total_buffered;
    }
}

stats! {
    /// `access_log.`, which is Corvoy's own: it appears with the first access log.
    late pub struct AccessLogStats {
        counter lines_dropped;
    }
}

stats! {
    /// `access_logs.grpc_access_log.` and `access_logs.open_telemetry_access_log.`: entries that go to a service.
    pub struct RemoteLogStats {
        counter logs_dropped;
        counter logs_written;
    }
}

stats! {
    /// The same prefixes, if the entries go over gRPC.
    pub struct GrpcLogStats {
        counter grpc_entries_flush_failed;
        counter grpc_entries_flushed;
    }
}

/// The sets that a process has once. They exist from the start, so that a fresh server shows all names.
#[derive(Debug)]
pub struct ProcessStats {
    /// `cluster_manager.`
    pub cluster_manager: Arc<Scope<ClusterManagerStats>>,
    /// `filesystem.`
    pub filesystem: Arc<Scope<FilesystemStats>>,
    /// `http1.`
    pub http1: Arc<Scope<Http1Stats>>,
    /// `http.async-client.`: requests that the proxy makes itself.
    pub async_client: Arc<Scope<RouterStats>>,
    /// `listener_manager.`
    pub listener_manager: Arc<Scope<ListenerManagerStats>>,
    /// `runtime.`
    pub runtime: Arc<Scope<RuntimeStats>>,
    /// `server.`
    pub server: Arc<Scope<ServerStats>>,
}

impl ProcessStats {
    /// Registers the sets, and sets the values that are known from the start.
    pub fn new(registry: &Registry) -> Self {
        let server = registry.scope::<ServerStats>("server.");
        server.control().concurrency.set(registry.shards() as u64);
        server.control().hot_restart_generation.set(1);
        server.control().days_until_first_cert_expiring.set(NO_CERTIFICATE);
        Self {
            cluster_manager: registry.scope("cluster_manager."),
            filesystem: registry.scope("filesystem."),
            http1: registry.scope("http1."),
            async_client: registry.scope("http.async-client."),
            listener_manager: registry.scope("listener_manager."),
            runtime: registry.scope("runtime."),
            server,
        }
    }
}

/// The value of `days_until_first_cert_expiring` without certificates.
pub const NO_CERTIFICATE: u64 = u32::MAX as u64;
