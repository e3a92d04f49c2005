use std::collections::HashMap;

use crate::schema;

/// How Corvoy treats a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The engine reads it.
    Done,
    /// It makes no difference in Corvoy.
    Harmless,
    /// Corvoy does not implement it.
    Lacking,
}

/// The coverage table, indexed.
#[derive(Debug)]
pub(super) struct Answers(HashMap<&'static str, &'static schema::Coverage>);

impl Answers {
    pub(super) fn new() -> Self {
        Self(schema::coverage().map(|coverage| (coverage.message, coverage)).collect())
    }

    pub(super) fn to(&self, message: &str, field: &str) -> Answer {
        match self.0.get(message) {
            Some(coverage) if coverage.done().any(|done| done == field) => Answer::Done,
            Some(coverage) if coverage.harmless.iter().any(|(name, _)| *name == field) => {
                Answer::Harmless
            }
            _ => Answer::Lacking,
        }
    }
}
