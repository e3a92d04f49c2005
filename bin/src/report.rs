//! What the process prints: results on standard output, the rest on standard error.
#![expect(clippy::print_stdout, reason = "the answer to `--mode validate` belongs there")]

use std::io::{self, IsTerminal as _, Write as _};

use corvoy_config::{Problems, Severity, Source, render, render_lines, render_styled};
use serde_json::{Value, json};

use crate::flags::Flags;
use crate::log;

/// One line of result.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Text of several lines. Who reads it may stop before its end.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn text(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Why the process exits, in one line.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("corvoy: {error:#}");
}

/// Why another process refuses something, in its words.
pub(crate) fn complaint(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// All errors and warnings about the configuration.
pub(crate) fn problems(problems: &Problems, source: &Source) {
    if problems.is_empty() {
        return;
    }
    let rendered = if io::stderr().is_terminal() {
        render_styled(problems, source)
    } else {
        render(problems, source)
    };
    eprint!("{rendered}");
}

/// The same in the log, one line each, in case standard error is discarded.
pub(crate) fn log_problems(problems: &Problems, source: &Source) {
    if problems.is_empty() {
        return;
    }
    for (severity, line) in render_lines(problems, source) {
        match severity {
            Severity::Error => tracing::error!(target: "config", "{line}"),
            Severity::Warning => tracing::warn!(target: "config", "{line}"),
        }
    }
}

/// What to try against the demonstration.
pub(crate) fn demonstration() {
    println!(
        "Corvoy is running in front of its built-in, httpbin-like origin. Try:\n\
         \n  curl -X GET http://127.0.0.1:15001/headers\
         \n  curl -i http://127.0.0.1:15001/status/500\
         \n  curl -s http://127.0.0.1:15000/stats | grep retry\n"
    );
}

/// `server_info.version`, in Envoy's five parts.
pub(crate) fn version() -> String {
    let build = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("corvoy/{}/Clean/{build}/none", env!("CARGO_PKG_VERSION"))
}

/// `envoy.admin.v3.CommandLineOptions`, for the flags that Envoy has too.
pub(crate) fn command_line_options(flags: &Flags, concurrency: usize) -> Value {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    json!({
        "concurrency": concurrency,
        "config_path": path(&flags.config_path),
        "config_yaml": flags.config_yaml.as_deref().unwrap_or_default(),
        "admin_address_path": path(&flags.admin_address_path),
        "log_level": flags.log_level.to_string(),
        "log_format": flags.log_format.as_deref().unwrap_or(log::FORMAT_DEFAULT),
        "log_path": path(&flags.log_path),
        "service_cluster": flags.service_cluster,
        "service_node": flags.service_node,
        "service_zone": flags.service_zone,
        "mode": "Serve",
        "drain_time": format!("{}s", flags.drain_time().as_secs()),
        "drain_strategy": "Immediate",
        "log_format_escaped": flags.log_format_escaped,
    })
}
