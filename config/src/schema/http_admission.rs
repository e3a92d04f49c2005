//! HTTP filters that admit or refuse requests: `envoy/extensions/filters/http`.

use super::{DataSource, RuntimeFractionalPercent, StringMatcher, schema};

schema! {
    const HTTP_ADMISSION;

    struct ApiKeyAuth = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth" {
        credentials: Vec<ApiKeyCredential>,
        key_sources: Vec<ApiKeySource>,
        forwarding: Option<ApiKeyForwarding>,
    }

    struct ApiKeyAuthPerRoute = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute" {
        credentials: Vec<ApiKeyCredential>,
        key_sources: Vec<ApiKeySource>,
        allowed_clients: Vec<String>,
        forwarding: Option<ApiKeyForwarding>,
    }

    struct ApiKeyCredential = "envoy.extensions.filters.http.api_key_auth.v3.Credential" {
        key: String,
        client: String,
    }

    struct ApiKeySource = "envoy.extensions.filters.http.api_key_auth.v3.KeySource" {
        header: String,
        query: String,
        cookie: String,
    }

    struct ApiKeyForwarding = "envoy.extensions.filters.http.api_key_auth.v3.Forwarding" {
        header: String,
        hide_credentials: bool,
    }

    struct BasicAuth = "envoy.extensions.filters.http.basic_auth.v3.BasicAuth" {
        users: Option<DataSource>,
        forward_username_header: String,
        authentication_header: String,
    }

    struct BasicAuthPerRoute = "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute" {
        users: Option<DataSource>,
    }

    struct CdnLoop = "envoy.extensions.filters.http.cdn_loop.v3.CdnLoopConfig" {
        cdn_id: String,
        max_allowed_occurrences: u32,
    }

    struct CsrfPolicy = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy" {
        filter_enabled: Option<RuntimeFractionalPercent>,
        shadow_enabled: Option<RuntimeFractionalPercent>,
        additional_origins: Vec<StringMatcher>,
    }
}
