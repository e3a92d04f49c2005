//! `/config_dump`: the current configuration.

mod content;
mod endpoints;

use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, json, parameter};
use crate::text_matcher::FullRegex;

pub use content::{ConfigDump, StaticDump};
pub use endpoints::ClusterEndpoints;

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
        parameter(
            "include_eds",
            "Dump currently loaded configuration including EDS. See the response definition for more information",
        ),
    ],
    answer: |admin, query| answer(admin, query).unwrap_or_else(|refusal| refusal),
};

fn answer(admin: &Admin, query: &Query) -> Result<Reply, Reply> {
    let name_regex = query.value("name_regex").map(name_regex).transpose()?;
    let mask = query.value("mask");
    let dump = admin.server.config_dump(query.has("include_eds"));
    let sections = dump.sections(name_regex.as_ref());
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
fn elements(sections: Sections, resource: &str, mask: Option<&str>) -> Result<Vec<Value>, Reply> {
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
fn messages(sections: Sections, mask: Option<&str>) -> Result<Vec<Value>, Reply> {
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

/// The messages of a dump, in their order.
type Sections = Vec<(&'static Section, Map<String, Value>)>;

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

static BOOTSTRAP: Section = Section {
    message: "BootstrapConfigDump",
    singular: &["bootstrap", "last_updated"],
    repeated: &[],
};

static CLUSTERS: Section = Section {
    message: "ClustersConfigDump",
    singular: &["version_info"],
    repeated: &[
        ("static_clusters", "StaticCluster"),
        ("dynamic_active_clusters", "DynamicCluster"),
        ("dynamic_warming_clusters", "DynamicCluster"),
    ],
};

static ENDPOINTS: Section = Section {
    message: "EndpointsConfigDump",
    singular: &[],
    repeated: &[
        ("static_endpoint_configs", "StaticEndpointConfig"),
        ("dynamic_endpoint_configs", "DynamicEndpointConfig"),
    ],
};

static LISTENERS: Section = Section {
    message: "ListenersConfigDump",
    singular: &["version_info"],
    repeated: &[("static_listeners", "StaticListener"), ("dynamic_listeners", "DynamicListener")],
};

static SCOPED_ROUTES: Section = Section {
    message: "ScopedRoutesConfigDump",
    singular: &[],
    repeated: &[
        ("inline_scoped_route_configs", "InlineScopedRouteConfigs"),
        ("dynamic_scoped_route_configs", "DynamicScopedRouteConfigs"),
    ],
};

static ROUTES: Section = Section {
    message: "RoutesConfigDump",
    singular: &[],
    repeated: &[
        ("static_route_configs", "StaticRouteConfig"),
        ("dynamic_route_configs", "DynamicRouteConfig"),
    ],
};

static SECRETS: Section = Section {
    message: "SecretsConfigDump",
    singular: &[],
    repeated: &[
        ("static_secrets", "StaticSecret"),
        ("dynamic_active_secrets", "DynamicSecret"),
        ("dynamic_warming_secrets", "DynamicSecret"),
    ],
};

fn typed(kind: &str, fields: Map<String, Value>) -> Value {
    let mut message = Map::new();
    message.insert("@type".to_owned(), kind.into());
    message.extend(fields);
    message.into()
}

fn refusal(why: String) -> Reply {
    Reply::bad_request(why).with_content_type("text/plain")
}
