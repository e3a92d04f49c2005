//! The rules of retries, one test each.

use super::*;
use crate::request::route::tests::{request, response};

fn policy(retry_on: &str) -> RetryPolicy {
    RetryPolicy { retry_on: RetryOn::parse(retry_on, |_| {}), ..RetryPolicy::default() }
}

fn state(policy: &RetryPolicy) -> RetryState<'_> {
    RetryState::new(Some(policy), &request("/", &[])).unwrap()
}

fn retries_response(retry_on: &str, status: u16, fields: &[&str]) -> bool {
    let decision = state(&policy(retry_on)).on_response(&response(status, fields), || UNIX_EPOCH);
    decision == Decision::Retry
}

fn retries_reset(retry_on: &str, reset: Reset, headers_sent: bool) -> bool {
    state(&policy(retry_on)).on_reset(reset, headers_sent) == Decision::Retry
}

#[test]
fn each_token_retries_its_statuses_and_no_others() {
    for (retry_on, retried, left) in [
        ("5xx", &[500, 503, 599][..], &[200, 429, 409][..]),
        ("gateway-error", &[502, 503, 504], &[500, 501, 505]),
        ("retriable-4xx", &[409], &[404, 408, 429]),
        ("reset,connect-failure,refused-stream,reset-before-request", &[], &[500, 503]),
        ("retriable-status-codes", &[], &[500]),
    ] {
        for status in retried {
            assert!(retries_response(retry_on, *status, &[]), "{retry_on} {status}");
        }
        for status in left {
            assert!(!retries_response(retry_on, *status, &[]), "{retry_on} {status}");
        }
    }
}

#[test]
fn each_token_retries_its_resets_and_no_others() {
    use Reset::{
        ConnectFailure, ConnectTimeout, ConnectionTermination, Overflow, PerTryTimeout,
        ProtocolError, RefusedStream,
    };
    let all = [
        ConnectFailure,
        ConnectTimeout,
        ConnectionTermination,
        PerTryTimeout,
        ProtocolError,
        RefusedStream,
    ];
    for (retry_on, retried) in [
        ("5xx", &all[..]),
        ("gateway-error", &all),
        ("reset", &all),
        ("connect-failure", &[ConnectFailure, ConnectTimeout]),
        ("refused-stream", &[RefusedStream]),
        ("reset-before-request", &[]),
        ("retriable-4xx,retriable-headers,retriable-status-codes", &[]),
    ] {
        for reset in all {
            let expected = retried.contains(&reset);
            assert_eq!(retries_reset(retry_on, reset, true), expected, "{retry_on} {reset:?}");
        }
        assert!(!retries_reset(retry_on, Overflow, false), "{retry_on}: never an overflow");
    }
    assert!(retries_reset("reset-before-request", ConnectionTermination, false));
}

#[test]
fn unknown_tokens_are_reported_and_have_no_effect() {
    let mut unknown = Vec::new();
    let set = RetryOn::parse(" 5xx , 6xx,,reset", |token| unknown.push(token));
    assert_eq!(unknown, ["6xx"]);
    assert_eq!(set, RetryOn::FIVE_XX.with(RetryOn::RESET));
    assert!(RetryState::new(Some(&policy("6xx")), &request("/", &[])).is_none());
}

#[test]
fn a_rate_limited_response_is_retried_only_with_envoy_ratelimited() {
    let limited = ["x-envoy-ratelimited: true"];
    assert!(!retries_response("5xx", 503, &limited));
    assert!(retries_response("envoy-ratelimited", 429, &limited));
    assert!(!retries_response("envoy-ratelimited", 429, &[]));
}

