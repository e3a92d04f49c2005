//! Compiles `static_resources.clusters` into [`Cluster`]s. Their discovery is compiled in
//! `discovery/compile.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Path, Problems};
use corvoy_config as config;

use crate::common_compile;
use crate::shard::socket_option::{self, LocalEnd};
use crate::stats::{Registry, Scope, ZoneStats};
use crate::transport::tls::context as tls;
use crate::upstream::auto_sni::AutoSni;
use crate::upstream::balance::compile::{self as balance, Balancing, balancing};
use crate::upstream::balance::table::{TableKind, TableRule};
use crate::upstream::circuit_breaker::{CircuitBreakers, RetryBudget, Thresholds};
use crate::upstream::cluster::{Cluster, Protocols, TableStats, TcpKeepalive};
use crate::upstream::discovery::compile::{DnsFields, Schema, Sockets, discovery, health_status};
use crate::upstream::discovery::eds_compile::with_policy;
use crate::upstream::discovery::{Discovery, LookupFamily};
use crate::upstream::dns_cache::compile::DnsCaches;
use crate::upstream::health_check::Probe;
use crate::upstream::health_check::compile::{health_check, match_criteria};
use crate::upstream::host::Locality;
use crate::upstream::host_set::DistributionRules;
use crate::upstream::numbers::Numbers;
use crate::upstream::outlier_detection::compile::outlier_detection;
use crate::upstream::override_host::HealthStatuses;
use crate::upstream::protocol_options_compile::Http;
use crate::upstream::transport_socket::compile::{Context, transport_sockets};

/// What all clusters have in common.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The locality of the proxy.
    pub locality: &'a Locality,
    /// `cluster_manager`
    pub manager: Option<&'a config::ClusterManager>,
    /// The numbers of the clusters' names.
    pub numbers: &'a Numbers,
    /// The DNS caches that are in use.
    pub dns_caches: &'a DnsCaches,
}

