//! What a dump has: the resources of the bootstrap, and those that came while the process runs with what has become
//! of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::endpoints::ClusterEndpoints;
use super::{
    BOOTSTRAP, CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, SCOPED_ROUTES, SECRETS, Sections, typed,
};
use crate::control::loaded::LoadedResources;
use crate::dynamic_compile::{Failed, Kind, Loaded};
use crate::text_matcher::FullRegex;
use crate::transport::tls::context::compile::ShownSecret;

/// The current configuration.
#[derive(Debug)]
pub struct ConfigDump {
    /// What the bootstrap has.
    pub statics: Arc<StaticDump>,
    /// What came from elsewhere.
    pub(in crate::control) loaded: LoadedResources,
    /// The hosts of the clusters; none: they are not wanted.
    pub endpoints: Option<Vec<ClusterEndpoints>>,
    /// Whether anything has routes.
    pub has_routes: bool,
}

/// The resources of the bootstrap.
#[derive(Clone, Debug)]
pub struct StaticDump {
    /// `envoy.config.bootstrap.v3.Bootstrap` as JSON with the field names of the protos: as text, which takes a tenth
    /// of the memory of a tree.
    bootstrap: Arc<str>,
    /// The names of its clusters.
    clusters: Vec<String>,
    /// When it was loaded.
    last_updated: SystemTime,
    /// Secrets from elsewhere.
    pub dynamic_secrets: Vec<ShownSecret>,
}

/// The resources of the bootstrap while they are shown: its clusters by name, its listeners, and the route
/// configurations in them.
struct Statics<'a> {
    bootstrap: Value,
    clusters: Vec<Value>,
    listeners: Vec<Value>,
    route_configs: Vec<Value>,
    secrets: Vec<Value>,
    last_updated: SystemTime,
    dynamic_secrets: &'a [ShownSecret],
}

impl StaticDump {
    /// The resources of a bootstrap.
    pub fn of_bootstrap(bootstrap: &Value, last_updated: SystemTime) -> Self {
        let clusters = resources(bootstrap, "clusters");
        Self {
            clusters: clusters.iter().map(|cluster| name(cluster).to_owned()).collect(),
            dynamic_secrets: Vec::new(),
            last_updated,
            bootstrap: bootstrap.to_string().into(),
        }
    }

    /// The names of the clusters.
    pub fn cluster_names(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(String::as_str)
    }

    fn read(&self) -> Statics<'_> {
        let bootstrap: Value = serde_json::from_str(&self.bootstrap).unwrap_or_default();
        let listeners = resources(&bootstrap, "listeners").to_vec();
        let route_configs = listeners.iter().flat_map(route_configs).cloned().collect();
        let mut clusters = resources(&bootstrap, "clusters").to_vec();
        clusters.sort_by(|a, b| name(a).cmp(name(b)));
        let mut secrets = resources(&bootstrap, "secrets").to_vec();
        secrets.sort_by_key(|secret| (kind_of_secret(secret), name(secret).to_owned()));
        Statics {
            clusters,
            listeners,
            route_configs,
            secrets,
            dynamic_secrets: &self.dynamic_secrets,
            last_updated: self.last_updated,
            bootstrap,
        }
    }
}

/// A list of `static_resources`.
fn resources<'a>(bootstrap: &'a Value, kind: &str) -> &'a [Value] {
    let resources = bootstrap.get("static_resources").and_then(|all| all.get(kind));
    resources.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Statics<'_> {
    /// A list of static resources; each has its key in front.
    fn list(&self, resources: &[Value], key: &str, kind: &str, wanted: Wanted<'_>) -> Value {
        let resources = resources.iter().filter(|resource| wanted.takes(name(resource)));
        let elements =
            resources.map(|resource| state(key, kind, resource.clone(), None, self.last_updated));
        elements.map(Value::from).collect()
    }

    /// `envoy.admin.v3.SecretsConfigDump`
    fn secrets(&self, wanted: Wanted<'_>) -> Map<String, Value> {
        let is_wanted = |name: &str| wanted.takes(name);
        let with_type =
            |secret: &Value| typed(SECRET, secret.as_object().cloned().unwrap_or_default());
        let statics = self.secrets.iter().filter(|secret| is_wanted(name(secret)));
        let statics =
            statics.map(|secret| json!({ "name": name(secret), "secret": with_type(secret) }));
        let (mut active, mut warming) = (Vec::new(), Vec::new());
        for shown in self.dynamic_secrets.iter().filter(|shown| is_wanted(&shown.name)) {
            let mut element = Map::new();
            element.insert("name".to_owned(), shown.name.clone().into());
            if !shown.version.is_empty() {
                element.insert("version_info".to_owned(), shown.version.clone().into());
            }
            element.insert("last_updated".to_owned(), timestamp(shown.updated));
            let missing = json!({ "name": shown.name });
            let secret = with_type(shown.json.as_ref().unwrap_or(&missing));
            element.insert("secret".to_owned(), secret);
            let list = if shown.json.is_some() { &mut active } else { &mut warming };
            list.push(Value::from(element));
        }
        let lists = [
            ("static_secrets", statics.collect()),
            ("dynamic_active_secrets", active),
            ("dynamic_warming_secrets", warming),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        lists.map(|(field, list)| (field.to_owned(), list.into())).collect()
    }
}

