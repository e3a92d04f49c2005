//! The access log of a case: both programs log its requests, and connections without HTTP, with the same
//! format.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::case::{Case, Kind, Step};
use super::{is_recording, text};

/// How often the proxy writes its log.
pub(super) const FLAGS: [&str; 2] = ["--file-flush-interval-msec", "50"];

/// How long a recorded line may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long nothing must be written until the log is complete.
const QUIET: Duration = Duration::from_millis(400);

/// What a line shows. What takes time is masked; whether it has a value is not.
const FORMAT: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% \
    %RESPONSE_CODE% flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS% \
    term=%CONNECTION_TERMINATION_DETAILS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% took=%DURATION% \
    request=%REQUEST_DURATION% response=%RESPONSE_DURATION% sent=%RESPONSE_TX_DURATION% \
    attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% host=%UPSTREAM_HOST% cluster=%UPSTREAM_CLUSTER% \
    local=%UPSTREAM_LOCAL_ADDRESS% failure=%UPSTREAM_TRANSPORT_FAILURE_REASON% route=%ROUTE_NAME% \
    authority=%REQ(:AUTHORITY)% answer=%RESP(CONTENT-TYPE)%\\n";

/// The file that a proxy logs to.
pub(super) struct AccessLog {
    folder: TempDir,
}

impl AccessLog {
    /// That of a case which has such a step.
    pub(super) fn of(case: &Case) -> Option<Self> {
        let folder = case.text_of(Kind::AccessLog).map(|_| TempDir::new().unwrap())?;
        Some(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    /// The configuration with this file for its own access log or, if it has none, with a log for each part with stats of its own: a connection manager or a
    /// `tcp_proxy`.
    pub(super) fn added_to(&self, yaml: &str) -> String {
        let path = self.path();
        if yaml.contains("path: ACCESS_LOG") {
            let own = format!("path: {}", path.to_str().unwrap());
            return yaml.replace("path: ACCESS_LOG", &own);
        }
        let log = format!(
            "access_log: [{{ name: log, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {:?}, \
             log_format: {{ text_format_source: {{ inline_string: \"{FORMAT}\" }} }} }} }}]",
            path.to_str().unwrap()
        );
        let mut logs = false;
        let add = |line: &str| {
            if line.contains("@type") {
                logs = line.contains("HttpConnectionManager") || line.contains("TcpProxy");
            }
            match line.split_once("stat_prefix: ").filter(|_| logs) {
                Some((indent, name)) if indent.trim().is_empty() => {
                    format!("{indent}{log}\n{indent}stat_prefix: {name}\n")
                }
                Some((before, name)) => format!("{before}{log}, stat_prefix: {name}\n"),
                None => format!("{line}\n"),
            }
        };
        yaml.lines().map(add).collect()
    }

    /// What was logged. The order of lines of requests at the same time is open.
    pub(super) fn step(&self, wanted: &str) -> Step {
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        let mut text = String::new();
        while Instant::now() < deadline {
            let found = self.text();
            if found != text {
                (since, text) = (Instant::now(), found);
            }
            let is_complete = text.lines().count() >= wanted.lines().count() || is_recording();
            if is_complete && since.elapsed() > QUIET {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Step { kind: Kind::AccessLog, text }
    }

    fn text(&self) -> String {
        let bytes = fs::read(self.path()).unwrap_or_default();
        let text = text::mask(&String::from_utf8_lossy(&bytes));
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
