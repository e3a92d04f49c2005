//! Schema → a filter chain.
//!
//! What is the same as in a listener that is in force is taken from there, with its filters, counts and
//! connections; if only routes are different, they are compiled and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::compile::{Common, Context, HALF_CLOSE_GRACE_KEY, premature_resets};
use super::filter_chain::{ChainTls, FilterChain, Speaks};
use crate::common_compile;
use crate::config_source::compile::{self as source_compile, check_existence};
use crate::fingerprint::Fingerprint;
use crate::metadata::ListenerInfo;
use crate::request::callout;
use crate::request::filters::{
    self, compile as http_filters, upstream_compile as upstream_filters,
};
use crate::request::manager::{self, UpstreamLogs};
use crate::request::route::{self, RouteTable};
use crate::request::routes::{RouteSource, Routes};
use crate::request::service::Service;
use crate::stats::Registry;
use crate::tcp;
use crate::tcp::filters::{Filter, Filters};
use crate::transport::tls::context as tls;
use crate::upstream::numbers::{Number, Uses};

/// The chains that are in force.
pub(crate) struct Known<'a> {
    chains: HashMap<&'a Fingerprint, &'a FilterChain>,
    /// The same without their routes.
    frames: HashMap<&'a Fingerprint, &'a FilterChain>,
    /// The clusters that there are now.
    clusters: &'a HashMap<&'a str, &'a Arc<Number>>,
    /// Whether a chain that stays needs the clusters that it names.
    is_strict: Cell<bool>,
    surroundings: u64,
    /// What becomes of chains of which only the routes are different.
    changes: RefCell<Vec<RouteChange>>,
}

/// The new routes of a connection manager that stays.
#[derive(Clone, Debug)]
pub struct RouteChange {
    /// What stays.
    pub service: Arc<Service>,
    /// Its new routes.
    pub table: Arc<RouteTable>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(
        chains: impl Iterator<Item = &'a FilterChain> + Clone,
        clusters: &'a HashMap<&'a str, &'a Arc<Number>>,
        surroundings: u64,
    ) -> Self {
        let frame = |chain: &'a FilterChain| Some((chain.frame.as_ref()?, chain));
        Self {
            frames: chains.clone().filter_map(frame).collect(),
            chains: chains.map(|chain| (&chain.fingerprint, chain)).collect(),
            clusters,
            is_strict: Cell::new(true),
            surroundings,
            changes: RefCell::default(),
        }
    }

    /// What becomes of chains of which only the routes are different.
    pub(crate) fn changes(&self) -> Vec<RouteChange> {
        self.changes.take()
    }

    /// Whether a chain that stays needs the clusters that it names, from here on.
    pub(crate) fn set_strict(&self, is_strict: bool) {
        self.is_strict.set(is_strict);
    }

    fn hold(&self, uses: &Uses) -> bool {
        !self.is_strict.get() || uses.hold(self.clusters)
    }
}

impl FilterChain {
    /// Whether the clusters that it names would be found among these as before.
    pub(crate) fn holds(&self, clusters: &HashMap<&str, &Arc<Number>>) -> bool {
        self.uses.hold(clusters)
            && match &self.speaks {
                // Routes that come later may name any cluster.
                Speaks::Http(service) if service.routes.source.is_none() => {
                    service.routes.accepted().uses.hold(clusters)
                }
                Speaks::Http(_) | Speaks::Tcp(_) => true,
            }
    }

    /// The table of its routes with these changes; none: it does not speak HTTP.
    pub(crate) fn table(&self, changes: &[RouteChange]) -> Option<Arc<RouteTable>> {
        let Speaks::Http(service) = &self.speaks else { return None };
        let is_it = |change: &&RouteChange| Arc::ptr_eq(&change.service, service);
        let changed = changes.iter().find(is_it).map(|change| Arc::clone(&change.table));
        Some(changed.unwrap_or_else(|| service.routes.accepted()))
    }

