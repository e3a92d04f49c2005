//! The actions of a route, from the schema.

use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{Action, Connect, DirectResponse, Forward, Redirect, RedirectPath, Timeouts};
use crate::http::{FieldName, Line};
use crate::request::retry;
use crate::request::route::Upgrades;
use crate::request::route::compile::{Given, refuse};
use crate::request::route::matchers::HeaderName;
use crate::request::route::rewrite::{HostRewrite, PathRewrite, RegexRewrite};
use crate::upstream::circuit_breaker::RoutingPriority;

/// Forwards, or the parts of a forward that several weighted clusters share.
pub(crate) struct Forwarding {
    /// With every cluster that it may go to.
    pub(crate) clusters: Vec<WeightedCluster>,
    /// Everything but the cluster.
    pub(crate) forward: Forward,
    /// For a cluster that is not there.
    pub(crate) not_found_status: u16,
    /// The request header that brings the random number for the weights.
    pub(crate) random: Option<HeaderName>,
}

/// One of the clusters that a route may forward to.
pub(crate) struct WeightedCluster {
    /// `None`: it is not there, and that was allowed.
    pub(crate) cluster: Option<usize>,
    pub(crate) weight: u32,
    /// The schema's, for its headers and its host; a route with one cluster has none.
    pub(crate) schema: Option<(config::ClusterWeight, Path)>,
}

/// Reads a `RouteAction`; `inherited` is the retry policy of the virtual host.
pub(crate) fn forward(
    schema: &config::RouteAction,
    inherited: Option<&retry::RetryPolicy>,
    given: &Given<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Forwarding> {
    let config::RouteAction {
        cluster,
        cluster_header,
        weighted_clusters,
        cluster_not_found_response_code,
        prefix_rewrite,
        regex_rewrite,
        host_rewrite_literal,
        auto_host_rewrite,
        host_rewrite_header,
        host_rewrite_path_regex,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        retry_policy,
        priority,
        upgrade_configs,
        max_stream_duration,
    } = schema;
    refuse(cluster_header.is_some(), "cluster_header", at, problems);
    refuse(flush_timeout.is_some(), "flush_timeout", at, problems);
    refuse(max_stream_duration.is_some(), "max_stream_duration", at, problems);
    let host_rewrite = if *auto_host_rewrite == Some(true) {
        HostRewrite::Auto
    } else if let Some(host) = host_rewrite_literal {
        HostRewrite::Literal(host.as_bytes().into())
    } else if let Some(name) = host_rewrite_header {
        HostRewrite::Header(HeaderName::new(name))
    } else if let Some(schema) = host_rewrite_path_regex {
        let at = at.field("host_rewrite_path_regex");
        HostRewrite::PathRegex(regex_rewrite_of(schema, &at, problems)?)
    } else {
        HostRewrite::None
    };
    let own_retry = retry_policy
        .as_ref()
        .map(|schema| retry::compile::retry_policy(schema, &at.field("retry_policy"), problems));
    let path_rewrite =
        path_rewrite(Some(prefix_rewrite.as_str()), regex_rewrite.as_ref(), at, problems)?;
    let random = weighted_clusters.as_ref().and_then(|schema| schema.header_name.as_deref());
    let clusters = match (cluster, weighted_clusters) {
        (Some(name), _) => vec![one(name, given, &at.field("cluster"), problems)?],
        (None, Some(schema)) => weighted(schema, given, &at.field("weighted_clusters"), problems)?,
        (None, None) => return None,
    };
    let retry = own_retry.or_else(|| inherited.cloned());
    let (timeouts, expected) = timers(*timeout, retry.as_ref());
    Some(Forwarding {
        clusters,
        not_found_status: not_found_status(*cluster_not_found_response_code),
        random: random.map(HeaderName::new),
        forward: Forward {
            cluster: 0,
            timeouts,
            expected,
            idle_timeout: *idle_timeout,
            upgrades: upgrades(upgrade_configs, &at.field("upgrade_configs"), problems),
            connect: connect(upgrade_configs, &at.field("upgrade_configs"), problems),
            retry,
            host_rewrite,
            append_x_forwarded_host: *append_x_forwarded_host,
            path_rewrite,
            priority: match priority {
                config::RoutingPriority::Default => RoutingPriority::Default,
                config::RoutingPriority::High => RoutingPriority::High,
            },
        },
    })
}

const fn not_found_status(code: config::ClusterNotFoundResponseCode) -> u16 {
    match code {
        config::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
        config::ClusterNotFoundResponseCode::NotFound => 404,
        config::ClusterNotFoundResponseCode::InternalServerError => 500,
    }
}

/// The timers of a request that asks for no others, and what its first attempt says of them.
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
        // What it says of CONNECT is read by `connect`.
        let config::RouteActionUpgradeConfig { upgrade_type, enabled, connect_config: _ } = upgrade;
        upgrades.add(upgrade_type, enabled.unwrap_or(true), &at, problems);
    }
    upgrades
}

