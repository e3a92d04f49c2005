//! The fields behind a body.

use super::{Budget, Flaw, ObsText, UnderscoreRule, is_name, value_of};
use crate::http::{HOP_BY_HOP, NEVER_TRAILERS, TrailerRules};
use crate::http2::hpack::Field;

/// Room for the lines of short trailers.
const LINES_BYTES: usize = 64;

/// Takes the fields of a block, one after the other, as lines.
#[derive(Debug)]
pub struct TrailerDecoder {
    lines: Vec<u8>,
    budget: Budget,
    underscores: UnderscoreRule,
}

impl TrailerDecoder {
    /// For the trailers of a message.
    #[must_use]
    pub const fn new(rules: &TrailerRules, obs_text: ObsText) -> Self {
        let budget = Budget::new(rules.bytes_max, rules.fields_max, obs_text);
        let underscores = UnderscoreRule::new(rules.underscores);
        Self { lines: Vec::new(), budget, underscores }
    }

    /// Takes the next field.
    pub fn take(&mut self, field: Field<'_>) {
        if !self.budget.admit(&field) {
            return;
        }
        let is_allowed = is_name(&field) && !HOP_BY_HOP.or(NEVER_TRAILERS).has(field.id);
        let Some(value) = value_of(&field).filter(|_| is_allowed) else {
            return self.budget.fail(Flaw::Field);
        };
        if !self.underscores.admits(&field, &mut self.budget) {
            return;
        }
        // Mostly it is the status of gRPC, and nothing else.
        self.lines.reserve(LINES_BYTES.max(field.name.len() + value.len() + 4));
        for part in [field.name, b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    /// The lines, and how many trailers were dropped because of underscores in their names.
    ///
    /// # Errors
    /// If a trailer is malformed, or a limit is exceeded.
    pub fn finish(self) -> Result<(Vec<u8>, u64), Flaw> {
        match self.budget.flaw {
            Some(flaw) => Err(flaw),
            None => Ok((self.lines, self.underscores.dropped)),
        }
    }
}
