use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::MessageDescriptor;

use crate::{Coverage, coverage, descriptors};

/// `docs/COMPATIBILITY.md`: for each message that Corvoy reads, its answer to every field of Envoy's.
///
/// Empty if the descriptors in this binary are broken.
pub fn page() -> String {
    let Ok(pool) = descriptors::pool() else { return String::new() };
    let messages: BTreeMap<_, _> = coverage().map(|entry| (entry.message, entry)).collect();
    let mut page = String::from(HEAD);
    for (name, entry) in messages {
        if let Some(message) = pool.get_message_by_name(name) {
            section(&mut page, &message, entry);
        }
    }
    page
}

fn section(page: &mut String, message: &MessageDescriptor, entry: &Coverage) {
    let fields: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
    let is_done = |field: &String| entry.done().any(|done| done == field);
    let is_harmless = |field: &String| entry.harmless.iter().any(|(name, _)| name == field);
    let (done, rest): (Vec<_>, Vec<_>) = fields.into_iter().partition(is_done);
    let refused: Vec<_> = rest.into_iter().filter(|field| !is_harmless(field)).collect();
    // Writing to a String cannot fail.
    _ = writeln!(page, "\n## {}\n", message.full_name());
    row(page, "read", &done);
    for (field, why) in entry.harmless {
        _ = writeln!(page, "- harmless: `{field}` ({why})");
    }
    row(page, "refused", &refused);
    if message.fields().len() == 0 {
        _ = writeln!(page, "- it has no fields");
    }
}

fn row(page: &mut String, answer: &str, fields: &[String]) {
    if !fields.is_empty() {
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        _ = writeln!(page, "- {answer}: {}", fields.join(", "));
    }
}

const HEAD: &str = "\
# What Corvoy makes of Envoy's configuration

Written from the table in `config/src/schema` by `cargo test -p corvoy-config`; `BLESS=1` in the
environment renews it. It names every field of every message that Corvoy reads.

- **read**: the value reaches the engine, which honours it or refuses the value with its path.
- **harmless**: taken, and without effect, for the reason given.
- **refused**: a configuration that sets it is an error that names the path. So is every message and
  extension that is not on this page.
";
