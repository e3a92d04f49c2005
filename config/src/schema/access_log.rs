//! `envoy/config/accesslog/v3` and the access loggers.

use super::{
    Any, FractionalPercent, HeaderMatcher, RuntimeUInt32, SubstitutionFormatString, schema,
    schema_enum,
};

schema! {
    const ACCESS_LOG;

    struct AccessLog = "envoy.config.accesslog.v3.AccessLog" {
        name: String,
        filter: Option<AccessLogFilter>,
        typed_config: Option<Any>,
    }

    struct FileAccessLog = "envoy.extensions.access_loggers.file.v3.FileAccessLog" {
        path: String,
        format: Option<String>,
        json_format: Option<serde_json::Value>,
        typed_json_format: Option<serde_json::Value>,
        log_format: Option<SubstitutionFormatString>,
    }

    struct StdoutAccessLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" {
        log_format: Option<SubstitutionFormatString>,
    }

    struct StderrAccessLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" {
        log_format: Option<SubstitutionFormatString>,
    }

    struct AccessLogFilter = "envoy.config.accesslog.v3.AccessLogFilter" {
        status_code_filter: Option<StatusCodeFilter>,
        duration_filter: Option<DurationFilter>,
        not_health_check_filter: Option<NotHealthCheckFilter>,
        runtime_filter: Option<RuntimeFilter>,
        and_filter: Option<AndFilter>,
        or_filter: Option<OrFilter>,
        header_filter: Option<HeaderFilter>,
        response_flag_filter: Option<ResponseFlagFilter>,
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

    struct RuntimeFilter = "envoy.config.accesslog.v3.RuntimeFilter" {
        percent_sampled: Option<FractionalPercent>,
        use_independent_randomness: bool,
    } harmless {
        runtime_key: "a runtime layer that sets it causes a warning; percent_sampled applies",
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
}

schema_enum! {
    enum Op = "envoy.config.accesslog.v3.ComparisonFilter.Op" { Eq, Ge, Le, Ne }
}
