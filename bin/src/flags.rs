//! The command line: Envoy's flags, each with one of three outcomes.
//!
//! A flag is honoured, accepted with a warning because it can safely be ignored, or refused with
//! the reason. [`ANSWERS`] lists them, and a test checks the list against the flags of Envoy 1.40.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use corvoy_config::Node;
use corvoy_engine::access_log::sink::Flush;
use corvoy_engine::control::sockets::PortUse;

use crate::document::Document;
use crate::explain::Explain;
use crate::log::{self, Level};
use crate::reload::Reload;

/// An L7 proxy for Envoy configurations, with one io_uring event loop per core.
///
/// Without a configuration it runs a demonstration: the proxy on 127.0.0.1:15001, its admin
/// interface on 127.0.0.1:15000, and a built-in origin on 127.0.0.1:8000.
#[derive(Clone, Debug, Parser)]
#[command(name = "corvoy", version = VERSION, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(args_override_self = true)] // a service's defaults come first, the operator's flags last
#[command(override_usage = "corvoy [OPTIONS]\n       corvoy <COMMAND>")]
#[command(after_help = format!(
    "Exit status: {EXIT_STATUS}\nSignals: {SIGNALS}\nEnvironment: {ENVIRONMENT}"
))]
pub(crate) struct Flags {
    /// Configuration file: .yaml, .yml or .json
    #[arg(short = 'c', long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config_path: Option<PathBuf>,

    /// YAML to merge over the configuration file
    #[arg(long, value_name = "YAML", help_heading = "Configuration")]
    pub(crate) config_yaml: Option<String>,

    /// Read the configuration file again when another one is moved to its place
    #[arg(long, requires = "config_path", help_heading = "Configuration")]
    pub(crate) watch: bool,

    /// Serve traffic, or only validate the configuration
    #[arg(long, value_enum, default_value_t = Mode::Serve, help_heading = "Configuration")]
    pub(crate) mode: Mode,

    /// Same as `--mode validate`
    #[arg(short = 't', conflicts_with = "mode", help_heading = "Configuration")]
    validate: bool,

    /// Treat warnings about the configuration as errors
    #[arg(long, help_heading = "Configuration")]
    pub(crate) strict: bool,

    /// Serve only the built-in origin at this address, without a proxy
    #[arg(long, value_name = "ADDRESS", help_heading = "Configuration",
        conflicts_with_all = ["config_path", "config_yaml", "mode", "validate"])]
    pub(crate) origin: Option<SocketAddr>,

    /// Number of shards; 0 means 1 [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Process")]
    concurrency: Option<u32>,

    /// Write the address of the admin interface to this file once it listens
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub(crate) admin_address_path: Option<PathBuf>,

    /// Share the ports with another running process, as in a rolling upgrade
    #[arg(long, help_heading = "Process")]
    disable_hot_restart: bool,

    /// Longest time a drain may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, help_heading = "Process")]
    drain_time_s: u32,

    /// Name of the cluster that this node belongs to
    #[arg(long, value_name = "NAME", default_value = "", help_heading = "Process")]
    pub(crate) service_cluster: String,

    /// Name of this node
    #[arg(long, value_name = "NAME", default_value = "", help_heading = "Process")]
    pub(crate) service_node: String,

    /// Zone of this node
    #[arg(long, value_name = "NAME", default_value = "", help_heading = "Process")]
    pub(crate) service_zone: String,

    /// Least severe level to log
    #[arg(short = 'l', long, value_enum, default_value_t = Level::Info, help_heading = "Log")]
    pub(crate) log_level: Level,

    /// Levels of individual components: upstream:debug,config:trace
    #[arg(long, value_name = "LIST", default_value = "", value_parser = component_levels,
        help_heading = "Log")]
    pub(crate) component_log_level: ComponentLevels,

    /// Write the log to this file instead of standard error
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub(crate) log_path: Option<PathBuf>,

    /// Format of a log line, in spdlog's syntax [default: [%Y-%m-%d %T.%e][%t][%l][%n] %v]
    #[arg(long, value_name = "FORMAT", help_heading = "Log")]
    pub(crate) log_format: Option<String>,

    /// Escape line breaks and other control characters in messages
    #[arg(long, help_heading = "Log")]
    pub(crate) log_format_escaped: bool,

    /// How often access logs are written to their files, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, help_heading = "Log",
        value_parser = clap::value_parser!(u32).range(1..))]
    file_flush_interval_msec: u32,

    /// How much of an access log is buffered for each shard before it is written, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 64, help_heading = "Log")]
    file_flush_min_size_kb: u32,

    /// Print the hot restart version, which is always `disabled`
    #[arg(long, hide = true)]
    pub(crate) hot_restart_version: bool,

    /// Do something else than serving
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    without_effect: WithoutEffect,

    /// Arguments after `--` are ignored, as in Envoy
    #[arg(last = true, hide = true)]
    ignored_rest: Vec<OsString>,
}

