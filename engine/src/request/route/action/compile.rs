//! Compiles the actions of a route.

use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::stream_duration::{MaxGrpcTimeout, MaxStreamDuration};
use super::{Action, Connect, DirectResponse, Forward, Redirect, RedirectPath, Timeouts};
use crate::common_compile::check_word;
use crate::format::compile::data_source;
use crate::http::{FieldName, Line};
use crate::request::filters::compile::Level;
use crate::request::retry;
use crate::request::route::Upgrades;
use crate::request::route::compile::{Context, Levels, not_implemented};
use crate::request::route::matchers::HeaderName;
use crate::request::route::rewrite::{HostRewrite, PathRewrite, RegexRewrite};
use crate::text_matcher::compile::invalid_regex;
use crate::upstream::circuit_breaker::RoutingPriority;

/// A compiled `RouteAction`: the clusters to choose from, and what they have in common.
pub(crate) struct ForwardAction {
    /// All clusters that it may choose.
    pub(crate) clusters: Vec<WeightedCluster>,
    /// Everything except the cluster.
    pub(crate) forward: Forward,
    /// The status of the reply if the cluster does not exist.
    pub(crate) not_found_status: u16,
    /// The request header that may provide the random number for the weights.
    pub(crate) random: Option<HeaderName>,
}

/// One of the clusters that a route may forward to.
pub(crate) struct WeightedCluster {
    /// `None`: it does not exist, which is allowed.
    pub(crate) cluster: Option<usize>,
    pub(crate) weight: u32,
    /// Its header mutations and host, in the order in which they are applied. A single cluster has
    /// none.
    pub(crate) levels: Vec<Levels>,
    /// What it says to HTTP filters.
    pub(crate) filters: Level,
}

const fn priority(schema: config::RoutingPriority) -> RoutingPriority {
    match schema {
        config::RoutingPriority::Default => RoutingPriority::Default,
        config::RoutingPriority::High => RoutingPriority::High,
    }
}

