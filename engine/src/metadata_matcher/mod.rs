//! Conditions on metadata: Envoy's `MetadataMatcher` and `ValueMatcher`.

pub(crate) mod compile;

use std::ops::Range;

use serde_json::Value;

use crate::metadata::Metadata;
use crate::text_matcher::TextMatcher;

/// `MetadataMatcher`, without `invert`: what that means depends on who asks.
#[derive(Clone, Debug)]
pub struct MetadataMatcher {
    pub(crate) namespace: Box<str>,
    /// At least one key.
    pub(crate) path: Box<[Box<str>]>,
    pub(crate) value: ValueMatcher,
}

/// `ValueMatcher`
#[derive(Clone, Debug)]
pub enum ValueMatcher {
    /// `bool_match`
    Bool(bool),
    /// `double_match.exact`
    Exact(f64),
    /// `list_match.one_of`: a member of the list matches.
    ListMember(Box<Self>),
    /// `null_match`
    Null,
    /// `or_match`
    Or(Vec<Self>),
    /// `present_match`: any value, or no value at all.
    Present(bool),
    /// `double_match.range`
    Range(Range<f64>),
    /// `string_match`
    Text(TextMatcher),
}

impl MetadataMatcher {
    /// Whether the value matches; none if there is no value.
    #[must_use]
    pub fn matches(&self, metadata: &Metadata) -> Option<bool> {
        let value = metadata.find(&self.namespace, &self.path)?;
        Some(self.value.matches(value))
    }
}

impl ValueMatcher {
    /// Whether a value matches.
    #[must_use]
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Exact(wanted) => value.as_f64() == Some(*wanted),
            Self::ListMember(wanted) => {
                value.as_array().is_some_and(|items| items.iter().any(|item| wanted.matches(item)))
            }
            Self::Null => value.is_null(),
            Self::Or(matchers) => matchers.iter().any(|matcher| matcher.matches(value)),
            Self::Present(wanted) => *wanted,
            Self::Range(range) => value.as_f64().is_some_and(|number| range.contains(&number)),
            Self::Text(matcher) => {
                value.as_str().is_some_and(|text| matcher.matches(text.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text_matcher::Literal;

    fn text(text: &str) -> ValueMatcher {
        ValueMatcher::Text(TextMatcher::Exact(Literal::new(text, false)))
    }

    /// As Envoy's access log filter has decided about the same values.
    #[test]
    fn a_value_is_matched_by_its_type() {
        let value = json!({ "b": "x", "t": true, "n": 5, "l": ["q", 1], "nu": null });
        for (key, matcher, expected) in [
            ("b", text("x"), true),
            ("b", text("y"), false),
            ("t", text("true"), false),
            ("b", ValueMatcher::Present(true), true),
            ("b", ValueMatcher::Present(false), false),
            ("b", ValueMatcher::Null, false),
            ("nu", ValueMatcher::Null, true),
            ("t", ValueMatcher::Bool(true), true),
            ("b", ValueMatcher::Bool(true), false),
            ("n", ValueMatcher::Exact(5.0), true),
            ("n", ValueMatcher::Range(5.0..6.0), true),
            ("n", ValueMatcher::Range(4.0..5.0), false),
            ("l", ValueMatcher::ListMember(Box::new(text("q"))), true),
            ("l", ValueMatcher::ListMember(Box::new(text("1"))), false),
            ("b", ValueMatcher::Or(vec![ValueMatcher::Bool(true), text("x")]), true),
        ] {
            assert_eq!(matcher.matches(&value[key]), expected, "{key}: {matcher:?}");
        }
    }

    #[test]
    fn only_a_value_that_is_there_matches_or_does_not() {
        let mut metadata = Metadata::default();
        metadata.set("ns", "key", "x");
        metadata.set("ns", "struct", json!({ "part": 1.5 }));
        let matches = |namespace: &str, path: &[&str], value| {
            let path = path.iter().map(|&key| key.into()).collect();
            MetadataMatcher { namespace: namespace.into(), path, value }.matches(&metadata)
        };
        assert_eq!(matches("ns", &["key"], text("x")), Some(true));
        assert_eq!(matches("ns", &["key"], text("y")), Some(false));
        assert_eq!(matches("ns", &["other"], ValueMatcher::Present(false)), None);
        assert_eq!(matches("ns", &["key", "part"], text("x")), None);
        assert_eq!(matches("ns", &["struct", "part"], ValueMatcher::Exact(1.5)), Some(true));
        assert_eq!(matches("other", &["key"], text("x")), None);
    }
}
