//! Compiles a bootstrap into a [`Snapshot`] and the settings of the control plane.
//!
//! Invariant: all errors are reported, and a configuration with errors is not used. A value may be
//! absent because it could not be read: then no errors that follow from its absence are reported.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use crate::access_log;
use crate::access_log::files::Files;
use crate::admin_settings;
use crate::downstream::compile::{HALF_CLOSE_GRACE_KEY, PREMATURE_RESET_KEYS};
use crate::downstream::connection_limit::ConnectionLimit;
use crate::downstream::filter_chain::{FilterChain, Speaks};
use crate::downstream::{self, ListenAddress, Listener};
use crate::node::Node;
use crate::request::mirror;
use crate::runtime::{Reader, Runtime};
use crate::snapshot::Snapshot;
use crate::stats::{self, Registry};
use crate::stats_sink::{self, Sink, StatsFlush};
use crate::tcp::compile::SharedBuckets;
use crate::transport::tls::context::compile::Secrets;
use crate::upstream;
use crate::upstream::cluster::Cluster;
use crate::upstream::compile::Surroundings;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Compiled {
    /// For the shards.
    pub snapshot: Arc<Snapshot>,
    /// Where the admin endpoint listens, if it is enabled.
    pub admin: Option<ListenAddress>,
    /// What else the configuration says about it.
    pub admin_settings: admin_settings::Settings,
    /// When stats are flushed.
    pub stats_flush: StatsFlush,
    /// Where they go then.
    pub stats_sinks: Vec<Sink>,
    /// `application_log_config`: the format of the operational log, if it is set.
    pub log_format: Option<String>,
    /// The identity of this proxy.
    pub node: Node,
    /// The runtime values.
    pub runtime: Runtime,
    /// Secrets, and the TLS that uses those from files.
    pub secrets: Secrets,
    /// For the writer of access logs.
    pub access_logs: access_log::files::Work,
}

