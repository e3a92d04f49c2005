//! The fields behind a body.

use super::{Budget, Flaw, OF_CONNECTION, is_name, value_of};
use crate::http::{FieldName, FieldSet, TrailerRules, Underscores};
use crate::http2::hpack::Field;

/// Fields that a trailer cannot be: who receives it could act on them (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: FieldSet = OF_CONNECTION.with(&[FieldName::Host, FieldName::ContentLength]);

/// Takes the fields of a block, one after the other, as lines.
#[derive(Debug)]
pub struct TrailerDecoder {
    lines: Vec<u8>,
    budget: Budget,
    underscores: Underscores,
    /// How many were dropped for underscores.
    dropped: u64,
}

impl TrailerDecoder {
    /// For the trailers of a message.
    #[must_use]
    pub const fn new(rules: &TrailerRules) -> Self {
        let budget = Budget::new(rules.bytes_max, rules.fields_max);
        Self { lines: Vec::new(), budget, underscores: rules.underscores, dropped: 0 }
    }

    /// Takes the next field.
    pub fn take(&mut self, field: Field<'_>) {
        if !self.budget.admit(&field) {
            return;
        }
        let is_allowed = is_name(&field) && !NOT_IN_TRAILERS.has(field.id);
        let Some(value) = value_of(&field).filter(|_| is_allowed) else {
            return self.budget.fail(Flaw::Field);
        };
        if field.name.contains(&b'_') {
            match self.underscores {
                Underscores::Allow => {}
                Underscores::Reject => return self.budget.fail(Flaw::Underscore),
                Underscores::Drop => {
                    self.dropped += 1;
                    return;
                }
            }
        }
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
            None => Ok((self.lines, self.dropped)),
        }
    }
}
