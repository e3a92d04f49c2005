//! `validate.rules`, the constraints that Envoy's proto files put on fields.
//!
//! Compiled from the options of a field to [`Rules`]. Every rule that occurs in Envoy's API is
//! covered; a test checks that against the descriptors.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, Value};
use regex::Regex;

use crate::read::suggest;
use crate::{Path, Problems};

mod bounds;
mod text;

use bounds::Bounds;
use text::TextRules;

/// The constraints on one field, or on its items.
#[derive(Debug)]
pub(super) enum Rules {
    Any { required: bool, within: Vec<String>, without: Vec<String> },
    Bool { constant: Option<bool> },
    Bytes { length: Bounds<u64>, pattern: Option<Regex> },
    Duration { required: bool, bounds: Bounds<i128> },
    Enum { constant: Option<i32>, within: Vec<i32>, without: Vec<i32> },
    Float { bounds: Bounds<f64>, ignore_empty: bool },
    Integer { bounds: Bounds<i128>, ignore_empty: bool },
    Map { pairs: Bounds<u64>, keys: Option<Box<Self>>, values: Option<Box<Self>> },
    Message { required: bool },
    Repeated { items: Bounds<u64>, unique: bool, each: Option<Box<Self>>, ignore_empty: bool },
    Text(Box<TextRules>),
    Timestamp { required: bool },
}

impl Rules {
    /// The rules among the options of a field.
    pub(super) fn of(options: &DynamicMessage, pool: &DescriptorPool) -> Option<Self> {
        let extension = pool.get_extension_by_name("validate.rules")?;
        if !options.has_extension(&extension) {
            return None;
        }
        Self::compile(options.get_extension(&extension).as_message()?)
    }

    /// Compiles a `validate.FieldRules`.
    fn compile(rules: &DynamicMessage) -> Option<Self> {
        let required = message(rules, "message").is_some_and(|message| flag(&message, "required"));
        let (kind, value) = rules
            .fields()
            .find(|(field, _)| field.name() != "message")
            .or_else(|| rules.fields().next())?;
        let rules = value.as_message()?;
        let within = || strings(rules, "in");
        let without = || strings(rules, "not_in");
        let nested =
            |name| message(rules, name).and_then(|rules| Self::compile(&rules)).map(Box::new);
        let ignore_empty = flag(rules, "ignore_empty");
        Some(match kind.name() {
            "any" => Self::Any {
                required: flag(rules, "required"),
                within: within(),
                without: without(),
            },
            "bool" => Self::Bool { constant: field(rules, "const").and_then(|v| v.as_bool()) },
            "bytes" => {
                Self::Bytes { length: Bounds::of_lengths(rules, "len"), pattern: pattern(rules) }
            }
            "double" | "float" => Self::Float { bounds: Bounds::of(rules, float), ignore_empty },
            "duration" => Self::Duration {
                required: flag(rules, "required"),
                bounds: Bounds::of(rules, |value| value.as_message().map(nanos)),
            },
            "enum" => Self::Enum {
                constant: field(rules, "const").and_then(|v| v.as_i32()),
                within: list(rules, "in", Value::as_i32),
                without: list(rules, "not_in", Value::as_i32),
            },
            "map" => Self::Map {
                pairs: Bounds::of_lengths(rules, "pairs"),
                keys: nested("keys"),
                values: nested("values"),
            },
            "message" => Self::Message { required },
            "repeated" => Self::Repeated {
                items: Bounds::of_lengths(rules, "items"),
                unique: flag(rules, "unique"),
                each: nested("items"),
                ignore_empty,
            },
            "string" => Self::Text(Box::new(TextRules::compile(rules))),
            "timestamp" => Self::Timestamp { required: flag(rules, "required") },
            _ => Self::Integer { bounds: Bounds::of(rules, integer), ignore_empty },
        })
    }

    /// Adds the violations of `value`. `present` is false if the field is unset and has presence.
    pub(super) fn check(&self, value: &Value, present: bool, at: &Path, problems: &mut Problems) {
        match self {
            Self::Any { required: true, .. }
            | Self::Duration { required: true, .. }
            | Self::Message { required: true }
            | Self::Timestamp { required: true }
                if !present =>
            {
                problems.error(at, format!("{} is required", last(at)));
            }
            _ if !present => {}
            _ => self.check_present(unwrapped(value).as_ref(), at, problems),
        }
    }

    fn check_present(&self, value: &Value, at: &Path, problems: &mut Problems) {
        let mut wrong = |text: String| problems.error(at, text);
        match self {
            Self::Any { within, without, .. } => any(value, within, without, &mut wrong),
            Self::Bool { constant } => match (constant, value.as_bool()) {
                (Some(constant), Some(value)) if *constant != value => {
                    wrong(format!("{} must be `{constant}`", last(at)));
                }
                _ => {}
            },
            Self::Bytes { length, pattern } => {
                let Some(bytes) = value.as_bytes() else { return };
                length.check(bytes.len() as u64, "bytes", at, &mut wrong);
                if let (Some(pattern), Ok(text)) = (pattern, std::str::from_utf8(bytes)) {
                    matches(pattern, text, &mut wrong);
                }
            }
            Self::Duration { bounds, .. } => {
                if let Some(duration) = value.as_message() {
                    bounds.check_shown(nanos(duration), seconds, at, &mut wrong);
                }
            }
            // `defined_only` holds for every enum: the checker handles it.
            Self::Enum { constant, within, without } => {
                let Some(number) = value.as_enum_number() else { return };
                let refused = constant.is_some_and(|constant| constant != number)
                    || (!within.is_empty() && !within.contains(&number))
                    || without.contains(&number);
                if refused {
                    wrong(format!("this value of {} is not allowed here", last(at)));
                }
            }
            Self::Float { bounds, ignore_empty } => match float(value) {
                Some(value) if value != 0.0 || !ignore_empty => {
                    bounds.check(value, "", at, &mut wrong)
                }
                _ => {}
            },
            Self::Integer { bounds, ignore_empty } => match integer(value) {
                Some(value) if value != 0 || !ignore_empty => {
                    bounds.check(value, "", at, &mut wrong)
                }
                _ => {}
            },
            Self::Map { pairs, keys, values } => {
                let Some(map) = value.as_map() else { return };
                pairs.check(map.len() as u64, "entries", at, &mut wrong);
                check_entries(map, keys.as_deref(), values.as_deref(), at, problems);
            }
            Self::Repeated { items, unique, each, ignore_empty } => {
                let list = value.as_list().unwrap_or_default();
                match list {
                    [] if *ignore_empty => {}
                    [] if items.require_some() => wrong(format!("{} cannot be empty", last(at))),
                    _ => items.check(list.len() as u64, "items", at, &mut wrong),
                }
                check_items(list, *unique, each.as_deref(), at, problems);
            }
            Self::Text(rules) => {
                if let Some(text) = value.as_str() {
                    rules.check(text, at, &mut wrong);
                }
            }
            Self::Message { .. } | Self::Timestamp { .. } => {}
        }
    }
}

