//! Schema → `jwt_authn`.

mod provider;

use std::collections::BTreeMap;

use corvoy_config::{self as config, Path, Problems};

use self::provider::provider;
use super::location::Location;
use super::provider::{Audiences, Provider};
use super::requirement::{AnyLocation, Otherwise, Requirement};
use super::{ByFilterState, JwtAuthn, Needs, PerRoute, Rule};
use crate::request::filters::FilterId;
use crate::request::filters::compile::{Context, header_to_set};
use crate::request::route::match_compile::route_match;

impl JwtAuthn {
    pub(in crate::request::filters) fn compile(
        schema: &config::JwtAuthentication,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::JwtAuthentication {
            providers: schemas,
            rules,
            filter_state_rules,
            bypass_cors_preflight,
            requirement_map,
            strip_failure_response,
            stat_prefix,
        } = schema;
        let at_providers = at.field("providers");
        let compiled: Vec<_> = schemas
            .iter()
            .map(|(name, schema)| provider(schema, context, &at_providers.key(name), problems))
            .collect();
        let names: Vec<&str> = schemas.keys().map(String::as_str).collect();
        let at_map = at.field("requirement_map");
        let named = requirements(requirement_map, &names, &at_map, problems);
        let at_rules = at.field("rules");
        let rules: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(i, schema)| {
                let at = at_rules.index(i);
                rule(schema, &names, requirement_map, context, &at, problems)
            })
            .collect();
        let by_filter_state = filter_state_rules.as_ref().map(|schema| {
            let config::JwtFilterStateRule { name, requires } = schema;
            let at = at.field("filter_state_rules").field("requires");
            let requires = requirements(requires, &names, &at, problems);
            ByFilterState { key: name.as_str().into(), requires }
        });
        let providers: Box<[Provider]> = compiled.into_iter().collect::<Option<_>>()?;
        let prefix = match &**stat_prefix {
            "" => format!("{}jwt_authn.", context.stat_prefix),
            more => format!("{}jwt_authn.{more}.", context.stat_prefix),
        };
        Some(Self {
            id: FilterId::next(),
            locations: locations(&providers),
            claim_headers: claim_headers(&providers),
            providers,
            rules: rules.into_iter().collect::<Option<_>>()?,
            by_filter_state,
            named,
            bypasses_preflight: *bypass_cors_preflight,
            strips_reply: *strip_failure_response,
            stats: context.registry.scope(&prefix),
        })
    }
}

/// What a route says.
pub(in crate::request::filters) fn of_route(
    schema: &config::JwtPerRoute,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::JwtPerRoute { disabled, requirement_name } = schema;
    match (disabled, requirement_name) {
        (_, Some(name)) => Some(PerRoute::Named(name.as_str().into())),
        (Some(disabled), None) => {
            if !disabled {
                problems.error(&at.field("disabled"), "it can only be true");
            }
            Some(PerRoute::Disabled)
        }
        (None, None) => {
            problems.missing(at, "disabled or requirement_name is required");
            None
        }
    }
}

/// All places, each with the issuers of the providers that have it; empty: all.
fn locations(providers: &[Provider]) -> Box<[AnyLocation]> {
    let mut places = BTreeMap::<&Location, Vec<&str>>::new();
    for provider in providers {
        for location in &provider.locations {
            places.entry(location).or_default().push(&provider.issuer);
        }
    }
    let places = places.into_iter().map(|(location, issuers)| AnyLocation {
        location: location.clone(),
        issuers: match issuers.contains(&"") {
            true => Box::default(),
            false => issuers.into_iter().map(Into::into).collect(),
        },
    });
    places.collect()
}

