//! The HTTP filter `ext_authz`: `envoy/extensions/filters/http/ext_authz/v3`.

use std::collections::BTreeMap;

use super::{
    ApiVersion, CoreRetryPolicy, GrpcService, HeaderValue, HttpStatus, HttpUri, ListStringMatcher,
    MetadataMatcher, RegexMatcher, RuntimeFeatureFlag, RuntimeFractionalPercent, schema,
};

schema! {
    const EXT_AUTHZ;

    struct ExtAuthz = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz" {
        grpc_service: Option<GrpcService>,
        http_service: Option<ExtAuthzHttpService>,
        transport_api_version: ApiVersion,
        failure_mode_allow: bool,
        failure_mode_allow_header_add: bool,
        with_request_body: Option<BufferSettings>,
        clear_route_cache: bool,
        status_on_error: Option<HttpStatus>,
        metadata_context_namespaces: Vec<String>,
        route_metadata_context_namespaces: Vec<String>,
        filter_enabled: Option<RuntimeFractionalPercent>,
        filter_enabled_metadata: Option<MetadataMatcher>,
        deny_at_disable: Option<RuntimeFeatureFlag>,
        include_peer_certificate: bool,
        stat_prefix: String,
        allowed_headers: Option<ListStringMatcher>,
        disallowed_headers: Option<ListStringMatcher>,
        include_tls_session: bool,
        charge_cluster_response_stats: Option<bool>,
        encode_raw_headers: bool,
        enable_dynamic_metadata_ingestion: Option<bool>,
        max_denied_response_body_bytes: u32,
        decoder_header_mutation_rules: Option<HeaderMutationRules>,
        shadow_mode: bool,
    } harmless {
        filter_metadata: "only extensions of Envoy read it",
        validate_mutations: "what a service answers is always validated",
        emit_client_span: "only tracing reads it, and tracing is refused",
    }

    struct HeaderMutationRules = "envoy.config.common.mutation_rules.v3.HeaderMutationRules" {
        allow_all_routing: Option<bool>,
        allow_envoy: Option<bool>,
        disallow_system: Option<bool>,
        disallow_all: Option<bool>,
        allow_expression: Option<RegexMatcher>,
        disallow_expression: Option<RegexMatcher>,
        disallow_is_error: Option<bool>,
    }

    struct BufferSettings = "envoy.extensions.filters.http.ext_authz.v3.BufferSettings" {
        max_request_bytes: u32,
        allow_partial_message: bool,
        pack_as_bytes: bool,
    }

    struct ExtAuthzHttpService = "envoy.extensions.filters.http.ext_authz.v3.HttpService" {
        server_uri: Option<HttpUri>,
        path_prefix: String,
        path_override: String,
        authorization_request: Option<AuthorizationRequest>,
        authorization_response: Option<AuthorizationResponse>,
        retry_policy: Option<CoreRetryPolicy>,
    }

    struct AuthorizationRequest =
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationRequest" {
        allowed_headers: Option<ListStringMatcher>,
        headers_to_add: Vec<HeaderValue>,
    }

    struct AuthorizationResponse =
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationResponse" {
        allowed_upstream_headers: Option<ListStringMatcher>,
        allowed_upstream_headers_to_append: Option<ListStringMatcher>,
        allowed_client_headers: Option<ListStringMatcher>,
        allowed_client_headers_on_success: Option<ListStringMatcher>,
        dynamic_metadata_from_headers: Option<ListStringMatcher>,
    }

    struct ExtAuthzPerRoute = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute" {
        disabled: Option<bool>,
        check_settings: Option<CheckSettings>,
    }

    struct CheckSettings = "envoy.extensions.filters.http.ext_authz.v3.CheckSettings" {
        context_extensions: BTreeMap<String, String>,
        disable_request_body_buffering: bool,
        with_request_body: Option<BufferSettings>,
        grpc_service: Option<GrpcService>,
        http_service: Option<ExtAuthzHttpService>,
    } harmless {
        emit_client_span: "only tracing reads it, and tracing is refused",
    }
}
