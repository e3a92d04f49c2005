//! The fields of HTTP/2 messages: which ones a message may have, and how they become a head that means the
//! same as one of HTTP/1 (RFC 9113 §8).
//!
//! Invariant: what is decoded could have been sent over HTTP/1: no value ends its line, and no field frames
//! the message but a valid `content-length`.

mod request;
mod response;
#[cfg(test)]
mod tests;
mod trailers;
mod write;

pub use request::{ExtendedConnect, RequestDecoder, RequestRules};
pub use response::ResponseDecoder;
pub use trailers::TrailerDecoder;
pub use write::{request as write_request, response as write_response, trailers as write_trailers};

use crate::http::{FieldName, TOKEN, Underscores};

use super::hpack::Field;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// A field that is malformed, or that the message may not have.
    #[error("invalid header field")]
    Field,
    /// A pseudo-header is missing, or does not belong to the others.
    #[error("violation of the messaging rules")]
    Messaging,
    /// There are too many fields, each pseudo-header and each crumb of a cookie counted.
    #[error("too many fields")]
    TooMany,
    /// The names and values are too long together.
    #[error("fields too large")]
    TooLarge,
    /// One field is too long.
    #[error("field too large")]
    FieldTooLarge,
    /// A field's name has an underscore, and underscores are rejected.
    #[error("underscore in a field's name")]
    Underscore,
}

impl Flaw {
    /// Envoy's `response_code_details`.
    #[must_use]
    pub const fn details(self) -> &'static str {
        match self {
            Self::Field => "http2.invalid.header.field",
            Self::Messaging => "http2.violation.of.messaging.rule",
            Self::TooMany => "http2.too_many_headers",
            Self::TooLarge => "http2.header_list_size_too_large",
            Self::FieldTooLarge => "codec_error:The_user_callback_function_failed",
            Self::Underscore => "http2.unexpected_underscore",
        }
    }

    /// Whether the message is malformed (RFC 9113 §8.1.1); otherwise a limit was exceeded.
    #[must_use]
    pub const fn is_malformed(self) -> bool {
        matches!(self, Self::Field | Self::Messaging)
    }
}

/// Counts the fields of a block against limits, and remembers the first flaw.
#[derive(Debug)]
struct Budget {
    bytes_left: usize,
    fields_left: usize,
    field_max: usize,
    obs_text: ObsText,
    flaw: Option<Flaw>,
}

/// Whether values may have bytes above 0x7f (`obs-text`, RFC 9110 §5.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ObsText {
    /// They may.
    Allowed,
    /// Such a message is malformed.
    Refused,
}

impl Budget {
    const fn new(bytes_max: usize, fields_max: usize, obs_text: ObsText) -> Self {
        Self {
            bytes_left: bytes_max,
            fields_left: fields_max,
            field_max: usize::MAX,
            obs_text,
            flaw: None,
        }
    }

    /// No field may be longer than this.
    const fn with_field_max(self, field_max: usize) -> Self {
        Self { field_max, ..self }
    }

    fn fail(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// Counts a field; false: nothing more of this block matters.
    fn admit(&mut self, field: &Field<'_>) -> bool {
        if self.flaw.is_some() {
            return false;
        }
        let bytes = field.name.len() + field.value.len();
        if bytes > self.field_max {
            self.fail(Flaw::FieldTooLarge);
        }
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.fail(Flaw::TooLarge),
        }
        match self.fields_left.checked_sub(1) {
            Some(left) => self.fields_left = left,
            None => self.fail(Flaw::TooMany),
        }
        if self.obs_text == ObsText::Refused && !field.value.is_ascii() {
            self.fail(Flaw::Field);
        }
        self.flaw.is_none()
    }
}

/// The part of a block that the next field belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Section {
    /// The pseudo-headers, which come first.
    Pseudo,
    Fields,
}

/// What becomes of fields with an underscore in their names.
#[derive(Debug)]
struct UnderscoreRule {
    action: Underscores,
    /// How many were dropped.
    dropped: u64,
}

impl UnderscoreRule {
    const fn new(action: Underscores) -> Self {
        Self { action, dropped: 0 }
    }

    /// Whether the field is taken; one that is rejected is a flaw of the block.
    fn admits(&mut self, field: &Field<'_>, budget: &mut Budget) -> bool {
        if self.action == Underscores::Allow || !field.name.contains(&b'_') {
            return true;
        }
        match self.action {
            Underscores::Reject => budget.fail(Flaw::Underscore),
            Underscores::Drop | Underscores::Allow => self.dropped += 1,
        }
        false
    }
}

/// RFC 9113 §8.2.1: a name is a token in lower case.
fn is_name(field: &Field<'_>) -> bool {
    field.id != FieldName::Other
        || (!field.name.is_empty()
            && TOKEN.has_all(field.name)
            && !field.name.iter().any(u8::is_ascii_uppercase))
}

/// The value without surrounding spaces, as in Envoy; none if it has a character that no value may have.
fn value_of<'a>(field: &Field<'a>) -> Option<&'a [u8]> {
    let value = trimmed(field.value);
    let (words, rest) = value.as_chunks();
    let is_text = words.iter().all(is_text) && rest.iter().all(|byte| is_text_byte(*byte));
    is_text.then_some(value)
}

/// Whether eight bytes may be in a value. Tests all of them at once; bytes of 0x80 and more may.
fn is_text(word: &[u8; 8]) -> bool {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    let bytes = u64::from_le_bytes(*word);
    let low = bytes & !HIGH;
    // The highest bit of each byte: whether the others are those of a space or more, and whether of 0x7f.
    let is_visible = low.wrapping_add(EACH * (0x80 - 0x20));
    let is_delete = low.wrapping_add(EACH);
    let is_wrong = !bytes & (!is_visible | is_delete) & HIGH;
    is_wrong == 0 || word.iter().all(|byte| is_text_byte(*byte))
}

const fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
