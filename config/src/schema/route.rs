//! `envoy/config/route/v3`.

use std::collections::BTreeMap;

use super::{
    Any, CookieMatcher, DataSource, Duration, HeaderMatcher, HeaderMutation, HeaderValueOption,
    Matcher, Metadata, MetadataMatcher, QueryParameterMatcher, RateLimit, RegexMatchAndSubstitute,
    RegexMatcher, RoutingPriority, RuntimeFractionalPercent, StringMatcher,
    SubstitutionFormatString, TypedExtensionConfig, schema, schema_enum,
};

schema! {
    const ROUTE;

    struct RouteConfiguration = "envoy.config.route.v3.RouteConfiguration" {
        name: String,
        virtual_hosts: Vec<VirtualHost>,
        internal_only_headers: Vec<String>,
        response_headers_to_add: Vec<HeaderValueOption>,
        response_headers_to_remove: Vec<String>,
        request_headers_to_add: Vec<HeaderValueOption>,
        request_headers_to_remove: Vec<String>,
        most_specific_header_mutations_wins: bool,
        validate_clusters: Option<bool>,
        max_direct_response_body_size_bytes: Option<u32>,
        ignore_port_in_host_matching: bool,
        ignore_path_parameters_in_path_matching: bool,
        request_mirror_policies: Vec<RequestMirrorPolicy>,
        typed_per_filter_config: BTreeMap<String, Any>,
    } harmless {
        metadata: "only extensions that Corvoy refuses read it",
    }

    struct VirtualHost = "envoy.config.route.v3.VirtualHost" {
        name: String,
        domains: Vec<String>,
        routes: Vec<Route>,
        require_tls: TlsRequirementType,
        virtual_clusters: Vec<VirtualCluster>,
        request_headers_to_add: Vec<HeaderValueOption>,
        request_headers_to_remove: Vec<String>,
        response_headers_to_add: Vec<HeaderValueOption>,
        response_headers_to_remove: Vec<String>,
        include_request_attempt_count: bool,
        include_attempt_count_in_response: bool,
        include_is_timeout_retry_header: bool,
        retry_policy: Option<RetryPolicy>,
        per_request_buffer_limit_bytes: Option<u32>,
        request_body_buffer_limit: Option<u64>,
        typed_per_filter_config: BTreeMap<String, Any>,
        cors: Option<RouteCorsPolicy>,
        metadata: Option<Metadata>,
        matcher: Option<Matcher>,
        rate_limits: Vec<RateLimit>,
        request_mirror_policies: Vec<RequestMirrorPolicy>,
    }

    struct RouteList = "envoy.config.route.v3.RouteList" {
        routes: Vec<Route>,
    }

    struct RouteCorsPolicy = "envoy.config.route.v3.CorsPolicy" {
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

    struct VirtualCluster = "envoy.config.route.v3.VirtualCluster" {
        name: String,
        headers: Vec<HeaderMatcher>,
    }

    struct Route = "envoy.config.route.v3.Route" {
        name: String,
        r#match: Option<RouteMatch>,
        route: Option<RouteAction>,
        redirect: Option<RedirectAction>,
        direct_response: Option<DirectResponseAction>,
        request_headers_to_add: Vec<HeaderValueOption>,
        request_headers_to_remove: Vec<String>,
        response_headers_to_add: Vec<HeaderValueOption>,
        response_headers_to_remove: Vec<String>,
        stat_prefix: String,
        per_request_buffer_limit_bytes: Option<u32>,
        request_body_buffer_limit: Option<u64>,
        metadata: Option<Metadata>,
        typed_per_filter_config: BTreeMap<String, Any>,
    } harmless {
        decorator: "only tracing reads it, and tracing is refused",
        tracing: "only tracing reads it, and tracing is refused",
    }

    struct RouteMatch = "envoy.config.route.v3.RouteMatch" {
        prefix: Option<String>,
        path: Option<String>,
        safe_regex: Option<RegexMatcher>,
        path_separated_prefix: Option<String>,
        connect_matcher: Option<ConnectMatcher>,
        path_match_policy: Option<TypedExtensionConfig>,
        case_sensitive: Option<bool>,
        runtime_fraction: Option<RuntimeFractionalPercent>,
        headers: Vec<HeaderMatcher>,
        query_parameters: Vec<QueryParameterMatcher>,
        cookies: Vec<CookieMatcher>,
        grpc: Option<GrpcRouteMatchOptions>,
        tls_context: Option<TlsContextMatchOptions>,
        dynamic_metadata: Vec<MetadataMatcher>,
        filter_state: Vec<FilterStateMatcher>,
    }

    struct FilterStateMatcher = "envoy.type.matcher.v3.FilterStateMatcher" {
        key: String,
        string_match: Option<StringMatcher>,
    }

    struct UriTemplateMatchConfig =
        "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig" {
        path_template: String,
    }

    struct UriTemplateRewriteConfig =
        "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig" {
        path_template_rewrite: String,
    }

    struct ConnectMatcher = "envoy.config.route.v3.RouteMatch.ConnectMatcher" {}

    struct GrpcRouteMatchOptions = "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions" {}

    struct TlsContextMatchOptions = "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions" {
        presented: Option<bool>,
        validated: Option<bool>,
    }

    struct RouteAction = "envoy.config.route.v3.RouteAction" {
        cluster: Option<String>,
        cluster_header: Option<String>,
        weighted_clusters: Option<WeightedCluster>,
        cluster_not_found_response_code: ClusterNotFoundResponseCode,
        metadata_match: Option<Metadata>,
        prefix_rewrite: String,
        regex_rewrite: Option<RegexMatchAndSubstitute>,
        path_rewrite_policy: Option<TypedExtensionConfig>,
        host_rewrite_literal: Option<String>,
        auto_host_rewrite: Option<bool>,
        host_rewrite_header: Option<String>,
        host_rewrite_path_regex: Option<RegexMatchAndSubstitute>,
        path_rewrite: String,
        host_rewrite: Option<String>,
        append_x_forwarded_host: bool,
        timeout: Option<Duration>,
        idle_timeout: Option<Duration>,
        flush_timeout: Option<Duration>,
        retry_policy: Option<RetryPolicy>,
        priority: RoutingPriority,
        hash_policy: Vec<HashPolicy>,
        upgrade_configs: Vec<RouteActionUpgradeConfig>,
        cors: Option<RouteCorsPolicy>,
        max_stream_duration: Option<MaxStreamDuration>,
        max_grpc_timeout: Option<Duration>,
        grpc_timeout_offset: Option<Duration>,
        rate_limits: Vec<RateLimit>,
        include_vh_rate_limits: Option<bool>,
        request_mirror_policies: Vec<RequestMirrorPolicy>,
        internal_redirect_policy: Option<InternalRedirectPolicy>,
        internal_redirect_action: InternalRedirectAction,
        max_internal_redirects: Option<u32>,
    }

    struct InternalRedirectPolicy = "envoy.config.route.v3.InternalRedirectPolicy" {
        max_internal_redirects: Option<u32>,
        redirect_response_codes: Vec<u32>,
        predicates: Vec<TypedExtensionConfig>,
        allow_cross_scheme_redirect: bool,
        response_headers_to_copy: Vec<String>,
    }

    struct PreviousRoutesConfig =
        "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig" {}

    struct AllowListedRoutesConfig =
        "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig" {
        allowed_route_names: Vec<String>,
    }

    struct SafeCrossSchemeConfig =
        "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig" {}

    struct RequestMirrorPolicy = "envoy.config.route.v3.RouteAction.RequestMirrorPolicy" {
        cluster: String,
        cluster_header: String,
        runtime_fraction: Option<RuntimeFractionalPercent>,
        disable_shadow_host_suffix_append: bool,
        request_headers_mutations: Vec<HeaderMutation>,
        host_rewrite_literal: String,
    } harmless {
        trace_sampled: "only tracing reads it, and tracing is refused",
    }

    struct HashPolicy = "envoy.config.route.v3.RouteAction.HashPolicy" {
        header: Option<HashPolicyHeader>,
        cookie: Option<HashPolicyCookie>,
        connection_properties: Option<HashPolicyConnectionProperties>,
        query_parameter: Option<HashPolicyQueryParameter>,
        filter_state: Option<HashPolicyFilterState>,
        terminal: bool,
    }

    struct HashPolicyFilterState = "envoy.config.route.v3.RouteAction.HashPolicy.FilterState" {
        key: String,
    }

    struct HashPolicyHeader = "envoy.config.route.v3.RouteAction.HashPolicy.Header" {
        header_name: String,
        regex_rewrite: Option<RegexMatchAndSubstitute>,
    }

    struct HashPolicyCookie = "envoy.config.route.v3.RouteAction.HashPolicy.Cookie" {
        name: String,
        ttl: Option<Duration>,
        path: String,
        attributes: Vec<HashPolicyCookieAttribute>,
    }

    struct HashPolicyCookieAttribute =
        "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute" {
        name: String,
        value: String,
    }

    struct HashPolicyConnectionProperties =
        "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties" {
        source_ip: bool,
    }

    struct HashPolicyQueryParameter =
        "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter" {
        name: String,
    }

    struct RouteActionUpgradeConfig = "envoy.config.route.v3.RouteAction.UpgradeConfig" {
        upgrade_type: String,
        enabled: Option<bool>,
        connect_config: Option<ConnectConfig>,
    }

    struct ConnectConfig = "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig" {
        allow_post: bool,
    }

    struct MaxStreamDuration = "envoy.config.route.v3.RouteAction.MaxStreamDuration" {
        max_stream_duration: Option<Duration>,
        grpc_timeout_header_max: Option<Duration>,
        grpc_timeout_header_offset: Option<Duration>,
    }

    struct WeightedCluster = "envoy.config.route.v3.WeightedCluster" {
        clusters: Vec<ClusterWeight>,
        total_weight: Option<u32>,
        runtime_key_prefix: String,
        header_name: Option<String>,
        use_hash_policy: Option<bool>,
    }

    struct ClusterWeight = "envoy.config.route.v3.WeightedCluster.ClusterWeight" {
        name: String,
        cluster_header: String,
        weight: Option<u32>,
        metadata_match: Option<Metadata>,
        request_headers_to_add: Vec<HeaderValueOption>,
        request_headers_to_remove: Vec<String>,
        response_headers_to_add: Vec<HeaderValueOption>,
        response_headers_to_remove: Vec<String>,
        host_rewrite_literal: Option<String>,
        typed_per_filter_config: BTreeMap<String, Any>,
    }

    struct FilterConfig = "envoy.config.route.v3.FilterConfig" {
        config: Option<Any>,
        disabled: bool,
    } harmless {
        is_optional: "a type that Corvoy lacks is rejected by name",
    }

    struct RetryPolicy = "envoy.config.route.v3.RetryPolicy" {
        retry_on: String,
        num_retries: Option<u32>,
        per_try_timeout: Option<Duration>,
        per_try_idle_timeout: Option<Duration>,
        retry_priority: Option<RetryPriority>,
        retry_host_predicate: Vec<RetryHostPredicate>,
        host_selection_retry_max_attempts: i64,
        retriable_status_codes: Vec<u32>,
        retry_back_off: Option<RetryBackOff>,
        rate_limited_retry_back_off: Option<RateLimitedRetryBackOff>,
        retriable_headers: Vec<HeaderMatcher>,
        retriable_request_headers: Vec<HeaderMatcher>,
    }

    struct RetryBackOff = "envoy.config.route.v3.RetryPolicy.RetryBackOff" {
        base_interval: Option<Duration>,
        max_interval: Option<Duration>,
    }

    struct RateLimitedRetryBackOff = "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff" {
        reset_headers: Vec<ResetHeader>,
        max_interval: Option<Duration>,
    }

    struct ResetHeader = "envoy.config.route.v3.RetryPolicy.ResetHeader" {
        name: String,
        format: ResetHeaderFormat,
    }

    struct RetryHostPredicate = "envoy.config.route.v3.RetryPolicy.RetryHostPredicate" {
        name: String,
        typed_config: Option<Any>,
    }

    struct RetryPriority = "envoy.config.route.v3.RetryPolicy.RetryPriority" {
        name: String,
        typed_config: Option<Any>,
    }

    struct PreviousPrioritiesConfig =
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" {
        update_frequency: i32,
    }

    struct PreviousHostsPredicate =
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" {}

    struct OmitCanaryHostsPredicate =
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate" {}

    struct OmitHostMetadata =
        "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig" {
        metadata_match: Option<Metadata>,
    }

    struct RedirectAction = "envoy.config.route.v3.RedirectAction" {
        https_redirect: Option<bool>,
        scheme_redirect: Option<String>,
        host_redirect: String,
        port_redirect: u32,
        path_redirect: Option<String>,
        prefix_rewrite: Option<String>,
        regex_rewrite: Option<RegexMatchAndSubstitute>,
        path_rewrite: Option<String>,
        response_code: RedirectResponseCode,
        strip_query: bool,
    }

    struct DirectResponseAction = "envoy.config.route.v3.DirectResponseAction" {
        status: u32,
        body: Option<DataSource>,
        body_format: Option<SubstitutionFormatString>,
    }
}

schema_enum! {
    enum TlsRequirementType = "envoy.config.route.v3.VirtualHost.TlsRequirementType" {
        None, ExternalOnly, All,
    }

    enum ClusterNotFoundResponseCode = "envoy.config.route.v3.RouteAction.ClusterNotFoundResponseCode" {
        ServiceUnavailable, NotFound, InternalServerError,
    }

    enum InternalRedirectAction = "envoy.config.route.v3.RouteAction.InternalRedirectAction" {
        PassThroughInternalRedirect, HandleInternalRedirect,
    }

    enum RedirectResponseCode = "envoy.config.route.v3.RedirectAction.RedirectResponseCode" {
        MovedPermanently, Found, SeeOther, TemporaryRedirect, PermanentRedirect,
    }

    enum ResetHeaderFormat = "envoy.config.route.v3.RetryPolicy.ResetHeaderFormat" {
        Seconds, UnixTimestamp,
    }
}