/// Envoy's default of `stats_flush_interval`.
const STATS_FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// Compiles a bootstrap for the shards of `registry`; `None` when `problems` has errors.
#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub fn bootstrap(
    bootstrap: &config::Bootstrap,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Compiled> {
    let root = Path::root();
    let config::Bootstrap {
        node,
        static_resources,
        stats_flush_interval,
        admin,
        layered_runtime,
        overload_manager,
        dynamic_resources,
        cluster_manager,
        stats_config,
        stats_sinks,
        stats_flush_on_admin,
        application_log_config,
    } = bootstrap;
    // Only their empty values are accepted.
    let _ = dynamic_resources;
    if let Some(schema) = stats_config {
        let rules = stats::compile::rules(schema, &root.field("stats_config"), problems);
        registry.set_rules(rules);
    }
    let empty = config::StaticResources::default();
    let config::StaticResources { listeners, clusters: schemas, secrets } =
        static_resources.as_ref().unwrap_or(&empty);
    let resources = root.field("static_resources");
    let at = resources.field("clusters");
    let node = compile_node(node.as_ref(), &root.field("node"), problems);
    let has_identity = !node.id.is_empty() && !node.cluster.is_empty();
    let secrets = Secrets::new(secrets, registry.shards(), has_identity);
    let locality = node.locality();
    let proxy = Surroundings { locality: &locality, manager: cluster_manager.as_ref() };
    let clusters = upstream::compile::clusters(schemas, &at, &proxy, registry, &secrets, problems);
    let runtime =
        compile_runtime(layered_runtime.as_ref(), &root.field("layered_runtime"), problems);
    let at = root.field("overload_manager");
    let max_connections = overload_manager
        .as_ref()
        .and_then(|manager| compile_overload_manager(manager, &at, problems));
    let reader = Reader::new(&runtime);
    let listeners_at = resources.field("listeners");
    if listeners.is_empty() && problems.is_left_out(&listeners_at) {
        problems.warn(&listeners_at, "there is no listener: no request will be served");
    }
    let by_name: HashMap<&str, usize> =
        clusters.iter().enumerate().map(|(index, cluster)| (&*cluster.name, index)).collect();
    // While some names are unknown, any name may be one of them: the result is not used then.
    let are_clusters_known = clusters_are_known(&clusters, problems);
    if !are_clusters_known && !listeners.is_empty() {
        problems.not_checked("whether the clusters that routes refer to exist");
    }
    let any_name = if are_clusters_known { None } else { Some(0) };
    let files = Files::default();
    let used = RefCell::new(HashSet::new());
    let find_cluster = |name: &str| {
        let found = by_name.get(name).copied();
        used.borrow_mut().extend(found);
        found.or(any_name)
    };
    let mirrored_to = |name: &str| {
        find_cluster(name);
    };
    let at = resources.field("clusters");
    let cluster_mirrors =
        mirror::compile::of_clusters(schemas, &reader, &mirrored_to, &at, problems);
    let names = downstream::compile::Context {
        cluster: &find_cluster,
        node: &node,
        runtime: &reader,
        buckets: &SharedBuckets::default(),
        access_logs: access_log::compile::Context { files: &files, registry, runtime: &reader },
        tls: &secrets,
        overload_limit: max_connections.map(ConnectionLimit::new),
        cluster_mirrors: &Arc::new(cluster_mirrors),
        runtime_limit: reader.integer(GLOBAL_LIMIT_KEY).map(ConnectionLimit::new),
    };
    let compiled = compile_listeners(listeners, &names, &resources, registry, problems);
    check_runtime_keys(&runtime, &reader, listeners, problems);
    let stats_sinks = {
        let at = root.field("stats_sinks");
        stats_sink::compile::sinks(stats_sinks, names.cluster, &at, problems)
    };
    if are_clusters_known && !listeners.is_empty() {
        let is_any_used = name_clusters_at_run_time(listeners, &compiled);
        check_use_of_clusters(&clusters, &used.borrow(), is_any_used, &resources, problems);
    }
    let (admin, admin_settings) = admin.as_ref().map_or_else(Default::default, |schema| {
        admin_settings::compile::admin(schema, &root.field("admin"), names.access_logs, problems)
    });
    let log_format = application_log_config.as_ref().and_then(log_format);
    (!problems.has_errors()).then(|| Compiled {
        snapshot: Arc::new(Snapshot { listeners: compiled, clusters }),
        admin,
        admin_settings,
        stats_flush: match stats_flush_on_admin {
            Some(true) => StatsFlush::OnAdmin,
            _ => StatsFlush::Every(stats_flush_interval.unwrap_or(STATS_FLUSH_INTERVAL)),
        },
        stats_sinks,
        log_format,
        node,
        runtime,
        secrets,
        access_logs: files.into_work(),
    })
}

/// Whether a request, or a network filter, may name any cluster.
fn name_clusters_at_run_time(schemas: &[config::Listener], compiled: &[Arc<Listener>]) -> bool {
    let by_header = |chain: &FilterChain| match &chain.speaks {
        Speaks::Http(service) => service.routes.name_clusters_at_run_time(),
        Speaks::Tcp(_) => false,
    };
    let by_filter = |filter: &config::Filter| {
        matches!(
            filter.typed_config,
            Some(config::Any::SniCluster(_) | config::Any::NetworkSetFilterState(_))
        )
    };
    let mut chains =
        schemas.iter().flat_map(|it| it.filter_chains.iter().chain(&it.default_filter_chain));
    compiled.iter().any(|listener| listener.filter_chains.all().iter().any(by_header))
        || chains.any(|chain| chain.filters.iter().any(by_filter))
}

/// Warns of clusters that nothing uses, and of those without hosts that something does use.
fn check_use_of_clusters(
    clusters: &[Arc<Cluster>],
    used: &HashSet<usize>,
    is_any_used: bool,
    resources: &Path,
    problems: &mut Problems,
) {
    if problems.has_errors() {
        return;
    }
    let at = resources.field("clusters");
    for (index, cluster) in clusters.iter().enumerate() {
        let at = at.index(index);
        if !used.contains(&index) {
            if !is_any_used {
                problems.warn(&at.field("name"), "nothing uses this cluster");
            }
        } else if !cluster.discovery.has_any() {
            let why = "this cluster has no hosts: what is forwarded to it is answered with 503";
            problems.warn(&at, why);
        }
    }
}

