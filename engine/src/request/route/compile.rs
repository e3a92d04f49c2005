//! Compiles a `RouteConfiguration` to a [`RouteTable`].

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use corvoy_config as config;
use corvoy_config::{Path, Problem, Problems, Severity};

use super::action::compile::{ForwardAction, WeightedCluster};
use super::action::{self, Action, Forward};
use super::lint::Covering;
use super::match_compile::route_match;
use super::matchers::{self, HeaderName};
use super::mutation::{self, HeaderMutations, MutationLevel};
use super::path::PathIndex;
use super::upgrades::Upgrades;
use super::virtual_cluster::VirtualClusters;
use super::virtual_host::{DomainsBuilder, Duplicate};
use super::{Choice, Entry, RequireTls, Route, RouteTable, Search, VirtualCluster, VirtualHost};
use crate::common_compile;
use crate::matcher::compile::LooksAt;
use crate::matcher::{self, Matcher};
use crate::metadata::Metadata;
use crate::request::filters::{self, Chain};
use crate::request::mirror;
use crate::request::rate_limit::{self, RateLimit};
use crate::request::retry::{self, RetryPolicy};
use crate::runtime::Reader;
use crate::stats::Registry;
use crate::upstream::numbers::Uses;

/// What a route configuration needs from outside its own message.
#[derive(Clone, Copy)]
pub(crate) struct Needs<'a> {
    /// The filters that routes configure.
    pub(crate) filters: &'a Chain,
    /// What they need.
    pub(crate) filter_context: &'a filters::compile::Context<'a>,
    /// Finds the number of a cluster by its name; none: it does not exist.
    pub(crate) cluster: &'a dyn Fn(&str) -> Option<usize>,
}

/// What routes need from outside their own message.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Finds the index of a cluster in the snapshot by its name.
    pub(crate) cluster: &'a dyn Fn(&str) -> Option<usize>,
    pub(crate) runtime: &'a Reader<'a>,
    registry: &'a Registry,
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

/// What virtual hosts inherit: headers, what filters are told, mirrors.
type OfTable<'a> = (&'a Levels, &'a filters::compile::Level, Option<&'a Arc<[mirror::Policy]>>);

/// What routes inherit from their virtual host.
struct Inherited<'a> {
    /// Its name.
    name: &'a str,
    /// What the virtual host and the route configuration say to filters.
    filters: [filters::compile::Level; 2],
    retry: Option<RetryPolicy>,
    body_buffer_max: Option<u64>,
    /// The metadata of the virtual host.
    metadata: Arc<Metadata>,
    /// Those of the virtual host and of the route configuration.
    levels: Vec<Levels>,
    mirrors: Option<Arc<[mirror::Policy]>>,
    rate_limits: Option<Arc<[RateLimit]>>,
}

/// Compiles a route configuration and reports all its errors; with an error the table must not be
/// used.
pub(crate) fn route_table(
    schema: &config::RouteConfiguration,
    needs: &Needs<'_>,
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
        request_mirror_policies,
        typed_per_filter_config,
    } = schema;
    // As in Envoy, 0 is no limit.
    let body_max = match max_direct_response_body_size_bytes {
        None if !problems.is_left_out(&at.field("max_direct_response_body_size_bytes")) => u32::MAX,
        None => 4096,
        Some(0) => u32::MAX,
        Some(bytes) => *bytes,
    };
    let Needs { filters, filter_context, cluster } = *needs;
    let context = Context {
        cluster,
        runtime: filter_context.runtime,
        registry: filter_context.registry,
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
    let mirrors = context.mirrors(request_mirror_policies, at, problems);
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
        let inherited = (&levels, &filters, mirrors.as_ref());
        hosts.push(virtual_host(schema, inherited, &context, &at, problems));
    }
    RouteTable {
        name: name.as_str().into(),
        domains: domains.build(),
        virtual_hosts: hosts,
        internal_only_headers: internal_only_headers
            .iter()
            .map(|name| HeaderName::new(name))
            .collect(),
        ignore_port: *ignore_port_in_host_matching,
        ignore_path_parameters: *ignore_path_parameters_in_path_matching,
        uses: Uses::default(),
    }
}

