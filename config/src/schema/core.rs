//! `envoy/config/core/v3` and `envoy/type/v3`: common types.

use super::{
    Any, ApiVersion, AutoHttpConfig, BTreeMap, Duration, GrpcService, Http2ProtocolOptions,
    HttpFilter, RequestMirrorPolicy, UseDownstreamHttpConfig, schema, schema_enum,
};

schema! {
    const CORE;

    struct Address = "envoy.config.core.v3.Address" {
        socket_address: Option<SocketAddress>,
        pipe: Option<Pipe>,
    }

    struct SocketAddress = "envoy.config.core.v3.SocketAddress" {
        protocol: Protocol,
        address: String,
        port_value: Option<u32>,
        resolver_name: String,
        ipv4_compat: bool,
    }

    struct Metadata = "envoy.config.core.v3.Metadata" {
        filter_metadata: BTreeMap<String, serde_json::Value>,
        typed_filter_metadata: BTreeMap<String, Any>,
    }

    struct PerHostConfig = "envoy.config.core.v3.PerHostConfig" {
        added_tlvs: Vec<TlvEntry>,
    }

    struct Pipe = "envoy.config.core.v3.Pipe" {
        path: String,
        mode: u32,
    }

    struct SocketOption = "envoy.config.core.v3.SocketOption" {
        level: i64,
        name: i64,
        int_value: Option<i64>,
        buf_value: Option<Vec<u8>>,
        state: SocketState,
        r#type: Option<SocketType>,
        ip_version: SocketIpVersion,
    } harmless {
        description: "it is for people",
    }

    struct SocketType = "envoy.config.core.v3.SocketOption.SocketType" {
        stream: Option<StreamSocket>,
        datagram: Option<DatagramSocket>,
    }

    struct StreamSocket = "envoy.config.core.v3.SocketOption.SocketType.Stream" {}

    struct DatagramSocket = "envoy.config.core.v3.SocketOption.SocketType.Datagram" {}

    struct ProxyProtocolConfig = "envoy.config.core.v3.ProxyProtocolConfig" {
        version: ProxyProtocolVersion,
        pass_through_tlvs: Option<ProxyProtocolPassThroughTlvs>,
        added_tlvs: Vec<TlvEntry>,
    }

    struct ProxyProtocolPassThroughTlvs = "envoy.config.core.v3.ProxyProtocolPassThroughTLVs" {
        match_type: PassTlvsMatchType,
        tlv_type: Vec<u32>,
    }

    struct TlvEntry = "envoy.config.core.v3.TlvEntry" {
        r#type: u32,
        value: Vec<u8>,
    }

    struct BindConfig = "envoy.config.core.v3.BindConfig" {
        source_address: Option<SocketAddress>,
        freebind: Option<bool>,
        socket_options: Vec<SocketOption>,
        extra_source_addresses: Vec<ExtraSourceAddress>,
        additional_source_addresses: Vec<SocketAddress>,
    }

    struct ExtraSourceAddress = "envoy.config.core.v3.ExtraSourceAddress" {
        address: Option<SocketAddress>,
        socket_options: Option<SocketOptionsOverride>,
    }

    struct SocketOptionsOverride = "envoy.config.core.v3.SocketOptionsOverride" {
        socket_options: Vec<SocketOption>,
    }

    struct CidrRange = "envoy.config.core.v3.CidrRange" {
        address_prefix: String,
        prefix_len: Option<u32>,
    }

    struct Locality = "envoy.config.core.v3.Locality" {
        region: String,
        zone: String,
        sub_zone: String,
    }

    struct TcpKeepalive = "envoy.config.core.v3.TcpKeepalive" {
        keepalive_probes: Option<u32>,
        keepalive_time: Option<u32>,
        keepalive_interval: Option<u32>,
    }

    struct HeaderValue = "envoy.config.core.v3.HeaderValue" {
        key: String,
        value: String,
        raw_value: Vec<u8>,
    }

    struct HeaderValueOption = "envoy.config.core.v3.HeaderValueOption" {
        header: Option<HeaderValue>,
        append: Option<bool>,
        append_action: HeaderAppendAction,
        keep_empty_value: bool,
    }

    struct ConfigSource = "envoy.config.core.v3.ConfigSource" {
        path: Option<String>,
        path_config_source: Option<PathConfigSource>,
        api_config_source: Option<ApiConfigSource>,
        ads: Option<AggregatedConfigSource>,
        initial_fetch_timeout: Option<Duration>,
    } harmless {
        resource_api_version: "there is only version 3",
    }

    struct ApiConfigSource = "envoy.config.core.v3.ApiConfigSource" {
        api_type: ApiType,
        transport_api_version: ApiVersion,
        cluster_names: Vec<String>,
        grpc_services: Vec<GrpcService>,
        rate_limit_settings: Option<RateLimitSettings>,
        set_node_on_first_message_only: bool,
    } harmless {
        refresh_delay: "for REST, which is refused",
        request_timeout: "for REST, which is refused",
    }

    struct AggregatedConfigSource = "envoy.config.core.v3.AggregatedConfigSource" {}

    struct RateLimitSettings = "envoy.config.core.v3.RateLimitSettings" {
        max_tokens: Option<u32>,
        fill_rate: Option<f64>,
    }

    struct PathConfigSource = "envoy.config.core.v3.PathConfigSource" {
        path: String,
        watched_directory: Option<WatchedDirectory>,
        poll_interval: Option<Duration>,
    }

    struct WatchedDirectory = "envoy.config.core.v3.WatchedDirectory" {
        path: String,
    }

    struct Empty = "google.protobuf.Empty" {}

    struct DataSource = "envoy.config.core.v3.DataSource" {
        filename: Option<String>,
        inline_bytes: Option<Vec<u8>>,
        inline_string: Option<String>,
        environment_variable: Option<String>,
    }

    struct SubstitutionFormatString = "envoy.config.core.v3.SubstitutionFormatString" {
        text_format: Option<String>,
        text_format_source: Option<DataSource>,
        json_format: Option<serde_json::Value>,
        omit_empty_values: bool,
        content_type: String,
        formatters: Vec<TypedExtensionConfig>,
    } harmless {
        json_format_options: "as in Envoy the keys are always sorted",
    }

    struct ReqWithoutQuery = "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery" {}

    struct MetadataFormatter = "envoy.extensions.formatter.metadata.v3.Metadata" {}

    struct CelFormatter = "envoy.extensions.formatter.cel.v3.Cel" {}

    struct RuntimeFractionalPercent = "envoy.config.core.v3.RuntimeFractionalPercent" {
        default_value: Option<FractionalPercent>,
        runtime_key: String,
    }

    struct RuntimeFeatureFlag = "envoy.config.core.v3.RuntimeFeatureFlag" {
        default_value: Option<bool>,
        runtime_key: String,
    }

    struct BackoffStrategy = "envoy.config.core.v3.BackoffStrategy" {
        base_interval: Option<Duration>,
        max_interval: Option<Duration>,
    }

    struct RuntimeUInt32 = "envoy.config.core.v3.RuntimeUInt32" {
        default_value: u32,
        runtime_key: String,
    }

    struct FractionalPercent = "envoy.type.v3.FractionalPercent" {
        numerator: u32,
        denominator: DenominatorType,
    }

    struct Int32Range = "envoy.type.v3.Int32Range" {
        start: i32,
        end: i32,
    }

    struct TokenBucket = "envoy.type.v3.TokenBucket" {
        max_tokens: u32,
        tokens_per_fill: Option<u32>,
        fill_interval: Option<Duration>,
    }

    struct Percent = "envoy.type.v3.Percent" {
        value: f64,
    }

    struct HttpProtocolOptions = "envoy.config.core.v3.HttpProtocolOptions" {
        idle_timeout: Option<Duration>,
        max_connection_duration: Option<Duration>,
        max_headers_count: Option<u32>,
        max_response_headers_kb: Option<u32>,
        max_stream_duration: Option<Duration>,
        headers_with_underscores_action: HeadersWithUnderscoresAction,
        max_requests_per_connection: Option<u32>,
    }

    struct Http1ProtocolOptions = "envoy.config.core.v3.Http1ProtocolOptions" {
        allow_absolute_url: Option<bool>,
        accept_http_10: bool,
        default_host_for_http_10: String,
        header_key_format: Option<HeaderKeyFormat>,
        enable_trailers: bool,
        allow_chunked_length: bool,
        override_stream_error_on_invalid_http_message: Option<bool>,
        send_fully_qualified_url: bool,
        allow_custom_methods: bool,
    } harmless {
        use_balsa_parser: "Corvoy has one parser, as strict as Envoy's default one",
    }

    struct HeaderKeyFormat = "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat" {
        proper_case_words: Option<ProperCaseWords>,
        stateful_formatter: Option<TypedExtensionConfig>,
    }

    struct TypedExtensionConfig = "envoy.config.core.v3.TypedExtensionConfig" {
        name: String,
        typed_config: Option<Any>,
    }

    struct PreserveCaseFormatterConfig =
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig" {
        forward_reason_phrase: bool,
        formatter_type_on_envoy_headers: FormatterTypeOnEnvoyHeaders,
    }

    struct ProperCaseWords = "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords" {}

    struct SchemeHeaderTransformation = "envoy.config.core.v3.SchemeHeaderTransformation" {
        scheme_to_overwrite: Option<String>,
        match_upstream: bool,
    }

    struct UpstreamsHttpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" {
        common_http_protocol_options: Option<HttpProtocolOptions>,
        upstream_http_protocol_options: Option<UpstreamHttpProtocolOptions>,
        explicit_http_config: Option<ExplicitHttpConfig>,
        use_downstream_protocol_config: Option<UseDownstreamHttpConfig>,
        auto_config: Option<AutoHttpConfig>,
        request_mirror_policies: Vec<RequestMirrorPolicy>,
        http_filters: Vec<HttpFilter>,
    }

    struct UpstreamHttpProtocolOptions = "envoy.config.core.v3.UpstreamHttpProtocolOptions" {
        auto_sni: bool,
        auto_san_validation: bool,
        override_auto_sni_header: String,
    }

    struct ExplicitHttpConfig = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig" {
        http_protocol_options: Option<Http1ProtocolOptions>,
        http2_protocol_options: Option<Http2ProtocolOptions>,
    }
}

