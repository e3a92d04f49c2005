//! Compiles a `RouteConfiguration` to a [`RouteTable`].

use std::collections::HashSet;
use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::action::compile::{ForwardAction, WeightedCluster};
use super::action::{self, Action};
use super::matchers;
use super::mutation::{self, HeaderMutations, MutationLevel};
use super::path::{PathIndex, PathMatch};
use super::upgrades::Upgrades;
use super::virtual_host::{DomainsBuilder, Duplicate};
use super::{Choice, Entry, RequireTls, Route, RouteMatch, RouteTable, VirtualHost};
use crate::common_compile;
use crate::metadata::Metadata;
use crate::request::filters::{self, Chain};
use crate::request::retry::{self, RetryPolicy};
use crate::stats::Registry;
use crate::text_matcher::{self, Literal};

/// What routes need from outside their own message.
pub(crate) struct Context<'a> {
    /// Finds the index of a cluster in the snapshot by its name.
    pub(crate) cluster: &'a dyn Fn(&str) -> Option<usize>,
    pub(crate) validate_clusters: bool,
    pub(crate) direct_response_body_max: usize,
    most_specific_headers_win: bool,
    filters: &'a Chain,
    pub(crate) filter_context: &'a filters::compile::Context<'a>,
}

/// Header mutations of the request and of the response.
#[derive(Clone)]
pub(crate) struct Levels {
    request: Arc<MutationLevel>,
    response: Arc<MutationLevel>,
}

/// What routes inherit from their virtual host.
struct Inherited {
    /// What the virtual host and the route configuration say to filters.
    filters: [filters::compile::Level; 2],
    retry: Option<RetryPolicy>,
    body_buffer_max: Option<u64>,
    /// The metadata of the virtual host.
    metadata: Arc<Metadata>,
    /// Those of the virtual host and of the route configuration.
    levels: Vec<Levels>,
}

/// Compiles a route configuration and reports all its errors; with an error the table must not be
/// used. `filters` are those that the routes configure; `cluster` finds the index of a cluster by its name.
pub(crate) fn route_table(
    schema: &config::RouteConfiguration,
    filters: &Chain,
    filter_context: &filters::compile::Context<'_>,
    cluster: &dyn Fn(&str) -> Option<usize>,
    registry: &Registry,
    at: &Path,
    problems: &mut Problems,
) -> RouteTable {
    let config::RouteConfiguration {
        name,
        virtual_hosts,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        ignore_port_in_host_matching,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
    } = schema;
    not_implemented(!internal_only_headers.is_empty(), "internal_only_headers", at, problems);
    // As in Envoy, 0 is no limit.
    let body_max = match max_direct_response_body_size_bytes {
        None if !problems.is_left_out(&at.field("max_direct_response_body_size_bytes")) => u32::MAX,
        None => 4096,
        Some(0) => u32::MAX,
        Some(bytes) => *bytes,
    };
    let context = Context {
        cluster,
        validate_clusters: validate_clusters
            .unwrap_or_else(|| problems.is_left_out(&at.field("validate_clusters"))),
        direct_response_body_max: usize::try_from(body_max).unwrap_or(usize::MAX),
        most_specific_headers_win: *most_specific_header_mutations_wins,
        filters,
        filter_context,
    };
    let levels = Levels::new(
        (request_headers_to_add, request_headers_to_remove),
        (response_headers_to_add, response_headers_to_remove),
        at,
        problems,
    );
    let filters = filter_context.level(typed_per_filter_config, None, at, problems);
    let at = at.field("virtual_hosts");
    let mut domains = DomainsBuilder::default();
    let mut names = HashSet::new();
    let mut hosts = Vec::with_capacity(virtual_hosts.len());
    for (index, schema) in virtual_hosts.iter().enumerate() {
        let at = at.index(index);
        if !names.insert(&schema.name) {
            let message = format!("another virtual host is also named '{}'", schema.name);
            problems.warn(&at.field("name"), message);
        }
        add_domains(&mut domains, &schema.domains, index, name, &at.field("domains"), problems);
        let inherited = (&levels, &filters);
        hosts.push(virtual_host(schema, inherited, &context, registry, &at, problems));
    }
    RouteTable {
        name: name.as_str().into(),
        domains: domains.build(),
        virtual_hosts: hosts,
        ignore_port: *ignore_port_in_host_matching,
        ignore_path_parameters: *ignore_path_parameters_in_path_matching,
    }
}

/// Reports a field that is set and not implemented.
pub(crate) fn not_implemented(is_set: bool, field: &str, at: &Path, problems: &mut Problems) {
    if is_set {
        problems.not_implemented(&at.field(field), field);
    }
}

impl Upgrades {
    /// Adds an item of the `upgrade_configs` at `at`.
    pub(crate) fn add(
        &mut self,
        protocol: &str,
        allowed: bool,
        at: &Path,
        problems: &mut Problems,
    ) {
        let at = at.field("upgrade_type");
        if !self.list(protocol, allowed) {
            problems
                .error(&at, format!("multiple upgrade configs with the same name: '{protocol}'"));
        }
    }
}

