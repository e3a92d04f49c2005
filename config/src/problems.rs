use std::collections::HashSet;

use crate::Path;

/// All problems of a configuration, in the order in which they were found.
///
/// Checks continue after an error, so that one run reports all of them. Values that could not be
/// read are absent when the rest is compiled; errors that follow only from their absence are not
/// reported.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    misread: Misread,
    unchecked: Vec<String>,
}

impl Problems {
    /// An error: the value at `at` is invalid.
    pub fn error(&mut self, at: &Path, message: impl Into<String>) {
        if self.is_read(at) {
            self.push(Problem::new(Severity::Error, at, message));
        }
    }

    /// An error: something is missing in the value at `at`. Not reported if it may be present but
    /// misread.
    pub fn missing(&mut self, at: &Path, message: impl Into<String>) {
        let may_be_there = self.misread.with_unknown_key.contains(at) || !self.is_left_out(at);
        if self.is_read_whole(at) && !may_be_there {
            let mut problem = Problem::new(Severity::Error, at, message);
            problem.about = About::Missing;
            self.push(problem);
        }
    }

    /// A warning: the configuration can be used, but its author should know.
    pub fn warn(&mut self, at: &Path, message: impl Into<String>) {
        if self.is_read(at) {
            self.push(Problem::new(Severity::Warning, at, message));
        }
    }

    /// What could not be checked because of the errors, as a noun phrase.
    pub fn not_checked(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.unchecked.contains(&what) {
            self.unchecked.push(what);
        }
    }

    /// Whether the value at `at` is the author's, or absent because it was not set.
    pub fn is_read(&self, at: &Path) -> bool {
        self.misread.values.is_empty()
            || !at.outwards().any(|path| self.misread.values.contains(path))
    }

    /// Like [`is_read`](Self::is_read), but for everything inside the value too.
    pub fn is_read_whole(&self, at: &Path) -> bool {
        self.is_read(at) && !self.misread.around.contains(at)
    }

    /// Whether an absent value at `at` was not set by the author: it is neither misread nor under
    /// an unknown key.
    pub fn is_left_out(&self, at: &Path) -> bool {
        let holder = at.outwards().nth(1);
        self.is_read(at) && !holder.is_some_and(|at| self.misread.with_unknown_key.contains(at))
    }

    /// Ends the reading phase: values with an error are absent from here on.
    pub(crate) fn end_of_reading(&mut self) {
        let mut misread = Misread::default();
        for problem in self.errors() {
            for path in [Some(&problem.path), problem.stands_for.as_ref()].into_iter().flatten() {
                misread.around.extend(path.outwards().cloned());
                if problem.about != About::Missing {
                    misread.values.insert(path.clone());
                }
            }
            if problem.about == About::UnknownKey && problem.stands_for.is_none() {
                misread.with_unknown_key.extend(problem.path.outwards().nth(1).cloned());
            }
        }
        self.misread = misread;
    }

    pub(crate) fn unchecked(&self) -> &[String] {
        &self.unchecked
    }

    /// An error: the configuration uses `what`, which Envoy has but Corvoy does not.
    pub fn not_implemented(&mut self, at: &Path, what: &str) {
        if self.is_read(at) {
            self.push(Problem::lacking(at, format!("{what} is not implemented yet")));
        }
    }

    /// Keys that are no fields are no errors: as in Envoy, whoever wrote a resource may be newer.
    pub(crate) fn tolerate_unknown_keys(&mut self) {
        for problem in self.list.iter_mut().filter(|it| it.about == About::UnknownKey) {
            problem.severity = Severity::Warning;
        }
    }

    /// Turns every warning into an error.
    pub fn deny_warnings(&mut self) {
        for problem in &mut self.list {
            problem.severity = Severity::Error;
        }
    }

