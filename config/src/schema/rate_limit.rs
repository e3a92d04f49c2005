//! Rate limits of requests: the actions of `envoy/config/route/v3`, and `local_ratelimit`.

use super::{
    ApiVersion, Duration, GrpcService, HeaderMatcher, HeaderValueOption, HttpStatus,
    QueryParameterMatcher, RuntimeFractionalPercent, TokenBucket, TypedExtensionConfig,
    XdsCidrRange, schema, schema_enum,
};

schema! {
    const RATE_LIMIT;

    struct LocalRateLimit = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit" {
        stat_prefix: String,
        status: Option<HttpStatus>,
        token_bucket: Option<TokenBucket>,
        filter_enabled: Option<RuntimeFractionalPercent>,
        filter_enforced: Option<RuntimeFractionalPercent>,
        request_headers_to_add_when_not_enforced: Vec<HeaderValueOption>,
        response_headers_to_add: Vec<HeaderValueOption>,
        descriptors: Vec<LocalRateLimitDescriptor>,
        local_rate_limit_per_downstream_connection: bool,
        enable_x_ratelimit_headers: XRateLimitHeadersVersion,
        always_consume_default_token_bucket: Option<bool>,
        rate_limited_as_resource_exhausted: bool,
        rate_limits: Vec<RateLimit>,
        max_dynamic_descriptors: Option<u32>,
        enable_retry_after_header: bool,
        stage: u32,
        vh_rate_limits: VhRateLimitsOptions,
    }

    struct LocalRateLimitDescriptor =
        "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor" {
        entries: Vec<RateLimitEntry>,
        token_bucket: Option<TokenBucket>,
        shadow_mode: bool,
    }

    struct RateLimitEntry = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry" {
        key: String,
        value: String,
    }

    struct RateLimit = "envoy.config.route.v3.RateLimit" {
        actions: Vec<RateLimitAction>,
        hits_addend: Option<HitsAddend>,
        x_ratelimit_option: XRateLimitOption,
        stage: Option<u32>,
        disable_key: String,
        limit: Option<RateLimitOverride>,
        apply_on_stream_done: bool,
    }

    struct RateLimitOverride = "envoy.config.route.v3.RateLimit.Override" {
        dynamic_metadata: Option<RateLimitOverrideMetadata>,
        rate_limit: Option<FixedRateLimit>,
    }

    struct RateLimitOverrideMetadata =
        "envoy.config.route.v3.RateLimit.Override.DynamicMetadata" {
        metadata_key: Option<MetadataKey>,
    }

    struct FixedRateLimit = "envoy.config.route.v3.RateLimit.Override.RateLimitOverride" {
        requests_per_unit: u32,
        unit: RateLimitUnit,
    }

    struct GlobalRateLimit = "envoy.extensions.filters.http.ratelimit.v3.RateLimit" {
        domain: String,
        stage: u32,
        request_type: String,
        timeout: Option<Duration>,
        failure_mode_deny: bool,
        rate_limited_as_resource_exhausted: bool,
        rate_limit_service: Option<RateLimitServiceConfig>,
        enable_x_ratelimit_headers: XRateLimitHeadersVersion,
        disable_x_envoy_ratelimited_header: bool,
        rate_limited_status: Option<HttpStatus>,
        response_headers_to_add: Vec<HeaderValueOption>,
        status_on_error: Option<HttpStatus>,
        stat_prefix: String,
        filter_enabled: Option<RuntimeFractionalPercent>,
        filter_enforced: Option<RuntimeFractionalPercent>,
        failure_mode_deny_percent: Option<RuntimeFractionalPercent>,
        rate_limits: Vec<RateLimit>,
        metadata_namespace: String,
        enable_retry_after_header: bool,
    }

    struct RateLimitServiceConfig = "envoy.config.ratelimit.v3.RateLimitServiceConfig" {
        grpc_service: Option<GrpcService>,
        transport_api_version: ApiVersion,
    }

    struct GlobalRateLimitPerRoute =
        "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute" {
        vh_rate_limits: GlobalVhRateLimitsOptions,
        rate_limits: Vec<RateLimit>,
        domain: String,
    } harmless {
        override_option: "Envoy does not read it either",
    }

    struct HitsAddend = "envoy.config.route.v3.RateLimit.HitsAddend" {
        number: Option<u64>,
        format: String,
        is_negative_hits: bool,
    }

    struct RateLimitAction = "envoy.config.route.v3.RateLimit.Action" {
        source_cluster: Option<SourceClusterAction>,
        destination_cluster: Option<DestinationClusterAction>,
        request_headers: Option<RequestHeadersAction>,
        query_parameters: Option<QueryParametersAction>,
        remote_address: Option<RemoteAddressAction>,
        generic_key: Option<GenericKeyAction>,
        header_value_match: Option<HeaderValueMatchAction>,
        metadata: Option<MetadataAction>,
        extension: Option<TypedExtensionConfig>,
        masked_remote_address: Option<MaskedRemoteAddressAction>,
        query_parameter_value_match: Option<QueryParameterValueMatchAction>,
        remote_address_match: Option<RemoteAddressMatchAction>,
    }

    struct SourceClusterAction = "envoy.config.route.v3.RateLimit.Action.SourceCluster" {}

    struct DestinationClusterAction = "envoy.config.route.v3.RateLimit.Action.DestinationCluster" {}

    struct RequestHeadersAction = "envoy.config.route.v3.RateLimit.Action.RequestHeaders" {
        header_name: String,
        descriptor_key: String,
        skip_if_absent: bool,
    }

    struct QueryParametersAction = "envoy.config.route.v3.RateLimit.Action.QueryParameters" {
        query_parameter_name: String,
        descriptor_key: String,
        skip_if_absent: bool,
    }

    struct RemoteAddressAction = "envoy.config.route.v3.RateLimit.Action.RemoteAddress" {}

    struct MaskedRemoteAddressAction =
        "envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress" {
        v4_prefix_mask_len: Option<u32>,
        v6_prefix_mask_len: Option<u32>,
    }

    struct GenericKeyAction = "envoy.config.route.v3.RateLimit.Action.GenericKey" {
        descriptor_value: String,
        descriptor_key: String,
    } harmless {
        default_value: "as in Envoy a text is never empty unless a runtime feature is turned on",
    }

    struct HeaderValueMatchAction = "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch" {
        descriptor_value: String,
        descriptor_key: String,
        expect_match: Option<bool>,
        headers: Vec<HeaderMatcher>,
    } harmless {
        default_value: "as in Envoy a text is never empty unless a runtime feature is turned on",
    }

    struct MetadataAction = "envoy.config.route.v3.RateLimit.Action.MetaData" {
        descriptor_key: String,
        metadata_key: Option<MetadataKey>,
        default_value: String,
        source: RateLimitMetadataSource,
        skip_if_absent: bool,
    }

    struct MetadataKey = "envoy.type.metadata.v3.MetadataKey" {
        key: String,
        path: Vec<MetadataKeySegment>,
    }

    struct MetadataKeySegment = "envoy.type.metadata.v3.MetadataKey.PathSegment" {
        key: Option<String>,
    }

    struct QueryParameterValueMatchAction =
        "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch" {
        descriptor_value: String,
        descriptor_key: String,
        expect_match: Option<bool>,
        query_parameters: Vec<QueryParameterMatcher>,
    } harmless {
        default_value: "as in Envoy a text is never empty unless a runtime feature is turned on",
    }

    struct RemoteAddressMatchAction = "envoy.config.route.v3.RateLimit.Action.RemoteAddressMatch" {
        descriptor_value: String,
        descriptor_key: String,
        default_value: String,
        address_matcher: Option<AddressMatcher>,
    }

    struct AddressMatcher = "envoy.type.matcher.v3.AddressMatcher" {
        ranges: Vec<XdsCidrRange>,
        invert_match: bool,
    }

    struct RateLimitExpression = "envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor" {
        descriptor_key: String,
        skip_if_error: bool,
        text: Option<String>,
    }
}

