//! Filters of an edge that limit, replace or identify: `admission_control`, `bandwidth_limit`,
//! `custom_response` and `credential_injector`.

use super::{
    DataSource, Duration, HeaderValueOption, HttpUri, Int32Range, Matcher, Percent, RuntimeDouble,
    RuntimeFeatureFlag, RuntimeUInt32, SdsSecretConfig, SubstitutionFormatString,
    TypedExtensionConfig, schema, schema_enum,
};

schema! {
    const EDGE_FILTERS;

    struct AdmissionControl =
        "envoy.extensions.filters.http.admission_control.v3.AdmissionControl" {
        enabled: Option<RuntimeFeatureFlag>,
        success_criteria: Option<AdmissionSuccessCriteria>,
        sampling_window: Option<Duration>,
        aggression: Option<RuntimeDouble>,
        sr_threshold: Option<RuntimePercent>,
        rps_threshold: Option<RuntimeUInt32>,
        max_rejection_probability: Option<RuntimePercent>,
    }

    struct AdmissionSuccessCriteria =
        "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria" {
        http_criteria: Option<AdmissionHttpCriteria>,
        grpc_criteria: Option<AdmissionGrpcCriteria>,
    }

    struct AdmissionHttpCriteria =
        "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.HttpCriteria" {
        http_success_status: Vec<Int32Range>,
    }

    struct AdmissionGrpcCriteria =
        "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.GrpcCriteria" {
        grpc_success_status: Vec<u32>,
    }

    struct BandwidthLimit = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit" {
        stat_prefix: String,
        enable_mode: BandwidthEnableMode,
        limit_kbps: Option<u64>,
        fill_interval: Option<Duration>,
        runtime_enabled: Option<RuntimeFeatureFlag>,
        enable_response_trailers: bool,
        response_trailer_prefix: String,
    }

    struct CredentialInjector =
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector" {
        overwrite: bool,
        allow_request_without_credential: bool,
        credential: Option<TypedExtensionConfig>,
    }

    struct GenericCredential = "envoy.extensions.http.injected_credentials.generic.v3.Generic" {
        credential: Option<SdsSecretConfig>,
        header: String,
        header_value_prefix: String,
    }

    struct OAuth2Credential = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2" {
        token_endpoint: Option<HttpUri>,
        scopes: Vec<String>,
        client_credentials: Option<OAuth2ClientCredentials>,
        token_fetch_retry_interval: Option<Duration>,
        endpoint_params: Vec<OAuth2EndpointParameter>,
    }

    struct OAuth2ClientCredentials =
        "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2.ClientCredentials" {
        client_id: String,
        client_secret: Option<SdsSecretConfig>,
        auth_type: OAuth2AuthType,
    }

    struct OAuth2EndpointParameter =
        "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2.EndpointParameter" {
        name: String,
        value: String,
    }

    struct CustomResponse = "envoy.extensions.filters.http.custom_response.v3.CustomResponse" {
        custom_response_matcher: Option<Matcher>,
    }

    struct LocalResponsePolicy =
        "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy" {
        body: Option<DataSource>,
        body_format: Option<SubstitutionFormatString>,
        status_code: Option<u32>,
        response_headers_to_add: Vec<HeaderValueOption>,
        preserve_response_code_details: Option<bool>,
        response_code_details: Option<String>,
    }

    struct RuntimePercent = "envoy.config.core.v3.RuntimePercent" {
        default_value: Option<Percent>,
        runtime_key: String,
    }
}

schema_enum! {
    enum BandwidthEnableMode =
        "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit.EnableMode" {
        Disabled, Request, Response, RequestAndResponse,
    }

    enum OAuth2AuthType = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2.AuthType" {
        BasicAuth, UrlEncodedBody, TlsClientAuth,
    }
}
