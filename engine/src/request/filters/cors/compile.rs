//! Schema → policies of `cors`.

use corvoy_config::{self as config, Path, Problems};

use super::Policy;
use crate::request::route::Fraction;
use crate::request::route::matchers::compile::runtime_fraction;
use crate::runtime::Reader;
use crate::text_matcher::compile::text;

const ALL: Fraction = Fraction { numerator: 1, denominator: 1 };
const NONE: Fraction = Fraction { numerator: 0, denominator: 1 };

/// A policy in `typed_per_filter_config`.
pub(in super::super) fn policy(
    schema: &config::CorsPolicy,
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Policy {
    let config::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = schema;
    let part = |schema: &Option<config::RuntimeFractionalPercent>| {
        runtime_fraction(schema.as_ref()?, runtime)
    };
    let at_origins = at.field("allow_origin_string_match");
    let origins = allow_origin_string_match.iter().enumerate();
    Policy {
        origins: origins
            .filter_map(|(i, schema)| text(schema, &at_origins.index(i), problems))
            .collect(),
        methods: allow_methods.as_bytes().into(),
        headers: allow_headers.as_bytes().into(),
        expose_headers: expose_headers.as_bytes().into(),
        max_age: max_age.as_bytes().into(),
        credentials: *allow_credentials,
        enabled: part(filter_enabled).unwrap_or_else(|| ALL.into()),
        shadow: part(shadow_enabled).unwrap_or_else(|| NONE.into()),
        private_network: *allow_private_network_access,
        forward_not_matching_preflights: *forward_not_matching_preflights,
    }
}

/// A policy in the deprecated field `cors` of a route or a virtual host.
pub(in super::super) fn old_policy(
    schema: &config::RouteCorsPolicy,
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Policy {
    let config::RouteCorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = schema.clone();
    let schema = config::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    };
    policy(&schema, runtime, at, problems)
}
