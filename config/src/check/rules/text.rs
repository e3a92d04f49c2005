use prost_reflect::DynamicMessage;
use regex::Regex;

use super::super::well_known::{self, Format};
use super::bounds::Bounds;
use super::{field, flag, last, matches, pattern, strings};
use crate::Path;
use crate::read::suggest;

/// The constraints on a string.
#[derive(Debug)]
pub(in crate::check) struct TextRules {
    constant: Option<String>,
    characters: Bounds<u64>,
    bytes: Bounds<u64>,
    pattern: Option<Regex>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    not_contains: Option<String>,
    within: Vec<String>,
    without: Vec<String>,
    format: Option<Format>,
    ignore_empty: bool,
}

impl TextRules {
    pub(super) fn compile(rules: &DynamicMessage) -> Self {
        let text = |name| field(rules, name).and_then(|value| value.as_str().map(str::to_owned));
        Self {
            constant: text("const"),
            characters: Bounds::of_lengths(rules, "len"),
            bytes: Bounds::of_lengths(rules, "bytes"),
            pattern: pattern(rules),
            prefix: text("prefix"),
            suffix: text("suffix"),
            contains: text("contains"),
            not_contains: text("not_contains"),
            within: strings(rules, "in"),
            without: strings(rules, "not_in"),
            format: Format::of(rules),
            ignore_empty: flag(rules, "ignore_empty"),
        }
    }

    pub(super) fn check(&self, text: &str, at: &Path, wrong: &mut dyn FnMut(String)) {
        if text.is_empty() {
            if self.ignore_empty {
                return;
            }
            if self.characters.require_some() || self.bytes.require_some() {
                return wrong(format!("{} cannot be empty", last(at)));
            }
        }
        self.characters.check(text.chars().count() as u64, "characters", at, wrong);
        self.bytes.check(text.len() as u64, "bytes", at, wrong);
        if let Some(pattern) = &self.pattern {
            matches(pattern, text, wrong);
        }
        let mut must = |holds: bool, what: &str, part: &Option<String>| {
            if !holds && let Some(part) = part {
                wrong(format!("`{text}` must {what} `{part}`"));
            }
        };
        let holds = |part: &Option<String>, test: fn(&str, &str) -> bool| {
            part.as_ref().is_none_or(|part| test(text, part))
        };
        must(holds(&self.constant, |text, part| text == part), "be", &self.constant);
        must(holds(&self.prefix, |text, part| text.starts_with(part)), "start with", &self.prefix);
        must(holds(&self.suffix, |text, part| text.ends_with(part)), "end with", &self.suffix);
        must(holds(&self.contains, |text, part| text.contains(part)), "contain", &self.contains);
        let without = &self.not_contains;
        must(holds(without, |text, part| !text.contains(part)), "not contain", without);
        if !self.within.is_empty() && !self.within.iter().any(|allowed| allowed == text) {
            wrong(format!(
                "`{text}` must be {}",
                suggest::list(self.within.iter().map(String::as_str))
            ));
        }
        if self.without.iter().any(|refused| refused == text) {
            wrong(format!("`{text}` is not allowed here"));
        }
        if let Some(format) = self.format
            && !well_known::is(format, text)
        {
            wrong(format!("`{}` is not a valid {format}", text.escape_debug()));
        }
    }
}