/// Which names are wanted; none: all.
#[derive(Clone, Copy)]
struct Wanted<'a>(Option<&'a FullRegex>);

impl Wanted<'_> {
    fn takes(self, name: &str) -> bool {
        self.0.is_none_or(|wanted| wanted.matches(name.as_bytes()))
    }
}

impl ConfigDump {
    /// Of a bootstrap alone.
    #[must_use]
    pub fn of_statics(statics: StaticDump) -> Self {
        let (statics, loaded) = (Arc::new(statics), LoadedResources::default());
        Self { statics, loaded, endpoints: None, has_routes: true }
    }

    /// The `configs` of `envoy.admin.v3.ConfigDump`, with the resources whose name is wanted.
    pub(super) fn sections(&self, wanted: Option<&FullRegex>) -> Sections {
        let (wanted, statics) = (Wanted(wanted), &self.statics.read());
        let mut bootstrap = Map::new();
        bootstrap.insert("bootstrap".to_owned(), statics.bootstrap.clone());
        bootstrap.insert("last_updated".to_owned(), timestamp(statics.last_updated));
        let mut sections =
            vec![(&BOOTSTRAP, bootstrap), (&CLUSTERS, self.clusters(statics, wanted))];
        if let Some(endpoints) = &self.endpoints {
            sections.push((&ENDPOINTS, self::endpoints(endpoints, wanted)));
        }
        sections.push((&LISTENERS, self.listeners(statics, wanted)));
        //= envoy: without a connection manager nothing is said about routes
        if self.has_routes {
            sections.push((&SCOPED_ROUTES, Map::new()));
            sections.push((&ROUTES, self.routes(statics, wanted)));
        }
        sections.push((&SECRETS, statics.secrets(wanted)));
        sections
    }

    /// `envoy.admin.v3.ClustersConfigDump`
    fn clusters(&self, statics: &Statics<'_>, wanted: Wanted<'_>) -> Map<String, Value> {
        let list = |loaded: &mut dyn Iterator<Item = &Arc<Loaded>>| -> Value {
            let loaded = loaded.filter(|loaded| wanted.takes(loaded.name()));
            loaded.map(|it| Value::from(of_loaded("cluster", CLUSTER, it))).collect()
        };
        let statics = statics.list(&statics.clusters, "cluster", CLUSTER, wanted);
        let mut active: Vec<_> = self.loaded.active(Kind::Clusters).collect();
        active.sort_by(|a, b| a.name().cmp(b.name()));
        message([
            ("version_info", self.loaded.version(Kind::Clusters).into()),
            ("static_clusters", statics),
            ("dynamic_active_clusters", list(&mut active.into_iter())),
            ("dynamic_warming_clusters", list(&mut self.loaded.warming(Kind::Clusters))),
        ])
    }

    /// `envoy.admin.v3.ListenersConfigDump`
    fn listeners(&self, statics: &Statics<'_>, wanted: Wanted<'_>) -> Map<String, Value> {
        let statics = statics.list(&statics.listeners, "listener", LISTENER, wanted);
        let mut dynamic = DynamicListeners::default();
        for loaded in self.loaded.active(Kind::Listeners) {
            dynamic.add("active_state", loaded);
        }
        for loaded in self.loaded.warming(Kind::Listeners) {
            dynamic.add("warming_state", loaded);
        }
        for loaded in self.loaded.draining() {
            dynamic.add("draining_state", loaded);
        }
        let failed = self.loaded.failed();
        for failed in failed {
            let error = Value::from(error_state(failed, true));
            dynamic.element(failed.resource.name()).insert("error_state".to_owned(), error);
        }
        let dynamic = dynamic.0.into_iter().filter(|it| wanted.takes(name_in(it)));
        let mut dynamic: Vec<Value> = dynamic.map(Value::from).collect();
        //= envoy: the errors of the last update follow once more, without names
        let failed = failed.iter().map(|failed| error_state(failed, false));
        dynamic.extend(failed.map(|error| json!({ "error_state": error })));
        message([
            ("version_info", self.loaded.version(Kind::Listeners).into()),
            ("static_listeners", statics),
            ("dynamic_listeners", dynamic.into()),
        ])
    }

