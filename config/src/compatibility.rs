use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use crate::{Any, Bootstrap, Coverage, Message as _, coverage, descriptors};

/// Values that the engine refuses in a field that is otherwise read.
#[derive(Clone, Copy, Debug)]
pub struct RefusedValues {
    /// The full name of the message.
    pub message: &'static str,
    /// The field, as in the proto file.
    pub field: &'static str,
    /// Which values, in words; `None`: every value with an effect.
    pub values: Option<&'static str>,
}

/// The tables of `docs/COMPATIBILITY.md`: for each message that Corvoy reads, its answer to every
/// field of Envoy's. A message that can only appear in refused fields is left out.
///
/// Empty if the descriptors in this binary are broken.
pub fn page(refused: &[RefusedValues]) -> String {
    let Ok(pool) = descriptors::pool() else { return String::new() };
    let messages: BTreeMap<_, _> = coverage().map(|entry| (entry.message, entry)).collect();
    let reached = reached(&pool, &messages, refused);
    let mut page = String::new();
    for (name, entry) in messages {
        if let Some(message) = pool.get_message_by_name(name).filter(|_| reached.contains(name)) {
            section(&mut page, &message, entry, refused);
        }
    }
    page
}

/// The messages that can be reached through fields that are not refused.
fn reached(
    pool: &DescriptorPool,
    messages: &BTreeMap<&str, &Coverage>,
    refused: &[RefusedValues],
) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = Any::TYPES.iter().map(|&name| name.to_owned()).collect();
    next.push(Bootstrap::NAME.to_owned());
    while let Some(name) = next.pop() {
        let Some(message) = pool.get_message_by_name(&name) else { continue };
        if !reached.insert(name.clone()) {
            continue;
        }
        // Map entries and wrappers are not listed; only the messages that they contain are.
        let entry = messages.get(name.as_str());
        for field in message.fields() {
            let is_read = entry.is_none_or(|entry| {
                entry.done().any(|done| done == field.name())
                    && values_refused(refused, &name, field.name()) != Some(None)
            });
            if let (true, Kind::Message(inner)) = (is_read, field.kind()) {
                next.push(inner.full_name().to_owned());
            }
        }
    }
    reached
}

/// Which values of a field are refused; `Some(None)`: all.
fn values_refused(
    refused: &[RefusedValues],
    message: &str,
    field: &str,
) -> Option<Option<&'static str>> {
    let of_field = |entry: &&RefusedValues| entry.message == message && entry.field == field;
    refused.iter().find(of_field).map(|entry| entry.values)
}

fn section(
    page: &mut String,
    message: &MessageDescriptor,
    entry: &Coverage,
    refused: &[RefusedValues],
) {
    let name = message.full_name();
    let (mut read, mut in_part, mut not) = (Vec::new(), Vec::new(), Vec::new());
    for field in message.fields() {
        let field = field.name().to_owned();
        let is_harmless = entry.harmless.iter().any(|(harmless, _)| *harmless == field);
        let is_read = entry.done().any(|done| done == field);
        match values_refused(refused, name, &field) {
            _ if is_harmless => {}
            None if is_read => read.push(format!("`{field}`")),
            Some(Some(values)) if is_read => in_part.push((field, values)),
            _ => not.push(format!("`{field}`")),
        }
    }
    // Writing to a String cannot fail.
    _ = writeln!(page, "\n### {name}\n");
    row(page, "done", &read);
    for (field, values) in in_part {
        _ = writeln!(page, "- in part: `{field}` (refused: {values})");
    }
    for (field, why) in entry.harmless {
        _ = writeln!(page, "- harmless: `{field}` ({why})");
    }
    row(page, "refused", &not);
    if message.fields().len() == 0 {
        _ = writeln!(page, "- no fields");
    }
}

fn row(page: &mut String, answer: &str, fields: &[String]) {
    if !fields.is_empty() {
        _ = writeln!(page, "- {answer}: {}", fields.join(", "));
    }
}
