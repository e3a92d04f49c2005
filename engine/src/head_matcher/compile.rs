//! Compiles the conditions of a route.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{
    CookieMatcher, HeaderCondition, HeaderMatcher, HeaderName, QueryCondition,
    QueryParameterMatcher, TlsMatcher,
};
use crate::fraction::Fraction;
use crate::runtime::{Reader, RuntimeFlag, RuntimeFraction};
use crate::text_matcher::compile::{regex, text};
use crate::text_matcher::{Literal, TextMatcher};

/// Compiles a list of header conditions; invalid ones are reported and left out.
pub(crate) fn headers(
    schemas: &[config::HeaderMatcher],
    at: &Path,
    problems: &mut Problems,
) -> Vec<HeaderMatcher> {
    let each = schemas.iter().enumerate();
    each.filter_map(|(i, schema)| header(schema, &at.index(i), problems)).collect()
}

/// Compiles one header condition.
pub(crate) fn header(
    schema: &config::HeaderMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<HeaderMatcher> {
    let config::HeaderMatcher {
        name,
        exact_match,
        safe_regex_match,
        range_match,
        present_match,
        prefix_match,
        suffix_match,
        contains_match,
        string_match,
        invert_match,
        treat_missing_header_as_empty,
    } = schema;
    let condition = if let Some(schema) = string_match {
        HeaderCondition::Text(text(schema, &at.field("string_match"), problems)?)
    } else if let Some(config::Int64Range { start, end }) = range_match {
        HeaderCondition::Range(*start..*end)
    } else if let Some(text) = exact_match {
        let literal = Literal::new(text, false);
        // As in Envoy, an empty text in this deprecated field matches every value.
        let matcher = if text.is_empty() { TextMatcher::Prefix } else { TextMatcher::Exact };
        HeaderCondition::Text(matcher(literal))
    } else if let Some(text) = prefix_match {
        HeaderCondition::Text(TextMatcher::Prefix(Literal::new(text, false)))
    } else if let Some(text) = suffix_match {
        HeaderCondition::Text(TextMatcher::Suffix(Literal::new(text, false)))
    } else if let Some(text) = contains_match {
        HeaderCondition::Text(TextMatcher::Contains(Literal::new(text, false)))
    } else if let Some(schema) = safe_regex_match {
        let regex = regex(schema, &at.field("safe_regex_match"), problems)?;
        HeaderCondition::Text(TextMatcher::Regex(regex))
    } else {
        // Without any specifier the header must be present.
        HeaderCondition::Present(present_match.unwrap_or(true))
    };
    Some(HeaderMatcher {
        name: HeaderName::new(name),
        condition,
        invert: *invert_match,
        missing_is_empty: *treat_missing_header_as_empty,
    })
}

pub(crate) fn query_parameter(
    schema: &config::QueryParameterMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<QueryParameterMatcher> {
    let config::QueryParameterMatcher { name, string_match, present_match } = schema;
    let condition = match string_match {
        Some(schema) => QueryCondition::Text(text(schema, &at.field("string_match"), problems)?),
        None => QueryCondition::Present(present_match.unwrap_or(true)),
    };
    Some(QueryParameterMatcher { name: name.as_bytes().into(), condition })
}

pub(crate) fn cookie(
    schema: &config::CookieMatcher,
    at: &Path,
    problems: &mut Problems,
) -> Option<CookieMatcher> {
    let config::CookieMatcher { name, string_match, invert_match } = schema;
    let text = text(string_match.as_ref()?, &at.field("string_match"), problems)?;
    Some(CookieMatcher { name: name.as_bytes().into(), text, invert: *invert_match })
}

/// Without criteria every client matches.
pub(crate) fn tls(schema: Option<&config::TlsContextMatchOptions>) -> TlsMatcher {
    let Some(schema) = schema else { return TlsMatcher::default() };
    let config::TlsContextMatchOptions { presented, validated } = schema;
    TlsMatcher { presented: *presented, validated: *validated }
}

/// A fraction, with the runtime value of its key.
pub(crate) fn runtime_fraction(
    schema: &config::RuntimeFractionalPercent,
    runtime: &Reader<'_>,
) -> Option<RuntimeFraction> {
    let config::RuntimeFractionalPercent { default_value, runtime_key } = schema;
    let default = default_value.as_ref().map(percent)?;
    Some(runtime.fraction(default, runtime_key))
}

/// A yes or no, with the runtime value of its key; without a schema the default.
pub(crate) fn runtime_flag(
    schema: Option<&config::RuntimeFeatureFlag>,
    default: bool,
    runtime: &Reader<'_>,
) -> RuntimeFlag {
    let Some(config::RuntimeFeatureFlag { default_value, runtime_key }) = schema else {
        return default.into();
    };
    runtime.flag(*default_value == Some(true), runtime_key)
}

pub(crate) fn percent(schema: &config::FractionalPercent) -> Fraction {
    let config::FractionalPercent { numerator, denominator } = schema;
    let denominator = match denominator {
        config::DenominatorType::Hundred => 100,
        config::DenominatorType::TenThousand => 10_000,
        config::DenominatorType::Million => 1_000_000,
    };
    Fraction { numerator: *numerator, denominator }
}
