//! Schema → conditions on text.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{FullRegex, Literal, TextMatcher};

/// Compiles an expression that must match the whole text.
pub(crate) fn regex(
    schema: &config::RegexMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<FullRegex> {
    let config::RegexMatcher { regex } = schema;
    let invalid = |error: String| problems.error(&at.field("regex"), invalid_regex(&error));
    FullRegex::new(regex).map_err(invalid).ok()
}

/// The message about a regular expression that cannot be compiled.
pub(crate) fn invalid_regex(error: &str) -> String {
    format!("invalid regular expression: {error}")
}

/// Compiles a condition on text.
pub(crate) fn text(
    schema: &config::StringMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<TextMatcher> {
    let config::StringMatcher { exact, prefix, suffix, safe_regex, contains, ignore_case } = schema;
    let literal = |text: &str| Literal::new(text, *ignore_case);
    Some(if let Some(text) = exact {
        TextMatcher::Exact(literal(text))
    } else if let Some(text) = prefix {
        TextMatcher::Prefix(literal(text))
    } else if let Some(text) = suffix {
        TextMatcher::Suffix(literal(text))
    } else if let Some(text) = contains {
        TextMatcher::Contains(literal(text))
    } else {
        let safe_regex = safe_regex.as_ref()?;
        if *ignore_case {
            let message = "ignore_case has no effect for safe_regex.";
            problems.error(&at.field("ignore_case"), message);
        }
        TextMatcher::Regex(regex(safe_regex, &at.field("safe_regex"), problems)?)
    })
}
