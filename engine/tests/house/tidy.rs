//! Rules for the engine's sources.

use std::fs;
use std::path::{Path, PathBuf};

use corvoy_config::coverage;

/// Maximum number of lines of a file, tests included.
const LINES_MAX: usize = 600;

/// Files that are longer, with the reason.
const LONGER: &[(&str, &str)] = &[];

/// The layers that a request passes, top down. A layer may use itself and those below.
const LAYERS: [&str; 3] = ["downstream", "request", "upstream"];

/// Exceptions: dependencies that point up, with the reason.
const UPWARD: &[(&str, &str, &str)] =
    &[("request", "downstream", "the client's side of an exchange is a type beside its socket")];

/// Modules below all layers.
const BELOW: [&str; 7] = ["http", "http1", "stats", "limits", "flags", "format", "re2"];

#[test]
fn files_stay_short() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        let is_excepted = LONGER.iter().any(|(longer, _)| *longer == name);
        if is_excepted {
            assert!(lines > LINES_MAX, "{name} is short enough: remove the exception");
        } else {
            assert!(lines <= LINES_MAX, "{name} has {lines} lines");
        }
    }
}

#[test]
fn only_compile_files_use_the_schema() {
    for (name, text) in sources() {
        if !is_compile(&name) {
            for line in code(&text) {
                assert!(!line.contains("corvoy_config"), "{name}: {line}");
            }
        }
    }
}

#[test]
fn schema_structs_are_destructured_without_dots() {
    let structs: Vec<String> = coverage()
        .map(|entry| entry.message.rsplit('.').next().unwrap_or_default().to_owned())
        .collect();
    for (name, text) in sources().filter(|(name, _)| is_compile(name)) {
        // A test may build a struct from its default.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in text.match_indices("config::") {
            let rest = &text[at + "config::".len()..];
            let Some((of, fields)) = rest.split_once(" {") else { continue };
            let is_pattern = structs.iter().any(|name| name == of);
            let fields = fields.split('}').next().unwrap_or_default();
            assert!(!(is_pattern && fields.contains("..")), "{name}: {of} {{{fields}}}");
        }
    }
}

#[test]
fn dependencies_point_down_only() {
    for (name, text) in sources().filter(|(name, _)| !name.ends_with("tests.rs")) {
        let module = name.split(['/', '.']).next().unwrap_or_default();
        for line in code(&text) {
            for used in used(line) {
                assert!(
                    module == "control" || used != "control",
                    "{name} must not use control: {line}"
                );
                if let Some(depth) = LAYERS.iter().position(|layer| *layer == module) {
                    let target = LAYERS.iter().position(|layer| *layer == used);
                    let is_excepted =
                        UPWARD.iter().any(|(from, to, _)| (*from, *to) == (module, used));
                    let goes_down = target.is_none_or(|target| target >= depth);
                    assert!(
                        goes_down || is_excepted,
                        "{name} must not use a layer above it: {line}"
                    );
                }
                if BELOW.contains(&module) {
                    assert!(
                        !LAYERS.contains(&used),
                        "{name} must not use a layer above it: {line}"
                    );
                }
            }
        }
    }
}

/// Every source file of the engine by its path below `src`.
fn sources() -> impl Iterator<Item = (String, String)> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    assert!(files.len() > 100, "the sources are missing");
    files.into_iter().map(|path| {
        let name = path.strip_prefix("src").unwrap().display().to_string();
        (name, fs::read_to_string(&path).unwrap())
    })
}

pub(crate) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_compile(name: &str) -> bool {
    name.ends_with("compile.rs") || name.ends_with("compile_tests.rs")
}

/// The lines that are not comments, up to the tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The top-level modules that a line uses.
fn used(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    })
}
