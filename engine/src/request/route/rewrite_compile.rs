//! Schema → the rewrites of path and host.

use corvoy_config::{self as config, Path, Problems};

use super::matchers::HeaderName;
use super::path::PathMatch;
use super::rewrite::{HostRewrite, PathRewrite, RegexRewrite};
use super::template::TemplateRewrite;
use crate::common_compile::check_word;
use crate::format::Formatter;
use crate::text_matcher::compile::invalid_regex;

/// How the path is rewritten; the fields exclude each other.
pub(super) fn path_rewrite(
    prefix_rewrite: Option<&str>,
    regex_rewrite: Option<&config::RegexMatchAndSubstitute>,
    path_rewrite: &str,
    at: &Path,
    problems: &mut Problems,
) -> Option<PathRewrite> {
    // As in Envoy, an empty prefix is no rewrite, even where the schema distinguishes the two.
    let prefix = prefix_rewrite.filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix {
        check_word(prefix, &at.field("prefix_rewrite"), problems);
    }
    let at_regex = at.field("regex_rewrite");
    let regex = regex_rewrite.map(|schema| regex_rewrite_of(schema, &at_regex, problems));
    let at_format = at.field("path_rewrite");
    let format = Some(path_rewrite).filter(|format| !format.is_empty());
    let format = format.map(|text| formatter(text, &at_format, problems));
    match (prefix, regex, format) {
        (Some(prefix), None, None) => Some(PathRewrite::Prefix(prefix.as_bytes().into())),
        (None, Some(regex), None) => regex.map(PathRewrite::Regex),
        (None, None, Some(format)) => format.map(PathRewrite::Format),
        (None, None, None) => Some(PathRewrite::None),
        (_, _, format) => {
            let at = if format.is_some() { &at_format } else { &at_regex };
            problems.error(at, ONE_PATH_REWRITE);
            None
        }
    }
}

pub(super) fn template_rewrite(
    schema: &config::TypedExtensionConfig,
    path: Option<&PathMatch>,
    at: &Path,
    problems: &mut Problems,
) -> Option<TemplateRewrite> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    let Some(config::Any::UriTemplateRewriteConfig(schema)) = typed_config else {
        problems.missing(&at, "Corvoy supports only URI templates as path_rewrite_policy");
        return None;
    };
    let config::UriTemplateRewriteConfig { path_template_rewrite } = &**schema;
    let Some(PathMatch::Template(template)) = path else {
        if path.is_some() {
            problems.error(&at, "a URI template as rewrite needs one as path_match_policy");
        }
        return None;
    };
    let at = at.field("path_template_rewrite");
    let rewrite = TemplateRewrite::new(path_template_rewrite, template);
    rewrite.map_err(|error| problems.error(&at, error)).ok()
}

/// A template has no prefix that could be replaced.
pub(super) fn check_prefix_rewrite(
    path: Option<&PathMatch>,
    rewrite: Option<&PathRewrite>,
    at: &Path,
    problems: &mut Problems,
) {
    if let (Some(PathMatch::Template(_)), Some(PathRewrite::Prefix(_))) = (path, rewrite) {
        let why = "a route with a path_match_policy has no prefix to rewrite";
        problems.error(&at.field("prefix_rewrite"), why);
    }
}

/// Compiles a `RegexMatchAndSubstitute` for a path or a host.
fn regex_rewrite_of(
    schema: &config::RegexMatchAndSubstitute,
    at: &Path,
    problems: &mut Problems,
) -> Option<RegexRewrite> {
    check_word(&schema.substitution, &at.field("substitution"), problems);
    substitution(schema, at, problems)
}

/// Compiles a `RegexMatchAndSubstitute`.
pub(crate) fn substitution(
    schema: &config::RegexMatchAndSubstitute,
    at: &Path,
    problems: &mut Problems,
) -> Option<RegexRewrite> {
    let config::RegexMatchAndSubstitute { pattern, substitution } = schema;
    let at_substitution = at.field("substitution");
    let config::RegexMatcher { regex } = pattern.as_ref()?;
    let warn = |message: &str| problems.warn(&at_substitution, message);
    let rewrite = RegexRewrite::new(regex, substitution, warn);
    rewrite.map_err(|error| problems.error(at, invalid_regex(&error))).ok()
}

/// How the host is rewritten; the fields exclude each other.
pub(super) fn host_rewrite(
    schema: &config::RouteAction,
    at: &Path,
    problems: &mut Problems,
) -> Option<HostRewrite> {
    if schema.auto_host_rewrite == Some(true) {
        Some(HostRewrite::Auto)
    } else if let Some(host) = &schema.host_rewrite_literal {
        check_word(host, &at.field("host_rewrite_literal"), problems);
        Some(HostRewrite::Literal(host.as_bytes().into()))
    } else if let Some(name) = &schema.host_rewrite_header {
        Some(HostRewrite::Header(HeaderName::new(name)))
    } else if let Some(schema) = &schema.host_rewrite_path_regex {
        let at = at.field("host_rewrite_path_regex");
        regex_rewrite_of(schema, &at, problems).map(HostRewrite::PathRegex)
    } else if let Some(format) = schema.host_rewrite.as_ref().filter(|text| !text.is_empty()) {
        formatter(format, &at.field("host_rewrite"), problems).map(HostRewrite::Format)
    } else {
        Some(HostRewrite::None)
    }
}

/// Compiles a format.
pub(super) fn formatter(text: &str, at: &Path, problems: &mut Problems) -> Option<Box<Formatter>> {
    Formatter::new(text).map(Box::new).map_err(|error| problems.error(at, error)).ok()
}

pub(super) const ONE_PATH_REWRITE: &str =
    "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy";
