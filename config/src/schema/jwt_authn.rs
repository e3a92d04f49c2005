//! The HTTP filter `jwt_authn`: `envoy/extensions/filters/http/jwt_authn/v3`.

use std::collections::BTreeMap;

use super::{
    CoreRetryPolicy, DataSource, Duration, Empty, HttpUri, RouteMatch, StringMatcher, schema,
};

schema! {
    const JWT_AUTHN;

    struct JwtAuthentication =
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication" {
        providers: BTreeMap<String, JwtProvider>,
        rules: Vec<JwtRule>,
        filter_state_rules: Option<JwtFilterStateRule>,
        bypass_cors_preflight: bool,
        requirement_map: BTreeMap<String, JwtRequirement>,
        strip_failure_response: bool,
        stat_prefix: String,
    }

    struct JwtProvider = "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider" {
        issuer: String,
        audiences: Vec<String>,
        subjects: Option<StringMatcher>,
        require_expiration: bool,
        max_lifetime: Option<Duration>,
        remote_jwks: Option<RemoteJwks>,
        local_jwks: Option<DataSource>,
        forward: bool,
        from_headers: Vec<JwtHeader>,
        from_params: Vec<String>,
        from_cookies: Vec<String>,
        forward_payload_header: String,
        pad_forward_payload_header: bool,
        payload_in_metadata: String,
        normalize_payload_in_metadata: Option<JwtNormalizePayload>,
        header_in_metadata: String,
        failed_status_in_metadata: String,
        clock_skew_seconds: u32,
        jwt_cache_config: Option<JwtCacheConfig>,
        claim_to_headers: Vec<JwtClaimToHeader>,
        clear_route_cache: bool,
    }

    struct JwtNormalizePayload =
        "envoy.extensions.filters.http.jwt_authn.v3.JwtProvider.NormalizePayload" {
        space_delimited_claims: Vec<String>,
    }

    struct RemoteJwks = "envoy.extensions.filters.http.jwt_authn.v3.RemoteJwks" {
        http_uri: Option<HttpUri>,
        cache_duration: Option<Duration>,
        async_fetch: Option<JwksAsyncFetch>,
        retry_policy: Option<CoreRetryPolicy>,
    }

    struct JwksAsyncFetch = "envoy.extensions.filters.http.jwt_authn.v3.JwksAsyncFetch" {
        failed_refetch_duration: Option<Duration>,
    } harmless {
        fast_listener: "listeners never wait for keys: the first requests do",
    }

    struct JwtHeader = "envoy.extensions.filters.http.jwt_authn.v3.JwtHeader" {
        name: String,
        value_prefix: String,
    }

    struct JwtCacheConfig = "envoy.extensions.filters.http.jwt_authn.v3.JwtCacheConfig" {
        jwt_cache_size: u32,
        jwt_max_token_size: u32,
    }

    struct JwtClaimToHeader = "envoy.extensions.filters.http.jwt_authn.v3.JwtClaimToHeader" {
        header_name: String,
        claim_name: String,
        claim_path: Vec<JwtPathSegment>,
    }

    struct JwtPathSegment =
        "envoy.extensions.filters.http.jwt_authn.v3.JwtClaimToHeader.PathSegment" {
        key: String,
    }

    struct JwtRule = "envoy.extensions.filters.http.jwt_authn.v3.RequirementRule" {
        r#match: Option<RouteMatch>,
        requires: Option<JwtRequirement>,
        requirement_name: Option<String>,
    }

    struct JwtFilterStateRule = "envoy.extensions.filters.http.jwt_authn.v3.FilterStateRule" {
        name: String,
        requires: BTreeMap<String, JwtRequirement>,
    }

    struct JwtRequirement = "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement" {
        provider_name: Option<String>,
        provider_and_audiences: Option<ProviderWithAudiences>,
        requires_any: Option<JwtRequirementOrList>,
        requires_all: Option<JwtRequirementAndList>,
        allow_missing_or_failed: Option<Empty>,
        allow_missing: Option<Empty>,
        extract_only_without_validation: Option<ExtractOnlyWithoutValidation>,
    }

    struct ProviderWithAudiences =
        "envoy.extensions.filters.http.jwt_authn.v3.ProviderWithAudiences" {
        provider_name: String,
        audiences: Vec<String>,
    }

    struct JwtRequirementOrList =
        "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementOrList" {
        requirements: Vec<JwtRequirement>,
    }

    struct JwtRequirementAndList =
        "envoy.extensions.filters.http.jwt_authn.v3.JwtRequirementAndList" {
        requirements: Vec<JwtRequirement>,
    }

    struct ExtractOnlyWithoutValidation =
        "envoy.extensions.filters.http.jwt_authn.v3.ExtractOnlyWithoutValidation" {
        verification_status_header: String,
    }

    struct JwtPerRoute = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig" {
        disabled: Option<bool>,
        requirement_name: Option<String>,
    }
}