#[test]
fn codes_and_headers_of_the_policy_are_retried() {
    let mut policy = policy("retriable-status-codes,retriable-headers");
    policy.retriable_status_codes = vec![418];
    policy.retriable_headers = vec![is_present("X-Again")];
    for (status, fields, expected) in [
        (418, &[][..], Decision::Retry),
        (200, &["x-again: 1"], Decision::Retry),
        (500, &[], Decision::No(Refusal::NotRetriable)),
    ] {
        let found = state(&policy).on_response(&response(status, fields), || UNIX_EPOCH);
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn a_grpc_status_in_the_head_is_retried() {
    assert!(retries_response("unavailable", 200, &["grpc-status: 14"]));
    assert!(!retries_response("unavailable", 200, &["grpc-status: 13"]));
    assert!(retries_response("cancelled,internal", 200, &["grpc-status: 13"]));
}

#[test]
fn when_no_retry_is_left_the_limit_is_exceeded() {
    let policy = policy("5xx");
    let mut state = state(&policy);
    let broken = response(500, &[]);
    assert_eq!(state.on_response(&broken, || UNIX_EPOCH), Decision::Retry);
    state.next_delay(0);
    assert_eq!(
        state.on_response(&broken, || UNIX_EPOCH),
        Decision::No(Refusal::LimitExceeded),
        "one retry is the default"
    );
}

#[test]
fn a_retry_that_gets_a_good_response_is_a_success() {
    let policy = policy("5xx");
    let mut state = state(&policy);
    assert_eq!(state.on_reset(Reset::ConnectFailure, false), Decision::Retry);
    state.next_delay(0);
    let good = response(200, &[]);
    assert_eq!(state.on_response(&good, || UNIX_EPOCH), Decision::No(Refusal::Succeeded));
}

#[test]
fn a_retry_that_the_circuit_breaker_prevented_is_not_a_success() {
    let policy = RetryPolicy { num_retries: 2, ..policy("5xx") };
    let mut state = state(&policy);
    assert_eq!(state.on_reset(Reset::ConnectFailure, false), Decision::Retry);
    let good = response(200, &[]);
    assert_eq!(state.on_response(&good, || UNIX_EPOCH), Decision::No(Refusal::NotRetriable));
}

#[test]
fn delays_double_up_to_their_bound_and_have_full_jitter() {
    let policy = RetryPolicy { num_retries: 9, ..policy("5xx") };
    for random in [0, 24, 25, 249, 1_000_003] {
        let mut state = state(&policy);
        for bound in [25, 50, 100, 200, 250, 250] {
            let wait = RetryDelay::Exponential(Duration::from_millis(random % bound));
            assert_eq!(state.next_delay(random), wait, "{random} below {bound}");
        }
    }
}

#[test]
fn a_response_may_say_how_long_to_wait() {
    let policy = RetryPolicy {
        num_retries: 9,
        rate_limited_back_off: Some(RateLimitedBackOff {
            reset_headers: vec![
                ResetHeader { name: b"retry-after"[..].into(), format: ResetFormat::Seconds },
                ResetHeader { name: b"x-reset"[..].into(), format: ResetFormat::UnixTimestamp },
            ],
            max: Duration::from_secs(60),
        }),
        ..policy("5xx")
    };
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    let wait = |fields: &[&str], random| {
        let mut state = state(&policy);
        assert_eq!(state.on_response(&response(503, fields), || now), Decision::Retry);
        state.next_delay(random)
    };
    let limited = |ms| RetryDelay::RateLimited(Duration::from_millis(ms));
    assert_eq!(wait(&["retry-after: 2"], 0), limited(2000));
    assert_eq!(wait(&["retry-after: 2"], 999), limited(2999), "below one and a half");
    assert_eq!(wait(&["x-reset: 1003"], 0), limited(3000));
    assert_eq!(wait(&["retry-after: 61", "x-reset: 1003"], 0), limited(3000), "61 is too long");
    let exponential = RetryDelay::Exponential(Duration::ZERO);
    for fields in [&["retry-after: soon"], &["x-reset: 999"], &["retry-after: 0"]] {
        assert_eq!(wait(fields, 0), exponential, "{fields:?}");
    }
}

#[test]
fn an_internal_client_may_ask_for_retries() {
    let asking = request("/", &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 2"]);
    let mut state = RetryState::new(None, &asking).unwrap();
    let broken = response(500, &[]);
    for _ in 0..2 {
        assert_eq!(state.on_response(&broken, || UNIX_EPOCH), Decision::Retry);
        state.next_delay(0);
    }
    assert_eq!(state.on_response(&broken, || UNIX_EPOCH), Decision::No(Refusal::LimitExceeded));
}

#[test]
fn request_headers_of_an_internal_client_add_to_the_policy() {
    let fields = [
        "x-envoy-retry-on: retriable-status-codes,retriable-headers",
        "x-envoy-retriable-status-codes: 418, 421",
        "x-envoy-retriable-header-names: X-Again",
        "x-envoy-retry-grpc-on: unavailable",
    ];
    let policy = policy("gateway-error");
    for (status, fields_back) in
        [(418, ""), (421, ""), (200, "x-again: 1"), (502, ""), (200, "grpc-status: 14")]
    {
        let mut state = RetryState::new(Some(&policy), &request("/", &fields)).unwrap();
        let fields_back: Vec<&str> =
            (!fields_back.is_empty()).then_some(fields_back).into_iter().collect();
        let answer = response(status, &fields_back);
        assert_eq!(state.on_response(&answer, || UNIX_EPOCH), Decision::Retry, "{status}");
    }
}

#[test]
fn only_requests_that_match_the_policy_are_retried() {
    let mut policy = policy("5xx");
    policy.retriable_request_headers = vec![is_present("x-idempotent")];
    assert!(RetryState::new(Some(&policy), &request("/", &[])).is_none());
    let fitting = request("/", &["x-idempotent: 1"]);
    assert!(RetryState::new(Some(&policy), &fitting).is_some());
}
