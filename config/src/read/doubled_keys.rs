//! A key that stands twice in one map: Envoy takes the last value of YAML without a word.

use std::collections::BTreeSet;

use super::about;
use crate::Problems;
use crate::layout::{DoubledKey, Layout};
use crate::problems::{Problem, Related, Severity};
use crate::source::{Document, Format};

/// Tells of each doubled key with all its places. `keys` are the names alone, for a text whose places
/// cannot be found.
pub(super) fn report(
    document: &Document,
    text: &str,
    keys: &BTreeSet<String>,
    problems: &mut Problems,
) {
    let found = Layout::of(text).map(|layout| layout.doubled_keys()).unwrap_or_default();
    if found.is_empty() {
        for key in keys {
            let (severity, message) = verdict(document.format, key, 2);
            problems.push(about(document, severity, message));
        }
    }
    for DoubledKey { key, path, ignored, used } in found {
        let (severity, message) = verdict(document.format, &key, ignored.len() + 1);
        let mut problem = Problem::new(severity, &path, message);
        problem.document = Some(document.name.clone());
        problem.spot = used;
        let label = match severity {
            Severity::Error => "here as well",
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

/// Envoy merges some doubled keys of JSON and refuses others, so nobody can count on either.
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
