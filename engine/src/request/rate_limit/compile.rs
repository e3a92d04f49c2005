//! Schema → rate limits.

use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use super::descriptor::Entries;
use super::{
    Absent, Action, Constant, Hits, LimitOverride, MetadataSource, OverrideSource, QuotaHeaders,
    RateLimit, RouteLimits,
};
use crate::address::Cidr;
use crate::address::compile::cidr;
use crate::cel::Program;
use crate::format::Formatter;
use crate::fraction::Fraction;
use crate::head_matcher::HeaderName;
use crate::head_matcher::compile::{headers, query_parameter};
use crate::metadata::MetadataOf;
use crate::runtime::Reader;

/// Compiles the list at `at`; none if there is an error. `cluster` is that of this proxy, `runtime` is for
/// those that it can disable.
fn rate_limits(
    schemas: &[config::RateLimit],
    cluster: &str,
    runtime: Option<&Reader<'_>>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Box<[RateLimit]>> {
    let each = schemas.iter().enumerate();
    let compiled: Vec<_> = each
        .map(|(i, schema)| rate_limit(schema, cluster, runtime, &at.index(i), problems))
        .collect();
    compiled.into_iter().collect()
}

/// The list of a filter: it has no stages.
pub(crate) fn of_filter(
    schemas: &[config::RateLimit],
    cluster: &str,
    at: &Path,
    problems: &mut Problems,
) -> Option<Box<[RateLimit]>> {
    for (i, schema) in schemas.iter().enumerate() {
        let at = at.index(i);
        for (field, is_set) in
            [("stage", schema.stage.is_some()), ("disable_key", !schema.disable_key.is_empty())]
        {
            if is_set {
                problems.error(&at.field(field), "only rate limits of routes have this");
            }
        }
        if schema.apply_on_stream_done {
            let at = at.field("apply_on_stream_done");
            problems.not_implemented(&at, "counting requests when they are done");
        }
    }
    rate_limits(schemas, cluster, None, at, problems)
}

