//! Schema → `local_ratelimit`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::super::compile::Context;
use super::limiter::{Default, Limit, Limiter, Plan};
use super::{Buckets, LocalRateLimit, Settings};
use crate::head_matcher::compile::runtime_fraction;
use crate::http::grpc;
use crate::limits;
use crate::request::rate_limit::VirtualHostLimits;
use crate::request::rate_limit::compile::{of_filter, written};
use crate::request::route::mutation::compile::additions;
use crate::request::route::{Fraction, HeaderMutations};
use crate::token_bucket::Rate;

impl LocalRateLimit {
    pub(in super::super) fn compile(
        schema: &config::LocalRateLimit,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        Some(Self { settings: settings(schema, context, at, problems)? })
    }
}

/// What a route says.
pub(in super::super) fn of_route(
    schema: &config::LocalRateLimit,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    if schema.token_bucket.is_none() {
        problems.missing(at, "a token_bucket must be set for a route");
    }
    settings(schema, context, at, problems)
}

fn settings(
    schema: &config::LocalRateLimit,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Settings> {
    let config::LocalRateLimit {
        stat_prefix,
        status,
        token_bucket,
        filter_enabled,
        filter_enforced,
        request_headers_to_add_when_not_enforced,
        response_headers_to_add,
        descriptors,
        local_rate_limit_per_downstream_connection,
        enable_x_ratelimit_headers,
        always_consume_default_token_bucket,
        rate_limited_as_resource_exhausted,
        rate_limits: limits,
        max_dynamic_descriptors,
        enable_retry_after_header,
        stage,
        vh_rate_limits,
    } = schema;
    let none = Fraction { numerator: 0, denominator: 1 };
    let part = |schema: &Option<config::RuntimeFractionalPercent>| {
        let fraction = schema.as_ref().and_then(|it| runtime_fraction(it, context.runtime));
        fraction.unwrap_or_else(|| none.into())
    };
    let mut headers = |field: &str, schemas: &[config::HeaderValueOption]| {
        HeaderMutations::new([Arc::new(additions(schemas, &at.field(field), problems))])
    };
    let request_headers = headers(
        "request_headers_to_add_when_not_enforced",
        request_headers_to_add_when_not_enforced,
    );
    let response_headers = headers("response_headers_to_add", response_headers_to_add);
    let default = default_bucket(token_bucket.as_ref(), &at.field("token_bucket"), problems);
    let plan = Plan {
        default: default?,
        descriptors: self::descriptors(descriptors, &at.field("descriptors"), problems)?,
        clients_max: clients_max(*max_dynamic_descriptors, at, problems)?,
        always_consume_default: always_consume_default_token_bucket.unwrap_or(true),
    };
    let at_limits = at.field("rate_limits");
    Some(Settings {
        buckets: buckets(plan, *local_rate_limit_per_downstream_connection),
        enabled: part(filter_enabled),
        enforced: part(filter_enforced),
        rate_limits: of_filter(limits, context.local_cluster, &at_limits, problems)?,
        stage: *stage,
        virtual_host_limits: match vh_rate_limits {
            config::VhRateLimitsOptions::Override => VirtualHostLimits::Override,
            config::VhRateLimitsOptions::Include => VirtualHostLimits::Include,
            config::VhRateLimitsOptions::Ignore => VirtualHostLimits::Ignore,
        },
        status: status.as_ref().map_or(429, refusal_status),
        grpc_status: rate_limited_as_resource_exhausted.then_some(grpc::RESOURCE_EXHAUSTED),
        request_headers,
        response_headers,
        quota_headers: matches!(
            enable_x_ratelimit_headers,
            config::XRateLimitHeadersVersion::DraftVersion03
        ),
        retry_after: *enable_retry_after_header,
        stats: context.registry.scope(&format!("{stat_prefix}.http_local_rate_limit.")),
    })
}

//= envoy: LocalRateLimit.status: a status below 400 is replaced.
fn refusal_status(config::HttpStatus { code }: &config::HttpStatus) -> u16 {
    Some(*code as u16).filter(|status| *status >= 400).unwrap_or(429)
}

fn buckets(plan: Plan, per_connection: bool) -> Buckets {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if per_connection {
        Buckets::PerConnection { id: NEXT.fetch_add(1, Relaxed), plan }
    } else {
        Buckets::Shared(Box::new(Limiter::new(&plan)))
    }
}

fn clients_max(schema: Option<u32>, at: &Path, problems: &mut Problems) -> Option<usize> {
    /// Envoy's default.
    const DEFAULT: u32 = 20;
    let clients = schema.unwrap_or(DEFAULT) as usize;
    if clients > limits::RATE_LIMITED_CLIENTS_MAX {
        let most = limits::RATE_LIMITED_CLIENTS_MAX;
        let message = format!("{clients} are more than the {most} that Corvoy keeps");
        problems.error(&at.field("max_dynamic_descriptors"), message);
        return None;
    }
    Some(clients)
}

/// As in Envoy, a bucket that is never filled is none.
fn default_bucket(
    schema: Option<&config::TokenBucket>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Default> {
    let Some(config::TokenBucket { max_tokens, tokens_per_fill, fill_interval }) = schema else {
        return Some(Default::Unlimited);
    };
    match (fill_interval.unwrap_or_default(), max_tokens) {
        (Duration::ZERO, _) => Some(Default::Unlimited),
        (_, 0) => Some(Default::Nothing),
        (interval, tokens) => {
            check_interval(interval, at, problems)?;
            Some(Default::Bucket(Rate::new(*tokens, tokens_per_fill.unwrap_or(1), interval)))
        }
    }
}

/// As in Envoy.
const FILL_INTERVAL_MIN: Duration = Duration::from_millis(50);

fn check_interval(interval: Duration, at: &Path, problems: &mut Problems) -> Option<()> {
    if interval < FILL_INTERVAL_MIN {
        let why = "a token bucket cannot be filled more often than every 50 ms";
        problems.error(&at.field("fill_interval"), why);
        return None;
    }
    Some(())
}

fn descriptors(
    schemas: &[config::LocalRateLimitDescriptor],
    at: &Path,
    problems: &mut Problems,
) -> Option<Vec<Limit>> {
    let each = schemas.iter().enumerate();
    let compiled: Vec<_> =
        each.map(|(i, schema)| descriptor(schema, &at.index(i), problems)).collect();
    let compiled: Vec<Limit> = compiled.into_iter().collect::<Option<_>>()?;
    let mut known = HashSet::new();
    for (i, limit) in compiled.iter().enumerate() {
        if !known.insert(&limit.entries) {
            problems.error(&at.index(i), "there is another descriptor with the same entries");
            return None;
        }
    }
    Some(compiled)
}

fn descriptor(
    schema: &config::LocalRateLimitDescriptor,
    at: &Path,
    problems: &mut Problems,
) -> Option<Limit> {
    let config::LocalRateLimitDescriptor { entries, token_bucket, shadow_mode } = schema;
    let config::TokenBucket { max_tokens, tokens_per_fill, fill_interval } =
        token_bucket.as_ref()?;
    let interval = fill_interval.unwrap_or_default();
    if *max_tokens > 0 {
        check_interval(interval, &at.field("token_bucket"), problems)?;
    }
    Some(Limit {
        entries: written(entries),
        rate: Rate::new(*max_tokens, tokens_per_fill.unwrap_or(1), interval),
        is_shadow: *shadow_mode,
    })
}
