//! Envoy's own descriptors, as build.rs compiled them.

use prost_reflect::{DescriptorError, DescriptorPool};

/// Decodes the descriptors. It takes some milliseconds and megabytes: keep them only while reading.
pub(crate) fn pool() -> Result<DescriptorPool, DescriptorError> {
    DescriptorPool::decode(DESCRIPTORS)
}

/// Whether Envoy's API has the message `name`, be it among the descriptors or not.
pub(crate) fn is_envoy_type(name: &str) -> bool {
    NEWER_TYPES.contains(&name) || envoy_types().any(|known| known == name)
}

/// The full name of every message at the top level of Envoy's API.
pub(crate) fn envoy_types() -> impl Iterator<Item = &'static str> + Clone {
    KNOWN_TYPES.lines()
}

/// Whether Envoy 1.40 has the field although the descriptors, some months older, do not.
pub(crate) fn is_newer_field(message: &str, field: &str) -> bool {
    NEWER_FIELDS.contains(&(message, field))
}

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const KNOWN_TYPES: &str = include_str!(concat!(env!("OUT_DIR"), "/known_types.txt"));

/// What the URL of a type begins with.
pub(crate) const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// Types of Envoy 1.40 that the proto files at hand do not have.
const NEWER_TYPES: &[&str] = &[
    "envoy.extensions.http.ai_filters.schema_validation.v3.SchemaValidation",
    "envoy.extensions.http.ai_filters.transcoder.v3.Transcoder",
    "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier",
    "envoy.extensions.router.route_specifiers.dynamic_modules.v3.DynamicModuleRouteSpecifier",
    "envoy.extensions.transport_sockets.tls.handshakers.dynamic_modules.v3.DynamicModuleTlsHandshaker",
    "udpa.type.v1.TypedStruct",
    "xds.type.matcher.v3.CelMatcher",
    "xds.type.matcher.v3.HttpAttributesCelMatchInput",
    "xds.type.matcher.v3.IPMatcher",
    "xds.type.matcher.v3.ServerNameMatcher",
    "xds.type.v3.TypedStruct",
];

const NEWER_FIELDS: &[(&str, &str)] = &[
    ("envoy.config.core.v3.HealthCheck", "name"),
    ("envoy.config.core.v3.HealthCheck.HttpHealthCheck", "use_alpn_protocol"),
    ("envoy.config.metrics.v3.DogStatsdSink", "scale_histogram_units_to_milliseconds"),
    ("envoy.config.metrics.v3.StatsdSink", "scale_histogram_units_to_milliseconds"),
    (
        "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride",
        "unit_multiplier",
    ),
    ("envoy.extensions.filters.http.basic_auth.v3.BasicAuth", "realm"),
    ("envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute", "realm"),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "clear_route_cache_headers"),
    ("envoy.extensions.filters.http.header_mutation.v3.Mutations", "formatters"),
    ("envoy.extensions.filters.http.lua.v3.Lua", "shared_vm_id"),
    ("envoy.extensions.filters.http.lua.v3.LuaPerRoute", "shared_vm_id"),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "record_route_resolution_stats",
    ),
    ("envoy.type.tracing.v3.CustomTag", "value_type"),
];