/// Compiles the cluster at `at`. There is one even if it is invalid, so that routes can be checked; it is
/// usable only if there are no errors.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub fn cluster(
    schema: &config::Cluster,
    at: &Path,
    node: &Surroundings<'_>,
    registry: &Registry,
    tls: &tls::compile::Secrets,
    problems: &mut Problems,
) -> Cluster {
    let config::Cluster {
        name,
        alt_stat_name,
        r#type,
        cluster_type,
        connect_timeout,
        per_connection_buffer_limit_bytes,
        lb_policy,
        load_assignment,
        eds_cluster_config,
        max_requests_per_connection,
        circuit_breakers,
        common_http_protocol_options,
        http_protocol_options,
        http2_protocol_options,
        protocol_selection,
        typed_extension_protocol_options,
        upstream_http_protocol_options,
        dns_refresh_rate,
        dns_jitter,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_lookup_family,
        typed_dns_resolver_config,
        common_lb_config,
        upstream_connection_options,
        upstream_bind_config,
        track_cluster_stats,
        round_robin_lb_config,
        least_request_lb_config,
        ring_hash_lb_config,
        maglev_lb_config,
        original_dst_lb_config,
        cleanup_interval,
        lb_subset_config,
        load_balancing_policy,
        health_checks,
        outlier_detection,
        ignore_health_on_host_removal,
        wait_for_warm_on_init,
        transport_socket,
        transport_socket_matches,
        metadata,
    } = schema;
    let shards = tls.shards();
    let discovery_schema = |is_provided| Schema {
        kind: *r#type,
        custom: cluster_type.as_ref(),
        load_assignment: load_assignment.as_ref(),
        eds: eds_cluster_config.as_ref(),
        original_dst: original_dst_lb_config.as_ref(),
        cleanup_interval: *cleanup_interval,
        is_provided,
        numbers: node.numbers,
        dns_caches: (node.dns_caches, registry),
        name,
        dns: DnsFields {
            refresh_rate: *dns_refresh_rate,
            jitter: *dns_jitter,
            failure_refresh_rate: dns_failure_refresh_rate.as_ref().map(refresh_rate),
            respect_ttl: *respect_dns_ttl,
            min_refresh_rate: None,
            lookup_family: lookup_family(*dns_lookup_family),
            resolver: typed_dns_resolver_config.as_ref(),
        },
    };
    reject_tracking(track_cluster_stats.as_ref(), &at.field("track_cluster_stats"), problems);
    let balancing = balance::Schema {
        lb_policy: *lb_policy,
        policy: load_balancing_policy.as_ref(),
        round_robin: round_robin_lb_config.as_ref(),
        least_request: least_request_lb_config.as_ref(),
        ring_hash: ring_hash_lb_config.as_ref(),
        maglev: maglev_lb_config.as_ref(),
        subsets: lb_subset_config.as_ref(),
        common: common_lb_config.as_ref(),
    };
    let balancing = self::balancing(&balancing, at, problems);
    let distribution = distribution(
        common_lb_config.as_ref(),
        load_assignment.as_ref(),
        &balancing,
        node.locality,
        local_cluster_name(node.manager).is_some_and(|local| local != name.as_str()),
    );
    let observability_name = if alt_stat_name.is_empty() { name } else { alt_stat_name };
    // As in Envoy: a colon is replaced, and the prefix of a stat has no trailing dots.
    let stat_name = observability_name.trim_end_matches('.').replace(':', "_");
    let breakers_at = at.field("circuit_breakers");
    let (default, high) = thresholds(circuit_breakers.as_ref(), &breakers_at, problems);
    let sockets = Context { cluster: name, stat_name: &stat_name, registry, secrets: tls };
    let default_socket = transport_socket.as_ref();
    let transport_sockets =
        transport_sockets(default_socket, transport_socket_matches, at, &sockets, problems);
    let health_check_stats = || registry.scope(&format!("cluster.{stat_name}.health_check."));
    let at_checks = at.field("health_checks");
    let health_check = health_check(health_checks, &at_checks, health_check_stats, problems);
    let outlier_stats = || registry.scope(&format!("cluster.{stat_name}.outlier_detection."));
    let outlier_detection = self::outlier_detection(
        outlier_detection.as_ref(),
        &at.field("outlier_detection"),
        outlier_event_log(node.manager),
        outlier_stats,
        problems,
    );
    let sockets = Sockets {
        of_traffic: &transport_sockets,
        of_checks: health_checks.first().and_then(match_criteria),
    };
    let discovery = discovery(
        &discovery_schema(balancing.is_provided),
        at,
        &sockets,
        &distribution,
        shards,
        problems,
    );
    let http = Http {
        max_requests_per_connection: *max_requests_per_connection,
        common: common_http_protocol_options.as_ref(),
        http1: http_protocol_options.as_ref(),
        http2: http2_protocol_options.as_ref(),
        protocol_selection: *protocol_selection,
        upstream: upstream_http_protocol_options.as_ref(),
        typed: typed_extension_protocol_options,
        sockets: &transport_sockets,
    };
    let (http, auto_sni) = http.compile(at, problems);
    let auto_sni = match &discovery {
        Discovery::DynamicForwardProxy(_) => {
            let is_old = !typed_extension_protocol_options.contains_key(HTTP_PROTOCOL_OPTIONS);
            let is_default = is_old && upstream_http_protocol_options.is_none();
            let may_be_insecure = allows_insecure_options(cluster_type.as_ref());
            names_of_servers(auto_sni, is_default, may_be_insecure, at, problems)
        }
        _ => auto_sni,
    };
    if let Some(check) = &health_check
        && matches!(check.probe, Probe::Grpc(_))
        && http.protocols == Protocols::Http1
    {
        let message = "a cluster with a grpc_health_check must speak HTTP/2";
        problems.error(&at.field("health_checks").index(0), message);
    }
    Cluster {
        name: name.clone(),
        number: node.numbers.of(name),
        is_local: local_cluster_name(node.manager) == Some(name),
        observability_name: observability_name.clone(),
        metadata: common_compile::metadata(metadata.as_ref()),
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        per_connection_buffer_limit_bytes: per_connection_buffer_limit_bytes.unwrap_or(1024 * 1024),
        local_end: local_end(upstream_bind_config.as_ref(), node.manager, at, problems),
        tcp_keepalive: upstream_connection_options.as_ref().and_then(tcp_keepalive),
        http,
        auto_sni,
        transport_sockets,
        circuit_breakers: CircuitBreakers::new(default, high, registry, shards, &stat_name),
        lb_policy: balancing.policy,
        override_host: balancing.override_host,
        override_host_status: common_lb_config
            .as_ref()
            .and_then(|common| common.override_host_status.as_ref())
            .map(override_host_status)
            .unwrap_or_default(),
        table_stats: balancing.table.map(|table| table_stats(&table, &stat_name, registry)),
        distribution,
        health_check,
        outlier_detection,
        ignore_health_on_host_removal: *ignore_health_on_host_removal,
        wait_for_warm_on_init: wait_for_warm_on_init.unwrap_or(true),
        ignore_new_hosts_until_first_hc: common_lb_config
            .as_ref()
            .is_some_and(|common| common.ignore_new_hosts_until_first_hc),
        close_connections_on_host_set_change: common_lb_config
            .as_ref()
            .is_some_and(|common| common.close_connections_on_host_set_change),
        zones: zones(&discovery, &node.locality.zone, &stat_name, registry),
        discovery,
        stats: registry.scope(&format!("cluster.{stat_name}.")),
        http2_stats: registry.scope(&format!("cluster.{stat_name}.http2.")),
    }
}