fn add_domains(
    builder: &mut DomainsBuilder,
    domains: &[String],
    virtual_host: usize,
    table: &str,
    at: &Path,
    problems: &mut Problems,
) {
    for (i, domain) in domains.iter().enumerate() {
        let message = match builder.add(domain, virtual_host) {
            Ok(()) => continue,
            Err(Duplicate::Wildcard) => {
                format!("Only a single wildcard domain is permitted in route {table}")
            }
            Err(Duplicate::Domain) => format!(
                "Only unique values for domains are permitted. \
                 Duplicate entry of domain {} in route {table}",
                domain.to_ascii_lowercase()
            ),
        };
        problems.error(&at.index(i), message);
    }
}

fn virtual_host(
    schema: &config::VirtualHost,
    (table_levels, table_filters): (&Levels, &filters::compile::Level),
    context: &Context<'_>,
    registry: &Registry,
    at: &Path,
    problems: &mut Problems,
) -> VirtualHost {
    let config::VirtualHost {
        name,
        domains: _,
        routes,
        require_tls,
        virtual_clusters,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        include_request_attempt_count,
        include_attempt_count_in_response,
        include_is_timeout_retry_header,
        retry_policy,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        metadata,
        typed_per_filter_config,
        cors,
    } = schema;
    not_implemented(!virtual_clusters.is_empty(), "virtual_clusters", at, problems);
    let levels = Levels::new(
        (request_headers_to_add, request_headers_to_remove),
        (response_headers_to_add, response_headers_to_remove),
        at,
        problems,
    );
    let inherited = Inherited {
        retry: retry_policy.as_ref().map(|schema| {
            retry::compile::retry_policy(schema, &at.field("retry_policy"), problems)
        }),
        body_buffer_max: request_body_buffer_limit
            .or_else(|| per_request_buffer_limit_bytes.map(u64::from)),
        levels: vec![levels, table_levels.clone()],
        metadata: Arc::new(common_compile::metadata(metadata.as_ref())),
        filters: [
            context.filter_context.level(typed_per_filter_config, cors.as_ref(), at, problems),
            table_filters.clone(),
        ],
    };
    let at = at.field("routes");
    let mut entries = Vec::with_capacity(routes.len());
    for (i, schema) in routes.iter().enumerate() {
        entries.extend(entry(schema, &inherited, context, &at.index(i), problems));
    }
    VirtualHost {
        name: name.as_str().into(),
        other: registry.scope(&format!("vhost.{name}.vcluster.other.")),
        include_request_attempt_count: *include_request_attempt_count,
        include_attempt_count_in_response: *include_attempt_count_in_response,
        include_is_timeout_retry_header: *include_is_timeout_retry_header,
        require_tls: match require_tls {
            config::TlsRequirementType::All => RequireTls::All,
            config::TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            config::TlsRequirementType::None => RequireTls::None,
        },
        index: PathIndex::new(entries.iter().map(|entry| &entry.conditions.path)),
        entries,
    }
}

