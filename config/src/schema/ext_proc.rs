//! The HTTP filter `ext_proc`: `envoy/extensions/filters/http/ext_proc/v3`.

use super::{
    Duration, GrpcService, HeaderMutationRules, HeaderValue, HttpStatus, ListStringMatcher, schema,
    schema_enum,
};

schema! {
    const EXT_PROC;

    struct ExtProc = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor" {
        grpc_service: Option<GrpcService>,
        failure_mode_allow: bool,
        processing_mode: Option<ProcessingMode>,
        request_attributes: Vec<String>,
        response_attributes: Vec<String>,
        message_timeout: Option<Duration>,
        stat_prefix: String,
        mutation_rules: Option<HeaderMutationRules>,
        max_message_timeout: Option<Duration>,
        forward_rules: Option<HeaderForwardingRules>,
        allow_mode_override: bool,
        disable_immediate_response: bool,
        metadata_options: Option<ExtProcMetadataOptions>,
        observability_mode: bool,
        disable_clear_route_cache: bool,
        route_cache_action: RouteCacheAction,
        deferred_close_timeout: Option<Duration>,
        send_body_without_waiting_for_header_response: bool,
        allowed_override_modes: Vec<ProcessingMode>,
        status_on_error: Option<HttpStatus>,
        allow_content_length_header: bool,
    } harmless {
        filter_metadata: "only extensions of Envoy read it",
        emit_client_span: "only tracing reads it, and tracing is refused",
    }

    struct ProcessingMode = "envoy.extensions.filters.http.ext_proc.v3.ProcessingMode" {
        request_header_mode: HeaderSendMode,
        response_header_mode: HeaderSendMode,
        request_body_mode: BodySendMode,
        response_body_mode: BodySendMode,
        request_trailer_mode: HeaderSendMode,
        response_trailer_mode: HeaderSendMode,
    }

    struct HeaderForwardingRules =
        "envoy.extensions.filters.http.ext_proc.v3.HeaderForwardingRules" {
        allowed_headers: Option<ListStringMatcher>,
        disallowed_headers: Option<ListStringMatcher>,
    }

    struct ExtProcMetadataOptions = "envoy.extensions.filters.http.ext_proc.v3.MetadataOptions" {
        forwarding_namespaces: Option<ExtProcMetadataNamespaces>,
        receiving_namespaces: Option<ExtProcMetadataNamespaces>,
    }

    struct ExtProcMetadataNamespaces =
        "envoy.extensions.filters.http.ext_proc.v3.MetadataOptions.MetadataNamespaces" {
        untyped: Vec<String>,
    }

    struct ExtProcPerRoute = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute" {
        disabled: Option<bool>,
        overrides: Option<ExtProcOverrides>,
    }

    struct ExtProcOverrides = "envoy.extensions.filters.http.ext_proc.v3.ExtProcOverrides" {
        processing_mode: Option<ProcessingMode>,
        grpc_service: Option<GrpcService>,
        metadata_options: Option<ExtProcMetadataOptions>,
        grpc_initial_metadata: Vec<HeaderValue>,
        failure_mode_allow: Option<bool>,
    } harmless {
        emit_client_span: "only tracing reads it, and tracing is refused",
    }
}

schema_enum! {
    enum HeaderSendMode =
        "envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.HeaderSendMode" {
        Default, Send, Skip,
    }

    enum BodySendMode = "envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode" {
        None, Streamed, Buffered, BufferedPartial, FullDuplexStreamed, Grpc,
    }

    enum RouteCacheAction =
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor.RouteCacheAction" {
        Default, Clear, Retain,
    }
}
