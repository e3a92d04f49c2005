use serde::Deserialize;

#[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "any message may be in it"))]
use super::*;

/// Declares [`Any`]: one variant per message that Corvoy reads inside `typed_config`.
macro_rules! any {
    ($($name:ident = $message:literal,)*) => {
        /// The content of a `typed_config`. Other types are rejected when the configuration is
        /// read.
        #[derive(Clone, Debug, Deserialize, PartialEq)]
        pub enum Any {
            $(
                #[doc = concat!("`", $message, "`")]
                #[serde(rename = $message)]
                $name(Box<$name>),
            )*
        }

        impl Any {
            /// The full name of the message inside.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$name as Message>::NAME,)*
                }
            }

            /// The full names of the messages that may be in a `typed_config`.
            pub(crate) const TYPES: &'static [&'static str] = &[$($message),*];
        }

        const _: () = {
            // serde requires a literal, so the name is repeated; both must be equal.
            $(assert!(same(<$name as Message>::NAME, $message));)*
        };
    };
}

any! {
    AdmissionControl = "envoy.extensions.filters.http.admission_control.v3.AdmissionControl",
    AggregateCluster = "envoy.extensions.clusters.aggregate.v3.ClusterConfig",
    AllowListedRoutesConfig =
        "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
    ApiKeyAuth = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
    ApiKeyAuthPerRoute = "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
    ApplicationProtocolInput =
        "envoy.extensions.matching.common_inputs.network.v3.ApplicationProtocolInput",
    BandwidthLimit = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
    BasicAuth = "envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
    BasicAuthPerRoute = "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute",
    BrotliCompressor = "envoy.extensions.compression.brotli.compressor.v3.Brotli",
    BrotliDecompressor = "envoy.extensions.compression.brotli.decompressor.v3.Brotli",
    Buffer = "envoy.extensions.filters.http.buffer.v3.Buffer",
    BufferPerRoute = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    CaresDnsResolver = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    CdnLoop = "envoy.extensions.filters.http.cdn_loop.v3.CdnLoopConfig",
    CelFormatter = "envoy.extensions.formatter.cel.v3.Cel",
    CelMatcher = "xds.type.matcher.v3.CelMatcher",
    Cluster = "envoy.config.cluster.v3.Cluster",
    ClusterLoadAssignment = "envoy.config.endpoint.v3.ClusterLoadAssignment",
    ClusterProvided =
        "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided",
    Composite = "envoy.extensions.filters.http.composite.v3.Composite",
    CompositePerRoute = "envoy.extensions.filters.http.composite.v3.CompositePerRoute",
    Compressor = "envoy.extensions.filters.http.compressor.v3.Compressor",
    CompressorPerRoute = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
    ConnectionLimit = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    ConsistentHashingMatcher =
        "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing",
    CookieBasedSessionState =
        "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
    Cors = "envoy.extensions.filters.http.cors.v3.Cors",
    CorsPolicy = "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    CredentialInjector = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
    CsrfPolicy = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
    CustomHeaderConfig =
        "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
    CustomResponse = "envoy.extensions.filters.http.custom_response.v3.CustomResponse",
    Decompressor = "envoy.extensions.filters.http.decompressor.v3.Decompressor",
    DestinationIpInput = "envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput",
    DestinationPortInput =
        "envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput",
    DirectSourceIpInput = "envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput",
    DnsCluster = "envoy.extensions.clusters.dns.v3.DnsCluster",
    DnsSanInput = "envoy.extensions.matching.common_inputs.ssl.v3.DnsSanInput",
    DogStatsdSink = "envoy.config.metrics.v3.DogStatsdSink",
    DownstreamConnectionsConfig =
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
    DownstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    DynamicForwardProxy = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    DynamicForwardProxyCluster = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    DynamicForwardProxyPerRoute =
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
    DynamicMetadataInput =
        "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
    EarlyHeaderMutation =
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    Echo = "envoy.extensions.filters.network.echo.v3.Echo",
    EnvelopeSessionState =
        "envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState",
    ExecuteFilterAction = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction",
    ExpressionFilter = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    ExtAuthz = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    ExtAuthzPerRoute = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
    ExtProc = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
    ExtProcPerRoute = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
    ExtensionWithMatcher = "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
    ExtensionWithMatcherPerRoute =
        "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute",
    FileAccessLog = "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    FilterConfig = "envoy.config.route.v3.FilterConfig",
    FilterStateInput = "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
    GenericCredential = "envoy.extensions.http.injected_credentials.generic.v3.Generic",
    GetAddrInfoDnsResolver =
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig",
    GlobalRateLimit = "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    GlobalRateLimitPerRoute =
        "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
    GrpcHttp1Bridge = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
    GrpcHttp1ReverseBridge =
        "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
    GrpcHttp1ReverseBridgePerRoute =
        "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute",
    GrpcStatsFilter = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    GrpcWeb = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    GzipCompressor = "envoy.extensions.compression.gzip.compressor.v3.Gzip",
    GzipDecompressor = "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
    HeaderBasedSessionState =
        "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
    HeaderMutationFilter = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    HeaderMutationPerRoute =
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    HeaderToMetadata = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    HealthCheckEventFileSink =
        "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
    HealthCheckFilter = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    HttpAttributesCelMatchInput = "xds.type.matcher.v3.HttpAttributesCelMatchInput",
    HttpConnectionManager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    HttpFault = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    HttpGrpcAccessLogConfig =
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    HttpInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    HttpRbac = "envoy.extensions.filters.http.rbac.v3.RBAC",
    HttpRbacPerRoute = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    HttpRequestHeaderMatchInput = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
    HttpRequestQueryParamMatchInput = "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput",
    HttpResponseHeaderMatchInput = "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
    HttpResponseLocalReplyMatchInput = "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput",
    HttpResponseStatusCodeClassMatchInput =
        "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput",
    HttpResponseStatusCodeMatchInput = "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput",
    HttpSetFilterState = "envoy.extensions.filters.http.set_filter_state.v3.Config",
    IpInputMatcher = "envoy.extensions.matching.input_matchers.ip.v3.Ip",
    IpMatcher = "xds.type.matcher.v3.IPMatcher",
    JsonToMetadata = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
    JwtAuthentication = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
    JwtPerRoute = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
    LeastRequest = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    Listener = "envoy.config.listener.v3.Listener",
    LocalRateLimit = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    LocalResponsePolicy =
        "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
    Lua = "envoy.extensions.filters.http.lua.v3.Lua",
    LuaPerRoute = "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
    Maglev = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    MetadataFormatter = "envoy.extensions.formatter.metadata.v3.Metadata",
    MetadataInputMatcher = "envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
    MetricsServiceConfig = "envoy.config.metrics.v3.MetricsServiceConfig",
    NetworkDirectResponse = "envoy.extensions.filters.network.direct_response.v3.Config",
    NetworkLocalRateLimit = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    NetworkRbac = "envoy.extensions.filters.network.rbac.v3.RBAC",
    NetworkSetFilterState = "envoy.extensions.filters.network.set_filter_state.v3.Config",
    OAuth2Credential = "envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2",
    OmitCanaryHostsPredicate =
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
    OmitHostMetadata = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
    OpenTelemetryAccessLogConfig =
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
    OpenTelemetrySink = "envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig",
    OriginalDst = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    OriginalDstCluster = "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster",
    OverrideHost = "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
    PerHostConfig = "envoy.config.core.v3.PerHostConfig",
    PreserveCaseFormatterConfig =
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
    PreviousHostsPredicate = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    PreviousPrioritiesConfig =
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    PreviousRoutesConfig =
        "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig",
    ProxyProtocol = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ProxyProtocolUpstreamTransport =
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    Random = "envoy.extensions.load_balancing_policies.random.v3.Random",
    RateLimitExpression = "envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor",
    RawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    RbacMatcherAction = "envoy.config.rbac.v3.Action",
    ReqWithoutQuery = "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery",
    Resource = "envoy.service.discovery.v3.Resource",
    RingHash = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    RoundRobin = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    Route = "envoy.config.route.v3.Route",
    RouteConfiguration = "envoy.config.route.v3.RouteConfiguration",
    RouteList = "envoy.config.route.v3.RouteList",
    Router = "envoy.extensions.filters.http.router.v3.Router",
    Runtime = "envoy.service.runtime.v3.Runtime",
    RuntimeFractionMatcher =
        "envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction",
    SafeCrossSchemeConfig =
        "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
    Secret = "envoy.extensions.transport_sockets.tls.v3.Secret",
    ServerNameInput = "envoy.extensions.matching.common_inputs.network.v3.ServerNameInput",
    ServerNameMatcher = "xds.type.matcher.v3.ServerNameMatcher",
    SetMetadata = "envoy.extensions.filters.http.set_metadata.v3.Config",
    SkipFilter = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
    SniCluster = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
    SourceIpInput = "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput",
    SourcePortInput = "envoy.extensions.matching.common_inputs.network.v3.SourcePortInput",
    SourceTypeInput = "envoy.extensions.matching.common_inputs.network.v3.SourceTypeInput",
    StatefulSession = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    StatefulSessionPerRoute =
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
    StatsdSink = "envoy.config.metrics.v3.StatsdSink",
    StderrAccessLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    StdoutAccessLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    StringValue = "google.protobuf.StringValue",
    SubjectInput = "envoy.extensions.matching.common_inputs.ssl.v3.SubjectInput",
    TcpGrpcAccessLogConfig = "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    TcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    TlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    TransportProtocolInput =
        "envoy.extensions.matching.common_inputs.network.v3.TransportProtocolInput",
    UpstreamCodec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    UpstreamTlsContext = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    UpstreamsHttpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    UriSanInput = "envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput",
    UriTemplateMatchConfig = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
    UriTemplateRewriteConfig =
        "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
    UuidRequestIdConfig = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
    WrrLocality = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality",
    XffConfig = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig",
    ZstdCompressor = "envoy.extensions.compression.zstd.compressor.v3.Zstd",
    ZstdDecompressor = "envoy.extensions.compression.zstd.decompressor.v3.Zstd",
}

const fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let ([x, rest_of_a @ ..], [y, rest_of_b @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest_of_a, rest_of_b);
    }
    a.is_empty() && b.is_empty()
}
