//! HTTP filters: `envoy/extensions/filters/http`, without the router.

use super::{
    BTreeMap, DnsCacheConfig, Duration, FilterStateValue, HeaderMatcher, HeaderValueOption,
    Percent, RegexMatchAndSubstitute, RuntimeFractionalPercent, StringMatcher, schema, schema_enum,
};

schema! {
    const HTTP_FILTERS;

    struct Buffer = "envoy.extensions.filters.http.buffer.v3.Buffer" {
        max_request_bytes: Option<u32>,
    }

    struct BufferPerRoute = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute" {
        disabled: Option<bool>,
        buffer: Option<Buffer>,
    }

    struct DynamicForwardProxy =
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig" {
        dns_cache_config: Option<DnsCacheConfig>,
        save_upstream_address: bool,
        allow_dynamic_host_from_filter_state: bool,
    }

    struct DynamicForwardProxyPerRoute =
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig" {
        host_rewrite_literal: Option<String>,
        host_rewrite_header: Option<String>,
    }

    struct Cors = "envoy.extensions.filters.http.cors.v3.Cors" {}

    struct CorsPolicy = "envoy.extensions.filters.http.cors.v3.CorsPolicy" {
        allow_origin_string_match: Vec<StringMatcher>,
        allow_methods: String,
        allow_headers: String,
        expose_headers: String,
        max_age: String,
        allow_credentials: Option<bool>,
        filter_enabled: Option<RuntimeFractionalPercent>,
        shadow_enabled: Option<RuntimeFractionalPercent>,
        allow_private_network_access: Option<bool>,
        forward_not_matching_preflights: Option<bool>,
    }

    struct HeaderMutationFilter = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation" {
        mutations: Option<Mutations>,
        most_specific_header_mutations_wins: bool,
    }

    struct EarlyHeaderMutation =
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation" {
        mutations: Vec<HeaderMutation>,
    }

    struct HeaderMutationPerRoute =
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute" {
        mutations: Option<Mutations>,
    }

    struct HeaderToMetadata = "envoy.extensions.filters.http.header_to_metadata.v3.Config" {
        request_rules: Vec<HeaderToMetadataRule>,
        response_rules: Vec<HeaderToMetadataRule>,
        stat_prefix: String,
    }

    struct HeaderToMetadataRule =
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.Rule" {
        header: String,
        cookie: String,
        on_header_present: Option<HeaderToMetadataKeyValuePair>,
        on_header_missing: Option<HeaderToMetadataKeyValuePair>,
        remove: bool,
    }

    struct HeaderToMetadataKeyValuePair =
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.KeyValuePair" {
        metadata_namespace: String,
        key: String,
        value: String,
        regex_value_rewrite: Option<RegexMatchAndSubstitute>,
        r#type: HeaderToMetadataValueType,
        encode: HeaderToMetadataValueEncode,
    }

    struct HealthCheckFilter = "envoy.extensions.filters.http.health_check.v3.HealthCheck" {
        pass_through_mode: Option<bool>,
        cache_time: Option<Duration>,
        cluster_min_healthy_percentages: BTreeMap<String, Percent>,
        headers: Vec<HeaderMatcher>,
    }

    struct HttpSetFilterState = "envoy.extensions.filters.http.set_filter_state.v3.Config" {
        on_request_headers: Vec<FilterStateValue>,
        clear_route_cache: bool,
    }

    struct SetMetadata = "envoy.extensions.filters.http.set_metadata.v3.Config" {
        metadata_namespace: String,
        value: Option<serde_json::Value>,
        metadata: Vec<SetMetadataEntry>,
    }

    struct SetMetadataEntry = "envoy.extensions.filters.http.set_metadata.v3.Metadata" {
        metadata_namespace: String,
        allow_overwrite: bool,
        value: Option<serde_json::Value>,
    }

    struct Mutations = "envoy.extensions.filters.http.header_mutation.v3.Mutations" {
        request_mutations: Vec<HeaderMutation>,
        query_parameter_mutations: Vec<KeyValueMutation>,
        response_mutations: Vec<HeaderMutation>,
        response_trailers_mutations: Vec<HeaderMutation>,
        request_trailers_mutations: Vec<HeaderMutation>,
    }

    struct HeaderMutation = "envoy.config.common.mutation_rules.v3.HeaderMutation" {
        remove: Option<String>,
        append: Option<HeaderValueOption>,
        remove_on_match: Option<RemoveOnMatch>,
    }

    struct RemoveOnMatch = "envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch" {
        key_matcher: Option<StringMatcher>,
    }

    struct KeyValueMutation = "envoy.config.core.v3.KeyValueMutation" {
        append: Option<KeyValueAppend>,
        remove: String,
    }

    struct KeyValueAppend = "envoy.config.core.v3.KeyValueAppend" {
        record: Option<KeyValuePair>,
        action: KeyValueAppendAction,
    } harmless {
        entry: "Envoy does not read it either",
    }

    struct KeyValuePair = "envoy.config.core.v3.KeyValuePair" {
        key: String,
        value: serde_json::Value,
    }
}

schema_enum! {
    enum HeaderToMetadataValueType =
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.ValueType" {
        String, Number, ProtobufValue,
    }

    enum HeaderToMetadataValueEncode =
        "envoy.extensions.filters.http.header_to_metadata.v3.Config.ValueEncode" {
        None, Base64,
    }

    enum KeyValueAppendAction = "envoy.config.core.v3.KeyValueAppend.KeyValueAppendAction" {
        AppendIfExistsOrAdd, AddIfAbsent, OverwriteIfExistsOrAdd, OverwriteIfExists,
    }
}