fn entry(
    schema: &config::Route,
    inherited: &Inherited,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Entry> {
    let config::Route {
        name,
        r#match,
        route,
        redirect,
        direct_response,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        stat_prefix,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        metadata,
        typed_per_filter_config,
    } = schema;
    not_implemented(!stat_prefix.is_empty(), "stat_prefix", at, problems);
    let conditions =
        r#match.as_ref().and_then(|schema| route_match(schema, &at.field("match"), problems));
    let own = Levels::new(
        (request_headers_to_add, request_headers_to_remove),
        (response_headers_to_add, response_headers_to_remove),
        at,
        problems,
    );
    let mut levels = vec![own];
    levels.extend(inherited.levels.iter().cloned());
    if context.most_specific_headers_win {
        levels.reverse();
    }
    let action = if let Some(schema) = route {
        let at = at.field("route");
        let retry = inherited.retry.as_ref();
        action::compile::forward(schema, retry, context, &at, problems).map(Ok)
    } else if let Some(schema) = redirect {
        action::compile::redirect(schema, &at.field("redirect"), problems).map(Err)
    } else if let Some(schema) = direct_response {
        let at = at.field("direct_response");
        action::compile::direct_response(schema, context, &at, problems).map(Err)
    } else {
        None
    };
    let conditions = conditions?;
    let cors = route.as_ref().and_then(|schema| schema.cors.as_ref());
    let filters = context.filter_context.level(typed_per_filter_config, cors, at, problems);
    let [of_host, of_table] = &inherited.filters;
    let route = |action, levels: &[Levels], of_cluster: &filters::compile::Level| Route {
        filters: context.filters.compile_plan(&[of_cluster, &filters, of_host, of_table]),
        name: name.as_str().into(),
        path: conditions.path.clone(),
        action,
        request_headers: mutations(levels, |level| &level.request),
        response_headers: mutations(levels, |level| &level.response),
        body_buffer_max: request_body_buffer_limit
            .or_else(|| per_request_buffer_limit_bytes.map(u64::from))
            .or(inherited.body_buffer_max),
        metadata: common_compile::metadata(metadata.as_ref()),
        virtual_host_metadata: Arc::clone(&inherited.metadata),
    };
    let choice = match action? {
        Err(action) => {
            let of_cluster = filters::compile::Level::default();
            Choice::One(Box::new(route(action, &levels, &of_cluster)))
        }
        Ok(forward) => forward_choice(forward, &levels, route),
    };
    Some(Entry { conditions, choice })
}

/// One route per cluster that the action may choose. As in Envoy, the header mutations of a
/// weighted cluster are applied first, even if the most specific ones are to win.
fn forward_choice(
    forward: ForwardAction,
    levels: &[Levels],
    route: impl Fn(Action, &[Levels], &filters::compile::Level) -> Route,
) -> Choice {
    let mut routes = Vec::with_capacity(forward.clusters.len());
    let mut up_to = 0;
    for WeightedCluster { cluster, weight, levels: mut all, filters } in forward.clusters {
        let action = match cluster {
            None => Action::ClusterNotFound { status: forward.not_found_status },
            Some(cluster) => {
                let mut forward = forward.forward.clone();
                forward.cluster = cluster;
                Action::Forward(forward)
            }
        };
        all.extend_from_slice(levels);
        up_to += u64::from(weight);
        routes.push((up_to, route(action, &all, &filters)));
    }
    match <[_; 1]>::try_from(routes) {
        Ok([(_, route)]) => Choice::One(Box::new(route)),
        Err(routes) => Choice::Weighted { routes, random: forward.random },
    }
}

fn route_match(
    schema: &config::RouteMatch,
    at: &Path,
    problems: &mut Problems,
) -> Option<RouteMatch> {
    let config::RouteMatch {
        prefix,
        path,
        safe_regex,
        path_separated_prefix,
        connect_matcher,
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
    } = schema;
    let literal = |text: &str| Literal::new(text, *case_sensitive == Some(false));
    let path = if let Some(text) = prefix {
        if !text.is_empty() && !text.starts_with('/') {
            let message = "paths begin with '/', so this route never matches";
            problems.warn(&at.field("prefix"), message);
        }
        Some(PathMatch::Prefix(literal(text)))
    } else if let Some(text) = path {
        Some(PathMatch::Exact(literal(text)))
    } else if let Some(text) = path_separated_prefix {
        Some(PathMatch::SeparatedPrefix(literal(text)))
    } else if let Some(schema) = safe_regex {
        text_matcher::compile::regex(schema, &at.field("safe_regex"), problems)
            .map(PathMatch::Regex)
    } else {
        connect_matcher.as_ref().map(|config::ConnectMatcher {}| PathMatch::Connect)
    };
    let at_query = at.field("query_parameters");
    let at_cookies = at.field("cookies");
    let headers = matchers::compile::headers(headers, &at.field("headers"), problems);
    let mut query = Vec::with_capacity(query_parameters.len());
    for (i, schema) in query_parameters.iter().enumerate() {
        query.extend(matchers::compile::query_parameter(schema, &at_query.index(i), problems));
    }
    let mut cookie = Vec::with_capacity(cookies.len());
    for (i, schema) in cookies.iter().enumerate() {
        cookie.extend(matchers::compile::cookie(schema, &at_cookies.index(i), problems));
    }
    Some(RouteMatch {
        path: path?,
        headers,
        query_parameters: query,
        cookies: cookie,
        grpc: grpc.is_some(),
        tls: matchers::compile::tls(tls_context.as_ref()),
        fraction: runtime_fraction.as_ref().and_then(matchers::compile::fraction),
    })
}

impl Levels {
    /// The headers to add and to remove of the message at `at`.
    pub(crate) fn new(
        (request_add, request_remove): (&[config::HeaderValueOption], &[String]),
        (response_add, response_remove): (&[config::HeaderValueOption], &[String]),
        at: &Path,
        problems: &mut Problems,
    ) -> Self {
        let mut level =
            |kind, add, remove| Arc::new(mutation::compile::level(kind, add, remove, at, problems));
        Self {
            request: level("request", request_add, request_remove),
            response: level("response", response_add, response_remove),
        }
    }

    /// A level that sets the host.
    pub(crate) fn host(host: &str) -> Self {
        let request = MutationLevel { host: Some(host.as_bytes().into()), ..Default::default() };
        Self { request: Arc::new(request), response: Arc::default() }
    }
}

/// In the order in which they are applied.
fn mutations(levels: &[Levels], side: fn(&Levels) -> &Arc<MutationLevel>) -> HeaderMutations {
    HeaderMutations::new(levels.iter().map(|levels| Arc::clone(side(levels))))
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
