//! `envoy/config/accesslog/v3`: the filters of access logs, and what they match.

use super::{
    Any, FractionalPercent, HeaderMatcher, RuntimeUInt32, StringMatcher, schema, schema_enum,
};

schema! {
    const ACCESS_LOG_FILTER;

    struct AccessLogFilter = "envoy.config.accesslog.v3.AccessLogFilter" {
        status_code_filter: Option<StatusCodeFilter>,
        duration_filter: Option<DurationFilter>,
        not_health_check_filter: Option<NotHealthCheckFilter>,
        traceable_filter: Option<TraceableFilter>,
        runtime_filter: Option<RuntimeFilter>,
        and_filter: Option<AndFilter>,
        or_filter: Option<OrFilter>,
        header_filter: Option<HeaderFilter>,
        response_flag_filter: Option<ResponseFlagFilter>,
        grpc_status_filter: Option<GrpcStatusFilter>,
        extension_filter: Option<ExtensionFilter>,
        metadata_filter: Option<MetadataFilter>,
        log_type_filter: Option<LogTypeFilter>,
    }

    struct StatusCodeFilter = "envoy.config.accesslog.v3.StatusCodeFilter" {
        comparison: Option<ComparisonFilter>,
    }

    struct DurationFilter = "envoy.config.accesslog.v3.DurationFilter" {
        comparison: Option<ComparisonFilter>,
    }

    struct ComparisonFilter = "envoy.config.accesslog.v3.ComparisonFilter" {
        op: Op,
        value: Option<RuntimeUInt32>,
    }

    struct NotHealthCheckFilter = "envoy.config.accesslog.v3.NotHealthCheckFilter" {}

    struct TraceableFilter = "envoy.config.accesslog.v3.TraceableFilter" {}

    struct RuntimeFilter = "envoy.config.accesslog.v3.RuntimeFilter" {
        runtime_key: String,
        percent_sampled: Option<FractionalPercent>,
        use_independent_randomness: bool,
    }

    struct AndFilter = "envoy.config.accesslog.v3.AndFilter" {
        filters: Vec<AccessLogFilter>,
    }

    struct OrFilter = "envoy.config.accesslog.v3.OrFilter" {
        filters: Vec<AccessLogFilter>,
    }

    struct HeaderFilter = "envoy.config.accesslog.v3.HeaderFilter" {
        header: Option<HeaderMatcher>,
    }

    struct ResponseFlagFilter = "envoy.config.accesslog.v3.ResponseFlagFilter" {
        flags: Vec<String>,
    }

    struct GrpcStatusFilter = "envoy.config.accesslog.v3.GrpcStatusFilter" {
        statuses: Vec<GrpcStatus>,
        exclude: bool,
    }

    struct ExtensionFilter = "envoy.config.accesslog.v3.ExtensionFilter" {
        name: String,
        typed_config: Option<Any>,
    }

    struct ExpressionFilter = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter" {
        expression: String,
    }

    struct MetadataFilter = "envoy.config.accesslog.v3.MetadataFilter" {
        matcher: Option<MetadataMatcher>,
        match_if_key_not_found: Option<bool>,
    }

    struct LogTypeFilter = "envoy.config.accesslog.v3.LogTypeFilter" {
        types: Vec<AccessLogType>,
        exclude: bool,
    }

    struct MetadataMatcher = "envoy.type.matcher.v3.MetadataMatcher" {
        filter: String,
        path: Vec<MetadataPathSegment>,
        value: Option<ValueMatcher>,
        invert: bool,
    }

    struct MetadataPathSegment = "envoy.type.matcher.v3.MetadataMatcher.PathSegment" {
        key: Option<String>,
    }

    struct ValueMatcher = "envoy.type.matcher.v3.ValueMatcher" {
        null_match: Option<NullMatch>,
        double_match: Option<DoubleMatcher>,
        string_match: Option<StringMatcher>,
        bool_match: Option<bool>,
        present_match: Option<bool>,
        list_match: Option<ListMatcher>,
        or_match: Option<OrMatcher>,
    }

    struct NullMatch = "envoy.type.matcher.v3.ValueMatcher.NullMatch" {}

    struct DoubleMatcher = "envoy.type.matcher.v3.DoubleMatcher" {
        range: Option<DoubleRange>,
        exact: Option<f64>,
    }

    struct DoubleRange = "envoy.type.v3.DoubleRange" {
        start: f64,
        end: f64,
    }

    struct ListMatcher = "envoy.type.matcher.v3.ListMatcher" {
        one_of: Option<Box<ValueMatcher>>,
    }

    struct OrMatcher = "envoy.type.matcher.v3.OrMatcher" {
        value_matchers: Vec<ValueMatcher>,
    }
}

schema_enum! {
    enum Op = "envoy.config.accesslog.v3.ComparisonFilter.Op" { Eq, Ge, Le, Ne }

    enum GrpcStatus = "envoy.config.accesslog.v3.GrpcStatusFilter.Status" {
        Ok, Canceled, Unknown, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists,
        PermissionDenied, ResourceExhausted, FailedPrecondition, Aborted, OutOfRange,
        Unimplemented, Internal, Unavailable, DataLoss, Unauthenticated,
    }
}

/// Envoy's `envoy.data.accesslog.v3.AccessLogType`, whose values are not in upper case.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AccessLogType {
    #[default]
    NotSet,
    TcpUpstreamConnected,
    TcpPeriodic,
    TcpConnectionStart,
    TcpConnectionEnd,
    DownstreamStart,
    DownstreamPeriodic,
    DownstreamEnd,
    UpstreamPoolReady,
    UpstreamPeriodic,
    UpstreamEnd,
    DownstreamTunnelSuccessfullyEstablished,
    UdpTunnelUpstreamConnected,
    UdpPeriodic,
    UdpSessionEnd,
}
