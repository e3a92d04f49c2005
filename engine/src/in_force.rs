//! What the last configuration that was accepted was compiled to, so that the next one compiles only what
//! is different.
//!
//! Invariant: what is found here was compiled from the same text and the same files as it would be now.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;

use crate::downstream::Listener;
use crate::dynamic_compile::Dynamic;
use crate::hash::{xxh64, xxh64_seeded};
use crate::runtime::Runtime;
use crate::upstream::Cluster;

/// What a part of a configuration was compiled from.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Fingerprint {
    text: u64,
    /// The files that it names, each with what was in it.
    files: Vec<(String, Option<u64>)>,
}

impl Fingerprint {
    /// Of what `schema` says. `json` is the same as JSON, in which the names of files are looked for.
    /// `surroundings` stands for what else it depends on.
    pub(crate) fn of(schema: &impl Debug, json: &Value, surroundings: u64) -> Self {
        let text = xxh64_seeded(format!("{schema:?}").as_bytes(), surroundings);
        let mut files = Vec::new();
        find_files(json, &mut files);
        Self { text, files }
    }

    /// The same as a number.
    pub(crate) fn number(&self) -> u64 {
        xxh64(format!("{self:?}").as_bytes())
    }
}

/// The files of all `DataSource`s.
fn find_files(json: &Value, found: &mut Vec<(String, Option<u64>)>) {
    match json {
        Value::Object(fields) => {
            if let Some(Value::String(name)) = fields.get("filename") {
                found.push((name.clone(), std::fs::read(name).ok().map(|bytes| xxh64(&bytes))));
            }
            fields.values().for_each(|value| find_files(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| find_files(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is in force.
#[derive(Debug, Default)]
pub struct InForce {
    pub(crate) listeners: HashMap<Fingerprint, Arc<Listener>>,
    pub(crate) clusters: HashMap<Fingerprint, Arc<Cluster>>,
    /// The fields that count when the process starts only.
    pub(crate) fixed: HashMap<&'static str, Fingerprint>,
    /// The dynamic resources.
    pub(crate) dynamic: Dynamic,
    /// The runtime values.
    pub(crate) runtime: Runtime,
    /// The cluster of the node.
    pub(crate) local_cluster: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fingerprint_changes_with_the_text_the_files_and_the_surroundings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate");
        let json = json!({ "chains": [{ "certificate": { "filename": path } }] });
        let fingerprint =
            |schema: &str, surroundings| Fingerprint::of(&schema, &json, surroundings);
        let mut all = vec![fingerprint("a", 0), fingerprint("b", 0), fingerprint("a", 1)];
        for content in ["one", "two"] {
            std::fs::write(&path, content).unwrap();
            all.push(fingerprint("a", 0));
            assert_eq!(fingerprint("a", 0), fingerprint("a", 0));
        }
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one && other.number() != one.number()));
        }
    }
}
