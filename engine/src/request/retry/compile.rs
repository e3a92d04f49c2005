//! Compiles the retry policy.

use std::time::Duration;

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use super::{
    BackOff, HostPredicate, RateLimitedBackOff, ResetFormat, ResetHeader, RetryOn, RetryPolicy,
};
use crate::common_compile;
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
        retry_priority,
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
    let predicates =
        predicates.filter_map(|(i, it)| host_predicate(it, &at_predicates.index(i), problems));
    let predicates: Vec<Predicate> = predicates.collect();
    let previous_priorities = retry_priority
        .as_ref()
        .and_then(|schema| previous_priorities(schema, &at.field("retry_priority"), problems));
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
        previous_priorities,
        avoids_previous_hosts: predicates.iter().any(|it| matches!(it, Predicate::PreviousHosts)),
        host_predicates: predicates
            .into_iter()
            .filter_map(|it| match it {
                Predicate::PreviousHosts => None,
                Predicate::Host(predicate) => Some(predicate),
            })
            .collect(),
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

/// One of `retry_host_predicate`.
enum Predicate {
    PreviousHosts,
    Host(HostPredicate),
}

fn host_predicate(
    schema: &config::RetryHostPredicate,
    at: &Path,
    problems: &mut Problems,
) -> Option<Predicate> {
    let config::RetryHostPredicate { name, typed_config } = schema;
    Some(match typed_config {
        Some(config::Any::PreviousHostsPredicate(schema)) => {
            let config::PreviousHostsPredicate {} = **schema;
            Predicate::PreviousHosts
        }
        Some(config::Any::OmitCanaryHostsPredicate(schema)) => {
            let config::OmitCanaryHostsPredicate {} = **schema;
            Predicate::Host(HostPredicate::Canaries)
        }
        Some(config::Any::OmitHostMetadata(schema)) => {
            let config::OmitHostMetadata { metadata_match } = &**schema;
            let metadata = common_compile::metadata(metadata_match.as_ref());
            let values = metadata.find("envoy.lb", &[]).and_then(|values| values.as_object());
            Predicate::Host(HostPredicate::Metadata(values.cloned().unwrap_or_default()))
        }
        _ => {
            let message = format!(
                "{name}: the predicates are previous_hosts, omit_canary_hosts and omit_host_metadata"
            );
            problems.missing(at, message);
            return None;
        }
    })
}

/// After how many attempts the priorities of retries change.
fn previous_priorities(
    schema: &config::RetryPriority,
    at: &Path,
    problems: &mut Problems,
) -> Option<usize> {
    let config::RetryPriority { name, typed_config } = schema;
    let Some(config::Any::PreviousPrioritiesConfig(schema)) = typed_config else {
        problems.missing(at, format!("{name}: the only retry_priority is previous_priorities"));
        return None;
    };
    let config::PreviousPrioritiesConfig { update_frequency } = **schema;
    // The rules of the schema allow positive numbers only.
    usize::try_from(update_frequency).ok().filter(|frequency| *frequency > 0)
}