/// Flags of Envoy that only produce a warning or an error: see [`ANSWERS`].
#[derive(Clone, Debug, clap::Args)]
struct WithoutEffect {
    #[arg(long, hide = true)]
    allow_unknown_fields: bool,
    #[arg(long, hide = true)]
    allow_unknown_static_fields: bool,
    #[arg(long, hide = true)]
    base_id: Option<u32>,
    #[arg(long, hide = true)]
    base_id_path: Option<PathBuf>,
    #[arg(long, hide = true)]
    cpuset_threads: bool,
    #[arg(long, hide = true)]
    disable_extensions: Option<String>,
    #[arg(long, hide = true, value_parser = ["gradual", "immediate"])]
    drain_strategy: Option<String>,
    #[arg(long, hide = true)]
    enable_core_dump: bool,
    #[arg(long, hide = true)]
    enable_fine_grain_logging: bool,
    #[arg(long, hide = true)]
    enable_mutex_tracing: bool,
    #[arg(long, hide = true)]
    ignore_unknown_dynamic_fields: bool,
    #[arg(long, hide = true, value_parser = ["v4", "v6"])]
    local_address_ip_version: Option<String>,
    #[arg(long, hide = true)]
    log_stacktrace_single_entry: bool,
    #[arg(long, hide = true)]
    parent_shutdown_time_s: Option<u32>,
    #[arg(long, hide = true)]
    reject_unknown_dynamic_fields: bool,
    #[arg(long, hide = true, value_parser = first_epoch)]
    restart_epoch: Option<u32>,
    #[arg(long, hide = true)]
    skip_deprecated_logs: bool,
    #[arg(long, hide = true)]
    skip_hot_restart_on_no_parent: bool,
    #[arg(long, hide = true)]
    skip_hot_restart_parent_stats: bool,
    #[arg(long, hide = true)]
    socket_mode: Option<String>,
    #[arg(long, hide = true)]
    socket_path: Option<String>,
    #[arg(long, hide = true, action = ArgAction::Append)]
    stats_tag: Vec<String>,
    #[arg(long, hide = true)]
    use_dynamic_base_id: bool,
}

/// What can be done instead of serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Document(Document),
    Explain(Explain),
    Reload(Reload),
}

/// What the process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// Validate the configuration, then serve traffic.
    Serve,
    /// Validate the configuration and exit.
    Validate,
}

/// `--component-log-level`, parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ComponentLevels(pub(crate) Vec<(String, Level)>);