/// The format of the operational log, as `--log-format` has it. A JSON object is one whose texts have
/// specifiers.
fn log_format(schema: &config::ApplicationLogConfig) -> Option<String> {
    let config::ApplicationLogConfig { log_format } = schema;
    let config::ApplicationLogFormat { json_format, text_format } = log_format.as_ref()?;
    text_format.clone().or_else(|| json_format.as_ref().map(ToString::to_string))
}

/// Whether the names of all clusters could be read.
fn clusters_are_known(clusters: &[Arc<Cluster>], problems: &Problems) -> bool {
    let names = clusters.iter().map(|cluster| &*cluster.name);
    let others = Path::root().field("dynamic_resources");
    names_are_read("clusters", names, problems) && problems.is_read_whole(&others)
}

/// Whether these are all the names, as configured, of the messages in this list of
/// `static_resources`.
fn names_are_read<'a>(
    list: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
    problems: &Problems,
) -> bool {
    let resources = Path::root().field("static_resources");
    let at = resources.field(list);
    if names.len() == 0 {
        return problems.is_left_out(&resources) && problems.is_left_out(&at);
    }
    names.enumerate().all(|(i, name)| {
        let at = at.index(i).field("name");
        if name.is_empty() { problems.is_left_out(&at) } else { problems.is_read(&at) }
    })
}

fn compile_runtime(
    layered: Option<&config::LayeredRuntime>,
    at: &Path,
    problems: &mut Problems,
) -> Runtime {
    let mut runtime = Runtime::default();
    let Some(config::LayeredRuntime { layers }) = layered else { return runtime };
    for (index, layer) in layers.iter().enumerate() {
        let config::RuntimeLayer { name, static_layer } = layer;
        if layers.iter().take(index).any(|other| other.name == *name) {
            let message = format!("duplicate layer name: {name}");
            problems.error(&at.field("layers").index(index).field("name"), message);
        }
        for key in runtime.push(name, static_layer.as_ref().unwrap_or(&serde_json::json!({}))) {
            let at = at.field("layers").index(index).field("static_layer");
            problems.error(&at, format!("Invalid runtime entry value for {key}"));
        }
    }
    runtime
}

/// Warns of keys that Corvoy does not read; in Envoy they are not an error. An invalid value of a key
/// that is Corvoy's own is an error.
fn check_runtime_keys(
    runtime: &Runtime,
    reader: &Reader<'_>,
    listeners: &[config::Listener],
    problems: &mut Problems,
) {
    let names = listeners.iter().map(|listener| &*listener.name);
    let are_listeners_known = names_are_read("listeners", names, problems);
    let at = Path::root().field("layered_runtime").field("layers");
    for (layer, key) in runtime.keys() {
        let at = at.index(layer).field("static_layer");
        if key == HALF_CLOSE_GRACE_KEY && runtime.integer(key).is_none() {
            problems.error(&at, format!("'{key}' must be an integer number of milliseconds"));
        }
        let is_known = [GLOBAL_LIMIT_KEY, HALF_CLOSE_GRACE_KEY].contains(&key)
            || reader.has_read(key)
            || PREMATURE_RESET_KEYS.contains(&key)
            || listeners
                .iter()
                .any(|listener| key == downstream::compile::limit_key(&listener.name));
        if !is_known && are_listeners_known {
            problems.warn(&at, format!("'{key}' has no effect: Corvoy does not read it"));
        }
    }
}

/// The limit on downstream connections, if the overload manager sets one.
fn compile_overload_manager(
    manager: &config::OverloadManager,
    at: &Path,
    problems: &mut Problems,
) -> Option<u64> {
    let config::OverloadManager { resource_monitors } = manager;
    let mut max_connections = None;
    for (index, monitor) in resource_monitors.iter().enumerate() {
        let at = at.field("resource_monitors").index(index);
        let config::ResourceMonitor { name, typed_config } = monitor;
        let Some(config::Any::DownstreamConnectionsConfig(options)) = typed_config else {
            let why = format!("Corvoy supports only the resource monitor {CONNECTIONS_MONITOR}");
            problems.missing(&at.field("typed_config"), why);
            continue;
        };
        // Envoy finds resource monitors by their names.
        if name != CONNECTIONS_MONITOR {
            let why = format!("the name of this resource monitor must be {CONNECTIONS_MONITOR}");
            problems.error(&at.field("name"), why);
        }
        if max_connections.is_some() {
            problems.error(&at, format!("Duplicate resource monitor {name}"));
        }
        let config::DownstreamConnectionsConfig { max_active_downstream_connections } = **options;
        max_connections = u64::try_from(max_active_downstream_connections).ok();
    }
    max_connections
}

