//! Compiles the retry policy.

use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Message as _, Path, Problems};

use super::{BackOff, RateLimitedBackOff, ResetFormat, ResetHeader, RetryOn, RetryPolicy};
use crate::request::route::matchers;

/// Compiles a policy and reports its errors.
pub(crate) fn retry_policy(
    schema: &config::RetryPolicy,
    at: &Path,
    problems: &mut Problems,
) -> RetryPolicy {
    let config::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_host_predicate,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
    } = schema;
    let at_retry_on = at.field("retry_on");
    let retry_on = RetryOn::parse(retry_on, |token| {
        problems.warn(&at_retry_on, format!("unknown retry_on policy token '{token}' is ignored"));
    });
    let at_predicates = at.field("retry_host_predicate");
    let predicates = retry_host_predicate.iter().enumerate();
    let avoiding: Vec<bool> = predicates
        .map(|(i, schema)| avoids_previous_hosts(schema, &at_predicates.index(i), problems))
        .collect();
    let some = |timeout: &Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let attempts = u32::try_from(*host_selection_retry_max_attempts).unwrap_or(u32::MAX);
    let back_off = retry_back_off.as_ref();
    let rate_limited = rate_limited_retry_back_off.as_ref();
    let mut headers = |field: &str, schemas: &[_]| {
        matchers::compile::headers(schemas, &at.field(field), problems)
    };
    let retriable_headers = headers("retriable_headers", retriable_headers);
    let retriable_request_headers = headers("retriable_request_headers", retriable_request_headers);
    RetryPolicy {
        retry_on,
        num_retries: num_retries.unwrap_or(1),
        per_try_timeout: some(per_try_timeout),
        per_try_idle_timeout: some(per_try_idle_timeout),
        back_off: back_off.map_or(BackOff::DEFAULT, |schema| {
            self::back_off(schema, &at.field("retry_back_off"), problems)
        }),
        rate_limited_back_off: rate_limited.map(rate_limited_back_off),
        // A code that is not a status never occurs.
        retriable_status_codes: retriable_status_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
        retriable_headers,
        retriable_request_headers,
        avoids_previous_hosts: avoiding.contains(&true),
        host_selection_attempts_max: attempts.max(1),
    }
}

fn back_off(schema: &config::RetryBackOff, at: &Path, problems: &mut Problems) -> BackOff {
    let config::RetryBackOff { base_interval, max_interval } = schema;
    let at_least_1ms = |interval: Duration| interval.max(Duration::from_millis(1));
    let base = base_interval.map_or(BackOff::DEFAULT.base, at_least_1ms);
    let max = max_interval.map_or_else(|| base.saturating_mul(10), at_least_1ms);
    if max < base && problems.is_read(&at.field("base_interval")) {
        let message = "retry_policy.max_interval must greater than or equal to the base_interval";
        problems.error(&at.field("max_interval"), message);
    }
    BackOff { base, max }
}

fn rate_limited_back_off(schema: &config::RateLimitedRetryBackOff) -> RateLimitedBackOff {
    let config::RateLimitedRetryBackOff { reset_headers, max_interval } = schema;
    let reset_header = |schema: &config::ResetHeader| {
        let config::ResetHeader { name, format } = schema;
        let format = match format {
            config::ResetHeaderFormat::Seconds => ResetFormat::Seconds,
            config::ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
        };
        ResetHeader { name: name.to_ascii_lowercase().into_bytes().into(), format }
    };
    RateLimitedBackOff {
        reset_headers: reset_headers.iter().map(reset_header).collect(),
        max: max_interval.unwrap_or(Duration::from_secs(300)),
    }
}

/// The only predicate that is implemented is `previous_hosts`.
fn avoids_previous_hosts(
    schema: &config::RetryHostPredicate,
    at: &Path,
    problems: &mut Problems,
) -> bool {
    let config::RetryHostPredicate { name, typed_config } = schema;
    match typed_config {
        Some(config::Any::PreviousHostsPredicate(_)) => true,
        _ => {
            let known = config::PreviousHostsPredicate::NAME;
            problems.missing(at, format!("{name}: the only supported predicate is {known}"));
            false
        }
    }
}