fn claim_headers(providers: &[Provider]) -> Box<[Box<[u8]>]> {
    let mut names: Vec<Box<[u8]>> = providers
        .iter()
        .flat_map(|provider| {
            let claims = provider.claims.iter().map(|claim| &claim.header);
            claims.chain(&provider.payload_header).cloned()
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}

fn rule(
    schema: &config::JwtRule,
    providers: &[&str],
    names: &BTreeMap<String, config::JwtRequirement>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Rule> {
    let config::JwtRule { r#match, requires, requirement_name } = schema;
    let at_match = at.field("match");
    let Some(schema) = r#match else {
        problems.missing(&at_match, "match is required");
        return None;
    };
    let looked_at = looked_at(schema, &at_match, problems);
    let matches = route_match(&looked_at, context.runtime, &at_match, problems);
    let needs = match (requires, requirement_name) {
        (Some(schema), _) => {
            requirement(schema, providers, &at.field("requires"), problems)?.map(Needs::This)
        }
        (None, Some(name)) => {
            if !names.contains_key(name) {
                let message = format!("there is no requirement '{name}' in the requirement_map");
                problems.error(&at.field("requirement_name"), message);
            }
            Some(Needs::Named(name.as_str().into()))
        }
        (None, None) => None,
    };
    Some(Rule { matches: matches?, needs })
}

/// What a rule looks at: as in Envoy, the path, headers and the query, and nothing else.
fn looked_at(
    schema: &config::RouteMatch,
    at: &Path,
    problems: &mut Problems,
) -> config::RouteMatch {
    let config::RouteMatch {
        prefix: _,
        path: _,
        safe_regex: _,
        path_separated_prefix: _,
        connect_matcher: _,
        path_match_policy: _,
        case_sensitive: _,
        headers: _,
        query_parameters: _,
        runtime_fraction,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
    } = schema;
    for (field, is_set) in [
        ("runtime_fraction", runtime_fraction.is_some()),
        ("cookies", !cookies.is_empty()),
        ("grpc", grpc.is_some()),
        ("tls_context", tls_context.is_some()),
        ("dynamic_metadata", !dynamic_metadata.is_empty()),
        ("filter_state", !filter_state.is_empty()),
    ] {
        if is_set {
            let message = "a rule of jwt_authn does not look at this, as in Envoy";
            problems.warn(&at.field(field), message);
        }
    }
    let mut heeded = schema.clone();
    heeded.runtime_fraction = None;
    heeded.cookies.clear();
    heeded.grpc = None;
    heeded.tls_context = None;
    heeded.dynamic_metadata.clear();
    heeded.filter_state.clear();
    heeded
}

/// Named requirements, but those that require nothing.
fn requirements(
    schemas: &BTreeMap<String, config::JwtRequirement>,
    providers: &[&str],
    at: &Path,
    problems: &mut Problems,
) -> BTreeMap<Box<str>, Requirement> {
    let each = schemas.iter().filter_map(|(name, schema)| {
        let requirement = requirement(schema, providers, &at.key(name), problems)??;
        Some((name.as_str().into(), requirement))
    });
    each.collect()
}

/// A requirement; `Some(None)`: nothing is required.
#[expect(clippy::option_option, reason = "the outer one is an error")]
fn requirement(
    schema: &config::JwtRequirement,
    providers: &[&str],
    at: &Path,
    problems: &mut Problems,
) -> Option<Option<Requirement>> {
    let config::JwtRequirement {
        provider_name,
        provider_and_audiences,
        requires_any,
        requires_all,
        allow_missing_or_failed,
        allow_missing,
        extract_only_without_validation,
    } = schema;
    let mut find = |name: &str, at: &Path| {
        let found = providers.iter().position(|provider| *provider == name);
        if found.is_none() {
            problems.error(at, format!("there is no provider '{name}'"));
        }
        found
    };
    if let Some(name) = provider_name {
        let provider = find(name, &at.field("provider_name"))?;
        return Some(Some(Requirement::Provider { provider, audiences: None }));
    }
    if let Some(schema) = provider_and_audiences {
        let config::ProviderWithAudiences { provider_name, audiences } = schema;
        let at = at.field("provider_and_audiences").field("provider_name");
        let provider = find(provider_name, &at)?;
        let audiences = Some(self::audiences(audiences));
        return Some(Some(Requirement::Provider { provider, audiences }));
    }
    if let Some(config::JwtRequirementOrList { requirements }) = requires_any {
        let at = at.field("requires_any").field("requirements");
        return any(requirements, providers, &at, problems).map(Some);
    }
    if let Some(config::JwtRequirementAndList { requirements }) = requires_all {
        let at = at.field("requires_all").field("requirements");
        let mut all = Vec::with_capacity(requirements.len());
        for (i, schema) in requirements.iter().enumerate() {
            all.extend(requirement(schema, providers, &at.index(i), problems)?);
        }
        return Some(Some(Requirement::All(all.into())));
    }
    if let Some(config::Empty {}) = allow_missing_or_failed {
        return Some(Some(Requirement::AllowFailed));
    }
    if let Some(config::Empty {}) = allow_missing {
        return Some(Some(Requirement::AllowMissing));
    }
    let Some(schema) = extract_only_without_validation else { return Some(None) };
    let config::ExtractOnlyWithoutValidation { verification_status_header } = schema;
    let name = match &**verification_status_header {
        "" => "x-jwt-signature-verified",
        name => name,
    };
    let at = at.field("extract_only_without_validation").field("verification_status_header");
    header_to_set(name, &at, problems).map(|name| Some(Requirement::ExtractOnly(name)))
}

/// As in Envoy: beside others, `allow_missing` and `allow_missing_or_failed` say what becomes of a request that
/// meets none of them. Alone, tokens are verified as they say.
fn any(
    schemas: &[config::JwtRequirement],
    providers: &[&str],
    at: &Path,
    problems: &mut Problems,
) -> Option<Requirement> {
    let mut otherwise = Otherwise::Refused;
    let mut any = Vec::with_capacity(schemas.len());
    for (i, schema) in schemas.iter().enumerate() {
        match requirement(schema, providers, &at.index(i), problems)? {
            Some(Requirement::AllowFailed) => otherwise = Otherwise::AllowFailed,
            Some(Requirement::AllowMissing) if otherwise == Otherwise::Refused => {
                otherwise = Otherwise::AllowMissing;
            }
            Some(Requirement::AllowMissing) => {}
            Some(requirement) => any.push(requirement),
            None => {
                problems.missing(&at.index(i), "a requirement is required");
                return None;
            }
        }
    }
    Some(match (any.is_empty(), otherwise) {
        (true, Otherwise::AllowMissing) => Requirement::AllowMissing,
        (true, Otherwise::AllowFailed) => Requirement::AllowFailed,
        (_, otherwise) => Requirement::Any(any.into(), otherwise),
    })
}

fn audiences(schemas: &[String]) -> Audiences {
    Audiences(schemas.iter().map(|audience| Audiences::plain(audience).into()).collect())
}