/// What becomes of a CONNECT.
fn connect(
    configs: &[config::RouteActionUpgradeConfig],
    at: &Path,
    problems: &mut Problems,
) -> Connect {
    let mut connect = Connect::Forwarded;
    for (index, upgrade) in configs.iter().enumerate() {
        let Some(config::ConnectConfig { allow_post }) = &upgrade.connect_config else { continue };
        let at = at.index(index).field("connect_config");
        if !upgrade.upgrade_type.eq_ignore_ascii_case("CONNECT") {
            problems.error(&at, "Non-CONNECT upgrade type with connect_config");
        }
        refuse(*allow_post, "allow_post", &at, problems);
        connect = Connect::Terminated;
    }
    connect
}

/// Reads a `RedirectAction`.
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
    let text = |text: &str| (!text.is_empty()).then(|| text.as_bytes().into());
    let scheme = scheme_redirect.as_deref().and_then(text);
    let https = *https_redirect == Some(true);
    let path = match path_redirect.as_deref().and_then(text) {
        Some(path) => RedirectPath::Replace(path),
        None => RedirectPath::Rewrite(path_rewrite(
            prefix_rewrite.as_deref(),
            regex_rewrite.as_ref(),
            at,
            problems,
        )?),
    };
    Some(Action::Redirect(Redirect {
        status: match response_code {
            config::RedirectResponseCode::MovedPermanently => 301,
            config::RedirectResponseCode::Found => 302,
            config::RedirectResponseCode::SeeOther => 303,
            config::RedirectResponseCode::TemporaryRedirect => 307,
            config::RedirectResponseCode::PermanentRedirect => 308,
        },
        scheme: scheme.or_else(|| https.then(|| b"https"[..].into())),
        host: text(host_redirect),
        port: (*port_redirect != 0).then_some(*port_redirect),
        path,
        strip_query: *strip_query,
    }))
}

/// Reads a `DirectResponseAction`.
pub(crate) fn direct_response(
    schema: &config::DirectResponseAction,
    given: &Given<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::DirectResponseAction { status, body, body_format } = schema;
    refuse(body_format.is_some(), "body_format", at, problems);
    let at_body = at.field("body");
    let body = match body.as_ref().map(read) {
        None => Vec::new(),
        Some(Ok(body)) => body,
        Some(Err(error)) => {
            problems.error(&at_body, error);
            return None;
        }
    };
    let (len, max) = (body.len(), given.direct_response_body_max);
    if len > max {
        problems.error(&at_body, format!("response body size is {len} bytes; maximum is {max}"));
    }
    Some(Action::DirectResponse(DirectResponse {
        status: u16::try_from(*status).ok()?,
        body: body.into(),
    }))
}

