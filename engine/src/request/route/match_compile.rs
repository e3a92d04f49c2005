//! Compiles the match of a route.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::path::PathMatch;
use super::{NotedMatch, RouteMatch, Template};
use crate::head_matcher::compile as matchers;
use crate::metadata_matcher::compile::metadata_matcher;
use crate::runtime::Reader;
use crate::text_matcher::Literal;
use crate::text_matcher::compile::{regex, text};

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
        dynamic_metadata,
        filter_state,
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
    let headers = matchers::headers(headers, &at.field("headers"), problems);
    let mut query = Vec::with_capacity(query_parameters.len());
    for (i, schema) in query_parameters.iter().enumerate() {
        query.extend(matchers::query_parameter(schema, &at_query.index(i), problems));
    }
    let mut cookie = Vec::with_capacity(cookies.len());
    for (i, schema) in cookies.iter().enumerate() {
        cookie.extend(matchers::cookie(schema, &at_cookies.index(i), problems));
    }
    let noted = noted(dynamic_metadata, filter_state, at, problems);
    Some(RouteMatch {
        path: path?,
        noted: noted.map(Box::new),
        headers,
        query_parameters: query,
        cookies: cookie,
        grpc: grpc.is_some(),
        tls: matchers::tls(tls_context.as_ref()),
        fraction: runtime_fraction
            .as_ref()
            .and_then(|schema| matchers::runtime_fraction(schema, runtime)),
    })
}

/// The conditions on what filters note; `None` if there are none.
fn noted(
    dynamic_metadata: &[config::MetadataMatcher],
    filter_state: &[config::FilterStateMatcher],
    at: &Path,
    problems: &mut Problems,
) -> Option<NotedMatch> {
    if dynamic_metadata.is_empty() && filter_state.is_empty() {
        return None;
    }
    let (mut metadata, mut state) = (Vec::new(), Vec::new());
    for (i, schema) in dynamic_metadata.iter().enumerate() {
        let at = at.field("dynamic_metadata").index(i);
        let matcher = metadata_matcher(schema, &at, problems);
        metadata.extend(matcher.map(|matcher| (matcher, schema.invert)));
    }
    for (i, config::FilterStateMatcher { key, string_match }) in filter_state.iter().enumerate() {
        let at = at.field("filter_state").index(i).field("string_match");
        let matcher = string_match.as_ref().and_then(|schema| text(schema, &at, problems));
        state.extend(matcher.map(|matcher| (key.as_str().into(), matcher)));
    }
    Some(NotedMatch { metadata, state })
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
