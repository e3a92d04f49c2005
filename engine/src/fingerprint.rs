//! What a part of a configuration was compiled from, as a few numbers: to see whether it is still the same.

use std::fmt::Debug;

use crate::hash::{xxh64, xxh64_seeded};

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
