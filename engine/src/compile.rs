//! Compiles a bootstrap into a [`Snapshot`] and the settings of the control plane.
//!
//! A [`Compiler`] does so again and again: what is the same as in the configuration in force is not compiled
//! again, so it keeps its connections and counts.
//!
//! Invariant: all errors are reported, and a configuration with errors is not used. A value may be
//! absent because it could not be read: then no errors that follow from its absence are reported.

use std::cell::{OnceCell, Ref, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use crate::access_log;
use crate::access_log::files::Files;
use crate::admin_settings;
use crate::config_source::compile::in_words;
use crate::downstream::{self, ListenAddress};
use crate::dynamic_compile::{
    Cause, Change, Dynamic, DynamicSources, Kind, Updated, check_servers, dynamic_sources,
};
use crate::fingerprint::Fingerprint;
use crate::in_force::InForce;
use crate::node::Node;
use crate::request::filters;
use crate::request::mirror;
use crate::resources_compile::{
    Round, check_use_of_clusters, clusters_are_known, management_servers, name_clusters_at_run_time,
};
use crate::runtime::{LayerSource, Layers, Reader};
use crate::runtime_compile::{
    GLOBAL_LIMIT_KEY, check_runtime_keys, compile_overload_manager, compile_runtime, read_once,
};
use crate::snapshot::Snapshot;
use crate::stats::{self, Registry};
use crate::stats_sink::{self, Sink, StatsFlush};
use crate::tcp::compile::SharedBuckets;
use crate::transport::tls::context::compile::Secrets;
use crate::upstream::compile::Surroundings;
use crate::upstream::dns_cache::compile::DnsCaches;
use crate::upstream::numbers::{Number, Numbers, Uses};

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
    /// Where runtime values come from.
    pub runtime: Vec<LayerSource>,
    /// What the compiler needs to know once it is in force.
    pub in_force: InForce,
    /// Where clusters and listeners come from that the bootstrap does not have.
    pub sources: DynamicSources,
}

/// Compiles one configuration after the other.
#[derive(Debug, Default)]
pub struct Compiler {
    numbers: Numbers,
    /// The files of access logs.
    files: Files,
    /// Secrets, and the TLS that uses those from files; none before the first configuration.
    secrets: OnceCell<Rc<Secrets>>,
    buckets: SharedBuckets,
    /// The DNS caches of `dynamic_forward_proxy`.
    dns_caches: DnsCaches,
    /// The clusters that sinks of stats use, which stay what they are when the process starts.
    of_sinks: OnceCell<Uses>,
    in_force: RefCell<InForce>,
    /// The runtime values.
    runtime: Arc<Layers>,
}

/// What is kept of a bootstrap.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// All of it, if it has dynamic resources: then it is compiled again when they change.
    message: Option<config::Bootstrap>,
    /// Its static secrets.
    secrets: Vec<config::Secret>,
}

impl Compiler {
    /// Compiles a bootstrap for the shards of `registry`; `None` when `problems` has errors.
    pub fn compile(
        &self,
        bootstrap: &config::Bootstrap,
        registry: &Registry,
        problems: &mut Problems,
    ) -> Option<Compiled> {
        let secrets = bootstrap.static_resources.as_ref().map_or(&[][..], |it| &it.secrets);
        let before = self.secrets.get().map(|known| known.set_statics(secrets));
        let dynamic = self.in_force.borrow().dynamic.clone();
        let compiled = self.compile_all(bootstrap, &dynamic, Cause::Bootstrap, registry, problems);
        // Until it is committed, nothing has changed.
        if let (Some(before), Some(known)) = (before, self.secrets.get()) {
            drop(known.set_statics(&before));
        }
        compiled.map(|mut compiled| {
            let message = compiled.sources.any().then(|| bootstrap.clone());
            let bootstrap = Bootstrap { message, secrets: secrets.to_vec() };
            compiled.in_force.bootstrap = Some(Rc::new(bootstrap));
            compiled.in_force.dynamic = dynamic;
            compiled
        })
    }

