//! What keeps the engine readable, held by a test.

use std::fs;
use std::path::{Path, PathBuf};

use corvoy_config::coverage;

/// Lines that a file may have, its tests included.
const LINES_MAX: usize = 600;

/// Files that are longer, each with the reason.
const LONGER: &[(&str, &str)] = &[];

/// The rooms in which a request goes down, and what stands below all of them.
const DOWN: [&str; 3] = ["downstream", "request", "upstream"];

/// An arrow that goes up, with the reason.
const UP: &[(&str, &str, &str)] =
    &[("request", "downstream", "the client's side of an exchange is a type beside its socket")];

/// What anybody may use.
const BELOW: [&str; 7] = ["http", "http1", "stats", "limits", "flags", "format", "re2"];

#[test]
fn files_stay_short() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        let is_excepted = LONGER.iter().any(|(longer, _)| *longer == name);
        if is_excepted {
            assert!(lines > LINES_MAX, "{name} is short again: no exception is needed");
        } else {
            assert!(lines <= LINES_MAX, "{name} has {lines} lines");
        }
    }
}

#[test]
fn only_compile_steps_know_the_schema() {
    for (name, text) in sources() {
        if !is_compile(&name) {
            for line in code(&text) {
                assert!(!line.contains("corvoy_config"), "{name}: {line}");
            }
        }
    }
}

#[test]
fn a_schema_struct_is_taken_apart_whole() {
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
fn arrows_go_down_only() {
    for (name, text) in sources().filter(|(name, _)| !name.ends_with("tests.rs")) {
        let room = name.split(['/', '.']).next().unwrap_or_default();
        for line in code(&text) {
            for used in used(line) {
                assert!(
                    room == "control" || used != "control",
                    "{name} uses what looks at everything: {line}"
                );
                if let Some(depth) = DOWN.iter().position(|down| *down == room) {
                    let target = DOWN.iter().position(|down| *down == used);
                    let is_excepted = UP.iter().any(|(from, to, _)| (*from, *to) == (room, used));
                    let goes_down = target.is_none_or(|target| target >= depth);
                    assert!(goes_down || is_excepted, "{name}: {line}");
                }
                if BELOW.contains(&room) {
                    assert!(!DOWN.contains(&used), "{name} is below that: {line}");
                }
            }
        }
    }
}

/// Every source file of the engine by its path below `src`.
fn sources() -> impl Iterator<Item = (String, String)> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    assert!(files.len() > 100, "the sources are elsewhere");
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

/// The lines that are no comment, up to the tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The modules at the top that a line names.
fn used(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    })
}
