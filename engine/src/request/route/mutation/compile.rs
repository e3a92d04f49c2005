//! Compiles the headers to add and to remove.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{AppendAction, HeaderAddition, MutationLevel};
use crate::format::Formatter;

/// One level: `{kind}_headers_to_add` and `{kind}_headers_to_remove` of the message at `at`.
pub(crate) fn level(
    kind: &str,
    add: &[config::HeaderValueOption],
    remove: &[String],
    at: &Path,
    problems: &mut Problems,
) -> MutationLevel {
    let at_add = at.field(&format!("{kind}_headers_to_add"));
    let at_remove = at.field(&format!("{kind}_headers_to_remove"));
    for (i, name) in remove.iter().enumerate() {
        if !is_mutable(name) {
            let message = ":-prefixed or host headers may not be removed";
            problems.error(&at_remove.index(i), message);
        }
        if is_framing(name) {
            problems.warn(&at_remove.index(i), framing_ignored(name));
        }
    }
    let remove = remove.iter().filter(|name| !is_framing(name));
    MutationLevel {
        remove: remove.map(|name| lower(name)).collect(),
        ..additions(add, &at_add, problems)
    }
}

/// A level that only adds.
pub(crate) fn additions(
    add: &[config::HeaderValueOption],
    at: &Path,
    problems: &mut Problems,
) -> MutationLevel {
    let each = add.iter().enumerate();
    MutationLevel {
        remove: Vec::new(),
        add: each.filter_map(|(i, schema)| addition(schema, &at.index(i), problems)).collect(),
        host: None,
    }
}

/// A header to add; none if it is not valid, or has no effect.
pub(crate) fn addition(
    schema: &config::HeaderValueOption,
    at: &Path,
    problems: &mut Problems,
) -> Option<HeaderAddition> {
    let config::HeaderValueOption { header, append, append_action, keep_empty_value } = schema;
    let action = match (append, append_action) {
        (None, config::HeaderAppendAction::AppendIfExistsOrAdd)
        | (Some(true), config::HeaderAppendAction::AppendIfExistsOrAdd) => {
            Some(AppendAction::AppendIfExistsOrAdd)
        }
        (Some(false), config::HeaderAppendAction::AppendIfExistsOrAdd)
        | (None, config::HeaderAppendAction::OverwriteIfExistsOrAdd) => {
            Some(AppendAction::OverwriteIfExistsOrAdd)
        }
        (None, config::HeaderAppendAction::AddIfAbsent) => Some(AppendAction::AddIfAbsent),
        (None, config::HeaderAppendAction::OverwriteIfExists) => {
            Some(AppendAction::OverwriteIfExists)
        }
        (Some(_), _) => {
            let message = "Both append and append_action are set and it's not allowed";
            problems.error(&at.field("append"), message);
            None
        }
    };
    let (name, value) = self::header(header.as_ref()?, &at.field("header"), problems)?;
    Some(HeaderAddition { name, value, action: action?, keep_empty: *keep_empty_value })
}

/// The name of a header, and its value; none if it is not valid, or has no effect.
pub(crate) fn header(
    schema: &config::HeaderValue,
    at: &Path,
    problems: &mut Problems,
) -> Option<(Box<[u8]>, Formatter)> {
    let config::HeaderValue { key, value, raw_value } = schema;
    if !is_mutable(key) {
        problems.error(&at.field("key"), ":-prefixed or host headers may not be modified");
    }
    if !raw_value.is_empty() {
        problems.warn(&at.field("raw_value"), "raw_value is ignored, as in Envoy: value is used");
    }
    let value = Formatter::new(value);
    let value = value.map_err(|error| problems.error(&at.field("value"), error)).ok();
    if is_framing(key) {
        problems.warn(&at.field("key"), framing_ignored(key));
        return None;
    }
    Some((lower(key), value?))
}

/// Whether a route may change the header; some can only be changed by rewrites.
pub(crate) fn is_mutable(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

/// Headers that say where a body ends. A value that differs from the codec's framing would let two
/// readers see the end in different places.
pub(crate) fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

pub(crate) fn framing_ignored(name: &str) -> String {
    format!("`{name}` is ignored: the proxy sets how a body is framed")
}

fn lower(name: &str) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into()
}