const CONNECTIONS_MONITOR: &str = "envoy.resource_monitors.global_downstream_max_connections";

/// The runtime key of the limit on all connections, used if no overload manager sets it.
const GLOBAL_LIMIT_KEY: &str = "overload.global_downstream_max_connections";

fn compile_node(node: Option<&config::Node>, at: &Path, problems: &mut Problems) -> Node {
    let empty = config::Node::default();
    let config::Node { id, cluster, metadata, locality } = node.unwrap_or(&empty);
    // `add_user_agent` sends both.
    check_header_value(id, &at.field("id"), problems);
    check_header_value(cluster, &at.field("cluster"), problems);
    let config::Locality { region, zone, sub_zone } = locality.clone().unwrap_or_default();
    Node {
        id: id.clone(),
        cluster: cluster.clone(),
        metadata: metadata.clone().unwrap_or_else(|| serde_json::json!({})),
        region,
        zone,
        sub_zone,
    }
}

fn compile_listeners(
    listeners: &[config::Listener],
    known: &downstream::compile::Context<'_>,
    at: &Path,
    registry: &Registry,
    problems: &mut Problems,
) -> Vec<Arc<Listener>> {
    let at = at.field("listeners");
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    let mut compiled = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.iter().enumerate() {
        let at = at.index(index);
        if !listener.name.is_empty() && !names.insert(&listener.name) {
            let message = format!("duplicate listener name '{}'", listener.name);
            problems.error(&at.field("name"), message);
        }
        let Some(listener) =
            downstream::compile::listener(listener, &at, known, registry, problems)
        else {
            continue;
        };
        for ListenAddress { address, .. } in &listener.addresses {
            if address.port() != Some(0) && !addresses.insert(*address) {
                let message = format!("'{}' has duplicate address '{address}'", listener.name);
                problems.error(&at.field("address"), message);
            }
        }
        compiled.push(Arc::new(listener));
    }
    compiled
}

