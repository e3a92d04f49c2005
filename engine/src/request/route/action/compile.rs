//! Compiles the actions of a route.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::stream_duration::{MaxGrpcTimeout, MaxStreamDuration};
use super::{
    Action, ClusterChoice, Connect, DirectResponse, Forward, Redirect, RedirectPath, Timeouts,
};
use crate::common_compile::check_word;
use crate::format::compile::data_source;
use crate::http::{FieldName, Line};
use crate::request::filters::compile::Level;
use crate::request::mirror;
use crate::request::rate_limit::{self, RateLimit};
use crate::request::reply_rewrite;
use crate::request::retry;
use crate::request::route::compile::{Context, Levels};
use crate::request::route::hash_policy::{self, HashPolicies};
use crate::request::route::internal_redirect;
use crate::request::route::matchers::HeaderName;
use crate::request::route::path::PathMatch;
use crate::request::route::rewrite::PathRewrite;
use crate::request::route::rewrite_compile::{
    ONE_PATH_REWRITE, check_prefix_rewrite, formatter, host_rewrite, path_rewrite, template_rewrite,
};
use crate::request::route::{DrawnBy, Upgrades};
use crate::runtime::RuntimeInteger;
use crate::upstream::circuit_breaker::RoutingPriority;
use crate::upstream::host_set::Criteria;

/// A compiled `RouteAction`: the clusters to choose from, and what they have in common.
pub(crate) struct ForwardAction {
    /// All clusters that it may choose.
    pub(crate) clusters: Vec<WeightedCluster>,
    /// Everything except the cluster.
    pub(crate) forward: Forward,
    /// What a cluster is drawn by.
    pub(crate) by: DrawnBy,
}

/// One of the clusters that a route may forward to.
pub(crate) struct WeightedCluster {
    /// `None`: it does not exist, which is allowed.
    pub(crate) cluster: Option<ClusterChoice>,
    pub(crate) weight: RuntimeInteger,
    /// What its hosts must have besides.
    pub(crate) subset: Option<Criteria>,
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

/// What a route inherits unless its action has its own.
#[derive(Clone, Copy)]
pub(crate) struct Inherited<'a> {
    pub(crate) retry: Option<&'a retry::RetryPolicy>,
    pub(crate) mirrors: Option<&'a Arc<[mirror::Policy]>>,
    pub(crate) rate_limits: Option<&'a Arc<[RateLimit]>>,
}

