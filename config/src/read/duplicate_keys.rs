//! Duplicate keys in a map. Envoy silently uses the last value of YAML.

use std::collections::BTreeSet;

use super::about;
use crate::Problems;
use crate::layout::{DuplicateKey, Layout};
use crate::problems::{Problem, Related, Severity};
use crate::source::{Document, Format};

/// Reports each duplicate key with all its positions. `keys` are only the names, for a text whose
/// positions cannot be found.
pub(super) fn report(
    document: &Document,
    text: &str,
    keys: &BTreeSet<String>,
    problems: &mut Problems,
) {
    let found = Layout::of(text).map(|layout| layout.duplicate_keys()).unwrap_or_default();
    if found.is_empty() {
        for key in keys {
            let (severity, message) = verdict(document.format, key, 2);
            problems.push(about(document, severity, message));
        }
    }
    for DuplicateKey { key, path, ignored, used } in found {
        let (severity, message) = verdict(document.format, &key, ignored.len() + 1);
        let mut problem = Problem::new(severity, &path, message);
        problem.document = Some(document.name.clone());
        problem.spot = used;
        let label = match severity {
            Severity::Error => "also set here",
            Severity::Warning => "this value is not used",
        };
        problem.related.extend(ignored.into_iter().map(|spot| Related {
            path: path.clone(),
            spot,
            label: label.to_owned(),
        }));
        problems.push(problem);
    }
}

/// Envoy merges some duplicate keys of JSON and rejects others, so no one can rely on either.
fn verdict(format: Format, key: &str, times: usize) -> (Severity, String) {
    let times = if times == 2 { "twice".to_owned() } else { format!("{times} times") };
    match format {
        Format::Yaml => (
            Severity::Warning,
            format!("`{key}` is set {times}: the last value is used, as in Envoy"),
        ),
        _ => (Severity::Error, format!("`{key}` is set {times}")),
    }
}