/// Whole seconds and nanoseconds of a `google.protobuf.Duration`.
pub(crate) fn seconds_and_nanos(duration: &DynamicMessage) -> (i64, i32) {
    let seconds = duration.get_field_by_name("seconds").and_then(|value| value.as_i64());
    let nanos = duration.get_field_by_name("nanos").and_then(|value| value.as_i32());
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

fn nanos(duration: &DynamicMessage) -> i128 {
    let (seconds, nanos) = seconds_and_nanos(duration);
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

/// Nanoseconds, formatted as in a configuration.
fn seconds(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, fraction) =
        (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let fraction = format!(".{fraction:09}");
    format!("{sign}{whole}{}s", fraction.trim_end_matches('0').trim_end_matches('.'))
}

fn check_entries(
    map: &HashMap<MapKey, Value>,
    keys: Option<&Rules>,
    values: Option<&Rules>,
    at: &Path,
    problems: &mut Problems,
) {
    for (key, value) in map {
        let MapKey::String(name) = key else { continue };
        let (at, key) = (at.key(name), Value::String(name.clone()));
        for (rules, value) in [(keys, &key), (values, value)] {
            if let Some(rules) = rules {
                rules.check(value, true, &at, problems);
            }
        }
    }
}

fn check_items(
    list: &[Value],
    unique: bool,
    each: Option<&Rules>,
    at: &Path,
    problems: &mut Problems,
) {
    for (i, value) in list.iter().enumerate() {
        if unique && list.iter().take(i).any(|other| other == value) {
            problems.error(&at.index(i), format!("{} has this value twice", last(at)));
        }
        if let Some(rules) = each {
            rules.check(value, true, &at.index(i), problems);
        }
    }
}

fn any(value: &Value, within: &[String], without: &[String], wrong: &mut dyn FnMut(String)) {
    let Some(any) = value.as_message() else { return };
    let type_url = any.get_field_by_name("type_url");
    let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
    if !within.is_empty() && !within.iter().any(|allowed| allowed == type_url) {
        let allowed = suggest::list(within.iter().map(String::as_str));
        wrong(format!("`{type_url}` must be {allowed}"));
    }
    if without.iter().any(|refused| refused == type_url) {
        wrong(format!("`{type_url}` is not allowed here"));
    }
}

fn matches(pattern: &Regex, text: &str, wrong: &mut dyn FnMut(String)) {
    if !pattern.is_match(text) {
        wrong(format!("`{}` must match `{pattern}`", text.escape_debug()));
    }
}

/// The value inside a wrapper type: rules about numbers and strings apply to it.
fn unwrapped(value: &Value) -> std::borrow::Cow<'_, Value> {
    use prost_reflect::ReflectMessage as _;
    if let Value::Message(message) = value
        && message.descriptor().package_name() == "google.protobuf"
        && message.descriptor().name().ends_with("Value")
        && let Some(inner) = message.get_field_by_name("value")
    {
        return inner;
    }
    std::borrow::Cow::Borrowed(value)
}

fn field<'m>(rules: &'m DynamicMessage, name: &str) -> Option<std::borrow::Cow<'m, Value>> {
    if rules.has_field_by_name(name) { rules.get_field_by_name(name) } else { None }
}

fn message(rules: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    field(rules, name)?.as_message().cloned()
}

fn flag(rules: &DynamicMessage, name: &str) -> bool {
    field(rules, name).and_then(|value| value.as_bool()).unwrap_or(false)
}

fn list<T>(rules: &DynamicMessage, name: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let values = field(rules, name);
    let values = values.as_deref().and_then(Value::as_list).unwrap_or_default();
    values.iter().filter_map(read).collect()
}

fn strings(rules: &DynamicMessage, name: &str) -> Vec<String> {
    list(rules, name, |value| value.as_str().map(str::to_owned))
}

fn pattern(rules: &DynamicMessage) -> Option<Regex> {
    Regex::new(field(rules, "pattern")?.as_str()?).ok()
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::I32(value) => Some((*value).into()),
        Value::I64(value) => Some((*value).into()),
        Value::U32(value) => Some((*value).into()),
        Value::U64(value) => Some((*value).into()),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::F32(value) => Some((*value).into()),
        Value::F64(value) => Some(*value),
        _ => None,
    }
}

/// The last name of a path, for messages.
pub(super) fn last(at: &Path) -> String {
    let path = at.to_string();
    path.rsplit('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