    /// The numbers of the clusters that it names, with these changes of routes.
    pub(crate) fn numbers(&self, changes: &[RouteChange]) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.uses.numbers().collect();
        if let Some(table) = self.table(changes) {
            numbers.extend(table.uses.numbers());
        }
        numbers
    }
}

/// The filter chain at `at`: one that is in force if it is the same.
pub(super) fn filter_chain(
    schema: &config::FilterChain,
    at: &Path,
    listener: &Common<'_>,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<FilterChain> {
    let known = context.known;
    let of =
        |schema: &config::FilterChain| Fingerprint::of(&(schema, listener), known.surroundings);
    let fingerprint = of(schema);
    let same = known.chains.get(&fingerprint);
    if let Some(same) = same.filter(|it| !known.is_strict.get() || it.holds(known.clusters)) {
        return Some((*same).clone());
    }
    let frame = without_routes(schema).map(|frame| of(&frame));
    let around = frame.as_ref().and_then(|frame| known.frames.get(frame));
    if let Some(around) = around.filter(|around| known.hold(&around.uses))
        && let Some(change) = other_routes(schema, around, at, context, registry, problems)
    {
        known.changes.borrow_mut().push(change);
        return Some(FilterChain { fingerprint, ..(*around).clone() });
    }
    // Nothing else is being compiled.
    drop(context.uses.take());
    let chain = new_chain(schema, at, listener, context, registry, problems)?;
    let uses = Arc::new(context.uses.take());
    Some(FilterChain { fingerprint, frame, uses, ..chain })
}

/// A chain without its routes; none: its routes are not in it.
fn without_routes(schema: &config::FilterChain) -> Option<config::FilterChain> {
    let last = schema.filters.last()?.typed_config.as_ref()?;
    let config::Any::HttpConnectionManager(manager) = last else { return None };
    manager.route_config.as_ref()?;
    let mut frame = schema.clone();
    if let Some(config::Any::HttpConnectionManager(manager)) =
        frame.filters.last_mut().and_then(|filter| filter.typed_config.as_mut())
    {
        manager.route_config = None;
    }
    Some(frame)
}

