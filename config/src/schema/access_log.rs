//! `envoy/config/accesslog/v3` and the access loggers.

use super::{AccessLogFilter, Any, SubstitutionFormatString, schema};

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
}
