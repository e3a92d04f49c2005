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

    /// The configuration asks for `what`, which Envoy has and Corvoy has not.
    pub fn not_implemented(&mut self, at: &Path, what: &str) {
        self.push(Problem::lacking(at, format!("{what} is not implemented yet")));
    }

    /// Makes an error of every warning.
    pub fn deny_warnings(&mut self) {
        for problem in &mut self.list {
            problem.severity = Severity::Error;
        }
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
    /// Other places in the text that it is about.
    pub(crate) related: Vec<Related>,
}

/// Another place that a problem is about, such as the first of two values that exclude each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Related {
    pub(crate) path: Path,
    pub(crate) spot: Spot,
    /// What to say there, in a few words.
    pub(crate) label: String,
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
            related: Vec::new(),
        }
    }

    /// An error about something that Envoy has and Corvoy has not: it points at the documentation.
    pub fn lacking(at: &Path, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, at, message)
            .help("docs/COMPATIBILITY.md lists what is implemented")
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

    /// Shows the key at `at` as well, with a few words about it.
    #[must_use]
    pub fn related(mut self, at: &Path, label: impl Into<String>) -> Self {
        self.related.push(Related { path: at.clone(), spot: Spot::Key, label: label.into() });
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
    /// Nothing: the problem is about a text as a whole.
    Nowhere,
    /// Some characters of one line of the text, whatever path they belong to.
    Text {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// In characters.
        length: usize,
    },
    /// Where the text stops being YAML or JSON, if the parser says so: nothing in it has a path.
    Unreadable {
        /// Line and column, from 1.
        place: Option<(usize, usize)>,
    },
    /// The value where it fits on its line, the key otherwise.
    Value,
}