/// The outcome of a flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// It works as in Envoy.
    Honoured,
    /// Accepted without effect, with a warning that says why.
    Harmless(&'static str),
    /// Rejected, with the reason.
    Refused(&'static str),
}

use Answer::{Harmless, Honoured, Refused};

pub(crate) const EXIT_STATUS: &str = "0 stopped after serving, or the configuration is valid; 1 startup failed, or the \
    configuration is invalid; 2 wrong usage.";

pub(crate) const SIGNALS: &str = "TERM, INT or QUIT drains and exits, a second one exits \
    immediately; HUP reads the configuration again; USR1 reopens the files of --log-path and of access logs; \
    USR2 is logged and ignored.";

pub(crate) const ENVIRONMENT: &str = "CORVOY_RING selects a simpler mode than the best that the \
    kernel supports: coop, plain or epoll. NOTIFY_SOCKET and WATCHDOG_USEC are systemd's \
    (Type=notify, WatchdogSec=).";

pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (Envoy v3 API, as of Envoy 1.40)");

const NO_HOT_RESTART: &str = "there is no hot restart";
const UNKNOWN_IS_WARNED: &str =
    "a field that Envoy 1.40 does not know has no effect in a dynamic resource, with a warning";
const NO_GRADUAL_DRAIN: &str = "a drain always closes each connection with its next response";

/// Every flag of Envoy 1.40 and its outcome, and `--origin`, `--strict` and `--watch`, which Envoy does
/// not have.
const ANSWERS: [(&str, Answer); 46] = [
    ("admin-address-path", Honoured),
    ("allow-unknown-fields", Refused("a field is never silently ignored; remove it")),
    ("allow-unknown-static-fields", Refused("a field is never silently ignored; remove it")),
    ("base-id", Harmless(NO_HOT_RESTART)),
    ("base-id-path", Harmless(NO_HOT_RESTART)),
    ("component-log-level", Honoured),
    ("concurrency", Honoured),
    ("config-path", Honoured),
    ("config-yaml", Honoured),
    ("cpuset-threads", Harmless("the default concurrency always follows the CPU affinity mask")),
    ("disable-extensions", Refused("extensions cannot be disabled")),
    ("disable-hot-restart", Honoured),
    ("drain-strategy", Harmless(NO_GRADUAL_DRAIN)),
    ("drain-time-s", Honoured),
    ("enable-core-dump", Harmless("core dumps follow the resource limits of the process")),
    ("enable-fine-grain-logging", Harmless("log levels are set per component")),
    ("enable-mutex-tracing", Harmless("no mutex is taken while a request is processed")),
    ("file-flush-interval-msec", Honoured),
    ("file-flush-min-size-kb", Honoured),
    ("help", Honoured),
    ("hot-restart-version", Honoured),
    ("ignore-unknown-dynamic-fields", Harmless(UNKNOWN_IS_WARNED)),
    ("local-address-ip-version", Harmless("the local address is never added to a message")),
    ("log-format", Honoured),
    ("log-format-escaped", Honoured),
    ("log-level", Honoured),
    ("log-path", Honoured),
    ("log-stacktrace-single-entry", Harmless("a log entry is always one line")),
    ("mode", Honoured),
    ("origin", Honoured),
    ("parent-shutdown-time-s", Harmless(NO_HOT_RESTART)),
    ("reject-unknown-dynamic-fields", Harmless(UNKNOWN_IS_WARNED)),
    ("restart-epoch", Harmless(NO_HOT_RESTART)),
    ("service-cluster", Honoured),
    ("service-node", Honoured),
    ("service-zone", Honoured),
    ("skip-deprecated-logs", Harmless("deprecated fields are not logged")),
    ("skip-hot-restart-on-no-parent", Harmless(NO_HOT_RESTART)),
    ("skip-hot-restart-parent-stats", Harmless(NO_HOT_RESTART)),
    ("socket-mode", Harmless(NO_HOT_RESTART)),
    ("socket-path", Harmless(NO_HOT_RESTART)),
    ("stats-tag", Refused("custom stats tags are not supported")),
    ("strict", Honoured),
    ("use-dynamic-base-id", Harmless(NO_HOT_RESTART)),
    ("version", Honoured),
    ("watch", Honoured),
];

impl Flags {
    /// Parses the command line. The caller logs the warnings once the log is running.
    ///
    /// # Errors
    /// `--help` and `--version` are also returned as errors; clap prints them and exits.
    pub(crate) fn read(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<(Self, Vec<String>), clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(args)?;
        let mut warnings = Vec::new();
        for (flag, answer) in ANSWERS.into_iter().filter(|(flag, _)| given(&matches, flag)) {
            match answer {
                Honoured => {}
                Harmless(why) => warnings.push(format!("--{flag} has no effect: {why}")),
                Refused(why) => {
                    let message = format!("--{flag} is not supported: {why}");
                    return Err(command.error(clap::error::ErrorKind::ArgumentConflict, message));
                }
            }
        }
        Ok((Self::from_arg_matches(&matches)?, warnings))
    }

    /// `--mode`, or `-t`.
    pub(crate) fn mode(&self) -> Mode {
        if self.validate { Mode::Validate } else { self.mode }
    }

    /// Number of shards: `--concurrency`, by default one per core in the CPU affinity mask.
    pub(crate) fn concurrency(&self) -> usize {
        match self.concurrency {
            Some(n) => usize::try_from(n).unwrap_or(usize::MAX).max(1),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Overrides the node's names with those of the flags.
    pub(crate) fn name_node(&self, node: &mut Node) {
        for (flag, name) in [
            (&self.service_cluster, &mut node.cluster),
            (&self.service_node, &mut node.id),
            (&self.service_zone, &mut node.locality.get_or_insert_default().zone),
        ] {
            if !flag.is_empty() {
                name.clone_from(flag);
            }
        }
    }

    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s.into())
    }

    /// As in Envoy: sharing a port between two processes is an error unless hot restart is
    /// disabled.
    pub(crate) fn port_use(&self) -> PortUse {
        if self.disable_hot_restart { PortUse::Shared } else { PortUse::Exclusive }
    }

    /// When access logs are written to their files.
    pub(crate) fn flush(&self) -> Flush {
        Flush {
            interval: Duration::from_millis(self.file_flush_interval_msec.into()),
            min_bytes: (self.file_flush_min_size_kb as usize).saturating_mul(1024),
        }
    }

    /// Neither a file nor YAML was given.
    pub(crate) fn is_demonstration(&self) -> bool {
        self.config_path.is_none() && self.config_yaml.is_none()
    }
}

fn given(matches: &ArgMatches, flag: &str) -> bool {
    let id = flag.replace('-', "_");
    matches.try_contains_id(&id).is_ok()
        && matches.value_source(&id) == Some(ValueSource::CommandLine)
}

/// A later epoch expects to take over the listening sockets of a parent process.
fn first_epoch(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(_) => Err("there is no hot restart, so there is no parent to take over from".into()),
        Err(_) => Err("not a number".into()),
    }
}

