//! `envoy/config/core/v3/health_check.proto`

use super::{
    Duration, HeaderValueOption, Int64Range, StringMatcher, TypedExtensionConfig, schema,
    schema_enum,
};

schema! {
    const HEALTH_CHECK;

    struct HealthCheck = "envoy.config.core.v3.HealthCheck" {
        timeout: Option<Duration>,
        interval: Option<Duration>,
        initial_jitter: Option<Duration>,
        interval_jitter: Option<Duration>,
        interval_jitter_percent: u32,
        unhealthy_threshold: Option<u32>,
        healthy_threshold: Option<u32>,
        alt_port: Option<u32>,
        reuse_connection: Option<bool>,
        http_health_check: Option<HttpHealthCheck>,
        tcp_health_check: Option<TcpHealthCheck>,
        grpc_health_check: Option<GrpcHealthCheck>,
        no_traffic_interval: Option<Duration>,
        no_traffic_healthy_interval: Option<Duration>,
        unhealthy_interval: Option<Duration>,
        unhealthy_edge_interval: Option<Duration>,
        healthy_edge_interval: Option<Duration>,
        event_log_path: String,
        event_logger: Vec<TypedExtensionConfig>,
        always_log_health_check_failures: bool,
        always_log_health_check_success: bool,
        tls_options: Option<HealthCheckTlsOptions>,
        transport_socket_match_criteria: Option<serde_json::Value>,
    }

    struct HttpHealthCheck = "envoy.config.core.v3.HealthCheck.HttpHealthCheck" {
        host: String,
        path: String,
        send: Option<HealthCheckPayload>,
        receive: Vec<HealthCheckPayload>,
        response_buffer_size: Option<u64>,
        request_headers_to_add: Vec<HeaderValueOption>,
        request_headers_to_remove: Vec<String>,
        expected_statuses: Vec<Int64Range>,
        retriable_statuses: Vec<Int64Range>,
        codec_client_type: CodecClientType,
        service_name_matcher: Option<StringMatcher>,
        method: RequestMethod,
    }

    struct TcpHealthCheck = "envoy.config.core.v3.HealthCheck.TcpHealthCheck" {
        send: Option<HealthCheckPayload>,
        receive: Vec<HealthCheckPayload>,
    }

    struct GrpcHealthCheck = "envoy.config.core.v3.HealthCheck.GrpcHealthCheck" {
        service_name: String,
        authority: String,
        initial_metadata: Vec<HeaderValueOption>,
    }

    struct HealthCheckPayload = "envoy.config.core.v3.HealthCheck.Payload" {
        text: Option<String>,
        binary: Option<Vec<u8>>,
    }

    struct HealthCheckTlsOptions = "envoy.config.core.v3.HealthCheck.TlsOptions" {
        alpn_protocols: Vec<String>,
    }

    struct HealthCheckEventFileSink =
        "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink" {
        event_log_path: String,
    }

    struct EndpointHealthCheckConfig = "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig" {
        port_value: u32,
        hostname: String,
        disable_active_health_check: bool,
    }
}

schema_enum! {
    enum CodecClientType = "envoy.type.v3.CodecClientType" {
        #[serde(rename = "HTTP1")] Http1, #[serde(rename = "HTTP2")] Http2,
        #[serde(rename = "HTTP3")] Http3,
    }

    enum RequestMethod = "envoy.config.core.v3.RequestMethod" {
        MethodUnspecified, Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch,
    }
}
