//! Schema → a provider.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::super::cache::CacheLimits;
use super::super::claims::ClaimHeader;
use super::super::keys::Jwks;
use super::super::location::Location;
use super::super::provider::{KeySource, Lifetime, Provider};
use super::super::remote::{Ahead, Source};
use super::audiences;
use crate::format::compile::data_source;
use crate::request::callout::compile as calls;
use crate::request::filters::compile::{Context, header_to_set};
use crate::text_matcher;

/// Envoy's defaults.
const CACHE_DURATION: Duration = Duration::from_mins(10);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const CLOCK_SKEW: u64 = 60;
const CACHED_TOKENS: usize = 100;
const CACHED_TOKEN_BYTES: usize = 4096;

/// What a retry of a fetch is made for, as in Envoy.
const RETRY_ON: &str = "5xx,gateway-error,connect-failure,reset";

#[expect(clippy::too_many_lines, reason = "one or two lines per field of the schema")]
pub(super) fn provider(
    schema: &config::JwtProvider,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Provider> {
    let config::JwtProvider {
        issuer,
        audiences: ours,
        subjects,
        require_expiration,
        max_lifetime,
        remote_jwks,
        local_jwks,
        forward,
        from_headers,
        from_params,
        from_cookies,
        forward_payload_header,
        pad_forward_payload_header,
        payload_in_metadata,
        normalize_payload_in_metadata,
        header_in_metadata,
        failed_status_in_metadata,
        clock_skew_seconds,
        jwt_cache_config,
        claim_to_headers,
        clear_route_cache,
    } = schema;
    let keys = match (remote_jwks, local_jwks) {
        (Some(schema), _) => remote(schema, context, &at.field("remote_jwks"), problems),
        (None, Some(schema)) => local(schema, &at.field("local_jwks"), problems),
        (None, None) => {
            problems.missing(at, "remote_jwks or local_jwks is required");
            None
        }
    };
    let subjects = subjects
        .as_ref()
        .map(|schema| text_matcher::compile::text(schema, &at.field("subjects"), problems));
    let payload_header = match &**forward_payload_header {
        "" => None,
        name => Some(header_to_set(name, &at.field("forward_payload_header"), problems)),
    };
    let at_claims = at.field("claim_to_headers");
    let claims = claim_to_headers.iter().enumerate();
    let claims: Vec<_> =
        claims.map(|(i, schema)| claim(schema, &at_claims.index(i), problems)).collect();
    let at_headers = at.field("from_headers");
    let locations = locations(from_headers, from_params, from_cookies, &at_headers, problems);
    let words = normalize_payload_in_metadata.as_ref().map(|schema| {
        let config::JwtNormalizePayload { space_delimited_claims } = schema;
        space_delimited_claims.iter().map(|claim| claim.as_str().into()).collect()
    });
    let text = |text: &String| (!text.is_empty()).then(|| text.as_str().into());
    Some(Provider {
        keys: keys?,
        issuer: issuer.as_str().into(),
        audiences: audiences(ours),
        subjects: subjects.map_or(Some(None), |subjects| subjects.map(Some))?,
        lifetime: match (max_lifetime, require_expiration) {
            (Some(most), _) => Lifetime::AtMost(most.as_secs()),
            (None, true) => Lifetime::Limited,
            (None, false) => Lifetime::Any,
        },
        clock_skew: match clock_skew_seconds {
            0 => CLOCK_SKEW,
            seconds => (*seconds).into(),
        },
        locations: locations?,
        forward: *forward,
        payload_header: payload_header.map_or(Some(None), |name| name.map(Some))?,
        pads_payload: *pad_forward_payload_header,
        claims: claims.into_iter().collect::<Option<_>>()?,
        payload_metadata: text(payload_in_metadata),
        header_metadata: text(header_in_metadata),
        failed_metadata: text(failed_status_in_metadata),
        space_delimited: words.unwrap_or_default(),
        clears_route_cache: *clear_route_cache,
        cache: jwt_cache_config.as_ref().map(cache),
    })
}

const fn cache(schema: &config::JwtCacheConfig) -> CacheLimits {
    let config::JwtCacheConfig { jwt_cache_size, jwt_max_token_size } = schema;
    CacheLimits {
        tokens: match jwt_cache_size {
            0 => CACHED_TOKENS,
            size => *size as usize,
        },
        token_bytes: match jwt_max_token_size {
            0 => CACHED_TOKEN_BYTES,
            size => *size as usize,
        },
    }
}

/// Sorted, as in Envoy: headers, then parameters, then cookies, each by name.
fn locations(
    headers: &[config::JwtHeader],
    parameters: &[String],
    cookies: &[String],
    at: &Path,
    problems: &mut Problems,
) -> Option<Box<[Location]>> {
    let mut locations = Vec::new();
    for (i, config::JwtHeader { name, value_prefix }) in headers.iter().enumerate() {
        let name = header_to_set(name, &at.index(i).field("name"), problems)?;
        locations.push(Location::Header { name, prefix: value_prefix.as_bytes().into() });
    }
    locations.extend(parameters.iter().map(|name| Location::Parameter(name.as_bytes().into())));
    locations.extend(cookies.iter().map(|name| Location::Cookie(name.as_bytes().into())));
    if locations.is_empty() {
        locations.extend(Location::defaults());
    }
    locations.sort_unstable();
    locations.dedup();
    Some(locations.into())
}

fn claim(
    schema: &config::JwtClaimToHeader,
    at: &Path,
    problems: &mut Problems,
) -> Option<ClaimHeader> {
    let config::JwtClaimToHeader { header_name, claim_name, claim_path } = schema;
    let path = match (&**claim_name, &**claim_path) {
        ("", []) => {
            problems.missing(at, "claim_name or claim_path is required");
            return None;
        }
        ("", path) => {
            path.iter().map(|config::JwtPathSegment { key }| key.as_str().into()).collect()
        }
        (name, []) => name.split('.').map(Into::into).collect(),
        _ => {
            problems.error(&at.field("claim_path"), "it contradicts claim_name");
            return None;
        }
    };
    Some(ClaimHeader {
        header: header_to_set(header_name, &at.field("header_name"), problems)?,
        path,
    })
}

fn local(schema: &config::DataSource, at: &Path, problems: &mut Problems) -> Option<KeySource> {
    let text = data_source(schema).map_err(|error| problems.error(at, error)).ok()?;
    if text.is_empty() {
        problems.warn(at, "there are no keys: every token is refused");
        return Some(KeySource::Local(text.into()));
    }
    match Jwks::parse(&text) {
        Ok(_) => Some(KeySource::Local(text.into())),
        Err(why) => {
            problems.error(at, format!("this is not a usable set of keys: {why}"));
            None
        }
    }
}

fn remote(
    schema: &config::RemoteJwks,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<KeySource> {
    let config::RemoteJwks { http_uri, cache_duration, async_fetch, retry_policy } = schema;
    let retry = retry_policy
        .as_ref()
        .map(|schema| calls::retry(schema, RETRY_ON, &at.field("retry_policy"), problems));
    let at_uri = at.field("http_uri");
    let Some(schema) = http_uri else {
        problems.missing(&at_uri, "http_uri is required");
        return None;
    };
    let target = calls::http(schema, retry, &context.calls, &at_uri, problems);
    let Some((scheme, authority, path)) = calls::split_uri(&schema.uri) else {
        problems.error(&at_uri.field("uri"), "it must be an http:// or https:// URI with a host");
        return None;
    };
    let ahead = async_fetch.as_ref().map(|config::JwksAsyncFetch { failed_refetch_duration }| {
        Ahead { after_failure: failed_refetch_duration.unwrap_or(AFTER_FAILURE) }
    });
    Some(KeySource::Remote(Arc::new(Source {
        target: target?,
        scheme,
        authority: authority.as_bytes().into(),
        path: path.as_bytes().into(),
        cache_duration: cache_duration.unwrap_or(CACHE_DURATION),
        ahead,
    })))
}