/// Compiles a `RouteAction`; `path` is the path specifier of the route.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub(crate) fn forward(
    schema: &config::RouteAction,
    path: Option<&PathMatch>,
    inherited: &Inherited<'_>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<ForwardAction> {
    let config::RouteAction {
        cluster,
        cluster_header,
        weighted_clusters,
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite: path_format,
        // `rate_limit` compiles these two.
        rate_limits: _,
        include_vh_rate_limits: _,
        // These three are compiled by `internal_redirect`.
        internal_redirect_policy: _,
        internal_redirect_action: _,
        max_internal_redirects: _,
        // These five are compiled by `host_rewrite`.
        host_rewrite_literal: _,
        auto_host_rewrite: _,
        host_rewrite_header: _,
        host_rewrite_path_regex: _,
        host_rewrite: _,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        retry_policy,
        priority,
        hash_policy,
        upgrade_configs,
        max_stream_duration,
        max_grpc_timeout,
        grpc_timeout_offset,
        request_mirror_policies,
        // The route takes it.
        cors: _,
    } = schema;
    let host_rewrite = host_rewrite(schema, at, problems);
    let own_retry = retry_policy
        .as_ref()
        .map(|schema| retry::compile::retry_policy(schema, &at.field("retry_policy"), problems));
    let mut path_rewrite =
        path_rewrite(Some(prefix_rewrite), regex_rewrite.as_ref(), path_format, at, problems);
    check_prefix_rewrite(path, path_rewrite.as_ref(), at, problems);
    if let Some(schema) = path_rewrite_policy {
        let at = at.field("path_rewrite_policy");
        if !matches!(path_rewrite, None | Some(PathRewrite::None)) {
            problems.error(&at, ONE_PATH_REWRITE);
        }
        path_rewrite = template_rewrite(schema, path, &at, problems).map(PathRewrite::Template);
    }
    let hash_policies =
        hash_policy::compile::policies(hash_policy, &at.field("hash_policy"), problems);
    let by = drawn_by(weighted_clusters.as_ref(), &hash_policies, at, problems);
    let clusters = if let Some(name) = cluster {
        single_cluster(name, context, &at.field("cluster"), problems).map(|cluster| vec![cluster])
    } else if let Some(schema) = weighted_clusters {
        cluster_list(schema, context, &at.field("weighted_clusters"), problems)
    } else {
        let choice = cluster_header.as_deref().map(HeaderName::new).map(ClusterChoice::Header);
        choice.map(|choice| vec![WeightedCluster::only(Some(choice))])
    };
    let retry = own_retry.or_else(|| inherited.retry.cloned());
    let mirrors = context
        .mirrors(request_mirror_policies, at, problems)
        .or_else(|| inherited.mirrors.cloned());
    let max_stream_duration = max_stream_duration.as_ref().map(stream_duration);
    // As in Envoy, the older timeouts do not apply then.
    let has_limit = max_stream_duration.is_some();
    let timeout = if has_limit { Some(Duration::ZERO) } else { *timeout };
    let offset = grpc_timeout_offset.unwrap_or_default();
    let grpc_timeout = |max| MaxGrpcTimeout { max, offset };
    let (timeouts, expected) = timers(timeout, retry.as_ref());
    if let (Some(_), Some(retry)) = (retry_policy, &retry) {
        warn_of_a_try_without_effect(timeouts.global, retry, at, problems);
    }
    let at_upgrades = at.field("upgrade_configs");
    let upgrades = upgrades(upgrade_configs, &at_upgrades, problems);
    let connect = connect(upgrade_configs, &at_upgrades, problems);
    Some(ForwardAction {
        clusters: clusters?,
        by,
        forward: Forward {
            cluster: ClusterChoice::Index(0),
            not_found_status: not_found_status(*cluster_not_found_response_code),
            hash_policies,
            subset: subset(metadata_match.as_ref()).map(Box::new),
            timeouts,
            expected,
            max_stream_duration,
            max_grpc_timeout: max_grpc_timeout.filter(|_| !has_limit).map(grpc_timeout),
            idle_timeout: *idle_timeout,
            flush_timeout: *flush_timeout,
            upgrades,
            connect,
            retry,
            host_rewrite: host_rewrite?,
            append_x_forwarded_host: *append_x_forwarded_host,
            path_rewrite: path_rewrite?,
            priority: self::priority(*priority),
            rate_limits: rate_limit::compile::of_route(
                schema,
                inherited.rate_limits,
                context.filter_context.local_cluster,
                context.runtime,
                at,
                problems,
            ),
            internal_redirect: internal_redirect::compile::policy(schema, at, problems),
            mirrors,
        },
    })
}

/// What hosts must have: the values for load balancing.
fn subset(schema: Option<&config::Metadata>) -> Option<Criteria> {
    let config::Metadata { filter_metadata, typed_filter_metadata: _ } = schema?;
    let values = filter_metadata.get("envoy.lb")?.as_object()?;
    let pairs = values.iter().map(|(key, value)| (key.clone(), value.clone()));
    Some(Criteria::new(pairs)).filter(|criteria| !criteria.is_empty())
}

