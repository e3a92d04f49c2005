//! `/config_dump`: the current configuration.

use std::time::SystemTime;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, json, parameter};
use crate::text_matcher::FullRegex;
use crate::transport::tls::context::compile::ShownSecret;

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/config_dump",
    effect: Effect::Shows,
    help: "dump the current configuration",
    parameters: &[
        parameter("resource", "The resource to dump"),
        parameter(
            "mask",
            "The mask to apply. When both resource and mask are specified, the mask is applied to \
             every element in the desired repeated field so that only a subset of fields are \
             returned. The mask is parsed as a Protobuf::FieldMask",
        ),
        parameter(
            "name_regex",
            "Dump only the currently loaded configurations whose names match the specified regex. \
             Can be used with both resource and mask query parameters.",
        ),
    ],
    answer: |admin, query| answer(admin, query).unwrap_or_else(|refusal| refusal),
};

/// The current configuration as JSON, with the field names of the protos.
#[derive(Clone, Debug)]
pub struct ConfigDump {
    /// `envoy.config.bootstrap.v3.Bootstrap`
    pub bootstrap: Dumped,
    /// `envoy.config.cluster.v3.Cluster`
    pub static_clusters: Vec<Dumped>,
    /// `envoy.config.listener.v3.Listener`
    pub static_listeners: Vec<Dumped>,
    /// `envoy.config.route.v3.RouteConfiguration`
    pub static_route_configs: Vec<Dumped>,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    pub static_secrets: Vec<Value>,
    /// Secrets from files.
    pub dynamic_secrets: Vec<ShownSecret>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Dumped {
    /// The resource.
    pub config: Value,
    /// When it was loaded.
    pub last_updated: SystemTime,
}

impl ConfigDump {
    /// The resources of a bootstrap: its clusters by name, its listeners, and the route configurations in them.
    pub fn of_bootstrap(bootstrap: Value, last_updated: SystemTime) -> Self {
        let resources = |kind: &str| -> Vec<Value> {
            let resources = bootstrap.get("static_resources").and_then(|all| all.get(kind));
            resources.and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let dumped = |config| Dumped { config, last_updated };
        let listeners = resources("listeners");
        let routes = listeners.iter().flat_map(route_configs).cloned().map(dumped).collect();
        let mut clusters = resources("clusters");
        clusters.sort_by(|a, b| name(a).cmp(name(b)));
        let mut secrets = resources("secrets");
        secrets.sort_by_key(|secret| (kind_of_secret(secret), name(secret).to_owned()));
        Self {
            static_clusters: clusters.into_iter().map(dumped).collect(),
            static_listeners: listeners.into_iter().map(dumped).collect(),
            static_route_configs: routes,
            static_secrets: secrets,
            dynamic_secrets: Vec::new(),
            bootstrap: dumped(bootstrap),
        }
    }

    /// The `configs` of `envoy.admin.v3.ConfigDump`, with the resources whose name is wanted.
    fn sections(&self, wanted: Option<&FullRegex>) -> [(&'static Section, Map<String, Value>); 6] {
        let resources = |field: &str, key: &str, kind: &str, resources: &[Dumped]| {
            let resources = resources.iter().filter(|resource| {
                wanted.is_none_or(|wanted| wanted.matches(name(&resource.config).as_bytes()))
            });
            let resources: Vec<Value> =
                resources.map(|resource| resource.element(key, kind).into()).collect();
            let mut message = Map::new();
            if !resources.is_empty() {
                message.insert(field.to_owned(), resources.into());
            }
            message
        };
        let (cluster, listener, route_config) = (
            resources("static_clusters", "cluster", "cluster.v3.Cluster", &self.static_clusters),
            resources(
                "static_listeners",
                "listener",
                "listener.v3.Listener",
                &self.static_listeners,
            ),
            resources(
                "static_route_configs",
                "route_config",
                "route.v3.RouteConfiguration",
                &self.static_route_configs,
            ),
        );
        let mut bootstrap = Map::new();
        bootstrap.insert("bootstrap".to_owned(), self.bootstrap.config.clone());
        bootstrap.insert("last_updated".to_owned(), timestamp(self.bootstrap.last_updated));
        let [of_bootstrap, of_clusters, of_listeners, of_scopes, of_routes, of_secrets] = &SECTIONS;
        [
            (of_bootstrap, bootstrap),
            (of_clusters, cluster),
            (of_listeners, listener),
            (of_scopes, Map::new()),
            (of_routes, route_config),
            (of_secrets, self.secrets(wanted)),
        ]
    }

    /// `envoy.admin.v3.SecretsConfigDump`
    fn secrets(&self, wanted: Option<&FullRegex>) -> Map<String, Value> {
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.matches(name.as_bytes()));
        let with_type =
            |secret: &Value| typed(SECRET, secret.as_object().cloned().unwrap_or_default());
        let statics = self.static_secrets.iter().filter(|secret| is_wanted(name(secret)));
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

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Envoy shows the kinds of static secrets in this order.
fn kind_of_secret(secret: &Value) -> usize {
    let kinds = ["tls_certificate", "validation_context", "session_ticket_keys"];
    kinds.iter().position(|kind| secret.get(kind).is_some()).unwrap_or(kinds.len())
}

impl Dumped {
    /// `{"cluster":{"@type":…,…},"last_updated":…}`
    fn element(&self, key: &str, kind: &str) -> Map<String, Value> {
        let config = self.config.as_object().cloned().unwrap_or_default();
        let typed = typed(&format!("type.googleapis.com/envoy.config.{kind}"), config);
        let mut element = Map::new();
        element.insert(key.to_owned(), typed);
        element.insert("last_updated".to_owned(), timestamp(self.last_updated));
        element
    }
}

fn answer(admin: &Admin, query: &Query) -> Result<Reply, Reply> {
    let name_regex = query.value("name_regex").map(name_regex).transpose()?;
    let mask = query.value("mask");
    let sections = admin.server.config_dump().sections(name_regex.as_ref());
    let configs = match query.value("resource") {
        Some(resource) => elements(sections, resource, mask)?,
        None => messages(sections, mask)?,
    };
    let mut dump = Map::new();
    if !configs.is_empty() {
        dump.insert("configs".to_owned(), configs.into());
    }
    Ok(json::reply(&dump))
}

fn name_regex(pattern: &str) -> Result<FullRegex, Reply> {
    FullRegex::new(pattern).map_err(|error| {
        refusal(format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {error}"))
    })
}

/// The elements of one repeated field, wherever it is.
fn elements<const N: usize>(
    sections: [(&'static Section, Map<String, Value>); N],
    resource: &str,
    mask: Option<&str>,
) -> Result<Vec<Value>, Reply> {
    for (section, mut message) in sections {
        if section.singular.contains(&resource) {
            return Err(refusal(format!(
                "{resource} is not a repeated field. Use ?mask={resource} to get only this field"
            )));
        }
        let Some((_, element)) = section.repeated.iter().find(|(field, _)| *field == resource)
        else {
            continue;
        };
        let elements = message.remove(resource);
        let elements = elements.as_ref().and_then(Value::as_array).into_iter().flatten();
        return elements
            .filter_map(Value::as_object)
            .map(|fields| {
                let masked = mask.map_or_else(|| Some(fields.clone()), |mask| masked(fields, mask));
                let unusable = || {
                    refusal(format!(
                        "FieldMask {} could not be successfully used.",
                        mask.unwrap_or("")
                    ))
                };
                let kind = format!("{ADMIN}{}.{element}", section.message);
                Ok(typed(&kind, masked.ok_or_else(unusable)?))
            })
            .collect();
    }
    let text = format!("{resource} not found in config dump");
    Err(refusal(text).with_status(StatusCode::NOT_FOUND))
}

/// The messages, or of those that have all fields of the mask, these fields.
fn messages<const N: usize>(
    sections: [(&'static Section, Map<String, Value>); N],
    mask: Option<&str>,
) -> Result<Vec<Value>, Reply> {
    let messages = sections.into_iter().filter_map(|(section, message)| {
        let fields = match mask {
            None => message,
            Some(mask) if section.has_fields(mask) => masked(&message, mask)?,
            Some(_) => return None,
        };
        Some(typed(&format!("{ADMIN}{}", section.message), fields))
    });
    let messages: Vec<Value> = messages.collect();
    match mask {
        Some(mask) if messages.is_empty() => Err(refusal(format!(
            "FieldMask {mask} could not be successfully applied to any configs."
        ))),
        _ => Ok(messages),
    }
}

/// What the mask's paths (`bootstrap.admin,last_updated`) leave. None if a path goes through a list or ends at
/// an Any: a mask cannot.
fn masked(message: &Map<String, Value>, mask: &str) -> Option<Map<String, Value>> {
    let mut kept = Map::new();
    for path in mask.split(',') {
        keep(message, &mut kept, path)?;
    }
    Some(kept)
}

fn keep(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &str) -> Option<()> {
    if let Some(kind) = from.get("@type") {
        to.insert("@type".to_owned(), kind.clone());
    }
    let (field, rest) =
        path.split_once('.').map_or((path, None), |(field, rest)| (field, Some(rest)));
    match (from.get(field), rest) {
        (None, _) => {}
        // As in Envoy, only parts of a message in an Any can be selected.
        (Some(value), None) if value.get("@type").is_some() => return None,
        (Some(value), None) => {
            to.insert(field.to_owned(), value.clone());
        }
        (Some(Value::Object(inner)), Some(rest)) => {
            let kept = to.entry(field).or_insert_with(|| Map::new().into());
            keep(inner, kept.as_object_mut()?, rest)?;
        }
        (Some(_), Some(_)) => return None,
    }
    Some(())
}

/// One message of the dump.
struct Section {
    message: &'static str,
    singular: &'static [&'static str],
    /// Field, and message of its elements.
    repeated: &'static [(&'static str, &'static str)],
}

impl Section {
    fn has_fields(&self, mask: &str) -> bool {
        mask.split(',').all(|path| {
            let field = path.split_once('.').map_or(path, |(field, _)| field);
            self.singular.contains(&field) || self.repeated.iter().any(|(name, _)| *name == field)
        })
    }
}

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";

static SECTIONS: [Section; 6] = [
    Section {
        message: "BootstrapConfigDump",
        singular: &["bootstrap", "last_updated"],
        repeated: &[],
    },
    Section {
        message: "ClustersConfigDump",
        singular: &["version_info"],
        repeated: &[
            ("static_clusters", "StaticCluster"),
            ("dynamic_active_clusters", "DynamicCluster"),
            ("dynamic_warming_clusters", "DynamicCluster"),
        ],
    },
    Section {
        message: "ListenersConfigDump",
        singular: &["version_info"],
        repeated: &[
            ("static_listeners", "StaticListener"),
            ("dynamic_listeners", "DynamicListener"),
        ],
    },
    Section {
        message: "ScopedRoutesConfigDump",
        singular: &[],
        repeated: &[
            ("inline_scoped_route_configs", "InlineScopedRouteConfigs"),
            ("dynamic_scoped_route_configs", "DynamicScopedRouteConfigs"),
        ],
    },
    Section {
        message: "RoutesConfigDump",
        singular: &[],
        repeated: &[
            ("static_route_configs", "StaticRouteConfig"),
            ("dynamic_route_configs", "DynamicRouteConfig"),
        ],
    },
    Section {
        message: "SecretsConfigDump",
        singular: &[],
        repeated: &[
            ("static_secrets", "StaticSecret"),
            ("dynamic_active_secrets", "DynamicSecret"),
            ("dynamic_warming_secrets", "DynamicSecret"),
        ],
    },
];

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

fn typed(kind: &str, fields: Map<String, Value>) -> Value {
    let mut message = Map::new();
    message.insert("@type".to_owned(), kind.into());
    message.extend(fields);
    message.into()
}

/// RFC 3339 with milliseconds.
fn timestamp(time: SystemTime) -> Value {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}").into()
}

fn refusal(why: String) -> Reply {
    Reply::bad_request(why).with_content_type("text/plain")
}