    /// Adds a problem that has more than a message.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Whether the configuration must be rejected.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Whether there is neither an error nor a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The errors, in the order in which they were found.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The warnings, in the order in which they were found.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    /// Errors and warnings, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// The values of a text that could not be read.
#[derive(Clone, Debug, Default)]
struct Misread {
    /// Values with an error.
    values: HashSet<Path>,
    /// Those values and their ancestors.
    around: HashSet<Path>,
    /// Messages with an unknown key that resembles no field.
    with_unknown_key: HashSet<Path>,
}

/// An error or a warning, and its position.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Whether the configuration can be used.
    pub severity: Severity,
    /// The value that is wrong.
    pub path: Path,
    /// The message: one line, lower case, no full stop.
    pub message: String,
    /// What to write instead, if that is known.
    pub help: Option<String>,
    /// What the caret points at.
    pub spot: Spot,
    /// The text that `path` is a path in; `None` where it is a path in the merged configuration.
    pub(crate) document: Option<String>,
    /// The path that the value would have if its key were not misspelt.
    pub(crate) stands_for: Option<Path>,
    /// Related positions in the text.
    pub(crate) related: Vec<Related>,
    pub(crate) about: About,
}

/// A related position, such as the first of two values that exclude each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Related {
    pub(crate) path: Path,
    pub(crate) spot: Spot,
    /// A label for it, a few words.
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
            about: About::Value,
        }
    }

    /// An error about something that Envoy has but Corvoy does not. It refers to the documentation.
    pub fn lacking(at: &Path, message: impl Into<String>) -> Self {
        let mut problem = Self::new(Severity::Error, at, message)
            .help("docs/COMPATIBILITY.md lists what is implemented");
        problem.about = About::Lacking;
        problem
    }

    /// Whether Envoy would find it only when it uses the resource, or not at all: then it is a problem of this
    /// resource alone. Any other problem is one of the whole response.
    pub(crate) fn is_of_resource_alone(&self) -> bool {
        let is_extension = |it: &&Path| it.segments().last().is_some_and(|it| it.is_extension());
        self.about == About::Lacking || self.path.outwards().any(|it| is_extension(&it))
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Points at the key, because the name is wrong, not the value.
    #[must_use]
    pub fn at_key(mut self) -> Self {
        self.spot = Spot::Key;
        self
    }

    /// Shows the key at `at` as well, with a label.
    #[must_use]
    pub fn related(mut self, at: &Path, label: impl Into<String>) -> Self {
        self.related.push(Related { path: at.clone(), spot: Spot::Key, label: label.into() });
        self
    }
}

/// The part of a value that a problem is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum About {
    /// Something that it lacks; what is present was read.
    Missing,
    /// Envoy has it and Corvoy does not.
    Lacking,
    /// The key that leads to it, which is not a field.
    UnknownKey,
    /// The whole value.
    Value,
}

/// Whether the configuration can be used despite a problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// What the caret of a rendered problem points at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Spot {
    /// The key that leads to the value.
    Key,
    /// Nothing: the problem is about a whole text.
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
    /// The position where the text stops being YAML or JSON, if the parser reports one. Nothing in
    /// the text has a path.
    Unreadable {
        /// Line and column, from 1.
        place: Option<(usize, usize)>,
    },
    /// The value where it fits on its line, the key otherwise.
    Value,
}

#[cfg(test)]
mod tests {
    use super::{About, Problem, Problems, Severity};
    use crate::Path;

    #[test]
    fn only_the_first_error_of_a_misread_value_is_reported() {
        let route = Path::root().field("routes").index(0);
        let mut problems = Problems::default();
        problems.error(&route.field("match"), "misread");
        let mut unknown = Problem::new(Severity::Error, &route.field("zzz"), "no field");
        unknown.about = About::UnknownKey;
        problems.push(unknown);
        problems.end_of_reading();
        problems.error(&route.field("match").field("prefix"), "inside");
        problems.missing(&route, "a match is missing");
        problems.missing(&route.field("name"), "a name is missing, if zzz is not the name");
        problems.error(&route.field("name"), "wrong");
        problems.error(&route, "wrong as a whole");
        let messages: Vec<_> = problems.errors().map(|it| it.message.as_str()).collect();
        assert_eq!(messages, ["misread", "no field", "wrong", "wrong as a whole"]);
        assert!(problems.is_left_out(&Path::root().field("name")));
        assert!(!problems.is_left_out(&route.field("name")));
    }
}
