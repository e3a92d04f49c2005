//! Schema → `ratelimit`.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::proto::SHOULD_RATE_LIMIT;
use super::{Counted, GlobalRateLimit, PerRoute, Requests};
use crate::fraction::Fraction;
use crate::head_matcher::compile::runtime_fraction;
use crate::http::grpc;
use crate::request::callout::compile as calls;
use crate::request::filters::compile::Context;
use crate::request::rate_limit::VirtualHostLimits;
use crate::request::rate_limit::compile::{of_filter, percent};
use crate::request::route::HeaderMutations;
use crate::request::route::mutation::compile::additions;

/// Envoy's default timeout of the service.
const TIMEOUT: Duration = Duration::from_millis(20);

/// Where metadata of the service goes, unless the filter says something else.
const NAMESPACE: &str = "envoy.filters.http.ratelimit";

impl GlobalRateLimit {
    pub(in crate::request::filters) fn compile(
        schema: &config::GlobalRateLimit,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::GlobalRateLimit {
            domain,
            stage,
            request_type,
            timeout,
            failure_mode_deny,
            rate_limited_as_resource_exhausted,
            rate_limit_service,
            enable_x_ratelimit_headers,
            disable_x_envoy_ratelimited_header,
            rate_limited_status,
            response_headers_to_add,
            status_on_error,
            stat_prefix,
            filter_enabled,
            filter_enforced,
            failure_mode_deny_percent,
            rate_limits: limits,
            metadata_namespace,
            enable_retry_after_header,
        } = schema;
        let at_limits = at.field("rate_limits");
        let limits = of_filter(limits, context.local_cluster, &at_limits, problems);
        let at_headers = at.field("response_headers_to_add");
        let headers = additions(response_headers_to_add, &at_headers, problems);
        let service = rate_limit_service.as_ref()?;
        let method = method(service, *timeout, context, at, problems);
        let part = |schema: &Option<config::RuntimeFractionalPercent>, key: &str| {
            let set = schema.as_ref().and_then(|it| runtime_fraction(it, context.runtime));
            set.unwrap_or_else(|| context.runtime.fraction(percent(100), key))
        };
        let denied = failure_mode_deny_percent.as_ref();
        let denied = denied.and_then(|schema| runtime_fraction(schema, context.runtime));
        let text = |set: &str, default: &str| if set.is_empty() { default } else { set }.into();
        Some(Self {
            method: method?,
            domain: domain.as_str().into(),
            stage: *stage,
            rate_limits: limits?,
            requests: match &**request_type {
                "internal" => Requests::Internal,
                "external" => Requests::External,
                _ => Requests::All,
            },
            enabled: part(filter_enabled, "ratelimit.http_filter_enabled"),
            enforced: part(filter_enforced, "ratelimit.http_filter_enforcing"),
            denied_on_failure: denied.unwrap_or_else(|| {
                Fraction { numerator: u32::from(*failure_mode_deny), denominator: 1 }.into()
            }),
            status: rate_limited_status.as_ref().map_or(429, |schema| status(schema, 429)),
            grpc_status: rate_limited_as_resource_exhausted.then_some(grpc::RESOURCE_EXHAUSTED),
            status_on_error: status_on_error.as_ref().map_or(500, |schema| status(schema, 500)),
            response_headers: Arc::new(HeaderMutations::new([Arc::new(headers)])),
            quota_headers: matches!(
                enable_x_ratelimit_headers,
                config::XRateLimitHeadersVersion::DraftVersion03
            ),
            limited_header: !disable_x_envoy_ratelimited_header,
            retry_after: *enable_retry_after_header,
            metadata_namespace: text(metadata_namespace, NAMESPACE),
            counted: counted(stat_prefix),
        })
    }
}

fn method(
    schema: &config::RateLimitServiceConfig,
    timeout: Option<Duration>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<crate::request::callout::grpc::GrpcMethod> {
    let config::RateLimitServiceConfig { grpc_service, transport_api_version } = schema;
    let at = at.field("rate_limit_service");
    if *transport_api_version == config::ApiVersion::V2 {
        problems.error(&at.field("transport_api_version"), "V2 is no longer supported");
    }
    // As in Envoy, the timeout is that of the filter, whatever the service says.
    let mut service = grpc_service.clone()?;
    service.timeout = Some(timeout.unwrap_or(TIMEOUT));
    let at = at.field("grpc_service");
    calls::grpc(&service, SHOULD_RATE_LIMIT, TIMEOUT, &context.calls, &at, problems)
}

//= envoy: RateLimit.rate_limited_status: a status below 400 is replaced.
fn status(config::HttpStatus { code }: &config::HttpStatus, default: u16) -> u16 {
    Some(*code as u16).filter(|status| *status >= 400).unwrap_or(default)
}

fn counted(stat_prefix: &str) -> Counted {
    // A name lives as long as the stats that it is counted with: as the process.
    let name = |text: &'static str| match stat_prefix {
        "" => text,
        prefix => &*format!("{prefix}.{text}").leak(),
    };
    Counted {
        error: name("error"),
        failure_mode_allowed: name("failure_mode_allowed"),
        ok: name("ok"),
        over_limit: name("over_limit"),
    }
}

/// What a route says.
pub(in crate::request::filters) fn of_route(
    schema: &config::GlobalRateLimitPerRoute,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<PerRoute> {
    let config::GlobalRateLimitPerRoute { vh_rate_limits, rate_limits: limits, domain } = schema;
    let at = at.field("rate_limits");
    Some(PerRoute {
        virtual_host_limits: match vh_rate_limits {
            config::GlobalVhRateLimitsOptions::Override => VirtualHostLimits::Override,
            config::GlobalVhRateLimitsOptions::Include => VirtualHostLimits::Include,
            config::GlobalVhRateLimitsOptions::Ignore => VirtualHostLimits::Ignore,
        },
        rate_limits: of_filter(limits, context.local_cluster, &at, problems)?,
        domain: domain.as_str().into(),
    })
}
