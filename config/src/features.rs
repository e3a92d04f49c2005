//! The features of Envoy that Corvoy lacks, by their usual names.
//!
//! A configuration says `transport_socket`, but its author thinks of TLS and searches for that
//! word. Whoever implements a feature removes its names from the table here; a test fails until
//! then.

use prost_reflect::{FieldDescriptor, MessageDescriptor, Value};

use crate::problems::{Problem, Severity};
use crate::read::suggest;
use crate::{Path, descriptors};

/// The error for a field that is set but not implemented.
pub(crate) fn lacking_field(field: &FieldDescriptor, value: &Value, at: &Path) -> Problem {
    let name = field.name();
    let kind = field.kind();
    // The inner type is more precise: not every `transport_socket` is TLS.
    let feature = feature_inside(value)
        .or_else(|| feature_of(field.full_name()))
        .or_else(|| feature_of(kind.as_message().map(MessageDescriptor::full_name)?));
    match feature {
        Some(feature) => Problem::lacking(at, not_implemented(feature, name)).at_key(),
        None => lacking_field_named(name, at),
    }
}

/// The same for a field of Envoy 1.40 that the older descriptors do not have.
pub(crate) fn lacking_field_named(name: &str, at: &Path) -> Problem {
    let text = format!("`{name}` is a field of Envoy that Corvoy does not implement");
    Problem::lacking(at, text).at_key()
}

/// The error for a type in a `typed_config` that is not implemented.
pub(crate) fn lacking_type(name: &str, at: &Path) -> Problem {
    if let Some(feature) = feature_of(name) {
        return Problem::lacking(at, not_implemented(feature, name));
    }
    if descriptors::is_envoy_type(name) {
        let text = format!("`{name}` is an extension of Envoy that Corvoy does not implement");
        return Problem::lacking(at, text);
    }
    let text = format!("unknown type `{name}`");
    let mut problem = Problem::new(Severity::Error, at, text);
    problem.help = suggest::nearest_type(name, descriptors::envoy_types())
        .map(|near| format!("did you mean `{}{near}`?", descriptors::TYPE_URL_PREFIX));
    problem
}

fn not_implemented(feature: &str, name: &str) -> String {
    format!("{feature} is not implemented yet: `{name}`")
}

/// The feature of a `typed_config` directly in the value of a field.
fn feature_inside(value: &Value) -> Option<&'static str> {
    match value {
        Value::Message(message) => {
            let config = message.get_field_by_name("typed_config");
            let any = config.as_deref().and_then(Value::as_message).unwrap_or(message);
            let type_url = any.get_field_by_name("type_url")?;
            feature_of(type_url.as_str()?.rsplit_once('/')?.1)
        }
        Value::List(items) => items.iter().find_map(feature_inside),
        // Maps have no order, so the first by name.
        Value::Map(entries) => entries.values().filter_map(feature_inside).min(),
        _ => None,
    }
}

/// The first row that has `name` or an enclosing message or package.
fn feature_of(name: &str) -> Option<&'static str> {
    let is_part = |whole: &&str| {
        name.strip_prefix(*whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    FEATURES.iter().find(|(_, names)| names.iter().any(is_part)).map(|(feature, _)| *feature)
}

/// Features that are not implemented, each with the packages, messages and fields that use it.
const FEATURES: &[(&str, &[&str])] = &[
    (
        "HTTP/3",
        &[
            "envoy.config.core.v3.Http3ProtocolOptions",
            "envoy.config.core.v3.QuicProtocolOptions",
            "envoy.extensions.filters.http.alternate_protocols_cache",
            "envoy.extensions.transport_sockets.quic",
        ],
    ),
    (
        "PROXY protocol",
        &[
            "envoy.config.core.v3.TlvEntry.format_string",
            "envoy.config.listener.v3.FilterChain.use_proxy_proto",
        ],
    ),
    ("tap", &["envoy.extensions.filters.http.tap", "envoy.extensions.transport_sockets.tap"]),
    ("TLS", &["envoy.extensions.transport_sockets.starttls"]),
    ("UDP", &["envoy.config.listener.v3.UdpListenerConfig", "envoy.extensions.filters.udp"]),
    (
        "access logging",
        &[
            "envoy.extensions.access_loggers.dynamic_modules",
            "envoy.extensions.access_loggers.filters.process_ratelimit",
            "envoy.extensions.access_loggers.fluentd",
            "envoy.extensions.access_loggers.wasm",
        ],
    ),
    ("external authorization", &["envoy.extensions.filters.network.ext_authz"]),
    (
        "health checking",
        &["envoy.config.core.v3.HealthCheck.CustomHealthCheck", "envoy.extensions.health_checkers"],
    ),
    (
        "matcher trees (the xDS matching API)",
        &[
            "envoy.extensions.matching.common_inputs.environment_variable",
            "envoy.extensions.matching.common_inputs.network.v3.NetworkNamespaceInput",
            "envoy.extensions.matching.http",
            "envoy.type.matcher.v3.HttpRequestTrailerMatchInput",
            "envoy.type.matcher.v3.HttpResponseTrailerMatchInput",
        ],
    ),
    (
        "rate limiting",
        &[
            "envoy.extensions.filters.http.rate_limit_quota",
            "envoy.extensions.filters.network.ratelimit",
        ],
    ),
    (
        "tracing",
        &[
            "envoy.config.route.v3.Tracing",
            "envoy.config.trace.v3",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing",
            "envoy.extensions.tracers",
        ],
    ),
    ("Wasm", &["envoy.extensions.filters.http.wasm", "envoy.extensions.wasm"]),
    (
        "xDS",
        &[
            "envoy.config.bootstrap.v3.Bootstrap.DynamicResources.cds_resources_locator",
            "envoy.config.bootstrap.v3.Bootstrap.DynamicResources.lds_resources_locator",
            "envoy.config.core.v3.ConfigSource.authorities",
            "envoy.config.core.v3.ConfigSource.self",
            "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::{FEATURES, feature_of};
    use crate::{Any, coverage, descriptors};

    #[test]
    fn every_name_exists_in_envoys_api() {
        let pool = descriptors::pool().unwrap();
        let names: Vec<String> = pool
            .all_messages()
            .flat_map(|message| {
                let fields: Vec<_> = message.fields().collect();
                let fields = fields.iter().map(|field| field.full_name().to_owned());
                let fields: Vec<_> = fields.collect();
                [message.full_name().to_owned()].into_iter().chain(fields)
            })
            .chain(descriptors::envoy_types().map(str::to_owned))
            .collect();
        for whole in FEATURES.iter().flat_map(|(_, names)| *names) {
            let is_part = |name: &String| {
                name.strip_prefix(whole)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            assert!(names.iter().any(is_part), "Envoy has no {whole}");
        }
    }

    #[test]
    fn an_implemented_name_is_not_in_the_table() {
        for entry in coverage() {
            for field in entry.done() {
                let name = format!("{}.{field}", entry.message);
                assert_eq!(feature_of(&name), None, "{name} is implemented: take it out");
            }
        }
        for name in Any::TYPES {
            assert_eq!(feature_of(name), None, "{name} is implemented: take it out");
        }
    }

    #[test]
    fn a_name_is_matched_up_to_a_dot() {
        assert_eq!(feature_of("envoy.config.core.v3.Http3ProtocolOptions"), Some("HTTP/3"));
        assert_eq!(feature_of("envoy.config.core.v3.Http3ProtocolOptionsX"), None);
        assert_eq!(feature_of("envoy.extensions.filters.http.tap.v3.Tap"), Some("tap"));
    }
}
