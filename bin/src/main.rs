//! `corvoy`: flags → log → configuration → compile → shards → serve → drain.
//!
//! `corvoy-engine` serves and `corvoy-config` reads the configuration; this crate only connects
//! them to the process.

mod document;
mod explain;
mod flags;
mod log;
mod memory;
mod origin;
mod reload;
mod report;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::CommandFactory as _;
use corvoy_config::{Loaded, Problems, Source, render};
use corvoy_engine::compile::Compiler;
use corvoy_engine::control::{self, Fresh, StartError};
use corvoy_engine::stats::{ProcessStats, Registry};

use flags::{Command, Flags, Mode};

/// What `corvoy` serves without a configuration.
const DEMONSTRATION: &str = include_str!("default.yaml");

/// The address of the demonstration's origin, as in [`DEMONSTRATION`].
const ORIGIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000));

fn main() -> ExitCode {
    let started = Instant::now();
    memory::return_large_blocks();
    let (flags, warnings) = match Flags::read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => error.exit(),
    };
    match run(&flags, &warnings, started) {
        Ok(code) => code,
        Err(error) => {
            report::failure(&error);
            if flags.log_path.is_some() {
                tracing::error!(target: "main", "{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, warnings: &[String], started: Instant) -> anyhow::Result<ExitCode> {
    if flags.hot_restart_version {
        report::line("disabled");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(command) = &flags.command {
        return instead_of_serving(command);
    }
    let log = log::start(&log::Options {
        level: flags.log_level,
        components: &flags.component_log_level.0,
        path: flags.log_path.as_deref(),
        format: flags.log_format.as_deref().unwrap_or(log::FORMAT_DEFAULT),
        escape: flags.log_format_escaped,
    })?;
    for warning in warnings {
        tracing::warn!(target: "main", "{warning}");
    }
    if let Some(address) = flags.origin {
        return serve_origin(address);
    }
    let source = source(flags)?;
    let shards = flags.concurrency();
    let registry = Arc::new(Registry::new(shards));
    let process = Arc::new(ProcessStats::new(&registry));
    let mut problems = Problems::default();
    let compiler = Compiler::default();
    let configured = load(flags, &source, &compiler, &registry, &mut problems);
    if flags.strict {
        problems.deny_warnings();
    }
    let configured = configured.filter(|_| !problems.has_errors());
    report::problems(&problems, &source);
    if flags.log_path.is_some() {
        report::log_problems(&problems, &source);
    }
    memory::trim();
    let Some(first) = configured else { return Ok(ExitCode::FAILURE) };
    if let Some(format) = &first.compiled.log_format {
        if flags.log_format.is_some() {
            anyhow::bail!("application_log_config.log_format and --log-format are both set");
        }
        log.set_format(format).context("application_log_config.log_format")?;
    }
    if flags.mode() == Mode::Validate {
        report::line(&format!("configuration '{}' OK", name(flags)));
        return Ok(ExitCode::SUCCESS);
    }
    if flags.is_demonstration() {
        origin::serve(listen_for_origin(ORIGIN)?)?;
    }
    let options = control::Options {
        started,
        concurrency: shards,
        drain_time: flags.drain_time(),
        port_use: flags.port_use(),
        admin_address_path: flags.admin_address_path.clone(),
        version: report::version(),
        command_line_options: report::command_line_options(flags, shards),
        logging: Arc::new(log),
        flush: flags.flush(),
        watched: flags.config_path.clone().filter(|_| flags.watch),
        when_live: if flags.is_demonstration() { report::demonstration } else { || () },
    };
    let configuration = Configuration { flags: flags.clone(), registry: Arc::clone(&registry) };
    control::run(first, compiler, Box::new(configuration), registry, process, options)?;
    Ok(ExitCode::SUCCESS)
}

/// Carries out a sub-command.
fn instead_of_serving(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Document(document) => {
            document.write(Flags::command(), &mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(explain) => explain.run(),
        Command::Reload(reload) => reload.run(),
    }
}

/// `--origin`: serves the built-in origin until a signal ends the process.
fn serve_origin(address: SocketAddr) -> anyhow::Result<ExitCode> {
    let listener = listen_for_origin(address)?;
    let address = listener.local_addr()?;
    tracing::info!(target: "main", "built-in origin listening on {address}, without a proxy");
    origin::run(listener)?;
    Ok(ExitCode::SUCCESS)
}

fn listen_for_origin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed =
        |error| StartError::Listen { address: address.into(), what: "origin".to_owned(), error };
    TcpListener::bind(address).map_err(failed)
}

/// The configuration texts that the flags name.
fn source(flags: &Flags) -> anyhow::Result<Source> {
    let source = match &flags.config_path {
        Some(path) => Source::file(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?,
        None if flags.is_demonstration() => {
            Source::new().merge_yaml("(built-in demonstration)", DEMONSTRATION)
        }
        None => Source::new(),
    };
    Ok(match &flags.config_yaml {
        Some(yaml) => source.merge_yaml("--config-yaml", yaml),
        None => source,
    })
}

/// Reads, checks and compiles the configuration. `None` if it has an error.
fn load(
    flags: &Flags,
    source: &Source,
    compiler: &Compiler,
    registry: &Registry,
    problems: &mut Problems,
) -> Option<Fresh> {
    let Loaded { mut bootstrap, json } = corvoy_config::load(source, problems)?;
    flags.name_node(bootstrap.node.get_or_insert_default());
    let compiled = compiler.compile(&bootstrap, registry, problems)?;
    Some(Fresh { compiled, bootstrap: json, warnings: String::new() })
}

/// The configuration that the flags name, to be read again.
#[derive(Debug)]
struct Configuration {
    flags: Flags,
    registry: Arc<Registry>,
}

impl control::Configuration for Configuration {
    fn read(&self, compiler: &Compiler) -> Result<Fresh, String> {
        let source = source(&self.flags).map_err(|error| format!("{error:#}\n"))?;
        let mut problems = Problems::default();
        let fresh = load(&self.flags, &source, compiler, &self.registry, &mut problems);
        if self.flags.strict {
            problems.deny_warnings();
        }
        let text = render(&problems, &source);
        memory::trim();
        let fresh = fresh.filter(|_| !problems.has_errors());
        fresh.map(|fresh| Fresh { warnings: text.clone(), ..fresh }).ok_or(text)
    }
}

/// The name of the configuration in messages.
fn name(flags: &Flags) -> String {
    match &flags.config_path {
        Some(path) => path.display().to_string(),
        None if flags.is_demonstration() => "(built-in demonstration)".to_owned(),
        None => "--config-yaml".to_owned(),
    }
}