/// The routes of `schema` for the connection manager of `around`; none: it lacks what they need.
fn other_routes(
    schema: &config::FilterChain,
    around: &FilterChain,
    at: &Path,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<RouteChange> {
    let Speaks::Http(service) = &around.speaks else { return None };
    let last = schema.filters.len().checked_sub(1)?;
    let filter = schema.filters.get(last)?;
    let Some(config::Any::HttpConnectionManager(manager)) = &filter.typed_config else {
        return None;
    };
    let at = at.field("filters").index(last).field("typed_config").field("route_config");
    let prefix = format!("http.{}.", manager.stat_prefix);
    let (are_made, are_mirrored) = (Cell::new(false), Cell::new(false));
    let filter_context = filter_context(&prefix, context, (&are_made, &are_mirrored), registry);
    let routes = manager.route_config.as_ref()?;
    let mut found = Problems::default();
    let table = inline_routes(routes, &service.filters, &filter_context, context, &at, &mut found);
    let lacks = (are_made.get() && service.calls.is_none())
        || (are_mirrored.get() && service.mirrors.is_none());
    if lacks || found.has_errors() {
        // Errors are found again with everything else.
        return None;
    }
    found.iter().for_each(|problem| problems.push(problem.clone()));
    Some(RouteChange { service: Arc::clone(service), table: Arc::new(table) })
}

fn new_chain(
    chain: &config::FilterChain,
    at: &Path,
    listener: &Common<'_>,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<FilterChain> {
    let config::FilterChain {
        filter_chain_match,
        filters,
        transport_socket,
        name,
        transport_socket_connect_timeout,
        metadata,
    } = chain;
    let info = Arc::new(ListenerInfo {
        name: listener.name.into(),
        metadata: listener.metadata.clone(),
        chain_name: name.as_str().into(),
        chain_metadata: common_compile::metadata(metadata.as_ref()),
    });
    // `filter_chains` compiles it.
    let _ = filter_chain_match;
    let socket_at = at.field("transport_socket");
    let tls = tls::compile::server(transport_socket.as_ref(), &socket_at, context.tls, problems);
    let connect_timeout = transport_socket_connect_timeout.filter(|timeout| !timeout.is_zero());
    let tls = tls.map(|context| {
        ChainTls::new(context, listener.name, listener.prefix, connect_timeout, registry)
    });
    let at = at.field("filters");
    if filters.is_empty() {
        let why = "a filter chain needs a network filter, such as the HTTP connection manager";
        problems.missing(&at, why);
    }
    let mut in_front = Vec::new();
    let mut speaks = None;
    for (i, filter) in filters.iter().enumerate() {
        let config::Filter { name: _, typed_config } = filter;
        let at = at.index(i).field("typed_config");
        let is_last = i + 1 == filters.len();
        let Some(schema) = typed_config else {
            problems.missing(&at, "a network filter needs its typed_config");
            continue;
        };
        match network_filter(schema, &at, listener, &info, context, registry, problems) {
            Some(NetworkFilter::Filter(filter)) if !is_last => in_front.push(filter),
            Some(NetworkFilter::Last(last)) if is_last => speaks = Some(last),
            Some(NetworkFilter::Filter(_)) => {
                let why = "the last network filter must be one that ends its chain, such as \
                           tcp_proxy or the HTTP connection manager";
                problems.error(&at, why);
            }
            Some(NetworkFilter::Last(_)) => {
                problems.error(&at, "this network filter must be the last one of its chain");
            }
            None => {}
        }
    }
    let filters = Filters::new(in_front);
    if matches!(speaks, Some(Speaks::Http(_))) && filters.has_continuous() {
        let what = "rbac with CONTINUOUS in front of the HTTP connection manager";
        problems.not_implemented(&at, what);
    }
    Some(FilterChain {
        filters: Arc::new(filters),
        speaks: speaks?,
        tls,
        info,
        // `filter_chain` knows these.
        fingerprint: Fingerprint::default(),
        frame: None,
        uses: Arc::default(),
    })
}

/// A compiled network filter.
enum NetworkFilter {
    /// It stands in front of another.
    Filter(Filter),
    /// It ends its chain.
    Last(Speaks),
}

fn network_filter(
    schema: &config::Any,
    at: &Path,
    listener: &Common<'_>,
    info: &Arc<ListenerInfo>,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<NetworkFilter> {
    if let config::Any::HttpConnectionManager(manager) = schema {
        let service = http(manager, at, listener, info, context, registry, problems)?;
        return Some(NetworkFilter::Last(Speaks::Http(Arc::new(service))));
    }
    let has_cluster = |name: &str| (context.cluster)(name).is_some();
    let buckets = context.buckets;
    let context = tcp::compile::Context {
        has_cluster: &has_cluster,
        info,
        buckets,
        registry,
        access_logs: context.access_logs,
    };
    Some(match tcp::compile::network_filter(schema, at, &context, problems)? {
        tcp::compile::NetworkFilter::Filter(filter) => NetworkFilter::Filter(filter),
        tcp::compile::NetworkFilter::Terminal(terminal) => {
            NetworkFilter::Last(Speaks::Tcp(Arc::new(terminal)))
        }
    })
}

/// Where the routes of a connection manager come from; none if there is an error.
fn route_source(schema: &config::Rds, at: &Path, problems: &mut Problems) -> Option<RouteSource> {
    let config::Rds { config_source, route_config_name } = schema;
    source_compile::check_name(route_config_name, &at.field("route_config_name"), problems);
    let at = at.field("config_source");
    let Some(source) = config_source else {
        problems.missing(&at, "rds needs a config_source");
        return None;
    };
    let origin = source_compile::source(source, &at, problems)?;
    check_existence(&origin, source, &at, problems)?;
    Some(RouteSource { name: route_config_name.clone(), origin })
}

fn http(
    manager: &config::HttpConnectionManager,
    at: &Path,
    listener: &Common<'_>,
    info: &Arc<ListenerInfo>,
    context: &Context<'_>,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Service> {
    let prefix = format!("http.{}.", manager.stat_prefix);
    let are_calls_made = Cell::new(context.cluster_filters.make_calls());
    let are_mirrored = Cell::new(!context.cluster_mirrors.is_empty());
    let filter_context =
        filter_context(&prefix, context, (&are_calls_made, &are_mirrored), registry);
    let filters_at = at.field("http_filters");
    let schemas = &manager.http_filters;
    let of_clusters = context.cluster_filters;
    let upstream =
        upstream_filters::of_manager(schemas, of_clusters, &filter_context, &filters_at, problems);
    let upgrades = &manager.upgrade_configs;
    let at_upgrades = at.field("upgrade_configs");
    let upgrades = http_filters::upgrades(upgrades, &filter_context, &at_upgrades, problems);
    let filters =
        http_filters::chain(schemas, upstream, upgrades, &filter_context, &filters_at, problems);
    let source = manager.rds.as_ref();
    let source = source.and_then(|schema| route_source(schema, &at.field("rds"), problems));
    if source.is_some() {
        // Routes that come later may need both.
        are_calls_made.set(true);
        are_mirrored.set(true);
    }
    let routes = match &manager.route_config {
        Some(routes) => {
            let at = at.field("route_config");
            Some(inline_routes(routes, &filters, &filter_context, context, &at, problems))
        }
        None if manager.rds.is_some() => source.is_some().then(route::call::no_routes),
        None => {
            problems.missing(at, "a route_config or rds is required");
            None
        }
    };
    let options = manager::compile(manager, context.node, context.access_logs, at, problems);
    let mut options = options?;
    if let Some(grace) = context.runtime.integer(HALF_CLOSE_GRACE_KEY) {
        options.timeouts.half_close_grace = Duration::from_millis(grace);
    }
    options.premature_resets = premature_resets(context.runtime);
    let calls = || {
        let filters = filters::Chain::of_clusters(Arc::clone(of_clusters));
        callout::compile::service(registry, info, filters)
    };
    let mirrors = || {
        let mut service = calls();
        service.manager.suppress_envoy_headers = options.suppress_envoy_headers;
        service.manager.upstream_logs =
            UpstreamLogs { are_mirrors: true, ..options.upstream_logs.clone() };
        service
    };
    Some(Service {
        calls: are_calls_made.get().then(calls).map(Arc::new),
        mirrors: are_mirrored.get().then(mirrors).map(Arc::new),
        cluster_mirrors: Arc::clone(context.cluster_mirrors),
        manager: options,
        filters,
        routes: Routes::new(routes?, source),
        http: registry.scope(&prefix),
        router: registry.scope(&prefix),
        tracing: registry.scope(&prefix),
        http1: registry.scope("http1."),
        http2: registry.scope("http2."),
        listener_http: registry.scope(&format!("{}{prefix}", listener.prefix)),
        info: Arc::clone(info),
        direction: listener.direction,
        buffer_limit: listener.buffer_limit,
    })
}

/// What HTTP filters and what routes say to them need.
fn filter_context<'a>(
    prefix: &'a str,
    context: &Context<'a>,
    (are_made, are_mirrored): (&'a Cell<bool>, &'a Cell<bool>),
    registry: &'a Registry,
) -> http_filters::Context<'a> {
    http_filters::Context {
        registry,
        stat_prefix: prefix,
        runtime: context.runtime,
        calls: callout::compile::Context { cluster: context.cluster, are_made, are_mirrored },
        local_cluster: &context.node.cluster,
        dns_caches: context.dns_caches,
        secrets: context.tls,
    }
}

/// The routes of a connection manager that are in it, with the clusters that they name.
fn inline_routes(
    schema: &config::RouteConfiguration,
    filters: &filters::Chain,
    filter_context: &http_filters::Context<'_>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> RouteTable {
    let of_filters = context.uses.take();
    let needs = route::compile::Needs { filters, filter_context, cluster: context.cluster };
    let mut table = route::compile::route_table(schema, &needs, at, problems);
    table.uses = context.uses.replace(of_filters);
    table
}
