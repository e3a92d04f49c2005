//! Conditions on text: Envoy's `StringMatcher`, for headers, paths, server names and certificates.
//!
//! Invariant: a condition is compiled once, and matching never allocates.

pub(crate) mod compile;

use std::fmt;

use regex::bytes::Regex;

use crate::re2;

/// `StringMatcher`.
#[derive(Clone, Debug)]
pub enum TextMatcher {
    /// Equals these bytes.
    Exact(Literal),
    /// Begins with them.
    Prefix(Literal),
    /// Ends with them.
    Suffix(Literal),
    /// Contains them.
    Contains(Literal),
    /// The whole text matches.
    Regex(FullRegex),
}

/// Literal text of a matcher.
#[derive(Clone, Debug)]
pub struct Literal {
    /// Lower case if `ignore_case`.
    pub(crate) text: Box<[u8]>,
    pub(crate) ignore_case: bool,
}

impl Literal {
    /// `ignore_case` is the opposite of the schema's `case_sensitive`.
    pub fn new(text: &str, ignore_case: bool) -> Self {
        let text = if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        Self { text: text.into_bytes().into(), ignore_case }
    }

    pub(crate) fn equals(&self, text: &[u8]) -> bool {
        if self.ignore_case { text.eq_ignore_ascii_case(&self.text) } else { *text == *self.text }
    }

    pub(crate) fn is_prefix_of(&self, text: &[u8]) -> bool {
        text.get(..self.text.len()).is_some_and(|start| self.equals(start))
    }

    pub(crate) fn is_suffix_of(&self, text: &[u8]) -> bool {
        let before = text.len().checked_sub(self.text.len());
        before.and_then(|before| text.get(before..)).is_some_and(|end| self.equals(end))
    }

    pub(crate) fn is_contained_in(&self, text: &[u8]) -> bool {
        if !self.ignore_case {
            return memchr::memmem::find(text, &self.text).is_some();
        }
        self.text.is_empty() || text.windows(self.text.len()).any(|window| self.equals(window))
    }
}

/// A regular expression that must match the whole text, with RE2's rules: bytes, no Unicode
/// classes.
#[derive(Clone)]
pub struct FullRegex {
    regex: Regex,
    literal: Literal,
}

impl TextMatcher {
    /// Matches what begins with `text`.
    #[cfg(test)]
    pub(crate) fn prefix(text: &str) -> Self {
        Self::Prefix(Literal::new(text, false))
    }

    /// Whether the text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(literal) => literal.equals(text),
            Self::Prefix(literal) => literal.is_prefix_of(text),
            Self::Suffix(literal) => literal.is_suffix_of(text),
            Self::Contains(literal) => literal.is_contained_in(text),
            Self::Regex(regex) => regex.matches(text),
        }
    }
}

impl FullRegex {
    /// Parses an expression in RE2's syntax.
    ///
    /// # Errors
    /// A message, if it is invalid.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let pattern = re2::translated(pattern)?;
        let regex = re2::build(&format!(r"\A(?:{pattern})\z"))?;
        Ok(Self { regex, literal: Literal::new(literal_prefix(&pattern), false) })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The literal prefix of everything it matches; may be empty.
    pub(crate) fn literal(&self) -> &Literal {
        &self.literal
    }
}

impl fmt::Debug for FullRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.regex.fmt(f)
    }
}

/// The literal characters that a regular expression begins with, as far as that is certain.
fn literal_prefix(pattern: &str) -> &str {
    // An alternative or a flag can affect what precedes it.
    if pattern.contains('|') || pattern.contains("(?") {
        return "";
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_-~%=&:;,@!<>#'\"".contains(c);
    let plain = pattern.find(|c| !is_plain(c)).unwrap_or(pattern.len());
    let (literal, rest) = pattern.split_at(plain);
    let repeats_its_last = rest.starts_with(['*', '+', '?', '{']);
    match literal.len().checked_sub(1) {
        Some(last) if repeats_its_last => literal.split_at(last).0,
        _ => literal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_must_match_the_whole_text_with_re2s_rules() {
        let matches =
            |pattern, text: &str| FullRegex::new(pattern).unwrap().matches(text.as_bytes());
        assert!(matches("a|ab", "ab"), "the alternative that fits all of it is found");
        assert!(!matches("a", "ab") && !matches("b", "ab"));
        assert!(matches(r"\d+", "12") && !matches(r"\d+", "\u{661}"), "digits are ASCII");
        assert!(matches(r"\pL+", "abc"), "Unicode classes must be requested");
        assert!(FullRegex::new("*a").is_err());
    }

    #[test]
    fn the_literal_prefix_of_a_regex_is_what_every_match_begins_with() {
        for (pattern, literal) in [
            ("/api/v1/.*", "/api/v1/"),
            ("/ab*", "/a"),
            ("/ab?", "/a"),
            ("/a{2}", "/"),
            ("/a+", "/"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            (r"/a\.b", "/a"),
            (".*", ""),
            ("/plain", "/plain"),
        ] {
            assert_eq!(literal_prefix(pattern), literal, "{pattern}");
        }
    }
}