schema_enum! {
    enum PassTlvsMatchType = "envoy.config.core.v3.ProxyProtocolPassThroughTLVs.PassTLVsMatchType" {
        IncludeAll, Include,
    }

    enum ProxyProtocolVersion = "envoy.config.core.v3.ProxyProtocolConfig.Version" { V1, V2 }

    enum SocketState = "envoy.config.core.v3.SocketOption.SocketState" {
        StatePrebind, StateBound, StateListening,
    }

    enum ApiType = "envoy.config.core.v3.ApiConfigSource.ApiType" {
        DeprecatedAndUnavailableDoNotUse, Rest, Grpc, DeltaGrpc, AggregatedGrpc, AggregatedDeltaGrpc,
    }

    enum SocketIpVersion = "envoy.config.core.v3.SocketOption.SocketIpVersion" {
        SocketIpVersionUnspecified, SocketIpVersionIpv4, SocketIpVersionIpv6,
    }

    enum Protocol = "envoy.config.core.v3.SocketAddress.Protocol" { Tcp, Udp }

    enum FormatterTypeOnEnvoyHeaders =
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig.FormatterTypeOnEnvoyHeaders" {
        Default, ProperCase,
    }

    enum HeaderAppendAction = "envoy.config.core.v3.HeaderValueOption.HeaderAppendAction" {
        AppendIfExistsOrAdd, AddIfAbsent, OverwriteIfExistsOrAdd, OverwriteIfExists,
    }

    enum HeadersWithUnderscoresAction =
        "envoy.config.core.v3.HttpProtocolOptions.HeadersWithUnderscoresAction" {
        Allow, RejectRequest, DropHeader,
    }

    enum HealthStatus = "envoy.config.core.v3.HealthStatus" {
        Unknown, Healthy, Unhealthy, Draining, Timeout, Degraded,
    }

    enum RoutingPriority = "envoy.config.core.v3.RoutingPriority" { Default, High }

    enum DenominatorType = "envoy.type.v3.FractionalPercent.DenominatorType" {
        Hundred, TenThousand, Million,
    }
}