/// The key of the HTTP options of a cluster.
const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn allows_insecure_options(custom: Option<&config::CustomClusterType>) -> bool {
    matches!(
        custom.and_then(|custom| custom.typed_config.as_ref()),
        Some(config::Any::DynamicForwardProxyCluster(it)) if it.allow_insecure_cluster_options
    )
}

/// How a `dynamic_forward_proxy` cluster names and verifies its servers: by the host of the request, if nothing else
/// is configured.
fn names_of_servers(
    auto_sni: Option<AutoSni>,
    is_default: bool,
    may_be_insecure: bool,
    at: &Path,
    problems: &mut Problems,
) -> Option<AutoSni> {
    if is_default {
        return Some(AutoSni { auto_sni: true, auto_san_validation: true, header: None });
    }
    let is_secure = auto_sni.as_ref().is_some_and(|it| it.auto_sni && it.auto_san_validation);
    if !is_secure && !may_be_insecure {
        let message = "a dynamic_forward_proxy cluster needs auto_sni and auto_san_validation, unless \
                       allow_insecure_cluster_options is set";
        problems.error(&at.field("typed_extension_protocol_options"), message);
    }
    auto_sni
}

/// `upstream_bind_config` of the cluster at `at`, or that of all clusters.
fn local_end(
    own: Option<&config::BindConfig>,
    manager: Option<&config::ClusterManager>,
    at: &Path,
    problems: &mut Problems,
) -> LocalEnd {
    let (at, schema) = match (own, manager.and_then(|it| it.upstream_bind_config.as_ref())) {
        (None, Some(of_all)) => (Path::root().field("cluster_manager"), Some(of_all)),
        (own, _) => (at.clone(), own),
    };
    socket_option::compile::local_end(schema, &at.field("upstream_bind_config"), problems)
}

/// The name of the cluster that this proxy is in.
fn local_cluster_name(schema: Option<&config::ClusterManager>) -> Option<&str> {
    let name = schema?.local_cluster_name.as_str();
    Some(name).filter(|name| !name.is_empty())
}