impl Context<'_> {
    /// The mirrors of the message at `at`.
    pub(crate) fn mirrors(
        &self,
        schemas: &[config::RequestMirrorPolicy],
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Arc<[mirror::Policy]>> {
        let known = |name: &str| (self.cluster)(name).is_some() || !self.validate_clusters;
        let policies = mirror::compile::policies(schemas, self.runtime, &known, at, problems)?;
        self.filter_context.calls.are_mirrored.set(true);
        Some(policies)
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

#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
fn virtual_host(
    schema: &config::VirtualHost,
    (table_levels, table_filters, table_mirrors): OfTable<'_>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> VirtualHost {
    let config::VirtualHost {
        name,
        domains: _,
        // These two are compiled below.
        routes: _,
        virtual_clusters: _,
        require_tls,
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
        matcher,
        request_mirror_policies,
        rate_limits,
    } = schema;
    let levels = Levels::new(
        (request_headers_to_add, request_headers_to_remove),
        (response_headers_to_add, response_headers_to_remove),
        at,
        problems,
    );
    let inherited = Inherited {
        name,
        retry: retry_policy.as_ref().map(|schema| {
            retry::compile::retry_policy(schema, &at.field("retry_policy"), problems)
        }),
        body_buffer_max: request_body_buffer_limit
            .or_else(|| per_request_buffer_limit_bytes.map(u64::from)),
        levels: vec![levels, table_levels.clone()],
        metadata: Arc::new(common_compile::metadata(metadata.as_ref())),
        rate_limits: rate_limit::compile::of_virtual_host(
            rate_limits,
            context.filter_context.local_cluster,
            context.runtime,
            at,
            problems,
        ),
        mirrors: context
            .mirrors(request_mirror_policies, at, problems)
            .or_else(|| table_mirrors.cloned()),
        filters: [
            context.filter_context.level(typed_per_filter_config, cors.as_ref(), at, problems),
            table_filters.clone(),
        ],
    };
    // As in Envoy, the clusters of the routes of a tree need not exist.
    let validate_clusters = context.validate_clusters && matcher.is_none();
    let context = &Context { validate_clusters, ..*context };
    let mut routes = Routes { inherited: &inherited, context, entries: Vec::new() };
    let search = match matcher {
        None => {
            let at = at.field("routes");
            routes.list(&schema.routes, &at, problems);
            routes.warn_of_shadowed(&at, problems);
            let paths = routes.entries.iter().map(|entry| &entry.conditions.path);
            Search::InOrder(PathIndex::new(paths))
        }
        Some(matcher) => {
            if !schema.routes.is_empty() {
                let why = "a virtual host has either routes or a matcher";
                problems.error(&at.field("matcher"), why);
            }
            Search::Tree(routes.tree(matcher, &at.field("matcher"), problems))
        }
    };
    VirtualHost {
        name: name.as_str().into(),
        virtual_clusters: virtual_clusters(schema, context.registry, at, problems),
        include_request_attempt_count: *include_request_attempt_count,
        include_attempt_count_in_response: *include_attempt_count_in_response,
        include_is_timeout_retry_header: *include_is_timeout_retry_header,
        require_tls: match require_tls {
            config::TlsRequirementType::All => RequireTls::All,
            config::TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            config::TlsRequirementType::None => RequireTls::None,
        },
        search,
        entries: routes.entries,
    }
}

/// The routes of a virtual host, as far as they are compiled.
struct Routes<'a> {
    inherited: &'a Inherited<'a>,
    context: &'a Context<'a>,
    entries: Vec<Entry>,
}

impl Routes<'_> {
    /// Adds the routes of the list at `at`; returns where they are.
    fn list(
        &mut self,
        schemas: &[config::Route],
        at: &Path,
        problems: &mut Problems,
    ) -> Range<usize> {
        let start = self.entries.len();
        for (i, schema) in schemas.iter().enumerate() {
            let entry = entry(schema, self.inherited, self.context, &at.index(i), problems);
            self.entries.extend(entry);
        }
        start..self.entries.len()
    }

    /// Warns of routes that no request reaches. Without errors, routes have the indexes of the list.
    fn warn_of_shadowed(&self, at: &Path, problems: &mut Problems) {
        if problems.has_errors() {
            return;
        }
        let mut covering = Covering::default();
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(earlier) = covering.add(i, &entry.conditions) {
                let why = "no request reaches this route: an earlier one matches all of them";
                let problem = Problem::new(Severity::Warning, &at.index(i).field("match"), why);
                let earlier = at.index(earlier).field("match");
                problems.push(problem.related(&earlier, "the earlier route"));
            }
        }
    }

    /// Compiles a tree whose actions are a route or a list of routes. After an error it leads nowhere.
    fn tree(
        &mut self,
        schema: &config::Matcher,
        at: &Path,
        problems: &mut Problems,
    ) -> Matcher<Range<usize>> {
        let context = matcher::compile::Context {
            looks_at: LooksAt::RequestHeaders,
            runtime: self.context.runtime,
        };
        let mut action = |action: &config::Any, at: &Path, problems: &mut Problems| match action {
            config::Any::Route(schema) => {
                let start = self.entries.len();
                self.entries.extend(entry(schema, self.inherited, self.context, at, problems));
                Some(start..self.entries.len())
            }
            config::Any::RouteList(schema) => {
                let config::RouteList { routes } = &**schema;
                Some(self.list(routes, &at.field("routes"), problems))
            }
            other => {
                let name = other.type_name();
                problems.error(at, format!("`{name}` is neither a route nor a list of routes"));
                None
            }
        };
        matcher::compile::matcher(schema, &context, &mut action, at, problems).unwrap_or_default()
    }
}

