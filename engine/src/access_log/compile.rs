//! Schema → access logs.

use std::path::PathBuf;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};
use serde_json::Value;

use super::files::Files;
use super::filter;
use super::remote::{self, RemoteLog};
use super::sink::{Destination, Sink};
use super::{AccessLog, AccessLogs, Output};
use crate::format::compile::substitution;
use crate::format::{Extensions, Format, Formatter, JsonFormatter, Unset};
use crate::remote_service::compile::FindCluster;
use crate::runtime::Reader;
use crate::stats::Registry;

/// What access logs need from the rest of the configuration.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it only borrows, for the time of one call")]
pub struct Context<'a> {
    /// The files of all of them.
    pub files: &'a Files,
    /// The stats.
    pub registry: &'a Registry,
    /// The runtime values.
    pub runtime: &'a Reader<'a>,
    /// The clusters of services.
    pub cluster: FindCluster<'a>,
}

/// Compiles the `AccessLog`s at `at`.
pub fn access_logs(
    schemas: &[config::AccessLog],
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> AccessLogs {
    let each = schemas.iter().enumerate();
    let compiled = each.filter_map(|(i, schema)| {
        let at = at.index(i);
        let config::AccessLog { name: _, filter, typed_config } = schema;
        let filter = filter.as_ref().map(|schema| {
            filter::compile::filter(schema, &at.field("filter"), context.runtime, problems)
        });
        let at = at.field("typed_config");
        let Some(logger) = typed_config else {
            problems.missing(&at, "an access log needs its typed_config");
            return None;
        };
        let output = self::logger(logger, &at, context, problems)?;
        Some(AccessLog { filter: filter.map_or(Some(None), |it| it.map(Some))?, output })
    });
    AccessLogs(compiled.collect())
}

/// The log in Envoy's default format to this file.
pub fn default_file_log(
    path: PathBuf,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<AccessLog> {
    let format = text(DEFAULT_FORMAT).ok()?;
    let sink = open(Destination::File(path), at, context, problems)?;
    Some(AccessLog { filter: None, output: Output::Lines(format, sink) })
}

fn logger(
    logger: &config::Any,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<Output> {
    let mut named_at = at.clone();
    let (destination, format) = match logger {
        config::Any::FileAccessLog(schema) => {
            let config::FileAccessLog { path, format, json_format, typed_json_format, log_format } =
                &**schema;
            let format = match (format, json_format, typed_json_format) {
                (Some(text), ..) => deprecated_text(text, &at.field("format"), problems),
                (_, Some(json), _) => json_of(json, &at.field("json_format"), problems),
                (.., Some(json)) => json_of(json, &at.field("typed_json_format"), problems),
                _ => log_format_or_default(log_format.as_ref(), at, problems),
            };
            named_at = at.field("path");
            (Destination::File(PathBuf::from(path)), format)
        }
        config::Any::StdoutAccessLog(schema) => {
            let config::StdoutAccessLog { log_format } = &**schema;
            (Destination::Stdout, log_format_or_default(log_format.as_ref(), at, problems))
        }
        config::Any::StderrAccessLog(schema) => {
            let config::StderrAccessLog { log_format } = &**schema;
            (Destination::Stderr, log_format_or_default(log_format.as_ref(), at, problems))
        }
        config::Any::HttpGrpcAccessLogConfig(schema) => {
            return remote(remote::compile::http(schema, at, context, problems));
        }
        config::Any::TcpGrpcAccessLogConfig(schema) => {
            return remote(remote::compile::tcp(schema, at, context, problems));
        }
        config::Any::OpenTelemetryAccessLogConfig(schema) => {
            return remote(remote::compile::open_telemetry(schema, at, context, problems));
        }
        _ => {
            let why = "Corvoy supports the access loggers file, stdout, stderr, http_grpc, tcp_grpc \
                       and open_telemetry";
            problems.missing(at, why);
            return None;
        }
    };
    let format = format?;
    Some(Output::Lines(format, open(destination, &named_at, context, problems)?))
}

fn remote(log: Option<RemoteLog>) -> Option<Output> {
    log.map(|log| Output::Remote(Arc::new(log)))
}

/// Opens the sink of a logger, whose destination is at `at`.
fn open(
    destination: Destination,
    at: &Path,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<Arc<Sink>> {
    let name = match &destination {
        Destination::File(path) => path.display().to_string(),
        Destination::Stdout => "standard output".to_owned(),
        Destination::Stderr => "standard error".to_owned(),
    };
    let opened = context.files.open(destination, context.registry);
    opened
        .map_err(|error| problems.error(at, format!("unable to open file '{name}': {error}")))
        .ok()
}

fn log_format_or_default(
    schema: Option<&config::SubstitutionFormatString>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Format> {
    match schema {
        Some(schema) => substitution(schema, &at.field("log_format"), problems),
        None => text(DEFAULT_FORMAT).ok(),
    }
}

/// As in Envoy, an empty `format` is the default format.
fn deprecated_text(format: &str, at: &Path, problems: &mut Problems) -> Option<Format> {
    let format = text(if format.is_empty() { DEFAULT_FORMAT } else { format });
    format.map_err(|error| problems.error(at, error)).ok()
}

fn text(format: &str) -> Result<Format, String> {
    Ok(Format::Text(Formatter::new(format)?, Unset::Dash))
}

fn json_of(json: &Value, at: &Path, problems: &mut Problems) -> Option<Format> {
    let json = JsonFormatter::new(json, false, Extensions::default());
    json.map(Format::Json).map_err(|error| problems.error(at, error)).ok()
}

/// Envoy's default format.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% \
    %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";