/// Those of a virtual host; `None`: it has none.
pub(crate) fn of_virtual_host(
    schemas: &[config::RateLimit],
    cluster: &str,
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<[RateLimit]>> {
    rate_limits(schemas, cluster, Some(runtime), &at.field("rate_limits"), problems)
        .filter(|limits| !limits.is_empty())
        .map(Arc::from)
}

/// Those of a route, with those of its virtual host; `None`: there are none.
pub(crate) fn of_route(
    schema: &config::RouteAction,
    virtual_host: Option<&Arc<[RateLimit]>>,
    cluster: &str,
    runtime: &Reader<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Arc<RouteLimits>> {
    if schema.rate_limits.is_empty() && virtual_host.is_none() {
        return None;
    }
    let at = at.field("rate_limits");
    let own = rate_limits(&schema.rate_limits, cluster, Some(runtime), &at, problems)?;
    Some(Arc::new(RouteLimits {
        own,
        virtual_host: virtual_host.cloned(),
        includes_virtual_host: schema.include_vh_rate_limits == Some(true),
    }))
}

fn rate_limit(
    schema: &config::RateLimit,
    cluster: &str,
    runtime: Option<&Reader<'_>>,
    at: &Path,
    problems: &mut Problems,
) -> Option<RateLimit> {
    let config::RateLimit {
        actions,
        hits_addend,
        x_ratelimit_option,
        stage,
        disable_key,
        limit,
        // Those of routes ignore it, those of filters have checked it.
        apply_on_stream_done: _,
    } = schema;
    let at_actions = at.field("actions");
    let each = actions.iter().enumerate();
    let actions: Vec<_> =
        each.map(|(i, schema)| action(schema, cluster, &at_actions.index(i), problems)).collect();
    let (hits, is_negative) = match hits_addend {
        Some(schema) => {
            let (hits, is_negative) = hits(schema, &at.field("hits_addend"), problems)?;
            (Some(hits), is_negative)
        }
        None => (None, false),
    };
    let key = format!("ratelimit.{disable_key}.http_filter_enabled");
    let enabled = runtime.filter(|_| !disable_key.is_empty());
    Some(RateLimit {
        actions: actions.into_iter().collect::<Option<_>>()?,
        hits,
        is_negative,
        stage: stage.unwrap_or_default(),
        is_disabled_here: !disable_key.is_empty(),
        enabled: enabled.map(|runtime| runtime.fraction(percent(100), &key)),
        limit: limit.as_ref().and_then(limit_override),
        headers: match x_ratelimit_option {
            config::XRateLimitOption::Unspecified => QuotaHeaders::Unspecified,
            config::XRateLimitOption::Off => QuotaHeaders::Off,
            config::XRateLimitOption::DraftVersion03 => QuotaHeaders::On,
        },
    })
}

fn limit_override(schema: &config::RateLimitOverride) -> Option<OverrideSource> {
    let config::RateLimitOverride { dynamic_metadata, rate_limit } = schema;
    if let Some(config::FixedRateLimit { requests_per_unit, unit }) = rate_limit {
        let (requests_per_unit, unit) = (*requests_per_unit, *unit as i32);
        return Some(OverrideSource::Fixed(LimitOverride { requests_per_unit, unit }));
    }
    let config::RateLimitOverrideMetadata { metadata_key } = dynamic_metadata.as_ref()?;
    let config::MetadataKey { key, path } = metadata_key.as_ref()?;
    let segments = path.iter().map(|config::MetadataKeySegment { key }| key.as_deref());
    Some(OverrideSource::Metadata {
        namespace: key.as_str().into(),
        path: segments.map(|key| key.unwrap_or_default().into()).collect(),
    })
}

/// A number of percent; more than all is all.
pub(crate) fn percent(number: u64) -> Fraction {
    let numerator = u32::try_from(number.min(100)).unwrap_or(100);
    Fraction { numerator, denominator: 100 }
}

fn hits(schema: &config::HitsAddend, at: &Path, problems: &mut Problems) -> Option<(Hits, bool)> {
    let config::HitsAddend { number, format, is_negative_hits } = schema;
    let hits = match (number, &**format) {
        (Some(number), "") => Hits::Number(*number),
        (None, format) if !format.is_empty() => {
            let at = at.field("format");
            let formatter = Formatter::new(format);
            let formatter = formatter.map_err(|error| problems.error(&at, error)).ok()?;
            if !formatter.is_one_command() {
                problems.error(&at, "the format must be exactly one command");
                return None;
            }
            Hits::Format(Box::new(formatter))
        }
        _ => {
            problems.missing(at, "either a number or a format must be set");
            return None;
        }
    };
    Some((hits, *is_negative_hits))
}

fn action(
    schema: &config::RateLimitAction,
    cluster: &str,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::RateLimitAction {
        source_cluster,
        destination_cluster,
        request_headers,
        query_parameters,
        remote_address,
        generic_key,
        header_value_match,
        metadata,
        extension,
        masked_remote_address,
        query_parameter_value_match,
        remote_address_match,
    } = schema;
    if let Some(config::SourceClusterAction {}) = source_cluster {
        return Some(Action::Constant(constant("", "source_cluster", cluster)));
    }
    if let Some(config::DestinationClusterAction {}) = destination_cluster {
        return Some(Action::DestinationCluster);
    }
    if let Some(schema) = request_headers {
        let config::RequestHeadersAction { header_name, descriptor_key, skip_if_absent } = schema;
        return Some(Action::RequestHeader {
            name: HeaderName::new(header_name),
            key: bytes(descriptor_key),
            absent: absent(*skip_if_absent),
        });
    }
    if let Some(schema) = query_parameters {
        let config::QueryParametersAction { query_parameter_name, descriptor_key, skip_if_absent } =
            schema;
        return Some(Action::QueryParameter {
            name: bytes(query_parameter_name),
            key: bytes(descriptor_key),
            absent: absent(*skip_if_absent),
        });
    }
    if let Some(config::RemoteAddressAction {}) = remote_address {
        return Some(Action::RemoteAddress);
    }
    if let Some(schema) = masked_remote_address {
        let config::MaskedRemoteAddressAction { v4_prefix_mask_len, v6_prefix_mask_len } = schema;
        let length = |length: &Option<u32>, max: u8| {
            length.and_then(|length| u8::try_from(length).ok()).unwrap_or(max)
        };
        let (v4, v6) = (length(v4_prefix_mask_len, 32), length(v6_prefix_mask_len, 128));
        return Some(Action::MaskedRemoteAddress { v4, v6 });
    }
    if let Some(schema) = generic_key {
        let config::GenericKeyAction { descriptor_value, descriptor_key } = schema;
        let entry = constant(descriptor_key, "generic_key", descriptor_value);
        return Some(Action::Constant(entry));
    }
    if let Some(schema) = header_value_match {
        return Some(header_match(schema, &at.field("header_value_match"), problems));
    }
    if let Some(schema) = query_parameter_value_match {
        return Some(query_match(schema, &at.field("query_parameter_value_match"), problems));
    }
    if let Some(schema) = remote_address_match {
        return address_match(schema, &at.field("remote_address_match"), problems);
    }
    if let Some(schema) = metadata {
        return self::metadata(schema, &at.field("metadata"), problems);
    }
    expression(extension.as_ref()?, &at.field("extension"), problems)
}

fn header_match(
    schema: &config::HeaderValueMatchAction,
    at: &Path,
    problems: &mut Problems,
) -> Action {
    let config::HeaderValueMatchAction {
        descriptor_value,
        descriptor_key,
        expect_match,
        headers: schemas,
    } = schema;
    Action::HeaderMatch {
        entry: constant(descriptor_key, "header_match", descriptor_value),
        expect: expect_match.unwrap_or(true),
        headers: headers(schemas, &at.field("headers"), problems).into(),
    }
}

fn query_match(
    schema: &config::QueryParameterValueMatchAction,
    at: &Path,
    problems: &mut Problems,
) -> Action {
    let config::QueryParameterValueMatchAction {
        descriptor_value,
        descriptor_key,
        expect_match,
        query_parameters,
    } = schema;
    let at = at.field("query_parameters");
    let each = query_parameters.iter().enumerate();
    Action::QueryMatch {
        entry: constant(descriptor_key, "query_match", descriptor_value),
        expect: expect_match.unwrap_or(true),
        parameters: each
            .filter_map(|(i, schema)| query_parameter(schema, &at.index(i), problems))
            .collect(),
    }
}

fn address_match(
    schema: &config::RemoteAddressMatchAction,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::RemoteAddressMatchAction {
        descriptor_value,
        descriptor_key,
        default_value,
        address_matcher,
    } = schema;
    let at_value = at.field("descriptor_value");
    let value = Formatter::new(descriptor_value);
    let value = value.map_err(|error| problems.error(&at_value, error)).ok();
    let config::AddressMatcher { ranges, invert_match } = address_matcher.as_ref()?;
    let at = at.field("address_matcher").field("ranges");
    let each = ranges.iter().enumerate();
    let ranges: Vec<Option<Cidr>> = each
        .map(|(i, config::XdsCidrRange { address_prefix, prefix_len })| {
            let range = config::CidrRange {
                address_prefix: address_prefix.clone(),
                prefix_len: *prefix_len,
            };
            cidr(&range, &at.index(i), problems)
        })
        .collect();
    Some(Action::AddressMatch {
        key: bytes(if descriptor_key.is_empty() { "remote_address_match" } else { descriptor_key }),
        value: Box::new(value?),
        default: bytes(default_value),
        ranges: ranges.into_iter().collect::<Option<_>>()?,
        invert: *invert_match,
    })
}

fn metadata(schema: &config::MetadataAction, at: &Path, problems: &mut Problems) -> Option<Action> {
    let config::MetadataAction {
        descriptor_key,
        metadata_key,
        default_value,
        source,
        skip_if_absent,
    } = schema;
    let config::MetadataKey { key, path } = metadata_key.as_ref()?;
    let source = match source {
        config::RateLimitMetadataSource::Dynamic => MetadataSource::Dynamic,
        config::RateLimitMetadataSource::RouteEntry => {
            MetadataSource::Configured(MetadataOf::Route)
        }
        config::RateLimitMetadataSource::ClusterEntry => {
            MetadataSource::Configured(MetadataOf::Cluster)
        }
        config::RateLimitMetadataSource::ClusterLocalityEntry => {
            // It is known only when a host has been chosen, and requests are counted before that.
            problems.not_implemented(&at.field("source"), "the metadata of a locality");
            return None;
        }
    };
    let segments = path.iter().map(|config::MetadataKeySegment { key }| key.as_deref());
    Some(Action::Metadata {
        key: bytes(descriptor_key),
        source,
        namespace: key.as_str().into(),
        path: segments.map(|key| key.unwrap_or_default().into()).collect(),
        default: bytes(default_value),
        absent: absent(*skip_if_absent),
    })
}

fn expression(
    schema: &config::TypedExtensionConfig,
    at: &Path,
    problems: &mut Problems,
) -> Option<Action> {
    let config::TypedExtensionConfig { name: _, typed_config } = schema;
    let at = at.field("typed_config");
    let Some(config::Any::RateLimitExpression(schema)) = typed_config else {
        problems.missing(&at, "Corvoy supports only the descriptor extension expr");
        return None;
    };
    let config::RateLimitExpression { descriptor_key, skip_if_error, text } = &**schema;
    let Some(text) = text else {
        problems.missing(&at, "a text is required");
        return None;
    };
    let program = Program::new(text);
    let program = program.map_err(|error| problems.error(&at.field("text"), error)).ok()?;
    Some(Action::Expression {
        key: bytes(descriptor_key),
        program: Box::new(program),
        absent: absent(*skip_if_error),
    })
}

/// The entries of a configured descriptor, as those of requests are written.
pub(crate) fn written(entries: &[config::RateLimitEntry]) -> Vec<u8> {
    let mut written = Entries::default();
    for config::RateLimitEntry { key, value } in entries {
        written.add(key.as_bytes(), value.as_bytes());
    }
    written.finish()
}

fn constant(key: &str, default_key: &str, value: &str) -> Constant {
    let key = if key.is_empty() { default_key } else { key };
    Constant { key: bytes(key), value: bytes(value) }
}

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

const fn absent(skip: bool) -> Absent {
    if skip { Absent::NoEntry } else { Absent::NoDescriptor }
}
