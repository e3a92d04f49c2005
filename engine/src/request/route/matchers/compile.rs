//! Compiles the conditions of a route.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{
    CookieMatcher, Fraction, HeaderCondition, HeaderMatcher, HeaderName, QueryCondition,
    QueryParameterMatcher, TlsMatcher,
};
use crate::request::route::RouteMatch;
use crate::request::route::path::PathMatch;
use crate::request::route::template::Template;
use crate::runtime::Reader;
use crate::text_matcher::compile::{regex, text};
use crate::text_matcher::{Literal, TextMatcher};

/// Compiles a `RouteMatch`; `None` if there are errors.
pub(crate) fn route_match(
    schema: &config::RouteMatch,
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<RouteMatch> {
    let config::RouteMatch {
        prefix,
        path,
        safe_regex,
        path_separated_prefix,
        connect_matcher,
        path_match_policy,
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
    } = schema;
    let literal = |text: &str| Literal::new(text, *case_sensitive == Some(false));
    let path = if let Some(text) = prefix {
        Some(PathMatch::Prefix(literal(text)))
    } else if let Some(text) = path {
        Some(PathMatch::Exact(literal(text)))
    } else if let Some(text) = path_separated_prefix {
        Some(PathMatch::SeparatedPrefix(literal(text)))
    } else if let Some(schema) = safe_regex {
        regex(schema, &at.field("safe_regex"), problems).map(PathMatch::Regex)
    } else if let Some(schema) = path_match_policy {
        template(schema, &at.field("path_match_policy"), problems).map(PathMatch::Template)
    } else {
        connect_matcher.as_ref().map(|config::ConnectMatcher {}| PathMatch::Connect)
    };
    warn_of_a_path_that_no_request_has(schema, path.as_ref(), at, problems);
    let at_query = at.field("query_parameters");
    let at_cookies = at.field("cookies");
    let headers = self::headers(headers, &at.field("headers"), problems);
    let mut query = Vec::with_capacity(query_parameters.len());
    for (i, schema) in query_parameters.iter().enumerate() {
        query.extend(query_parameter(schema, &at_query.index(i), problems));
    }
    let mut cookie = Vec::with_capacity(cookies.len());
    for (i, schema) in cookies.iter().enumerate() {
        cookie.extend(self::cookie(schema, &at_cookies.index(i), problems));
    }
    Some(RouteMatch {
        path: path?,
        headers,
        query_parameters: query,
        cookies: cookie,
        grpc: grpc.is_some(),
        tls: tls(tls_context.as_ref()),
        fraction: runtime_fraction
            .as_ref()
            .and_then(|schema| self::runtime_fraction(schema, runtime)),
    })
}

/// Every path begins with a slash, but for that of a CONNECT and `*`.
fn warn_of_a_path_that_no_request_has(
    schema: &config::RouteMatch,
    path: Option<&PathMatch>,
    at: &Path,
    problems: &mut Problems,
) {
    let (field, literal) = match path {
        Some(PathMatch::Exact(literal)) => ("path", literal),
        Some(PathMatch::Prefix(literal)) => ("prefix", literal),
        Some(PathMatch::SeparatedPrefix(literal)) => ("path_separated_prefix", literal),
        Some(PathMatch::Regex(regex)) => ("safe_regex", regex.literal()),
        Some(PathMatch::Template(_) | PathMatch::Connect) | None => return,
    };
    let is_empty = literal.text.is_empty() && schema.path.is_none();
    if !is_empty && !literal.text.starts_with(b"/") && *literal.text != *b"*" {
        let message = "paths begin with '/', so this route never matches";
        problems.warn(&at.field(field), message);
    }
}

fn template(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<Template> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    let Some(config::Any::UriTemplateMatchConfig(schema)) = typed_config else {
        problems.missing(&at, "Corvoy supports only URI templates as path_match_policy");
        return None;
    };
    let config::UriTemplateMatchConfig { path_template } = &**schema;
    let at = at.field("path_template");
    Template::new(path_template).map_err(|error| problems.error(&at, error)).ok()
}

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

/// The default of a fraction. Its runtime key has no effect, of which a layer that has it warns.
pub(crate) fn fraction(schema: &config::RuntimeFractionalPercent) -> Option<Fraction> {
    let config::RuntimeFractionalPercent { default_value, runtime_key: _ } = schema;
    default_value.as_ref().map(percent)
}

/// A fraction, with the runtime value of its key.
pub(crate) fn runtime_fraction(
    schema: &config::RuntimeFractionalPercent,
    runtime: &Reader<'_>,
) -> Option<Fraction> {
    let config::RuntimeFractionalPercent { default_value, runtime_key } = schema;
    let default = default_value.as_ref().map(percent)?;
    if runtime_key.is_empty() {
        return Some(default);
    }
    Some(runtime.fraction(runtime_key).unwrap_or(default))
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