fn component_levels(text: &str) -> Result<ComponentLevels, String> {
    let entries = text.split(',').filter(|_| !text.is_empty());
    let levels = entries.map(|entry| {
        let (component, level) =
            entry.split_once(':').ok_or_else(|| format!("'{entry}' is not component:level"))?;
        if !log::is_component(component) {
            return Err(format!("unknown component '{component}'"));
        }
        let level = Level::from_str(level, false)
            .map_err(|_| format!("unknown level '{level}' for '{component}'"))?;
        Ok((component.to_owned(), level))
    });
    Ok(ComponentLevels(levels.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(Flags, Vec<String>), clap::Error> {
        Flags::read(["corvoy"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn a_unit_file_written_for_envoy_keeps_working() {
        let (flags, warnings) = read(
            "-c /etc/envoy.yaml --concurrency 3 -l warning --component-log-level upstream:debug \
             --drain-time-s 30 --drain-strategy immediate --base-id 4 --disable-hot-restart \
             --parent-shutdown-time-s 45 --service-node n --service-cluster c --restart-epoch 0",
        )
        .unwrap();
        assert_eq!(flags.concurrency(), 3);
        assert_eq!(flags.log_level, Level::Warning);
        assert_eq!(flags.component_log_level.0, [("upstream".to_owned(), Level::Debug)]);
        assert_eq!(flags.drain_time(), Duration::from_secs(30));
        assert_eq!(flags.port_use(), PortUse::Shared);
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings[0].starts_with("--base-id has no effect: "));
    }

    #[test]
    fn a_flag_that_cannot_be_ignored_is_refused() {
        for line in ["--stats-tag a:b", "--allow-unknown-static-fields", "--restart-epoch 1"] {
            let refusal = read(line).unwrap_err();
            assert_eq!(refusal.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_exit_status_2_and_help_is_0() {
        for line in [
            "--nope",
            "--mode init",
            "-l loud",
            "--component-log-level unknown:info",
            "--component-log-level upstream:debug,",
            "--local-address-ip-version x",
            "--origin 8000",
            "--origin 127.0.0.1:8000 -c envoy.yaml",
            "--origin 127.0.0.1:8000 -t",
        ] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(read("--help").unwrap_err().exit_code(), 0);
        assert_eq!(read("--version").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts() {
        let (flags, warnings) = read("--drain-time-s 60 -l warn --drain-time-s 5 -l info").unwrap();
        assert_eq!((flags.drain_time_s, flags.log_level), (5, Level::Info));
        assert!(warnings.is_empty());
    }

    #[test]
    fn concurrency_0_is_1_and_t_is_validate() {
        let (flags, _) = read("--concurrency 0 -t").unwrap();
        assert_eq!((flags.concurrency(), flags.mode()), (1, Mode::Validate));
    }

    #[test]
    fn every_flag_has_an_answer_and_every_answer_a_flag() {
        let mut command = Flags::command();
        command.build();
        let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for (flag, _) in ANSWERS {
            assert!(known.contains(&flag), "--{flag} has an answer but cannot be given");
        }
        for flag in known {
            assert!(
                ANSWERS.iter().any(|(answered, _)| *answered == flag),
                "--{flag} has no answer"
            );
        }
    }
}
