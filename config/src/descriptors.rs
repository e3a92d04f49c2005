//! Envoy's own descriptors, compiled by build.rs.

use prost_reflect::{DescriptorError, DescriptorPool};

/// Decodes the descriptors. This takes some milliseconds and megabytes: keep them only while
/// reading.
pub(crate) fn pool() -> Result<DescriptorPool, DescriptorError> {
    DescriptorPool::decode(DESCRIPTORS)
}

/// Whether Envoy's API has the message `name`, even if the descriptors lack it.
pub(crate) fn is_envoy_type(name: &str) -> bool {
    is_typed_struct(name) || envoy_types().any(|known| known == name)
}

/// Whether `name` is a message that holds another one as a map of fields, whose type it names.
pub(crate) fn is_typed_struct(name: &str) -> bool {
    // They are not in the proto files that we have.
    matches!(name, "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct")
}

/// The full name of every top-level message of Envoy's API.
pub(crate) fn envoy_types() -> impl Iterator<Item = &'static str> + Clone {
    KNOWN_TYPES.lines()
}

/// Whether Envoy 1.40 has a field that the descriptors, which are some months older, lack.
pub(crate) fn is_newer_field(message: &str, field: &str) -> bool {
    NEWER_FIELDS.contains(&(message, field))
}

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const KNOWN_TYPES: &str = include_str!(concat!(env!("OUT_DIR"), "/known_types.txt"));

/// The prefix of a type URL.
pub(crate) const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

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