fn one(
    name: &str,
    given: &Given<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<WeightedCluster> {
    let cluster = (given.cluster)(name);
    if cluster.is_none() && given.validate_clusters {
        problems.error(at, format!("route: unknown cluster '{name}'"));
        return None;
    }
    Some(WeightedCluster { cluster, weight: 1, schema: None })
}

fn weighted(
    schema: &config::WeightedCluster,
    given: &Given<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<WeightedCluster>> {
    // Since weights need not add up to a total, Envoy ignores the total.
    let config::WeightedCluster { clusters, total_weight: _, header_name: _ } = schema;
    let mut found = Vec::new();
    for (i, schema) in clusters.iter().enumerate() {
        let at = at.field("clusters").index(i);
        let config::ClusterWeight {
            name,
            cluster_header,
            weight,
            request_headers_to_add: _,
            request_headers_to_remove: _,
            response_headers_to_add: _,
            response_headers_to_remove: _,
            host_rewrite_literal: _,
        } = schema;
        refuse(!cluster_header.is_empty(), "cluster_header", &at, problems);
        let cluster = (given.cluster)(name);
        if cluster.is_none() && given.validate_clusters {
            let message = format!("route: unknown weighted cluster '{name}'");
            problems.error(&at.field("name"), message);
        }
        let Some(weight) = *weight else {
            problems.error(&at, "field 'weight' is missing");
            continue;
        };
        found.push(WeightedCluster { cluster, weight, schema: Some((schema.clone(), at)) });
    }
    let sum: u64 = found.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if sum == 0 {
        problems.error(at, "Sum of weights in the weighted_cluster must be greater than 0.");
        return None;
    }
    if sum > u32::MAX.into() {
        problems.error(at, "The sum of weights of all weighted clusters exceeds 4294967295");
    }
    Some(found)
}

fn path_rewrite(
    prefix_rewrite: Option<&str>,
    regex_rewrite: Option<&config::RegexMatchAndSubstitute>,
    at: &Path,
    problems: &mut Problems,
) -> Option<PathRewrite> {
    // Envoy: an empty prefix is none, also where the schema can tell the two apart.
    let prefix_rewrite = prefix_rewrite.filter(|prefix| !prefix.is_empty());
    Some(match (prefix_rewrite, regex_rewrite) {
        (Some(prefix), None) => PathRewrite::Prefix(prefix.as_bytes().into()),
        (None, Some(schema)) => {
            PathRewrite::Regex(regex_rewrite_of(schema, &at.field("regex_rewrite"), problems)?)
        }
        (None, None) => PathRewrite::None,
        (Some(_), Some(_)) => {
            let message =
                "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy";
            problems.error(&at.field("regex_rewrite"), message);
            return None;
        }
    })
}

fn regex_rewrite_of(
    schema: &config::RegexMatchAndSubstitute,
    at: &Path,
    problems: &mut Problems,
) -> Option<RegexRewrite> {
    let config::RegexMatchAndSubstitute { pattern, substitution } = schema;
    let config::RegexMatcher { regex } = pattern.as_ref()?;
    let warn = |message: &str| problems.warn(&at.field("substitution"), message);
    let rewrite = RegexRewrite::new(regex, substitution, warn);
    rewrite.map_err(|error| problems.error(at, error)).ok()
}

/// The bytes that a `DataSource` stands for.
pub(crate) fn read(schema: &config::DataSource) -> Result<Vec<u8>, String> {
    let config::DataSource { filename, inline_bytes, inline_string, environment_variable } = schema;
    if let Some(text) = inline_string {
        Ok(text.clone().into_bytes())
    } else if let Some(bytes) = inline_bytes {
        Ok(bytes.clone())
    } else if let Some(name) = filename {
        std::fs::read(name).map_err(|error| format!("file {name}: {error}"))
    } else if let Some(name) = environment_variable {
        let value = std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes);
        value.ok_or_else(|| format!("Environment variable doesn't exist: {name}"))
    } else {
        Ok(Vec::new())
    }
}

//= envoy:config.route.v3.RouteAction.timeout
//# "If not specified, the default is 15s."
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
