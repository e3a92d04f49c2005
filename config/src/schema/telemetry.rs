//! What goes to services that collect access logs: `envoy/extensions/access_loggers/{grpc,open_telemetry}/v3`,
//! `envoy/type/tracing/v3` and the values of OpenTelemetry.

use super::{
    ApiVersion, CoreRetryPolicy, Duration, GrpcService, HeaderValueOption, HttpUri, MetadataKey,
    TypedExtensionConfig, schema,
};

schema! {
    const TELEMETRY;

    struct CommonGrpcAccessLogConfig =
        "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig" {
        log_name: String,
        grpc_service: Option<GrpcService>,
        transport_api_version: ApiVersion,
        buffer_flush_interval: Option<Duration>,
        buffer_size_bytes: Option<u32>,
        filter_state_objects_to_log: Vec<String>,
        grpc_stream_retry_policy: Option<CoreRetryPolicy>,
        custom_tags: Vec<CustomTag>,
    }

    struct HttpGrpcAccessLogConfig =
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig" {
        common_config: Option<CommonGrpcAccessLogConfig>,
        additional_request_headers_to_log: Vec<String>,
        additional_response_headers_to_log: Vec<String>,
        additional_response_trailers_to_log: Vec<String>,
    }

    struct TcpGrpcAccessLogConfig =
        "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig" {
        common_config: Option<CommonGrpcAccessLogConfig>,
    }

    struct OpenTelemetryAccessLogConfig =
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig" {
        common_config: Option<CommonGrpcAccessLogConfig>,
        http_service: Option<HttpService>,
        grpc_service: Option<GrpcService>,
        disable_builtin_labels: bool,
        resource_attributes: Option<KeyValueList>,
        body: Option<AnyValue>,
        attributes: Option<KeyValueList>,
        stat_prefix: String,
        formatters: Vec<TypedExtensionConfig>,
        log_name: String,
        buffer_flush_interval: Option<Duration>,
        buffer_size_bytes: Option<u32>,
        filter_state_objects_to_log: Vec<String>,
        custom_tags: Vec<CustomTag>,
    }

    struct HttpService = "envoy.config.core.v3.HttpService" {
        http_uri: Option<HttpUri>,
        request_headers_to_add: Vec<HeaderValueOption>,
    }

    struct CustomTag = "envoy.type.tracing.v3.CustomTag" {
        tag: String,
        literal: Option<LiteralTag>,
        environment: Option<EnvironmentTag>,
        request_header: Option<HeaderTag>,
        metadata: Option<MetadataTag>,
        value: Option<String>,
    }

    struct LiteralTag = "envoy.type.tracing.v3.CustomTag.Literal" {
        value: String,
    }

    struct EnvironmentTag = "envoy.type.tracing.v3.CustomTag.Environment" {
        name: String,
        default_value: String,
    }

    struct HeaderTag = "envoy.type.tracing.v3.CustomTag.Header" {
        name: String,
        default_value: String,
    }

    struct MetadataTag = "envoy.type.tracing.v3.CustomTag.Metadata" {
        kind: Option<MetadataKind>,
        metadata_key: Option<MetadataKey>,
        default_value: String,
    }

    struct MetadataKind = "envoy.type.metadata.v3.MetadataKind" {
        request: Option<MetadataOfRequest>,
        route: Option<MetadataOfRoute>,
        cluster: Option<MetadataOfCluster>,
        host: Option<MetadataOfHost>,
    }

    struct MetadataOfRequest = "envoy.type.metadata.v3.MetadataKind.Request" {}

    struct MetadataOfRoute = "envoy.type.metadata.v3.MetadataKind.Route" {}

    struct MetadataOfCluster = "envoy.type.metadata.v3.MetadataKind.Cluster" {}

    struct MetadataOfHost = "envoy.type.metadata.v3.MetadataKind.Host" {}

    struct AnyValue = "opentelemetry.proto.common.v1.AnyValue" {
        string_value: Option<String>,
        bool_value: Option<bool>,
        int_value: Option<i64>,
        double_value: Option<f64>,
        array_value: Option<ArrayValue>,
        kvlist_value: Option<KeyValueList>,
        bytes_value: Option<Vec<u8>>,
    }

    struct ArrayValue = "opentelemetry.proto.common.v1.ArrayValue" {
        values: Vec<AnyValue>,
    }

    struct KeyValueList = "opentelemetry.proto.common.v1.KeyValueList" {
        values: Vec<KeyValue>,
    }

    struct KeyValue = "opentelemetry.proto.common.v1.KeyValue" {
        key: String,
        value: Option<AnyValue>,
    }
}