fn drawn_by(
    schema: Option<&config::WeightedCluster>,
    hash_policies: &HashPolicies,
    at: &Path,
    problems: &mut Problems,
) -> DrawnBy {
    let Some(schema) = schema else { return DrawnBy::Random };
    if let Some(name) = &schema.header_name {
        return DrawnBy::Header(HeaderName::new(name));
    }
    if schema.use_hash_policy != Some(true) {
        return DrawnBy::Random;
    }
    if hash_policies.is_empty() {
        let at = at.field("weighted_clusters").field("use_hash_policy");
        problems.warn(&at, "without a hash_policy clusters are drawn at random");
    }
    DrawnBy::Hash(hash_policies.clone())
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

const fn not_found_status(code: config::ClusterNotFoundResponseCode) -> u16 {
    match code {
        config::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
        config::ClusterNotFoundResponseCode::NotFound => 404,
        config::ClusterNotFoundResponseCode::InternalServerError => 500,
    }
}

/// The timeouts of a request without timeout headers, and the header with the expected timeout of
/// its first attempt.
pub(crate) fn timers(
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

/// Warns of a timeout for one try that never passes.
fn warn_of_a_try_without_effect(
    timeout: Option<Duration>,
    retry: &retry::RetryPolicy,
    at: &Path,
    problems: &mut Problems,
) {
    let (Some(timeout), Some(per_try)) = (timeout, retry.per_try_timeout) else { return };
    if per_try >= timeout {
        let why = format!(
            "no effect: a try of {per_try:?} is not shorter than the timeout of {timeout:?}"
        );
        problems.warn(&at.field("retry_policy").field("per_try_timeout"), why);
    }
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
        connect = if *allow_post { Connect::TerminatedOrPost } else { Connect::Terminated };
    }
    connect
}

/// Compiles a `RedirectAction`; `matched` is the path specifier of the route.
pub(crate) fn redirect(
    schema: &config::RedirectAction,
    matched: Option<&PathMatch>,
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
        path_rewrite: path_format,
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
    let format = path_format.as_ref().filter(|format| !format.is_empty());
    let path = match (path, format) {
        (Some(path), _) => Some(RedirectPath::Replace(path)),
        (None, Some(format)) => {
            formatter(format, &at.field("path_rewrite"), problems).map(RedirectPath::Format)
        }
        (None, None) => {
            let rewrite =
                path_rewrite(prefix_rewrite.as_deref(), regex_rewrite.as_ref(), "", at, problems);
            check_prefix_rewrite(matched, rewrite.as_ref(), at, problems);
            rewrite.map(RedirectPath::Rewrite)
        }
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
    let at_format = at.field("body_format");
    let format = body_format
        .as_ref()
        .and_then(|schema| reply_rewrite::compile::format(schema, &at_format, problems));
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
        format: format.map(Box::new),
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
    Some(WeightedCluster::only(cluster.map(ClusterChoice::Index)))
}

impl WeightedCluster {
    /// The only cluster of a route.
    fn only(cluster: Option<ClusterChoice>) -> Self {
        let (levels, filters) = (Vec::new(), Level::default());
        Self { cluster, weight: 1.into(), subset: None, levels, filters }
    }
}

fn cluster_list(
    schema: &config::WeightedCluster,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<WeightedCluster>> {
    // Weights need not add up to a total any more, so Envoy ignores the total.
    let config::WeightedCluster {
        clusters,
        total_weight: _,
        runtime_key_prefix,
        // `drawn_by` compiles these two.
        header_name: _,
        use_hash_policy: _,
    } = schema;
    let clusters = clusters.iter().enumerate();
    let clusters: Vec<_> = clusters
        .map(|(i, schema)| {
            let at = at.field("clusters").index(i);
            weighted_cluster(schema, runtime_key_prefix, context, &at, problems)
        })
        .collect();
    let clusters: Vec<_> = clusters.into_iter().collect::<Option<_>>()?;
    let sum: u64 = clusters.iter().map(|cluster| cluster.weight.get()).sum();
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
    runtime_key_prefix: &str,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<WeightedCluster> {
    let config::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        host_rewrite_literal,
        typed_per_filter_config,
    } = schema;
    let cluster = if cluster_header.is_empty() {
        (context.cluster)(name).map(ClusterChoice::Index)
    } else {
        if !name.is_empty() {
            let why = "a weighted cluster has either a name or a cluster_header";
            problems.error(&at.field("cluster_header"), why);
        }
        Some(ClusterChoice::Header(HeaderName::new(cluster_header)))
    };
    if cluster.is_none() && context.validate_clusters {
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
    let key = match runtime_key_prefix {
        "" => String::new(),
        prefix => format!("{prefix}.{name}"),
    };
    let weight = context.runtime.number((*weight)?.into(), &key);
    let subset = subset(metadata_match.as_ref());
    Some(WeightedCluster { cluster, weight, subset, levels, filters })
}

//= envoy:config.route.v3.RouteAction.timeout
//# "If not specified, the default is 15s."
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