/// Rejects a text with a control character, which would end or corrupt the line of a head.
pub(crate) fn check_header_value(text: &str, at: &Path, problems: &mut Problems) {
    if text.chars().any(|c| c.is_ascii_control() && c != '\t') {
        let text = text.escape_debug();
        problems.error(
            at,
            format!("`{text}` is not a valid header value: it contains a control character"),
        );
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod broken;

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of a configuration, as `path: message`.
    fn problems(yaml: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let source = config::Source::new().merge_yaml("test", yaml);
        if let Some(loaded) = config::load(&source, &mut problems) {
            let _compiled = bootstrap(&loaded.bootstrap, &Registry::new(1), &mut problems);
        }
        problems.errors().map(|it| format!("{}: {}", it.path, it.message)).collect()
    }

    fn listeners(listeners: &[(&str, &str)]) -> String {
        let listeners = listeners.iter().map(|(name, address)| {
            format!(
                r#"
  - name: {name}{address}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/{MANAGER}
          stat_prefix: front
          route_config: {{}}
          http_filters: [{{ name: envoy.filters.http.router }}]"#
            )
        });
        format!("static_resources:\n  listeners:{}", listeners.collect::<String>())
    }

    const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.\
                           HttpConnectionManager";

    fn at(ip: &str, port: u16) -> String {
        let address = format!("{{ address: \"{ip}\", port_value: {port} }}");
        format!("\n    address: {{ socket_address: {address} }}")
    }

    #[test]
    fn a_listener_needs_an_address() {
        for address in ["", "\n    address: ~"] {
            assert_eq!(
                problems(&listeners(&[("a", address)])),
                ["static_resources.listeners[0].address: address is necessary"]
            );
        }
    }

    #[test]
    fn two_listeners_may_share_an_address_only_with_port_0() {
        let two = |a: String, b: String| problems(&listeners(&[("a", &a), ("b", &b)]));
        assert_eq!(two(at("127.0.0.1", 0), at("127.0.0.1", 0)), [""; 0]);
        assert_eq!(two(at("127.0.0.1", 80), at("127.0.0.2", 80)), [""; 0]);
        assert_eq!(
            two(at("::1", 80), at("0:0::1", 80)),
            ["static_resources.listeners[1].address: 'b' has duplicate address '[::1]:80'"]
        );
    }

    #[test]
    fn all_filters_of_all_chains_are_checked() {
        let config = listeners(&[("a", &at("127.0.0.1", 80))]);
        let (before, chain) = config.split_once("    - filters:").unwrap();
        let router = "{ name: envoy.filters.http.router }";
        let second =
            chain.replace(router, "{ name: envoy.filters.http.router, disabled: true }, ROUTER");
        let second = second.replace("ROUTER", router);
        let chains = "static_resources.listeners[0].filter_chains";
        let filters = format!("{chains}[1].filters[0].typed_config.http_filters");
        assert_eq!(
            problems(&format!("{before}    - filters:{chain}\n    - filters:{second}")),
            [
                format!("{filters}[0].typed_config: the router must be the last HTTP filter"),
                format!(
                    "{chains}[1]: this filter chain matches connections that another one matches \
                     just as specifically"
                ),
            ]
        );
    }

    #[test]
    fn names_of_nodes_and_hosts_must_be_valid_in_a_head() {
        let endpoint = r#"{ endpoint: { hostname: "a b", address: { socket_address:
            { address: 127.0.0.1, port_value: 80 } } } }"#;
        let clusters = format!(
            "[{{ name: a, load_assignment: {{ cluster_name: a, endpoints: [{{ lb_endpoints: \
             [{endpoint}] }}] }} }}]"
        );
        let config = format!(
            r#"{{ node: {{ id: "a\nb", cluster: "c\td" }}, static_resources: {{ clusters: {clusters} }} }}"#
        );
        assert_eq!(
            problems(&config),
            [
                "node.id: `a\\nb` is not a valid header value: it contains a control character",
                "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint\
                 .hostname: `a b` contains white space or a control character",
            ]
        );
    }

    #[test]
    fn a_resource_monitor_is_found_by_its_name_and_must_not_be_repeated() {
        let typed = "typed_config: { \"@type\": type.googleapis.com/envoy.extensions.\
                     resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, \
                     max_active_downstream_connections: 5 }";
        let monitors = |names: &[&str]| {
            let monitors = names.iter().map(|name| format!("{{ name: {name}, {typed} }}"));
            let monitors = monitors.collect::<Vec<_>>().join(", ");
            problems(&format!("overload_manager: {{ resource_monitors: [{monitors}] }}"))
        };
        assert_eq!(monitors(&[CONNECTIONS_MONITOR]), [""; 0]);
        assert_eq!(monitors(&["foo"]).len(), 1);
        assert_eq!(
            monitors(&[CONNECTIONS_MONITOR, CONNECTIONS_MONITOR]),
            [format!(
                "overload_manager.resource_monitors[1]: \
                 Duplicate resource monitor {CONNECTIONS_MONITOR}"
            )]
        );
    }

    #[test]
    fn a_grace_is_a_number_of_milliseconds() {
        let grace = |value: &str| {
            let values = format!("{{ corvoy: {{ http: {{ half_close_grace_ms: {value} }} }} }}");
            problems(&format!(
                "layered_runtime: {{ layers: [{{ name: a, static_layer: {values} }}] }}"
            ))
        };
        assert_eq!(grace("250"), [""; 0]);
        assert_eq!(
            grace("1s"),
            [
                "layered_runtime.layers[0].static_layer: 'corvoy.http.half_close_grace_ms' must be an \
                 integer number of milliseconds"
            ]
        );
    }

    #[test]
    fn a_list_is_not_a_runtime_value() {
        let layer = "layered_runtime: { layers: [{ name: a, static_layer: { b: { c: [1] } } }] }";
        assert_eq!(
            problems(layer),
            ["layered_runtime.layers[0].static_layer: Invalid runtime entry value for b.c"]
        );
    }
}
