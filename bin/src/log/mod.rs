//! The operational log: Envoy's lines, levels and component names, to standard error or a file.
//!
//! Code logs with `tracing` and names its component as the target (`target: "upstream"`), or leaves
//! it to the module path, which [`component`] maps. Access logs do not go through here.

mod component;
mod file;
mod format;
mod level;

use anyhow::Context as _;
use corvoy_engine::control::Logging;
use corvoy_engine::control::admin::LogLevel;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, reload};

pub(crate) use component::is_component;
pub(crate) use format::FORMAT_DEFAULT;
pub(crate) use level::{Level, Levels};

use file::LogFile;
use format::{Format, Formats};

/// The log options of the command line.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) level: Level,
    pub(crate) components: &'a [(String, Level)],
    pub(crate) path: Option<&'a Path>,
    pub(crate) format: &'a str,
    pub(crate) escape: bool,
}

/// The log of this process. Its levels and its file can change at run time.
#[derive(Debug)]
pub(crate) struct Log {
    levels: Levels,
    /// `None`: standard error.
    file: Option<LogFile>,
    /// The format of the configuration.
    configured: Arc<OnceLock<Format>>,
    escape: bool,
}

/// Starts the log of this process.
///
/// # Errors
/// If the file cannot be opened, the format is invalid, or a log is already running.
pub(crate) fn start(options: &Options<'_>) -> anyhow::Result<Log> {
    let file = match options.path {
        None => None,
        Some(path) => {
            let file = LogFile::open(path);
            Some(file.with_context(|| format!("cannot open the log file {}", path.display()))?)
        }
    };
    let writer = match &file {
        None => BoxMakeWriter::new(io::stderr),
        Some(file) => BoxMakeWriter::new(file.clone()),
    };
    let configured = Arc::default();
    let format = Formats {
        initial: Format::parse(options.format, options.escape).context("--log-format")?,
        configured: Arc::clone(&configured),
    };
    let (filter, handle) = reload::Layer::new(level::targets(options.level, options.components));
    let lines = fmt::layer().event_format(format).with_writer(writer).with_filter(filter);
    tracing_subscriber::registry().with(lines).try_init().context("a log is already running")?;
    let levels = Levels::new(options.level, options.components, handle);
    Ok(Log { levels, file, configured, escape: options.escape })
}

impl Log {
    /// Replaces the format by that of the configuration, once.
    ///
    /// # Errors
    /// If it is invalid.
    pub(crate) fn set_format(&self, format: &str) -> anyhow::Result<()> {
        let format = Format::parse(format, self.escape)?;
        // It is read once.
        let _first = self.configured.set(format);
        Ok(())
    }
}

impl Logging for Log {
    fn loggers(&self) -> Vec<(String, LogLevel)> {
        self.levels
            .list()
            .into_iter()
            .map(|(name, level)| (name.to_owned(), level.into()))
            .collect()
    }

    fn set_level(&self, logger: Option<&str>, level: LogLevel) {
        // The admin endpoint only names loggers from `loggers`.
        let _known = self.levels.set(logger, level.into());
    }

    fn reopen(&self) {
        match self.file.as_ref().map_or(Ok(()), LogFile::reopen) {
            Ok(()) => tracing::info!(target: "main", "log file reopened"),
            Err((path, error)) => {
                let path = path.display();
                tracing::error!(target: "main", "cannot reopen {path}, keep the old file: {error}");
            }
        }
    }
}
