//! Schema → conditions on metadata.

use corvoy_config::{self as config, Path, Problems};

use super::{MetadataMatcher, ValueMatcher};
use crate::text_matcher::compile::text;

/// Compiles a `MetadataMatcher`; the caller says what `invert` means.
pub(crate) fn metadata_matcher(
    schema: &config::MetadataMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<MetadataMatcher> {
    let config::MetadataMatcher { filter, path, value, invert: _ } = schema;
    let key = |config::MetadataPathSegment { key }: &config::MetadataPathSegment| {
        key.as_deref().map(Box::from)
    };
    Some(MetadataMatcher {
        namespace: filter.as_str().into(),
        path: path.iter().map(key).collect::<Option<_>>()?,
        value: value_matcher(value.as_ref()?, &at.field("value"), problems)?,
    })
}

/// Compiles a `ValueMatcher`.
pub(crate) fn value_matcher(
    schema: &config::ValueMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<ValueMatcher> {
    let config::ValueMatcher {
        null_match,
        double_match,
        string_match,
        bool_match,
        present_match,
        list_match,
        or_match,
    } = schema;
    if let Some(config::NullMatch {}) = null_match {
        return Some(ValueMatcher::Null);
    }
    if let Some(config::DoubleMatcher { range, exact }) = double_match {
        let exact = exact.map(ValueMatcher::Exact);
        return exact.or_else(|| {
            let config::DoubleRange { start, end } = range.as_ref()?;
            Some(ValueMatcher::Range(*start..*end))
        });
    }
    if let Some(schema) = string_match {
        return text(schema, &at.field("string_match"), problems).map(ValueMatcher::Text);
    }
    if let Some(wanted) = bool_match {
        return Some(ValueMatcher::Bool(*wanted));
    }
    if let Some(wanted) = present_match {
        return Some(ValueMatcher::Present(*wanted));
    }
    if let Some(config::ListMatcher { one_of }) = list_match {
        let at = at.field("list_match").field("one_of");
        let member = value_matcher(one_of.as_deref()?, &at, problems)?;
        return Some(ValueMatcher::ListMember(Box::new(member)));
    }
    let config::OrMatcher { value_matchers } = or_match.as_ref()?;
    let at = at.field("or_match").field("value_matchers");
    let each = value_matchers.iter().enumerate();
    let each = each.map(|(i, schema)| value_matcher(schema, &at.index(i), problems));
    each.collect::<Option<_>>().map(ValueMatcher::Or)
}