/// The file that outlier detection logs to.
fn outlier_event_log(schema: Option<&config::ClusterManager>) -> Option<&str> {
    let config::ClusterManager {
        outlier_detection,
        local_cluster_name: _,
        upstream_bind_config: _,
    } = schema?;
    let config::ClusterManagerOutlierDetection { event_log_path } = outlier_detection.as_ref()?;
    Some(event_log_path)
}

fn refresh_rate(rate: &config::RefreshRate) -> (Option<Duration>, Option<Duration>) {
    let config::RefreshRate { base_interval, max_interval } = rate;
    (*base_interval, *max_interval)
}

/// None for Envoy's default, so that it does not count as set.
pub(super) fn lookup_family(family: config::DnsLookupFamily) -> Option<LookupFamily> {
    match family {
        config::DnsLookupFamily::Auto => None,
        config::DnsLookupFamily::V4Only => Some(LookupFamily::V4Only),
        config::DnsLookupFamily::V6Only => Some(LookupFamily::V6Only),
        config::DnsLookupFamily::V4Preferred => Some(LookupFamily::V4Preferred),
        config::DnsLookupFamily::All => Some(LookupFamily::All),
    }
}

fn override_host_status(schema: &config::HealthStatusSet) -> HealthStatuses {
    let config::HealthStatusSet { statuses } = schema;
    HealthStatuses::new(statuses.iter().map(|status| health_status(*status)))
}

fn distribution(
    common: Option<&config::CommonLbConfig>,
    assignment: Option<&config::ClusterLoadAssignment>,
    balancing: &Balancing,
    own_locality: &Locality,
    has_local_cluster: bool,
) -> DistributionRules {
    let mut rules = DistributionRules {
        fails_in_panic: balancing.fails_in_panic,
        weighs_localities: balancing.weighs_localities,
        zones: has_local_cluster.then_some(balancing.zones),
        own_locality: own_locality.clone(),
        table: balancing.table,
        subsets: balancing.subsets.clone(),
        ..DistributionRules::default()
    };
    if let Some(common) = common {
        let config::CommonLbConfig {
            healthy_panic_threshold,
            // `balancing` has read these.
            zone_aware_lb_config: _,
            locality_weighted_lb_config: _,
            consistent_hashing_lb_config: _,
            // The cluster has these.
            ignore_new_hosts_until_first_hc: _,
            close_connections_on_host_set_change: _,
            override_host_status: _,
        } = common;
        if let Some(config::Percent { value }) = healthy_panic_threshold {
            rules.healthy_panic_threshold = value.round();
        }
    }
    with_policy(rules, assignment.and_then(|assignment| assignment.policy.as_ref()))
}

fn table_stats(table: &TableRule, stat_name: &str, registry: &Registry) -> TableStats {
    match table.kind {
        TableKind::Ring(_) => {
            TableStats::Ring(registry.scope(&format!("cluster.{stat_name}.ring_hash_lb.")))
        }
        TableKind::Maglev(_) => {
            TableStats::Maglev(registry.scope(&format!("cluster.{stat_name}.maglev_lb.")))
        }
    }
}

/// The thresholds of the priorities DEFAULT and HIGH.
fn thresholds(
    schema: Option<&config::CircuitBreakers>,
    at: &Path,
    problems: &mut Problems,
) -> (Thresholds, Thresholds) {
    let (mut default, mut high) = (None, None);
    if let Some(config::CircuitBreakers { thresholds, per_host_thresholds }) = schema {
        for (i, schema) in thresholds.iter().enumerate() {
            let at = at.field("thresholds").index(i);
            let of_priority = match schema.priority {
                config::RoutingPriority::Default => &mut default,
                config::RoutingPriority::High => &mut high,
            };
            let thresholds = threshold(schema);
            if of_priority.is_none() {
                *of_priority = Some(thresholds);
            } else if problems.is_left_out(&at.field("priority")) {
                let message =
                    "no effect: only the first thresholds of a priority are used, as in Envoy";
                problems.warn(&at, message);
            }
        }
        let (default, high) = (default.get_or_insert_default(), high.get_or_insert_default());
        for (i, schema) in per_host_thresholds.iter().enumerate() {
            check_per_host(schema, &at.field("per_host_thresholds").index(i), problems);
            let of_priority = match schema.priority {
                config::RoutingPriority::Default => &mut *default,
                config::RoutingPriority::High => &mut *high,
            };
            // As in Envoy, the first of a priority counts.
            let limit = &mut of_priority.max_connections_per_host;
            *limit = limit.or(schema.max_connections);
        }
    }
    (default.unwrap_or_default(), high.unwrap_or_default())
}

