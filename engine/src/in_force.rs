//! What the last configuration that was accepted was compiled to, so that the next one compiles only what
//! is different.
//!
//! Invariant: what is found here was compiled from the same text and the same files as it would be now.

use std::collections::HashMap;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use crate::compile::Bootstrap;
use crate::downstream::Listener;
use crate::downstream::connection_limit::ConnectionLimit;
use crate::dynamic_compile::Dynamic;
use crate::hash::{xxh64, xxh64_seeded};
use crate::node::Node;
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
    /// Of what `schema` says. `surroundings` stands for what else it depends on.
    pub(crate) fn of(schema: &impl Debug, surroundings: u64) -> Self {
        let text = format!("{schema:?}");
        Self { files: files(&text), text: xxh64_seeded(text.as_bytes(), surroundings) }
    }

    /// The same as a number.
    pub(crate) fn number(&self) -> u64 {
        xxh64(format!("{self:?}").as_bytes())
    }
}

/// The files of all `DataSource`s in the text of a schema, with hashes of what is in them.
fn files(text: &str) -> Vec<(String, Option<u64>)> {
    const FILE_NAME: &str = "filename: Some(\"";
    let names = text.split(FILE_NAME).skip(1).filter_map(|rest| rest.split_once("\")"));
    let hash = |name: &str| std::fs::read(name).ok().map(|bytes| xxh64(&bytes));
    names.map(|(name, _)| (name.to_owned(), hash(name))).collect()
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
    /// The identity of the proxy, which is what it was at the start.
    pub(crate) node: Node,
    /// The limits on all connections that the overload manager and the runtime set.
    pub(crate) limits: [Option<Arc<ConnectionLimit>>; 2],
    /// What is compiled again when dynamic resources change.
    pub(crate) bootstrap: Option<Rc<Bootstrap>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "its text is what counts")]
    struct DataSource {
        filename: Option<String>,
    }

    #[test]
    fn a_fingerprint_changes_with_the_text_the_files_and_the_surroundings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate");
        let fingerprint = |name: &str, surroundings| {
            let source = DataSource { filename: Some(path.display().to_string()) };
            Fingerprint::of(&(name, source), surroundings)
        };
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
