//! HTTP filters for gRPC: `envoy/extensions/filters/http`.

use super::schema;

schema! {
    const GRPC_FILTERS;

    struct GrpcHttp1Bridge = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config" {
        upgrade_protobuf_to_grpc: bool,
        ignore_query_parameters: bool,
    }

    struct GrpcHttp1ReverseBridge =
        "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig" {
        content_type: String,
        withhold_grpc_frames: bool,
        response_size_header: String,
    }

    struct GrpcHttp1ReverseBridgePerRoute =
        "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute" {
        disabled: bool,
    }

    struct GrpcStatsFilter = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig" {
        emit_filter_state: bool,
        individual_method_stats_allowlist: Option<GrpcMethodList>,
        stats_for_all_methods: Option<bool>,
        enable_upstream_stats: bool,
        replace_dots_in_grpc_service_name: bool,
    }

    struct GrpcMethodList = "envoy.config.core.v3.GrpcMethodList" {
        services: Vec<GrpcMethodListService>,
    }

    struct GrpcMethodListService = "envoy.config.core.v3.GrpcMethodList.Service" {
        name: String,
        method_names: Vec<String>,
    }

    struct GrpcWeb = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb" {}
}
