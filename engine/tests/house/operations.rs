//! OPERATIONS.md has a row for every log message.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::tidy::collect;

/// The heading of the table of messages.
const MESSAGES: &str = "### Messages";

#[test]
fn every_log_message_is_explained() {
    let page = fs::read_to_string("../docs/OPERATIONS.md").unwrap();
    let (_, table) = page.split_once(MESSAGES).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    let messages = messages();
    assert!(messages.len() > 20, "the pattern no longer finds the messages: {messages:?}");
    for (file, level, text) in messages {
        assert!(
            rows.iter().any(|row| explains(row, &level, &text)),
            "{file}: docs/OPERATIONS.md has no row under \"{MESSAGES}\" for {level}: \"{text}\""
        );
    }
}

/// The file, level and text of each message that the proxy can log.
fn messages() -> Vec<(String, String, String)> {
    let call = Regex::new(
        r#"(?s)\b(info|warn|error)!\((?:target: "\w+",\s*)?(?:[%?]\w+,\s*)*"((?:[^"\\]|\\.)*)""#,
    );
    let call = call.unwrap();
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    collect(Path::new("../bin/src"), &mut files);
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for of in call.captures_iter(text) {
            let level = of[1].replace("warn", "warning");
            found.push((path.display().to_string(), level, of[2].to_owned()));
        }
    }
    found
}

/// Whether a row is about this message: it has its level, and its fixed parts in order.
fn explains(row: &str, level: &str, text: &str) -> bool {
    let Some(row) = row.strip_prefix("| ").and_then(|row| row.strip_prefix(level)) else {
        return false;
    };
    let mut rest = row;
    let values = Regex::new(r"\{[^}]*\}").unwrap();
    values.split(text).map(str::trim).all(|fixed| match rest.split_once(fixed) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn a_row_is_found_by_the_fixed_parts_of_a_message() {
    let row = "| warning `ADDRESS: accept: ERROR; waiting` | raise the limit |";
    assert!(explains(row, "warning", "{address}: accept: {error}; waiting"));
    assert!(!explains(row, "error", "{address}: accept: {error}; waiting"));
    assert!(!explains(row, "warning", "{address}: accept: {error}; pausing"));
}
