//! Removes paths of this machine from records, which are read on other machines.

use std::env;
use std::path::Path;

use crate::peers::Installed;

/// The replacements for paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrub {
    /// A path of this machine, and its name in the record.
    known: Vec<(String, String)>,
}

impl Scrub {
    /// Programs get their bare names, the folder of configurations is `$FOLDER`, the record `$OUT`,
    /// and paths in the repository are relative to it.
    pub(crate) fn new(folder: &Path, out: &Path, peers: &[Installed]) -> Self {
        let text = |path: &Path| path.display().to_string();
        let mut known = vec![(text(folder), "$FOLDER".to_owned()), (text(out), "$OUT".to_owned())];
        for Installed { peer: _, program, version: _ } in peers {
            let name = program.file_name().unwrap_or_default();
            known.push((text(program), text(Path::new(name))));
        }
        if let Ok(program) = env::current_exe() {
            known.push((text(&program), "corvoy-bench".to_owned()));
        }
        if let Ok(repository) = env::current_dir() {
            known.push((text(&repository) + "/", String::new()));
        }
        known.retain(|(path, _)| path.len() > 1);
        known.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { known }
    }

    /// `text` without paths of this machine. An unknown path loses everything but its last name.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.known {
            text = text.replace(path, name);
        }
        text.split_inclusive(ENDS_OF_WORDS).map(shorten).collect()
    }
}

/// A word, with the character after it, if any.
fn shorten(word: &str) -> &str {
    if PRIVATE.iter().any(|folder| word.starts_with(folder)) {
        let path = word.trim_end_matches(ENDS_OF_WORDS).trim_end_matches('/');
        let name = path.rfind('/').map_or(0, |slash| slash + 1);
        return word.get(name..).unwrap_or_default();
    }
    word
}

/// Whether a text is a path that only one machine has.
#[cfg(test)]
fn is_private(text: &str) -> bool {
    let mut words = text.split(ENDS_OF_WORDS);
    words.any(|word| PRIVATE.iter().any(|folder| word.starts_with(folder)))
}

const ENDS_OF_WORDS: [char; 16] =
    [' ', '\\', '\t', '\n', '"', '\'', '`', '=', ',', ';', ':', '(', ')', '<', '>', '|'];

/// Folders with the files of users and builds.
const PRIVATE: [&str; 12] = [
    "/home/",
    "/root/",
    "/tmp/",
    "/var/tmp/",
    "/work/",
    "/workspace/",
    "/mnt/",
    "/media/",
    "/opt/",
    "/srv/",
    "/build/",
    "/Users/",
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::peers::Peer;

    #[test]
    fn a_command_keeps_its_meaning_without_its_paths() {
        let program = PathBuf::from("/home/someone/venv/bin/envoy");
        let envoy = Installed { peer: Peer::Envoy, program, version: String::new() };
        let scrub = Scrub::new(Path::new("/tmp/x-1"), Path::new("/root/out"), &[envoy]);
        let line = "taskset -c 0 /home/someone/venv/bin/envoy -c /tmp/x-1/envoy.yaml \
                    --hgrm /root/out/hgrm/a.hgrm --path=/r999/13";
        assert_eq!(
            scrub.clean(line),
            "taskset -c 0 envoy -c $FOLDER/envoy.yaml --hgrm $OUT/hgrm/a.hgrm --path=/r999/13"
        );
    }

    #[test]
    fn an_unknown_path_keeps_its_last_name() {
        let scrub = Scrub::default();
        let said = r#"{"failure":"/work/a/b.conf:12: no \"/root/x/\" in /usr/sbin/nginx"}"#;
        let clean = scrub.clean(said);
        assert_eq!(clean, r#"{"failure":"b.conf:12: no \"x/\" in /usr/sbin/nginx"}"#);
        assert!(is_private(said) && !is_private(&clean));
    }

    #[test]
    fn no_committed_record_has_a_path_of_its_machine() {
        let mut folders = vec![PathBuf::from("results")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = std::fs::read_to_string(&path) {
                    assert!(!is_private(&text), "{}", path.display());
                }
            }
        }
    }
}
