//! Schema → the options of the router, which is the last HTTP filter.

use corvoy_config::{self as config, Path, Problems};

use super::{UpstreamLogs, log_times_compile};
use crate::access_log;
use crate::access_log::compile::access_logs;
use crate::http::FieldName;

/// The options of the router that the data plane uses.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) suppress_envoy_headers: bool,
    pub(super) strict_check_headers: Vec<FieldName>,
    pub(super) respect_expected_rq_timeout: bool,
    pub(super) upstream_logs: UpstreamLogs,
}

/// The last HTTP filter, which must be the router.
pub(super) fn router(
    filters: &[config::HttpFilter],
    logs: access_log::compile::Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Router {
    match filters.split_last() {
        None => {
            problems.missing(at, "the last HTTP filter must be envoy.filters.http.router");
            Router::default()
        }
        Some((last, others)) => last_filter(last, logs, &at.index(others.len()), problems),
    }
}

fn last_filter(
    filter: &config::HttpFilter,
    logs: access_log::compile::Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Router {
    let config::HttpFilter { name: _, typed_config, is_optional, disabled } = filter;
    // The filter is supported, so it does not matter whether it is optional.
    let _ = is_optional;
    if *disabled {
        problems.error(&at.field("disabled"), "the router cannot be disabled");
    }
    let at = at.field("typed_config");
    let options = match typed_config {
        None => return Router::default(),
        Some(config::Any::Router(options)) => options,
        Some(_) => {
            let why = "the last HTTP filter must be envoy.filters.http.router";
            problems.error(&at, why);
            return Router::default();
        }
    };
    let config::Router {
        dynamic_stats,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        // Whoever compiles filters takes them.
        upstream_http_filters: _,
        upstream_log,
        upstream_log_options,
    } = &**options;
    for (field, set) in [
        ("dynamic_stats", *dynamic_stats == Some(false)),
        ("suppress_grpc_request_failure_code_stats", *suppress_grpc_request_failure_code_stats),
    ] {
        if set {
            problems.not_implemented(&at.field(field), field);
        }
    }
    let field_name = |name: &String| FieldName::of(name.to_ascii_lowercase().as_bytes());
    Router {
        suppress_envoy_headers: *suppress_envoy_headers,
        strict_check_headers: strict_check_headers.iter().map(field_name).collect(),
        respect_expected_rq_timeout: *respect_expected_rq_timeout,
        upstream_logs: log_times_compile::upstream_logs(
            access_logs(upstream_log, &at.field("upstream_log"), logs, problems),
            upstream_log_options.as_ref(),
        ),
    }
}