fn virtual_clusters(
    schema: &config::VirtualHost,
    registry: &Registry,
    at: &Path,
    problems: &mut Problems,
) -> VirtualClusters {
    let stats = |name: &str| registry.scope(&format!("vhost.{}.vcluster.{name}.", schema.name));
    let at = at.field("virtual_clusters");
    let mut listed = Vec::with_capacity(schema.virtual_clusters.len());
    for (i, config::VirtualCluster { name, headers }) in schema.virtual_clusters.iter().enumerate()
    {
        let at = at.index(i);
        if headers.is_empty() {
            problems.missing(&at, "a virtual cluster needs headers to match");
        }
        listed.push(VirtualCluster {
            name: name.as_str().into(),
            headers: matchers::compile::headers(headers, &at.field("headers"), problems),
            stats: stats(name),
        });
    }
    let other = VirtualCluster { name: Box::default(), headers: Vec::new(), stats: stats("other") };
    VirtualClusters::new(listed, other)
}

#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
fn entry(
    schema: &config::Route,
    inherited: &Inherited<'_>,
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
    let conditions = r#match
        .as_ref()
        .and_then(|schema| route_match(schema, context.runtime, &at.field("match"), problems));
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
    let path = conditions.as_ref().map(|conditions| &conditions.path);
    let action = if let Some(schema) = route {
        let at = at.field("route");
        let inherited = action::compile::Inherited {
            retry: inherited.retry.as_ref(),
            mirrors: inherited.mirrors.as_ref(),
            rate_limits: inherited.rate_limits.as_ref(),
        };
        action::compile::forward(schema, path, &inherited, context, &at, problems).map(Ok)
    } else if let Some(schema) = redirect {
        action::compile::redirect(schema, path, &at.field("redirect"), problems).map(Err)
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
    let stats = (!stat_prefix.is_empty())
        .then(|| context.registry.scope(&format!("vhost.{}.route.{stat_prefix}.", inherited.name)));
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
        stats: stats.clone(),
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
    for WeightedCluster { cluster, weight, subset, levels: mut all, filters } in forward.clusters {
        let action = match cluster {
            None => Action::ClusterNotFound { status: forward.forward.not_found_status },
            Some(cluster) => {
                let mut forward = Forward { cluster, ..forward.forward.clone() };
                if let Some(subset) = subset {
                    let of_route = forward.subset.unwrap_or_default();
                    forward.subset = Some(Box::new(of_route.merged(&subset)));
                }
                Action::Forward(forward)
            }
        };
        all.extend_from_slice(levels);
        routes.push((weight, route(action, &all, &filters)));
    }
    match <[_; 1]>::try_from(routes) {
        Ok([(_, route)]) => Choice::One(Box::new(route)),
        Err(routes) => Choice::Weighted { routes, by: forward.by },
    }
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