    /// `envoy.admin.v3.RoutesConfigDump`
    fn routes(&self, statics: &Statics<'_>, wanted: Wanted<'_>) -> Map<String, Value> {
        let mut routes: Vec<_> = self.loaded.routes().collect();
        routes.sort_by(|a, b| a.name().cmp(b.name()));
        let mut seen = HashSet::new();
        routes.retain(|it| wanted.takes(it.name()) && seen.insert(Arc::as_ptr(it)));
        let routes = routes.into_iter().map(|it| of_loaded("route_config", ROUTE, it));
        message([
            (
                "static_route_configs",
                statics.list(&statics.route_configs, "route_config", ROUTE, wanted),
            ),
            ("dynamic_route_configs", routes.map(Value::from).collect()),
        ])
    }
}

/// `envoy.admin.v3.EndpointsConfigDump`
fn endpoints(clusters: &[ClusterEndpoints], wanted: Wanted<'_>) -> Map<String, Value> {
    let list = |is_dynamic: bool| -> Value {
        let clusters = clusters.iter().filter(|it| it.is_dynamic == is_dynamic);
        let clusters = clusters.filter(|it| wanted.takes(&it.name));
        let typed = |it: &ClusterEndpoints| typed(ASSIGNMENT, it.message());
        clusters.map(|it| json!({ "endpoint_config": typed(it) })).collect()
    };
    message([("static_endpoint_configs", list(false)), ("dynamic_endpoint_configs", list(true))])
}

/// `envoy.admin.v3.ListenersConfigDump.DynamicListener`, one for each name.
#[derive(Default)]
struct DynamicListeners(Vec<Map<String, Value>>);

impl DynamicListeners {
    fn add(&mut self, state: &str, loaded: &Loaded) {
        let shown = of_loaded("listener", LISTENER, loaded);
        self.element(loaded.name()).insert(state.to_owned(), shown.into());
    }

    fn element(&mut self, name: &str) -> &mut Map<String, Value> {
        let Self(all) = self;
        let place = all.iter().position(|it| name_in(it) == name);
        let mut element = place.map(|place| all.remove(place)).unwrap_or_default();
        element.insert("name".to_owned(), name.into());
        all.push_mut(element)
    }
}

/// `envoy.admin.v3.UpdateFailureState`
fn error_state(failed: &Failed, has_time: bool) -> Map<String, Value> {
    let Failed { resource, why, at } = failed;
    let config = object(resource.json());
    let mut state = Map::new();
    state.insert("failed_configuration".to_owned(), typed(LISTENER, config));
    if has_time {
        state.insert("last_update_attempt".to_owned(), timestamp(*at));
    }
    state.insert("details".to_owned(), why.as_str().into());
    state
}

/// The fields that are not empty.
fn message<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let fields = fields.into_iter().filter(|(_, value)| !is_empty(value));
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

fn of_loaded(key: &str, kind: &str, loaded: &Loaded) -> Map<String, Value> {
    let Loaded { resource, version, updated, .. } = loaded;
    state(key, kind, resource.json(), Some(version), *updated)
}

/// `{"version_info":…,"cluster":{"@type":…,…},"last_updated":…}`
fn state(
    key: &str,
    kind: &str,
    config: Value,
    version: Option<&str>,
    updated: SystemTime,
) -> Map<String, Value> {
    let config = object(config);
    message([
        ("version_info", version.unwrap_or_default().into()),
        (key, typed(kind, config)),
        ("last_updated", timestamp(updated)),
    ])
}

const ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Envoy shows the kinds of static secrets in this order.
fn kind_of_secret(secret: &Value) -> usize {
    let kinds = ["tls_certificate", "validation_context", "session_ticket_keys"];
    kinds.iter().position(|kind| secret.get(kind).is_some()).unwrap_or(kinds.len())
}

/// The route configurations in a listener's connection managers.
fn route_configs(listener: &Value) -> impl Iterator<Item = &Value> {
    let chains = listener.get("filter_chains").and_then(Value::as_array).into_iter().flatten();
    let filters = chains
        .chain(listener.get("default_filter_chain"))
        .flat_map(|chain| chain.get("filters").and_then(Value::as_array).into_iter().flatten());
    filters.filter_map(|filter| filter.get("typed_config")?.get("route_config"))
}

fn name(resource: &Value) -> &str {
    resource.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn name_in(message: &Map<String, Value>) -> &str {
    message.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// RFC 3339 with milliseconds.
fn timestamp(time: SystemTime) -> Value {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}").into()
}