/// As in Envoy, only connections are limited per host.
fn check_per_host(schema: &config::Thresholds, at: &Path, problems: &mut Problems) {
    let config::Thresholds {
        priority: _,
        max_connections: _,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = schema;
    let unsupported = [
        ("max_pending_requests", max_pending_requests.is_some()),
        ("max_requests", max_requests.is_some()),
        ("max_retries", max_retries.is_some()),
        ("retry_budget", retry_budget.is_some()),
        ("track_remaining", *track_remaining),
        ("max_connection_pools", max_connection_pools.is_some()),
    ];
    for (name, _) in unsupported.iter().filter(|(_, is_set)| *is_set) {
        problems
            .error(&at.field(name), "per_host_thresholds limit max_connections only, as in Envoy");
    }
}

fn threshold(schema: &config::Thresholds) -> Thresholds {
    let config::Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = schema;
    let retry_budget = retry_budget.as_ref().map(|budget| {
        let config::RetryBudget { budget_percent, min_retry_concurrency } = budget;
        RetryBudget {
            budget_percent: budget_percent.as_ref().map_or(20.0, |percent| percent.value),
            min_retry_concurrency: min_retry_concurrency.unwrap_or(3),
        }
    });
    let default = Thresholds::default();
    Thresholds {
        max_connections: max_connections.unwrap_or(default.max_connections),
        max_pending_requests: max_pending_requests.unwrap_or(default.max_pending_requests),
        max_requests: max_requests.unwrap_or(default.max_requests),
        max_retries: max_retries.unwrap_or(default.max_retries),
        max_connection_pools: max_connection_pools.unwrap_or(default.max_connection_pools),
        max_connections_per_host: None,
        retry_budget,
        track_remaining: *track_remaining,
    }
}

fn tcp_keepalive(options: &config::UpstreamConnectionOptions) -> Option<TcpKeepalive> {
    let config::UpstreamConnectionOptions { tcp_keepalive } = options;
    tcp_keepalive.as_ref().map(|schema| {
        let config::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = schema;
        TcpKeepalive {
            probes: *keepalive_probes,
            time_seconds: *keepalive_time,
            interval_seconds: *keepalive_interval,
        }
    })
}

/// Envoy: there are stats per pair of zones if both have a name.
fn zones(
    discovery: &Discovery,
    from: &str,
    stat_name: &str,
    registry: &Registry,
) -> HashMap<String, Arc<Scope<ZoneStats>>> {
    let zones = discovery.zones().into_iter().filter(|to| !from.is_empty() && !to.is_empty());
    let scope = |to| registry.scope(&format!("cluster.{stat_name}.zone.{from}.{to}."));
    zones.map(|to| (to.to_owned(), scope(to))).collect()
}

fn reject_tracking(schema: Option<&config::TrackClusterStats>, at: &Path, problems: &mut Problems) {
    let Some(config::TrackClusterStats {
        timeout_budgets,
        request_response_sizes,
        per_endpoint_stats,
    }) = schema
    else {
        return;
    };
    let all = [
        ("timeout_budgets", timeout_budgets),
        ("request_response_sizes", request_response_sizes),
        ("per_endpoint_stats", per_endpoint_stats),
    ];
    for (name, _) in all.iter().filter(|(_, is_set)| **is_set) {
        problems.not_implemented(&at.field(name), name);
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
pub(super) mod tests;