    /// Compiles the bootstrap again with changed dynamic resources of a kind: the usable ones among them. One that
    /// is not usable stays what it was, if there was one of its name.
    /// So does one that is `unusable`, for a reason that only shows when it is put into force.
    pub fn update(
        &self,
        kind: Kind,
        change: Change,
        unusable: &HashMap<String, String>,
        registry: &Registry,
    ) -> Updated {
        let kept = self.in_force.borrow().bootstrap.clone();
        let Some(bootstrap) = kept.as_ref().and_then(|kept| kept.message.as_ref()) else {
            return Updated { compiled: None, rejected: None };
        };
        let mut dynamic = self.in_force.borrow().dynamic.clone();
        let version = change.version.clone();
        let before = dynamic.apply(kind, change);
        let mut rejected: Option<String> = None;
        if !unusable.is_empty() || !dynamic.are_of_kind(kind) {
            rejected = Some(dynamic.reject(kind, &before, unusable, &Problems::default()));
        }
        loop {
            let mut problems = Problems::default();
            let compiled =
                self.compile_all(bootstrap, &dynamic, Cause::Update, registry, &mut problems);
            if let Some(mut compiled) = compiled {
                dynamic.note_version(kind, &version, &before);
                compiled.in_force.dynamic = dynamic;
                compiled.in_force.bootstrap.clone_from(&kept);
                return Updated { compiled: Some(compiled), rejected };
            }
            let why = dynamic.reject(kind, &before, &HashMap::new(), &problems);
            if why.is_empty() {
                // It is not because of these resources.
                return Updated { compiled: None, rejected: Some(in_words(&problems)) };
            }
            rejected = Some(rejected.map_or_else(|| why.clone(), |all| format!("{all}; {why}")));
        }
    }

    /// A compiled configuration is in force from now on.
    pub fn commit(&self, in_force: InForce) {
        if let (Some(kept), Some(known)) = (&in_force.bootstrap, self.secrets.get()) {
            drop(known.set_statics(&kept.secrets));
        }
        *self.in_force.borrow_mut() = in_force;
        self.numbers.collect();
    }

    /// The secrets of all configurations so far; none before the first one.
    #[must_use]
    pub fn secrets(&self) -> Option<&Rc<Secrets>> {
        self.secrets.get()
    }

    /// The runtime values.
    #[must_use]
    pub const fn runtime(&self) -> &Arc<Layers> {
        &self.runtime
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Ref<'_, InForce> {
        self.in_force.borrow()
    }

    /// The numbers of clusters.
    pub(crate) const fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The DNS caches that are in use.
    pub(crate) const fn dns_caches(&self) -> &DnsCaches {
        &self.dns_caches
    }

    /// The files of access logs.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }
}

