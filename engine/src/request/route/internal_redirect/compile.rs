//! Schema → which redirects the proxy follows itself.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::{InternalRedirectPolicy, Predicate};
use crate::request::route::mutation::compile::{framing_ignored, is_framing, is_mutable};

/// The policy of the route action at `at`, in its own message or in older fields; `None`: redirects are for
/// the client.
pub(crate) fn policy(
    schema: &config::RouteAction,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<InternalRedirectPolicy>> {
    let older = config::InternalRedirectPolicy {
        max_internal_redirects: schema.max_internal_redirects,
        redirect_response_codes: Vec::new(),
        predicates: Vec::new(),
        allow_cross_scheme_redirect: false,
        response_headers_to_copy: Vec::new(),
    };
    let config::InternalRedirectPolicy {
        max_internal_redirects,
        redirect_response_codes,
        predicates,
        allow_cross_scheme_redirect,
        response_headers_to_copy,
    } = match (&schema.internal_redirect_policy, schema.internal_redirect_action) {
        (Some(policy), _) => policy,
        (None, config::InternalRedirectAction::HandleInternalRedirect) => &older,
        (None, config::InternalRedirectAction::PassThroughInternalRedirect) => return None,
    };
    let at = at.field("internal_redirect_policy");
    let at_predicates = at.field("predicates");
    let each = predicates.iter().enumerate();
    let predicates: Vec<_> = each
        .filter_map(|(i, schema)| predicate(schema, &at_predicates.index(i), problems))
        .collect();
    Some(Arc::new(InternalRedirectPolicy {
        max: max_internal_redirects.unwrap_or(1),
        statuses: statuses(redirect_response_codes, &at, problems),
        allow_cross_scheme: *allow_cross_scheme_redirect,
        response_headers_to_copy: headers(response_headers_to_copy, &at, problems),
        predicates: predicates.into(),
    }))
}

fn statuses(codes: &[u32], at: &Path, problems: &mut Problems) -> Box<[u16]> {
    if codes.is_empty() {
        return [302].into();
    }
    let at = at.field("redirect_response_codes");
    let mut statuses = Vec::new();
    for (i, code) in codes.iter().enumerate() {
        match u16::try_from(*code) {
            Ok(status @ (301 | 302 | 303 | 307 | 308)) => statuses.push(status),
            _ => problems.warn(&at.index(i), format!("no effect: {code} is not a redirect")),
        }
    }
    statuses.into()
}

fn headers(names: &[String], at: &Path, problems: &mut Problems) -> Box<[Box<[u8]>]> {
    let at = at.field("response_headers_to_copy");
    let mut headers = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let at = at.index(i);
        if !is_mutable(name) {
            problems.error(&at, ":-prefixed headers and host cannot be copied");
        } else if is_framing(name) {
            problems.warn(&at, framing_ignored(name));
        } else {
            headers.push(name.to_ascii_lowercase().into_bytes().into());
        }
    }
    headers.into()
}

fn predicate(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<Predicate> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    match typed_config {
        Some(config::Any::PreviousRoutesConfig(schema)) => {
            let config::PreviousRoutesConfig {} = &**schema;
            Some(Predicate::PreviousRoutes)
        }
        Some(config::Any::AllowListedRoutesConfig(schema)) => {
            let config::AllowListedRoutesConfig { allowed_route_names } = &**schema;
            let names = allowed_route_names.iter().map(|name| name.as_str().into());
            Some(Predicate::AllowListedRoutes(names.collect()))
        }
        Some(config::Any::SafeCrossSchemeConfig(schema)) => {
            let config::SafeCrossSchemeConfig {} = &**schema;
            Some(Predicate::SafeCrossScheme)
        }
        _ => {
            let why = "Corvoy supports only previous_routes, allow_listed_routes and \
                       safe_cross_scheme as predicates of internal redirects";
            problems.missing(&at.field("typed_config"), why);
            None
        }
    }
}