/// Compiles a `RouteAction`; `inherited` is the retry policy of the virtual host.
pub(crate) fn forward(
    schema: &config::RouteAction,
    inherited: Option<&retry::RetryPolicy>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<ForwardAction> {
    let config::RouteAction {
        cluster,
        cluster_header,
        weighted_clusters,
        cluster_not_found_response_code,
        prefix_rewrite,
        regex_rewrite,
        // These four are compiled by `host_rewrite`.
        host_rewrite_literal: _,
        auto_host_rewrite: _,
        host_rewrite_header: _,
        host_rewrite_path_regex: _,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        retry_policy,
        priority,
        upgrade_configs,
        max_stream_duration,
        max_grpc_timeout,
        grpc_timeout_offset,
        // The route takes it.
        cors: _,
    } = schema;
    not_implemented(cluster_header.is_some(), "cluster_header", at, problems);
    not_implemented(flush_timeout.is_some(), "flush_timeout", at, problems);
    let host_rewrite = host_rewrite(schema, at, problems);
    let own_retry = retry_policy
        .as_ref()
        .map(|schema| retry::compile::retry_policy(schema, &at.field("retry_policy"), problems));
    let path_rewrite =
        path_rewrite(Some(prefix_rewrite.as_str()), regex_rewrite.as_ref(), at, problems);
    let random = weighted_clusters.as_ref().and_then(|schema| schema.header_name.as_deref());
    let clusters = match (cluster, weighted_clusters) {
        (Some(name), _) => single_cluster(name, context, &at.field("cluster"), problems)
            .map(|cluster| vec![cluster]),
        (None, Some(schema)) => {
            cluster_list(schema, context, &at.field("weighted_clusters"), problems)
        }
        (None, None) => None,
    };
    let retry = own_retry.or_else(|| inherited.cloned());
    let max_stream_duration = max_stream_duration.as_ref().map(stream_duration);
    // As in Envoy, the older timeouts do not apply then.
    let has_limit = max_stream_duration.is_some();
    let timeout = if has_limit { Some(Duration::ZERO) } else { *timeout };
    let offset = grpc_timeout_offset.unwrap_or_default();
    let grpc_timeout = |max| MaxGrpcTimeout { max, offset };
    let (timeouts, expected) = timers(timeout, retry.as_ref());
    let at_upgrades = at.field("upgrade_configs");
    let upgrades = upgrades(upgrade_configs, &at_upgrades, problems);
    let connect = connect(upgrade_configs, &at_upgrades, problems);
    Some(ForwardAction {
        clusters: clusters?,
        not_found_status: not_found_status(*cluster_not_found_response_code),
        random: random.map(HeaderName::new),
        forward: Forward {
            cluster: 0,
            timeouts,
            expected,
            max_stream_duration,
            max_grpc_timeout: max_grpc_timeout.filter(|_| !has_limit).map(grpc_timeout),
            idle_timeout: *idle_timeout,
            upgrades,
            connect,
            retry,
            host_rewrite: host_rewrite?,
            append_x_forwarded_host: *append_x_forwarded_host,
            path_rewrite: path_rewrite?,
            priority: self::priority(*priority),
        },
    })
}

fn stream_duration(schema: &config::MaxStreamDuration) -> MaxStreamDuration {
    let config::MaxStreamDuration {
        max_stream_duration,
        grpc_timeout_header_max,
        grpc_timeout_header_offset,
    } = schema;
    MaxStreamDuration {
        max: *max_stream_duration,
        grpc_timeout_header_max: *grpc_timeout_header_max,
        grpc_timeout_header_offset: grpc_timeout_header_offset.unwrap_or_default(),
    }
}

/// How the host is rewritten; the fields exclude each other.
fn host_rewrite(
    schema: &config::RouteAction,
    at: &Path,
    problems: &mut Problems,
) -> Option<HostRewrite> {
    if schema.auto_host_rewrite == Some(true) {
        Some(HostRewrite::Auto)
    } else if let Some(host) = &schema.host_rewrite_literal {
        check_word(host, &at.field("host_rewrite_literal"), problems);
        Some(HostRewrite::Literal(host.as_bytes().into()))
    } else if let Some(name) = &schema.host_rewrite_header {
        Some(HostRewrite::Header(HeaderName::new(name)))
    } else if let Some(schema) = &schema.host_rewrite_path_regex {
        let at = at.field("host_rewrite_path_regex");
        regex_rewrite_of(schema, &at, problems).map(HostRewrite::PathRegex)
    } else {
        Some(HostRewrite::None)
    }
}

const fn not_found_status(code: config::ClusterNotFoundResponseCode) -> u16 {
    match code {
        config::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
        config::ClusterNotFoundResponseCode::NotFound => 404,
        config::ClusterNotFoundResponseCode::InternalServerError => 500,
    }
}

/// The timeouts of a request without timeout headers, and the header with the expected timeout of
/// its first attempt.
fn timers(
    timeout: Option<Duration>,
    retry: Option<&retry::RetryPolicy>,
) -> (Timeouts, Option<Line>) {
    let timeouts = Timeouts::new(
        Some(timeout.unwrap_or(DEFAULT_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        retry.and_then(|retry| retry.per_try_timeout),
    );
    let expected = timeouts.expected_ms(Duration::ZERO).map(|expected| {
        Line::new(FieldName::XEnvoyExpectedRqTimeoutMs, expected.to_string().as_bytes())
    });
    (timeouts, expected)
}

fn upgrades(
    configs: &[config::RouteActionUpgradeConfig],
    at: &Path,
    problems: &mut Problems,
) -> Upgrades {
    let mut upgrades = Upgrades::default();
    for (index, upgrade) in configs.iter().enumerate() {
        let at = at.index(index);
        // `connect_config` is compiled by `connect`.
        let config::RouteActionUpgradeConfig { upgrade_type, enabled, connect_config: _ } = upgrade;
        upgrades.add(upgrade_type, enabled.unwrap_or(true), &at, problems);
    }
    upgrades
}

/// What to do with a CONNECT.
fn connect(
    configs: &[config::RouteActionUpgradeConfig],
    at: &Path,
    problems: &mut Problems,
) -> Connect {
    let mut connect = Connect::Forwarded;
    for (index, upgrade) in configs.iter().enumerate() {
        let Some(config::ConnectConfig { allow_post }) = &upgrade.connect_config else { continue };
        let at_type = at.index(index).field("upgrade_type");
        let at = at.index(index).field("connect_config");
        if !upgrade.upgrade_type.eq_ignore_ascii_case("CONNECT") && problems.is_read(&at_type) {
            problems.error(&at, "Non-CONNECT upgrade type with connect_config");
        }
        not_implemented(*allow_post, "allow_post", &at, problems);
        connect = Connect::Terminated;
    }
    connect
}

/// Compiles a `RedirectAction`.
pub(crate) fn redirect(
    schema: &config::RedirectAction,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::RedirectAction {
        https_redirect,
        scheme_redirect,
        host_redirect,
        port_redirect,
        path_redirect,
        prefix_rewrite,
        regex_rewrite,
        response_code,
        strip_query,
    } = schema;
    let mut text = |field: &str, text: &str| {
        check_word(text, &at.field(field), problems);
        (!text.is_empty()).then(|| text.as_bytes().into())
    };
    let scheme = scheme_redirect.as_deref().and_then(|scheme| text("scheme_redirect", scheme));
    let host = text("host_redirect", host_redirect);
    let path = path_redirect.as_deref().and_then(|path| text("path_redirect", path));
    let path = match path {
        Some(path) => Some(RedirectPath::Replace(path)),
        None => path_rewrite(prefix_rewrite.as_deref(), regex_rewrite.as_ref(), at, problems)
            .map(RedirectPath::Rewrite),
    };
    let https = *https_redirect == Some(true);
    Some(Action::Redirect(Redirect {
        status: match response_code {
            config::RedirectResponseCode::MovedPermanently => 301,
            config::RedirectResponseCode::Found => 302,
            config::RedirectResponseCode::SeeOther => 303,
            config::RedirectResponseCode::TemporaryRedirect => 307,
            config::RedirectResponseCode::PermanentRedirect => 308,
        },
        scheme: scheme.or_else(|| https.then(|| b"https"[..].into())),
        host,
        port: (*port_redirect != 0).then_some(*port_redirect),
        path: path?,
        strip_query: *strip_query,
    }))
}

/// Compiles a `DirectResponseAction`.
pub(crate) fn direct_response(
    schema: &config::DirectResponseAction,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::DirectResponseAction { status, body, body_format } = schema;
    not_implemented(body_format.is_some(), "body_format", at, problems);
    let at_body = at.field("body");
    let body = match body.as_ref().map_or_else(|| Ok(Vec::new()), data_source) {
        Ok(body) => body,
        Err(error) => {
            problems.error(&at_body, error);
            return None;
        }
    };
    let (len, max) = (body.len(), context.direct_response_body_max);
    if len > max {
        problems.error(&at_body, format!("response body size is {len} bytes; maximum is {max}"));
    }
    Some(Action::DirectResponse(DirectResponse {
        status: u16::try_from(*status).ok()?,
        body: body.into(),
    }))
}

fn single_cluster(
    name: &str,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<WeightedCluster> {
    let cluster = (context.cluster)(name);
    if cluster.is_none() && context.validate_clusters {
        problems.error(at, format!("route: unknown cluster '{name}'"));
        return None;
    }
    Some(WeightedCluster { cluster, weight: 1, levels: Vec::new(), filters: Level::default() })
}

fn cluster_list(
    schema: &config::WeightedCluster,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<WeightedCluster>> {
    // Weights need not add up to a total any more, so Envoy ignores the total.
    let config::WeightedCluster { clusters, total_weight: _, header_name: _ } = schema;
    let clusters = clusters.iter().enumerate();
    let clusters: Vec<_> = clusters
        .map(|(i, schema)| {
            weighted_cluster(schema, context, &at.field("clusters").index(i), problems)
        })
        .collect();
    let clusters: Vec<_> = clusters.into_iter().collect::<Option<_>>()?;
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if sum == 0 {
        problems.missing(at, "Sum of weights in the weighted_cluster must be greater than 0.");
    }
    if sum > u32::MAX.into() {
        problems.error(at, "The sum of weights of all weighted clusters exceeds 4294967295");
    }
    Some(clusters)
}

fn weighted_cluster(
    schema: &config::ClusterWeight,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<WeightedCluster> {
    let config::ClusterWeight {
        name,
        cluster_header,
        weight,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        host_rewrite_literal,
        typed_per_filter_config,
    } = schema;
    not_implemented(!cluster_header.is_empty(), "cluster_header", at, problems);
    let cluster = (context.cluster)(name);
    let is_named = !name.is_empty() || cluster_header.is_empty();
    if cluster.is_none() && is_named && context.validate_clusters {
        let (at, message) = (at.field("name"), format!("route: unknown weighted cluster '{name}'"));
        if name.is_empty() {
            problems.missing(&at, message);
        } else {
            problems.error(&at, message);
        }
    }
    let mut levels = vec![Levels::new(
        (request_headers_to_add, request_headers_to_remove),
        (response_headers_to_add, response_headers_to_remove),
        at,
        problems,
    )];
    if let Some(host) = host_rewrite_literal {
        check_word(host, &at.field("host_rewrite_literal"), problems);
        levels.push(Levels::host(host));
    }
    if weight.is_none() {
        problems.missing(at, "field 'weight' is missing");
    }
    let filters = context.filter_context.level(typed_per_filter_config, None, at, problems);
    Some(WeightedCluster { cluster, weight: (*weight)?, levels, filters })
}

fn path_rewrite(
    prefix_rewrite: Option<&str>,
    regex_rewrite: Option<&config::RegexMatchAndSubstitute>,
    at: &Path,
    problems: &mut Problems,
) -> Option<PathRewrite> {
    // As in Envoy, an empty prefix is no rewrite, even where the schema distinguishes the two.
    let prefix = prefix_rewrite.filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix {
        check_word(prefix, &at.field("prefix_rewrite"), problems);
    }
    let at_regex = at.field("regex_rewrite");
    let regex = regex_rewrite.map(|schema| regex_rewrite_of(schema, &at_regex, problems));
    match (prefix, regex) {
        (Some(prefix), None) => Some(PathRewrite::Prefix(prefix.as_bytes().into())),
        (None, Some(regex)) => regex.map(PathRewrite::Regex),
        (None, None) => Some(PathRewrite::None),
        (Some(_), Some(_)) => {
            let message =
                "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy";
            problems.error(&at_regex, message);
            None
        }
    }
}

pub(crate) fn regex_rewrite_of(
    schema: &config::RegexMatchAndSubstitute,
    at: &Path,
    problems: &mut Problems,
) -> Option<RegexRewrite> {
    let config::RegexMatchAndSubstitute { pattern, substitution } = schema;
    let at_substitution = at.field("substitution");
    check_word(substitution, &at_substitution, problems);
    let config::RegexMatcher { regex } = pattern.as_ref()?;
    let warn = |message: &str| problems.warn(&at_substitution, message);
    let rewrite = RegexRewrite::new(regex, substitution, warn);
    rewrite.map_err(|error| problems.error(at, invalid_regex(&error))).ok()
}

//= envoy:config.route.v3.RouteAction.timeout
//# "If not specified, the default is 15s."
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
