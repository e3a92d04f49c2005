//! Schema → `tcp_proxy`.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::backoff::Backoff;
use super::tunnel::{TunnelMethod, Tunneling};
use super::{ConnectMode, LogTimes, MaxDuration, Route, TcpProxy};
use crate::access_log::compile::access_logs;
use crate::format::Formatter;
use crate::request::route::mutation::compile::additions;
use crate::shard::clock::millis;
use crate::tcp::compile::Context;

/// Compiles the filter at `at`; `None` if it has errors.
pub(crate) fn tcp_proxy(
    schema: &config::TcpProxy,
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<TcpProxy> {
    let config::TcpProxy {
        stat_prefix,
        cluster,
        weighted_clusters,
        idle_timeout,
        max_connect_attempts,
        backoff_options,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        upstream_connect_mode,
        max_early_data_bytes,
        tunneling_config,
        access_log,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
    } = schema;
    let deprecated = config::TcpAccessLogOptions {
        access_log_flush_interval: *access_log_flush_interval,
        flush_access_log_on_connected: *flush_access_log_on_connected,
        flush_access_log_on_start: false,
    };
    let log_times = log_times(access_log_options.as_ref().unwrap_or(&deprecated));
    let route = route(cluster.as_deref(), weighted_clusters.as_ref(), at, context, problems);
    let tunneling = match tunneling_config {
        None => None,
        Some(schema) => Some(tunneling(schema, context, &at.field("tunneling_config"), problems)?),
    };
    let backoff = backoff_options.as_ref();
    let backoff = backoff.map(|schema| backoff_options_of(schema, at, problems));
    let connect = connect_mode(*upstream_connect_mode, *max_early_data_bytes, at, problems);
    let jitter = max_downstream_connection_duration_jitter_percentage.as_ref();
    let jitter_percent = jitter.map_or(0.0, |config::Percent { value }| *value);
    let early_data_max = max_early_data_bytes.map_or(0, |bytes| bytes as usize);
    Some(TcpProxy {
        route: route?,
        idle_timeout: Some(idle_timeout.unwrap_or(IDLE_TIMEOUT)).filter(|limit| !limit.is_zero()),
        max_duration: max_downstream_connection_duration
            .map(|base| MaxDuration { base, jitter_percent }),
        max_connect_attempts: max_connect_attempts.unwrap_or(1),
        backoff,
        connect,
        // As in Envoy the limit is soft: the first data is always received.
        early_data_max: match connect {
            ConnectMode::Immediate => early_data_max,
            ConnectMode::OnData => early_data_max.max(1),
        },
        tunneling,
        access_logs: access_logs(
            access_log,
            &at.field("access_log"),
            context.access_logs,
            problems,
        ),
        log_times,
        info: Arc::clone(context.info),
        stats: context.registry.scope(&format!("tcp.{stat_prefix}.")),
    })
}

fn log_times(options: &config::TcpAccessLogOptions) -> LogTimes {
    let config::TcpAccessLogOptions {
        access_log_flush_interval,
        flush_access_log_on_connected,
        flush_access_log_on_start,
    } = options;
    LogTimes {
        on_start: *flush_access_log_on_start,
        on_connected: *flush_access_log_on_connected,
        interval: access_log_flush_interval.map(millis),
    }
}

//= envoy:extensions.filters.network.tcp_proxy.v3.TcpProxy.idle_timeout
//# "If not set, the default idle timeout is 1 hour"
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

fn route(
    cluster: Option<&str>,
    weighted_clusters: Option<&config::TcpWeightedCluster>,
    at: &Path,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    // As in Envoy this is not an error: a filter may name another cluster.
    let mut check = |name: &str, at: &Path| {
        if !(context.has_cluster)(name) {
            let why = format!("there is no cluster '{name}': its connections are closed");
            problems.warn(at, why);
        }
    };
    if let Some(name) = cluster {
        check(name, &at.field("cluster"));
        return Some(Route::Cluster(name.into()));
    }
    let config::TcpWeightedCluster { clusters } = weighted_clusters?;
    let at = at.field("weighted_clusters").field("clusters");
    let weighted = |(i, schema): (usize, &config::TcpClusterWeight)| {
        let config::TcpClusterWeight { name, weight } = schema;
        check(name, &at.index(i).field("name"));
        (name.as_str().into(), u64::from(*weight))
    };
    let clusters: Vec<(Box<str>, u64)> = clusters.iter().enumerate().map(weighted).collect();
    let total = clusters.iter().map(|(_, weight)| weight).sum();
    Some(Route::Weighted { clusters, total })
}

fn tunneling(
    schema: &config::TunnelingConfig,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Tunneling> {
    let config::TunnelingConfig { hostname, use_post, post_path, headers_to_add } = schema;
    let hostname = Formatter::new(hostname);
    let hostname = hostname.map_err(|error| problems.error(&at.field("hostname"), error)).ok();
    let method = match (use_post, post_path.as_str()) {
        (false, "") => TunnelMethod::Connect,
        (false, _) => {
            let why = "post_path has no meaning without use_post";
            problems.error(&at.field("post_path"), why);
            return None;
        }
        (true, "") => TunnelMethod::Post((*b"/").into()),
        (true, path) => TunnelMethod::Post(path.as_bytes().into()),
    };
    if let TunnelMethod::Post(path) = &method
        && !(path.starts_with(b"/") && path.iter().all(u8::is_ascii_graphic))
    {
        problems.error(&at.field("post_path"), "a path begins with a slash and has no spaces");
    }
    let headers = additions(headers_to_add, &at.field("headers_to_add"), problems);
    Some(Tunneling::new(hostname?, method, headers, Arc::clone(context.info)))
}

fn backoff_options_of(
    schema: &config::BackoffStrategy,
    at: &Path,
    problems: &mut Problems,
) -> Backoff {
    let config::BackoffStrategy { base_interval, max_interval } = schema;
    let at_least_1ms = |interval: Duration| interval.max(Duration::from_millis(1));
    let base = at_least_1ms(base_interval.unwrap_or_default());
    let max = max_interval.map_or_else(|| base.saturating_mul(10), at_least_1ms);
    if max < base {
        let why = "max_interval must not be less than base_interval";
        problems.error(&at.field("backoff_options").field("max_interval"), why);
    }
    Backoff { base, max }
}

fn connect_mode(
    mode: config::UpstreamConnectMode,
    max_early_data_bytes: Option<u32>,
    at: &Path,
    problems: &mut Problems,
) -> ConnectMode {
    let at = at.field("upstream_connect_mode");
    if mode != config::UpstreamConnectMode::Immediate && max_early_data_bytes.is_none() {
        let why = "max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE";
        problems.error(&at, why);
    }
    match mode {
        // The filters of a connection run when its handshake is complete.
        config::UpstreamConnectMode::Immediate
        | config::UpstreamConnectMode::OnDownstreamTlsHandshake => ConnectMode::Immediate,
        config::UpstreamConnectMode::OnDownstreamData => ConnectMode::OnData,
    }
}