/// Envoy's default of `stats_flush_interval`.
const STATS_FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// Compiles a bootstrap once: see [`Compiler::compile`].
pub fn bootstrap(
    bootstrap: &config::Bootstrap,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Compiled> {
    Compiler::default().compile(bootstrap, registry, problems)
}

impl Compiler {
    #[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
    fn compile_all(
        &self,
        bootstrap: &config::Bootstrap,
        dynamic: &Dynamic,
        cause: Cause,
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
        let sources = dynamic_resources
            .as_ref()
            .map(|schema| dynamic_sources(schema, &root.field("dynamic_resources"), problems))
            .unwrap_or_default();
        let empty = config::StaticResources::default();
        let config::StaticResources { listeners, clusters: schemas, secrets } =
            static_resources.as_ref().unwrap_or(&empty);
        let all_clusters = || {
            let dynamic = dynamic.clusters().map(|it| (it.schema, it.at));
            Round::statics(schemas, "clusters").map(|it| (it.schema, it.at)).chain(dynamic)
        };
        let mirroring = all_clusters().filter_map(|(it, _)| mirror::compile::described(it));
        let filtering =
            all_clusters().filter_map(|(it, _)| filters::upstream_compile::described(it));
        let filtering: Vec<_> = filtering.collect();
        let mirroring: Vec<_> = mirroring.collect();
        let read_once = read_once(layered_runtime.as_ref());
        let around = (secrets, read_once, overload_manager, cluster_manager, mirroring, filtering);
        let round = Round {
            surroundings: Fingerprint::of(&around, 0).number(),
            registry,
            before: self.in_force.borrow(),
            dynamic,
            cause,
        };
        let fixed: [(_, &dyn fmt::Debug); _] = [
            ("node", node),
            ("admin", admin),
            ("stats_flush_interval", stats_flush_interval),
            ("stats_flush_on_admin", stats_flush_on_admin),
            ("stats_config", stats_config),
            ("stats_sinks", stats_sinks),
            ("dynamic_resources", dynamic_resources),
            ("application_log_config", application_log_config),
        ];
        let mut next = InForce { fixed: round.fixed(&fixed, problems), ..InForce::default() };
        if let Some(schema) = stats_config {
            let rules = stats::compile::rules(schema, &root.field("stats_config"), problems);
            if round.is_first() {
                registry.set_rules(rules);
            }
        }
        let resources = root.field("static_resources");
        let node = compile_node(node.as_ref(), &root.field("node"), problems);
        let node = if round.is_first() { node } else { round.before.node.clone() };
        let has_identity = !node.id.is_empty() && !node.cluster.is_empty();
        let secrets = self
            .secrets
            .get_or_init(|| Rc::new(Secrets::new(secrets, registry.shards(), has_identity)));
        let locality = node.locality();
        let manager = cluster_manager.as_ref();
        let dns_caches = &self.dns_caches;
        dns_caches.begin_round();
        let proxy =
            Surroundings { locality: &locality, manager, numbers: &self.numbers, dns_caches };
        let clusters = round.clusters(schemas, &proxy, secrets, problems, &mut next);
        let layers = compile_runtime(
            layered_runtime.as_ref(),
            &root.field("layered_runtime"),
            &node.cluster,
            problems,
        );
        if round.is_first() {
            self.runtime.configure(layers.clone());
        }
        let runtime = match cause {
            Cause::Bootstrap => self.runtime.preview(&layers),
            Cause::Update => self.runtime.current(),
        };
        let at = root.field("overload_manager");
        let max_connections = overload_manager
            .as_ref()
            .and_then(|manager| compile_overload_manager(manager, &at, problems));
        let reader = Reader::new(&runtime);
        let listeners_at = resources.field("listeners");
        let none = listeners.is_empty() && sources.listeners.is_none();
        if none && problems.is_left_out(&listeners_at) {
            problems.warn(&listeners_at, "there is no listener: no request will be served");
        }
        let by_name: HashMap<&str, &Arc<Number>> =
            clusters.iter().map(|cluster| (&*cluster.name, &cluster.number)).collect();
        // While some names are unknown, any name may be one of them: the result is not used then.
        let are_clusters_known = clusters_are_known(&clusters, problems);
        if !are_clusters_known && !listeners.is_empty() {
            problems.not_checked("whether the clusters that routes refer to exist");
        }
        if are_clusters_known {
            check_servers(&sources, has_identity, |name| by_name.contains_key(name), problems);
        }
        let local_cluster = cluster_manager.as_ref().map_or("", |it| &it.local_cluster_name);
        if are_clusters_known && !local_cluster.is_empty() && !by_name.contains_key(local_cluster) {
            let at = root.field("cluster_manager").field("local_cluster_name");
            problems.error(&at, format!("there is no static cluster '{local_cluster}'"));
        }
        let any_name = if are_clusters_known { None } else { Some(0) };
        // A cluster may come that is not there yet.
        let may_come = sources.clusters.is_some() && !dynamic.has_clusters;
        let uses = RefCell::new(Uses::default());
        let find_cluster = |name: &str| {
            let known = by_name.get(name).map(|number| Arc::clone(number));
            let number = known.or_else(|| may_come.then(|| self.numbers.of(name)));
            uses.borrow_mut().note(name, number.as_ref());
            number.map(|number| number.index()).or(any_name)
        };
        let mirrored_to = |name: &str| {
            find_cluster(name);
        };
        let cluster_mirrors =
            mirror::compile::of_clusters(all_clusters(), &reader, &mirrored_to, problems);
        let around = filters::upstream_compile::Surroundings {
            registry,
            runtime: &reader,
            cluster: &find_cluster,
            local_cluster: &node.cluster,
            dns_caches,
            secrets,
        };
        let cluster_filters =
            filters::upstream_compile::of_clusters(all_clusters(), &around, problems);
        // Mirrors of clusters, and calls of their filters.
        let used_by_clusters = uses.take();
        let wanted = [max_connections, reader.integer(GLOBAL_LIMIT_KEY)];
        next.limits = round.limits(wanted);
        let [overload_limit, runtime_limit] = next.limits.clone();
        let files = &self.files;
        let known = round.known(&by_name);
        let names = downstream::compile::Context {
            cluster: &find_cluster,
            uses: &uses,
            known: &known,
            node: &node,
            runtime: &reader,
            buckets: &self.buckets,
            dns_caches,
            access_logs: access_log::compile::Context {
                files,
                registry,
                runtime: &reader,
                cluster: &find_cluster,
            },
            tls: secrets,
            overload_limit,
            cluster_mirrors: &Arc::new(cluster_mirrors),
            cluster_filters: &Arc::new(cluster_filters),
            runtime_limit,
        };
        let compiled = round.listeners(listeners, &names, &by_name, problems, &mut next);
        // What is in force already is not compiled again, and does not read its keys.
        if round.is_first() {
            check_runtime_keys(&layers, &reader, listeners, problems);
        }
        let stats_sinks = {
            let at = root.field("stats_sinks");
            stats_sink::compile::sinks(stats_sinks, names.cluster, &at, problems)
        };
        let routes = known.changes();
        let of_sinks = self.of_sinks.get_or_init(|| uses.take());
        if are_clusters_known && !listeners.is_empty() && !sources.any() {
            let is_any_used = name_clusters_at_run_time(listeners, &compiled, &routes);
            let chains = compiled.iter().flat_map(|listener| listener.filter_chains.all());
            let of_listeners = chains.flat_map(|chain| chain.numbers(&routes));
            let used = of_listeners
                .chain([of_sinks, &used_by_clusters].into_iter().flat_map(Uses::numbers));
            let servers = management_servers(&clusters, &compiled, secrets);
            let servers = servers.iter().filter_map(|name| by_name.get(name.as_str()));
            let used = used.chain(servers.map(|number| number.index())).collect();
            check_use_of_clusters(&clusters, &used, is_any_used, &resources, problems);
        }
        let (admin, admin_settings) = admin.as_ref().map_or_else(Default::default, |schema| {
            let at = root.field("admin");
            admin_settings::compile::admin(schema, &at, names.access_logs, problems)
        });
        let log_format = application_log_config.as_ref().and_then(log_format);
        next.node = node.clone();
        (!problems.has_errors()).then(|| Compiled {
            snapshot: Arc::new(Snapshot { listeners: compiled, clusters, routes }),
            admin,
            admin_settings,
            stats_flush: match stats_flush_on_admin {
                Some(true) => StatsFlush::OnAdmin,
                _ => StatsFlush::Every(stats_flush_interval.unwrap_or(STATS_FLUSH_INTERVAL)),
            },
            stats_sinks,
            log_format,
            node,
            runtime: layers,
            in_force: next,
            sources,
        })
    }
}
/// The format of the operational log, as `--log-format` has it. A JSON object is one whose texts have
/// specifiers.
fn log_format(schema: &config::ApplicationLogConfig) -> Option<String> {
    let config::ApplicationLogConfig { log_format } = schema;
    let config::ApplicationLogFormat { json_format, text_format } = log_format.as_ref()?;
    text_format.clone().or_else(|| json_format.as_ref().map(ToString::to_string))
}

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
#[path = "refused_tests.rs"]
mod refused;
