//! Parity: what the real Envoy 1.40.0 did with a request, held against what Corvoy does.
//!
//! A folder in `parity/` is a configuration and its cases; `parity/README.md` describes the format.
//! `scripts/parity --record` runs the cases against Envoy and writes down what came.

mod case;
mod run;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use case::Case;

/// Declares a test for each folder.
macro_rules! folders {
    ($($folder:ident),* $(,)?) => {
        $(#[test]
        fn $folder() {
            check(stringify!($folder));
        })*

        #[test]
        fn every_folder_is_checked() {
            let mut found: Vec<String> = fs::read_dir(root())
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.path().join("config.yaml").exists())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($folder)),*]);
        }
    };
}

folders!(
    admin,
    answers,
    asked_of_router,
    asked_of_strict_router,
    bad_requests,
    bodies,
    connect,
    connect_forwarded,
    failures,
    headers,
    hosts,
    local_replies,
    names_preserved,
    names_preserved_or_proper,
    names_proper_upstream,
    refusals,
    retries,
    router,
    routes,
    timeouts,
    trailers,
    trailers_dropped,
    upgrades,
    user_agent
);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

/// Runs every case of a folder, and tells of all that differ at once.
fn check(folder: &str) {
    let folder = root().join(folder);
    let config = fs::read_to_string(folder.join("config.yaml")).unwrap();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    let record = std::env::var_os("CORVOY_PARITY_RECORD").is_some();

    let mut differing = Vec::new();
    for path in &paths {
        let case = Case::parse(&fs::read_to_string(path).unwrap());
        let case = case.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let happened = run::run(&case, &config);
        if record {
            fs::write(path, happened.to_string()).unwrap();
        } else if let Some(difference) = case.difference(&happened) {
            differing.push(format!("=== {} ===\n{difference}", path.display()));
        }
    }
    let count = differing.len();
    assert!(count == 0, "{count} of {} cases differ\n{}", paths.len(), differing.join("\n"));
}
