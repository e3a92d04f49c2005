//! Schema → when access logs are written besides at the end of a request.

use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::{LogTimes, UpstreamLogs};
use crate::access_log::AccessLogs;
use crate::shard::clock::millis;

/// Compiles `access_log_options`, and the deprecated fields for the same.
pub(super) fn log_times(
    interval: Option<Duration>,
    on_new_request: bool,
    options: Option<&config::HcmAccessLogOptions>,
    at: &Path,
    problems: &mut Problems,
) -> LogTimes {
    let deprecated = [
        ("access_log_flush_interval", interval.is_some()),
        ("flush_access_log_on_new_request", on_new_request),
    ];
    for (field, _) in deprecated.into_iter().filter(|(_, set)| *set && options.is_some()) {
        let why = format!("{field} and access_log_options cannot both be set");
        problems.error(&at.field(field), why);
    }
    let Some(options) = options else {
        return LogTimes { on_new_request, on_tunnel: false, interval: interval.map(millis) };
    };
    let config::HcmAccessLogOptions {
        access_log_flush_interval,
        flush_access_log_on_new_request,
        flush_log_on_tunnel_successfully_established,
    } = options;
    LogTimes {
        on_new_request: *flush_access_log_on_new_request,
        on_tunnel: *flush_log_on_tunnel_successfully_established,
        interval: access_log_flush_interval.map(millis),
    }
}

/// `logs` at the times that `upstream_log_options` says.
pub(super) fn upstream_logs(
    logs: AccessLogs,
    options: Option<&config::UpstreamAccessLogOptions>,
) -> UpstreamLogs {
    let Some(options) = options else { return UpstreamLogs { logs, ..UpstreamLogs::default() } };
    let config::UpstreamAccessLogOptions {
        flush_upstream_log_on_upstream_stream,
        upstream_log_flush_interval,
    } = options;
    UpstreamLogs {
        logs,
        on_upstream_stream: *flush_upstream_log_on_upstream_stream,
        interval: upstream_log_flush_interval.map(millis),
        are_mirrors: false,
    }
}
