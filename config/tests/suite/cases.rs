//! Configurations and the result of Envoy 1.40 for each.

use std::path::Path;

use corvoy_config::{Loaded, Problems, Source, load, render};

/// The result of Envoy 1.40's `--mode validate`, and ours where it differs on purpose.
enum Verdict {
    Accepted,
    Refused,
    /// Accepted with a warning: Envoy rejects the router without a type, and silently accepts a
    /// second document or a duplicate key.
    Warned,
}

use Verdict::{Accepted, Refused, Warned};

const CASES: &[(&str, Verdict)] = &[
    ("bad-any-field", Refused),
    ("bad-any-nested", Refused),
    ("bad-any-nested-typelast", Refused),
    ("bad-anytype", Refused),
    ("bad-dup", Warned),
    ("bad-duration", Refused),
    ("bad-enum", Refused),
    ("bad-int", Refused),
    ("bad-oneof", Refused),
    ("bad-pgv", Refused),
    ("bad-pgv-dur", Refused),
    ("bad-pgv-list", Refused),
    ("bad-pgv-oneof", Refused),
    ("bad-required", Refused),
    ("bad-str-int", Refused),
    ("bad-syntax", Refused),
    ("bad-typo", Refused),
    ("jwt", Accepted),
    ("many-errors", Refused),
    ("ok-camel", Accepted),
    ("ok-merge", Refused),
    ("ok-type-last", Accepted),
    ("seed-a", Accepted),
    ("seed-a-untyped", Warned),
    ("seed-b", Accepted),
    ("seed-c", Accepted),
    ("y-True", Accepted),
    ("y-deep", Refused),
    ("y-empty", Refused),
    ("y-enumlower", Accepted),
    ("y-enumnull", Accepted),
    ("y-enumnum", Accepted),
    ("y-float", Accepted),
    ("y-hex", Accepted),
    ("y-json", Accepted),
    // Envoy did not finish in 30 seconds.
    ("y-laugh", Refused),
    ("y-maplist", Accepted),
    ("y-multidoc", Warned),
    ("y-oct", Accepted),
    ("y-on-str", Refused),
    ("y-qtrue", Accepted),
    ("y-scalarlist", Accepted),
    ("y-tab", Refused),
    ("y-us", Refused),
    ("y-ver-str", Accepted),
    ("y-yes", Accepted),
];

fn case(name: &str) -> (Option<Loaded>, Problems, String) {
    let source = Source::file(Path::new(&format!("tests/cases/{name}.yaml"))).unwrap();
    let mut problems = Problems::default();
    let loaded = load(&source, &mut problems);
    let rendered = render(&problems, &source);
    (loaded, problems, rendered)
}

#[test]
fn every_file_gets_envoys_result() {
    let files = std::fs::read_dir("tests/cases").unwrap().count();
    assert_eq!(files, CASES.len(), "a file in tests/cases has no verdict");
    for (name, verdict) in CASES {
        let (loaded, problems, rendered) = case(name);
        let accepted = matches!(verdict, Accepted | Warned);
        assert_eq!(!problems.has_errors(), accepted, "{name}\n{rendered}");
        assert!(loaded.is_some() || !accepted, "{name}");
        assert_eq!(problems.warnings().count() > 0, matches!(verdict, Warned), "{name}");
    }
}

#[test]
fn every_error_shows_its_line_and_says_what_to_do() {
    let mut all = String::new();
    for (name, _) in CASES {
        all.push_str(&case(name).2);
        all.push('\n');
    }
    let shown: Vec<_> = all.split("\n\n").map(str::trim).filter(|text| !text.is_empty()).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn the_structs_say_what_the_file_says() {
    let bootstrap = case("seed-c").0.unwrap().bootstrap;
    insta::assert_debug_snapshot!(bootstrap);
}

#[test]
fn the_json_is_what_envoy_dumps() {
    let (loaded, ..) = case("seed-b");
    let json = serde_json::to_string_pretty(&loaded.unwrap().json).unwrap();
    insta::assert_snapshot!(json);
}
