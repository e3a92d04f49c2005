use crate::Path;

/// Everything that is wrong with a configuration, in the order it was found.
///
/// Whoever checks goes on after an error, so that one run names them all.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// The configuration cannot be used because of what stands at `at`.
    pub fn error(&mut self, at: &Path, message: impl Into<String>) {
        self.push(Problem::new(Severity::Error, at, message));
    }

    /// The configuration can be used, but its author should know.
    pub fn warn(&mut self, at: &Path, message: impl Into<String>) {
        self.push(Problem::new(Severity::Warning, at, message));
    }

    /// Adds a problem with more to it than a message.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Whether the configuration must be refused.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// No error and no warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The errors, in the order they were found.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The warnings, in the order they were found.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    /// Errors and warnings, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Whether it stops the configuration from being used.
    pub severity: Severity,
    /// The value that is wrong.
    pub path: Path,
    /// What is wrong with it: one line, lower case, no full stop.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
    /// What the caret points at.
    pub spot: Spot,
    /// The text that `path` is a path in; `None` where it is a path in the merged configuration.
    pub(crate) document: Option<String>,
    /// Where the value would stand if the author had written what he meant.
    pub(crate) stands_for: Option<Path>,
}

impl Problem {
    /// A problem with the value at `at`, without a hint.
    pub fn new(severity: Severity, at: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity,
            path: at.clone(),
            message,
            help: None,
            spot: Spot::Value,
            document: None,
            stands_for: None,
        }
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at the key, because the name is wrong and not the value.
    #[must_use]
    pub fn at_key(mut self) -> Self {
        self.spot = Spot::Key;
        self
    }
}

/// Whether a problem stops the configuration from being used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// What the caret of a rendered problem points at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Spot {
    /// The key that leads to the value.
    Key,
    /// Nothing: the text has no positions.
    Nowhere,
    /// The value where it fits on its line, the key otherwise.
    Value,
    /// A place in the text itself, for text that is not YAML at all.
    Text {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
}
