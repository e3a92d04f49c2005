//! `envoy/extensions/filters/network/http_connection_manager/v3`, and the router filter.

use super::{
    AccessLog, AccessLogFilter, Any, CidrRange, ConfigSource, DataSource, Duration,
    HeaderValueOption, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, HttpStatus,
    RouteConfiguration, SchemeHeaderTransformation, SubstitutionFormatString, TypedExtensionConfig,
    schema, schema_enum,
};

schema! {
    const HTTP_CONNECTION_MANAGER;

    struct Rds = "envoy.extensions.filters.network.http_connection_manager.v3.Rds" {
        config_source: Option<ConfigSource>,
        route_config_name: String,
    }

    struct RequestIdExtension =
        "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension" {
        typed_config: Option<Any>,
    }

    struct UuidRequestIdConfig = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" {
        pack_trace_reason: Option<bool>,
    } harmless {
        use_request_id_for_trace_sampling: "only tracing reads it, and tracing is refused",
    }

    struct CustomHeaderConfig =
        "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig" {
        header_name: String,
        allow_extension_to_set_address_as_trusted: bool,
        reject_with_status: Option<HttpStatus>,
    }

    struct XffConfig = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig" {
        xff_num_trusted_hops: u32,
        xff_trusted_cidrs: Option<XffTrustedCidrs>,
        skip_xff_append: Option<bool>,
    }

    struct XffTrustedCidrs =
        "envoy.extensions.http.original_ip_detection.xff.v3.XffTrustedCidrs" {
        cidrs: Vec<CidrRange>,
    }

    struct HttpConnectionManager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" {
        codec_type: CodecType,
        stat_prefix: String,
        route_config: Option<RouteConfiguration>,
        rds: Option<Rds>,
        http_filters: Vec<HttpFilter>,
        access_log: Vec<AccessLog>,
        access_log_flush_interval: Option<Duration>,
        flush_access_log_on_new_request: bool,
        access_log_options: Option<HcmAccessLogOptions>,
        add_user_agent: Option<bool>,
        common_http_protocol_options: Option<HttpProtocolOptions>,
        http1_safe_max_connection_duration: bool,
        http_protocol_options: Option<Http1ProtocolOptions>,
        http2_protocol_options: Option<Http2ProtocolOptions>,
        server_name: String,
        server_header_transformation: ServerHeaderTransformation,
        scheme_header_transformation: Option<SchemeHeaderTransformation>,
        max_request_headers_kb: Option<u32>,
        stream_idle_timeout: Option<Duration>,
        stream_flush_timeout: Option<Duration>,
        request_timeout: Option<Duration>,
        request_headers_timeout: Option<Duration>,
        drain_timeout: Option<Duration>,
        delayed_close_timeout: Option<Duration>,
        use_remote_address: Option<bool>,
        xff_num_trusted_hops: u32,
        original_ip_detection_extensions: Vec<TypedExtensionConfig>,
        request_id_extension: Option<RequestIdExtension>,
        internal_address_config: Option<InternalAddressConfig>,
        skip_xff_append: bool,
        append_x_forwarded_port: bool,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6: bool,
        via: String,
        generate_request_id: Option<bool>,
        preserve_external_request_id: bool,
        always_set_request_id_in_response: bool,
        forward_client_cert_details: ForwardClientCertDetails,
        set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
        proxy_100_continue: bool,
        upgrade_configs: Vec<UpgradeConfig>,
        normalize_path: Option<bool>,
        merge_slashes: bool,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
        local_reply_config: Option<LocalReplyConfig>,
        strip_matching_host_port: bool,
        strip_any_host_port: bool,
        strip_trailing_host_dot: bool,
        stream_error_on_invalid_http_message: Option<bool>,
        early_header_mutation_extensions: Vec<TypedExtensionConfig>,
    } harmless {
        append_local_overload: "Corvoy's overload manager does not act on requests",
    }

    struct HcmAccessLogOptions =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.HcmAccessLogOptions" {
        access_log_flush_interval: Option<Duration>,
        flush_access_log_on_new_request: bool,
        flush_log_on_tunnel_successfully_established: bool,
    }

    struct SetCurrentClientCertDetails =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails" {
        subject: Option<bool>,
        cert: bool,
        chain: bool,
        dns: bool,
        uri: bool,
        issuer: bool,
        format: ForwardClientCertFormat,
    }

    struct HttpFilter = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" {
        name: String,
        typed_config: Option<Any>,
        is_optional: bool,
        disabled: bool,
    }

    struct InternalAddressConfig =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig" {
        unix_sockets: bool,
        cidr_ranges: Vec<CidrRange>,
    }

    struct UpgradeConfig =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig" {
        upgrade_type: String,
        filters: Vec<HttpFilter>,
        enabled: Option<bool>,
    }

    struct LocalReplyConfig =
        "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig" {
        mappers: Vec<ResponseMapper>,
        body_format: Option<SubstitutionFormatString>,
    }

    struct ResponseMapper = "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper" {
        filter: Option<AccessLogFilter>,
        status_code: Option<u32>,
        body: Option<DataSource>,
        body_format_override: Option<SubstitutionFormatString>,
        headers_to_add: Vec<HeaderValueOption>,
    }

    struct UpstreamCodec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec" {}

    struct Router = "envoy.extensions.filters.http.router.v3.Router" {
        dynamic_stats: Option<bool>,
        suppress_envoy_headers: bool,
        strict_check_headers: Vec<String>,
        respect_expected_rq_timeout: bool,
        suppress_grpc_request_failure_code_stats: bool,
        upstream_log: Vec<AccessLog>,
        upstream_log_options: Option<UpstreamAccessLogOptions>,
        upstream_http_filters: Vec<HttpFilter>,
    } harmless {
        start_child_span: "only tracing reads it, and tracing is refused",
    }

    struct UpstreamAccessLogOptions =
        "envoy.extensions.filters.http.router.v3.Router.UpstreamAccessLogOptions" {
        flush_upstream_log_on_upstream_stream: bool,
        upstream_log_flush_interval: Option<Duration>,
    }
}

schema_enum! {
    enum CodecType =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.CodecType" {
        Auto, Http1, Http2, Http3,
    }

    enum ServerHeaderTransformation =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ServerHeaderTransformation" {
        Overwrite, AppendIfAbsent, PassThrough,
    }

    enum ForwardClientCertDetails =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertDetails" {
        Sanitize, ForwardOnly, AppendForward, SanitizeSet, AlwaysForwardOnly,
    }

    enum ForwardClientCertFormat =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertFormat" {
        Text, Json,
    }

    enum PathWithEscapedSlashesAction =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.PathWithEscapedSlashesAction" {
        ImplementationSpecificDefault, KeepUnchanged, RejectRequest, UnescapeAndRedirect,
        UnescapeAndForward,
    }
}
