//! Levels: Envoy's names, and the handle that changes them while the process runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use corvoy_engine::control::admin::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

use super::component;

/// A level by Envoy's name. `critical` is only for errors that stop the process; those are always
/// printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    #[value(alias = "warn")]
    Warning,
    Error,
    Critical,
    Off,
}

/// The current levels, which admin's `/logging` shows and changes.
#[derive(Clone)]
pub(crate) struct Levels {
    now: Arc<Mutex<Vec<(&'static str, Level)>>>,
    filter: reload::Handle<Targets, Registry>,
}

impl Levels {
    pub(super) fn new(
        level: Level,
        components: &[(String, Level)],
        filter: reload::Handle<Targets, Registry>,
    ) -> Self {
        let of = |name| components.iter().rev().find(|(component, _)| component == name);
        let now =
            component::names().map(|name| (name, of(name).map_or(level, |(_, level)| *level)));
        Self { now: Arc::new(Mutex::new(now.collect())), filter }
    }

    /// Each component and its level, by name.
    pub(crate) fn list(&self) -> Vec<(&'static str, Level)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the level of one component, or of all when `component` is `None`. Returns false if
    /// there is no such component.
    pub(crate) fn set(&self, component: Option<&str>, level: Level) -> bool {
        if component.is_some_and(|name| !component::is_component(name)) {
            return false;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, current) in now.iter_mut() {
            if component.is_none_or(|component| component == *name) {
                *current = level;
            }
        }
        let filter = now.iter().flat_map(|(name, level)| {
            component::targets(name).iter().map(|target| (*target, LevelFilter::from(*level)))
        });
        self.filter.reload(filter.collect::<Targets>().with_default(LevelFilter::WARN)).is_ok()
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.list()).finish()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
            Level::Off => Self::Off,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warning => Self::Warning,
            LogLevel::Error => Self::Error,
            LogLevel::Critical => Self::Critical,
            LogLevel::Off => Self::Off,
        }
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::TRACE,
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warning => Self::WARN,
            Level::Error => Self::ERROR,
            Level::Critical | Level::Off => Self::OFF,
        }
    }
}

/// The initial filter. Libraries outside our components log from warning up.
pub(super) fn targets(level: Level, components: &[(String, Level)]) -> Targets {
    let mut targets = Targets::new().with_default(LevelFilter::WARN);
    let defaults = component::names().map(|name| (name, level));
    let given = components.iter().map(|(name, level)| (name.as_str(), *level));
    for (name, level) in defaults.chain(given) {
        for target in component::targets(name) {
            targets = targets.with_target(*target, LevelFilter::from(level));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as Severity;

    #[test]
    fn a_component_has_its_own_level() {
        let targets = targets(Level::Info, &[("upstream".into(), Level::Trace)]);
        assert!(targets.would_enable("corvoy_engine::upstream::cluster", &Severity::TRACE));
        assert!(!targets.would_enable("corvoy_engine::upstream::pool", &Severity::DEBUG));
        assert!(targets.would_enable("main", &Severity::INFO));
        assert!(!targets.would_enable("hyper::proto", &Severity::INFO));
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        let (_filter, handle) = reload::Layer::new(targets(Level::Info, &[]));
        let levels = Levels::new(Level::Info, &[("dns".into(), Level::Off)], handle.clone());
        assert!(levels.list().contains(&("dns", Level::Off)));
        assert!(levels.set(Some("router"), Level::Debug));
        assert!(!levels.set(Some("unknown"), Level::Debug));
        let enabled = |target, severity| {
            handle.with_current(|now| now.would_enable(target, &severity)).unwrap()
        };
        assert!(enabled("router", Severity::DEBUG));
        assert!(!enabled("dns", Severity::ERROR));
        assert!(levels.set(None, Level::Error));
        assert!(!enabled("router", Severity::WARN));
        assert!(enabled("dns", Severity::ERROR));
    }
}
