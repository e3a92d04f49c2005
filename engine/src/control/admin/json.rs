//! JSON as Envoy's admin endpoint writes it: one space of indent, a newline at the end.

use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::control::admin::reply::Reply;

/// A value as the answer.
pub(super) fn reply(value: &impl Serialize) -> Reply {
    Reply::text(pretty(value)).with_content_type("application/json")
}

/// A value as text.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b" ");
    let written =
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
    debug_assert!(written.is_ok(), "our values have string keys and a vector takes everything");
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Proto3's JSON leaves default values out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// Proto3's JSON writes 64-bit numbers as strings, and leaves zero out.
pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A 64-bit number as a string.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn as_string<S: serde::Serializer>(
    value: &u64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
