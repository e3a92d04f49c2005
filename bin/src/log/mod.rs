//! The operational log: Envoy's lines, levels and component names, to standard error or a file.
//!
//! Code logs with `tracing` and names its component as the target (`target: "upstream"`) or leaves
//! it to the module path, which [`component`] maps. Access logs do not come through here.

mod component;
mod format;
mod level;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use corvoy_engine::control::Logging;
use corvoy_engine::control::admin::LogLevel;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, reload};

pub(crate) use component::is_component;
pub(crate) use format::FORMAT_DEFAULT;
pub(crate) use level::{Level, Levels};

use format::Format;

/// What the command line says about the log.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) level: Level,
    pub(crate) components: &'a [(String, Level)],
    pub(crate) path: Option<&'a Path>,
    pub(crate) format: &'a str,
    pub(crate) escape: bool,
}

/// Starts the log of this process; the handle changes its levels later.
///
/// # Errors
/// When the file cannot be opened, the format is not understood, or a log was started before.
pub(crate) fn start(options: &Options<'_>) -> anyhow::Result<Levels> {
    let writer = match options.path {
        None => BoxMakeWriter::new(io::stderr),
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot log to {}", path.display()))?;
            BoxMakeWriter::new(Arc::new(file))
        }
    };
    let format = Format::parse(options.format, options.escape)?;
    let (filter, handle) = reload::Layer::new(level::targets(options.level, options.components));
    let lines = fmt::layer().event_format(format).with_writer(writer).with_filter(filter);
    tracing_subscriber::registry().with(lines).try_init().context("the log is running already")?;
    Ok(Levels::new(options.level, options.components, handle))
}

impl Logging for Levels {
    fn loggers(&self) -> Vec<(String, LogLevel)> {
        self.list().into_iter().map(|(name, level)| (name.to_owned(), level.into())).collect()
    }

    fn set_level(&self, logger: Option<&str>, level: LogLevel) {
        // The admin endpoint asks for loggers that it was told of.
        let _known = self.set(logger, level.into());
    }

    fn reopen(&self) {}
}
