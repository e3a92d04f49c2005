//! The `corvoy` binary: flags, log, configuration, then the engine until it has drained.

mod flags;
mod log;
mod origin;

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context as _;
use corvoy_config::{Problems, Source};

use flags::{Flags, Mode};

/// Served when no configuration is given: see [`demonstration`].
const DEFAULT_CONFIG: &str = include_str!("default.yaml");
const DEFAULT_CONFIG_NAME: &str = "default.yaml (built in)";
const DEFAULT_ORIGIN: &str = "127.0.0.1:8000";

const TRY_THIS: &str = "
corvoy is running. Try:

  curl http://127.0.0.1:15001/headers
  curl -i http://127.0.0.1:15001/status/500
  curl -s http://127.0.0.1:15000/stats | grep retry
";

fn main() -> ExitCode {
    let (flags, warnings) = match Flags::read(std::env::args_os()) {
        Ok(read) => read,
        Err(answer) => answer.exit(),
    };
    if flags.hot_restart_version {
        print("disabled");
        return ExitCode::SUCCESS;
    }
    match run(&flags, &warnings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corvoy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, warnings: &[String]) -> anyhow::Result<()> {
    let levels = log::start(&log::Options {
        level: flags.log_level,
        components: &flags.component_log_level.0,
        path: flags.log_path.as_deref(),
        format: &flags.log_format,
        escape: flags.log_format_escaped,
    })?;
    for warning in warnings {
        tracing::warn!(target: "main", "{warning}");
    }

    let source = if flags.is_demonstration() {
        Source::built_in(DEFAULT_CONFIG_NAME, DEFAULT_CONFIG)
    } else {
        Source::read(flags.config_path.as_deref(), flags.config_yaml.as_deref())?
    };
    let mut problems = Problems::default();
    let loaded = corvoy_config::load(&source, &mut problems);
    let compiled = loaded.map(|loaded| corvoy_engine::compile(loaded, &mut problems));
    for warning in problems.warnings() {
        tracing::warn!(target: "config", "{warning}");
    }
    let Some(Some(snapshot)) = compiled else {
        eprint!("{}", problems.render(&source));
        anyhow::bail!("configuration '{}' is not valid", source.name());
    };
    if flags.mode() == Mode::Validate {
        print(&format!("configuration '{}' OK", source.name()));
        return Ok(());
    }

    if flags.is_demonstration() {
        start_origin()?;
    }
    corvoy_engine::run(snapshot, options(flags, levels))?;
    Ok(())
}

fn start_origin() -> anyhow::Result<()> {
    let cannot = || format!("cannot serve the built-in origin on {DEFAULT_ORIGIN}");
    let listener = TcpListener::bind(DEFAULT_ORIGIN).with_context(cannot)?;
    origin::serve(listener).with_context(cannot)
}

fn options(flags: &Flags, levels: log::Levels) -> corvoy_engine::Options {
    let demonstration = flags.is_demonstration();
    corvoy_engine::Options {
        concurrency: flags.concurrency(),
        drain_time: flags.drain_time(),
        drain_strategy: flags.drain_strategy.into(),
        admin_address_path: flags.admin_address_path.clone(),
        levels: Box::new(levels),
        on_live: Box::new(move || {
            if demonstration {
                print(TRY_THIS);
            }
        }),
    }
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to standard output, the log not")]
fn print(text: &str) {
    println!("{text}");
}