schema_enum! {
    enum GlobalVhRateLimitsOptions =
        "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute.VhRateLimitsOptions" {
        Override, Include, Ignore,
    }

    enum RateLimitUnit = "envoy.type.v3.RateLimitUnit" {
        Unknown, Second, Minute, Hour, Day, Month, Year, Week,
    }

    enum VhRateLimitsOptions = "envoy.extensions.common.ratelimit.v3.VhRateLimitsOptions" {
        Override, Include, Ignore,
    }

    enum RateLimitMetadataSource = "envoy.config.route.v3.RateLimit.Action.MetaData.Source" {
        Dynamic, RouteEntry, ClusterEntry, ClusterLocalityEntry,
    }
}

/// Envoy's `envoy.extensions.common.ratelimit.v3.XRateLimitHeadersRFCVersion`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum XRateLimitHeadersVersion {
    #[default]
    #[serde(rename = "OFF")]
    Off,
    #[serde(rename = "DRAFT_VERSION_03")]
    DraftVersion03,
}

/// Envoy's `envoy.config.route.v3.RateLimit.XRateLimitOption`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum XRateLimitOption {
    #[default]
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    #[serde(rename = "OFF")]
    Off,
    #[serde(rename = "DRAFT_VERSION_03")]
    DraftVersion03,
}
