//! Rules for the engine's sources.

use std::fs;
use std::path::{Path, PathBuf};

use corvoy_config::coverage;

/// Maximum number of lines of a file, tests included.
const LINES_MAX: usize = 600;

/// Files that are longer, with the reason.
const LONGER: &[(&str, &str)] = &[];

/// The rooms that the bytes of a request pass, top down. A room may use itself and those below.
const LAYERS: [&str; 7] =
    ["downstream", "request", "upstream", "session", "pipe", "transport", "shard"];

/// Modules below all layers.
const BELOW: [&str; 8] = ["http", "http1", "http2", "stats", "limits", "flags", "format", "re2"];

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
        let depth = LAYERS.iter().position(|layer| *layer == module);
        for line in code(&text) {
            for used in used(line) {
                let what = format!("{name} must not use {used}: {line}");
                assert!(module == "control" || used != "control", "{what}");
                let target = LAYERS.iter().position(|layer| *layer == used);
                if let (Some(depth), Some(target)) = (depth, target) {
                    assert!(target >= depth, "{what}");
                }
                if BELOW.contains(&module) {
                    let above = ["downstream", "request", "upstream", "pipe"];
                    assert!(!above.contains(&used), "{what}");
                }
            }
        }
    }
}

/// Files that use each other in a circle have one job, so they lie in one folder.
#[test]
fn a_circle_of_files_lies_in_one_folder() {
    let files: Vec<(String, String)> = sources()
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .map(|(name, text)| (name, code(&text).collect::<Vec<_>>().join("\n")))
        .collect();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let arrows: Vec<Vec<usize>> =
        files.iter().map(|(name, text)| named_files(name, text, &names)).collect();
    let reached: Vec<Vec<bool>> = (0..names.len()).map(|from| reachable(from, &arrows)).collect();
    let mut circles = Vec::new();
    for from in 0..names.len() {
        for to in 0..from {
            let is_circle = reached[from][to] && reached[to][from];
            if is_circle && folder(names[from]) != folder(names[to]) {
                circles.push(format!("{} ↔ {}", names[from], names[to]));
            }
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The top-level folder of a file.
fn folder(name: &str) -> &str {
    name.split_once('/').map_or("", |(folder, _)| folder)
}

fn reachable(from: usize, arrows: &[Vec<usize>]) -> Vec<bool> {
    let mut reached = vec![false; arrows.len()];
    let mut left = arrows[from].clone();
    while let Some(next) = left.pop() {
        if !std::mem::replace(&mut reached[next], true) {
            left.extend(&arrows[next]);
        }
    }
    reached
}

/// The files of the modules that a file names.
fn named_files(name: &str, text: &str, names: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    for path in paths(name, text) {
        // The longest prefix of the path that is a module.
        let file = (1..=path.len()).rev().find_map(|most| {
            let module = path[..most].join("/");
            let is = |file: &&str| {
                file.strip_suffix(".rs").is_some_and(|stem| {
                    stem == module || stem.strip_suffix("/mod") == Some(module.as_str())
                })
            };
            names.iter().position(is)
        });
        found.extend(file.filter(|file| names[*file] != name));
    }
    found
}

/// The paths that a file names, from the root of the crate and with groups written out.
fn paths(name: &str, text: &str) -> Vec<Vec<String>> {
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let own: Vec<&str> = stem.strip_suffix("/mod").unwrap_or(stem).split('/').collect();
    let mut found = Vec::new();
    for (root, depth) in [("crate::", own.len()), ("super::", 1), ("self::", 0)] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue; // the middle of another path
            }
            let mut rest = &text[at + root.len()..];
            let mut up = depth;
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, up) = (further, up + 1);
            }
            let base = own[..own.len().saturating_sub(up)].iter().map(|part| (*part).to_owned());
            let base: Vec<String> = base.collect();
            for path in group(rest) {
                let path = path.split("::").map(str::to_owned);
                found.push(base.iter().cloned().chain(path).collect());
            }
        }
    }
    found
}

/// `a::{b, c}` written out, one level deep.
fn group(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let (path, rest) = text.split_at(end.unwrap_or(text.len()));
    let items = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    match items {
        Some((items, _)) => items.split(',').map(|item| format!("{path}{}", item.trim())).collect(),
        None => vec![path.to_owned()],
    }
}

#[test]
fn the_files_that_a_file_names_are_found() {
    let names = ["a/mod.rs", "a/b.rs", "a/c/mod.rs", "a/c/d.rs", "e.rs"];
    let named = |name: &str, text: &str| {
        let found = named_files(name, text, &names);
        found.into_iter().map(|file| names[file]).collect::<Vec<_>>()
    };
    assert_eq!(named("a/c/d.rs", "use crate::e::Thing;"), ["e.rs"]);
    assert_eq!(named("a/c/d.rs", "use super::Thing;"), ["a/c/mod.rs"]);
    assert_eq!(named("a/c/d.rs", "use super::super::b::f;"), ["a/b.rs"]);
    assert_eq!(named("a/b.rs", "use super::c::d; x(crate::e::f)"), ["e.rs", "a/c/d.rs"]);
    assert_eq!(named("e.rs", "use crate::a::{self, b, c::d};"), ["a/mod.rs", "a/b.rs", "a/c/d.rs"]);
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
    name.ends_with("compile.rs") || name.ends_with("compile_tests.rs") || name.contains("/compile/")
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
