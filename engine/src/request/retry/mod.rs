//! Decides whether a failed attempt is retried, and when.
//!
//! Pure: the input is a response or a reset, the output a [`Decision`]; time and random numbers are
//! arguments. The caller acquires the circuit breaker's permit, waits, counts the stats that each
//! variant names, and makes sure that nothing of a response was sent to the client and that the
//! body of the request is still available.
//!
//! Invariant: `retries_left` only decreases, and only by a decision to retry.

pub(crate) mod compile;
pub mod host_predicate;
pub mod priorities;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::host_predicate::HostPredicate;
use crate::flags::Flag;
use crate::http::{FieldName, FieldSet, RequestHead, ResponseHead};
use crate::request::route::{HeaderCondition, HeaderMatcher, HeaderName};
use crate::shard::clock::millis;

/// When a route retries.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The conditions for a retry.
    pub retry_on: RetryOn,
    /// The maximum number of retries.
    pub num_retries: u32,
    /// For each attempt, up to the head of its response.
    pub per_try_timeout: Option<Duration>,
    /// For each attempt, without progress.
    pub per_try_idle_timeout: Option<Duration>,
    /// The delay between attempts.
    pub back_off: BackOff,
    /// The delay that a response may ask for.
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// For `retriable-status-codes`.
    pub retriable_status_codes: Vec<u16>,
    /// For `retriable-headers`: any of them in the response.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// If not empty, only requests with any of them are retried.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// Whether retries leave out the priorities of earlier attempts: after how many attempts each time.
    pub previous_priorities: Option<usize>,
    /// Whether hosts that were already tried are avoided.
    pub avoids_previous_hosts: bool,
    /// Which other hosts retries avoid.
    pub host_predicates: Vec<HostPredicate>,
    /// How often another host is picked to avoid one already tried.
    pub host_selection_attempts_max: u32,
}

/// A set of retry conditions: the tokens of `retry_on`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RetryOn(u32);

/// Exponential with full jitter: the delay before retry n is below `base`·2ⁿ⁻¹ and below `max`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackOff {
    /// At least 1 ms.
    pub base: Duration,
    /// At least `base`.
    pub max: Duration,
}

/// The delay that an upstream asks for in a response header.
#[derive(Clone, Debug)]
pub struct RateLimitedBackOff {
    /// The first one that is valid and not above `max` counts.
    pub reset_headers: Vec<ResetHeader>,
    /// Longer delays are ignored.
    pub max: Duration,
}

/// A header that says how long to wait.
#[derive(Clone, Debug)]
pub struct ResetHeader {
    /// In lower case.
    pub name: Box<[u8]>,
    /// What its number means.
    pub format: ResetFormat,
}

/// What the number of a [`ResetHeader`] means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResetFormat {
    /// Seconds from now.
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

/// Why an attempt ended without a complete response head.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reset {
    /// Refused, unreachable, or broken in the TLS handshake.
    ConnectFailure,
    /// `connect_timeout` passed.
    ConnectTimeout,
    /// The upstream closed the connection.
    ConnectionTermination,
    /// Reset by the proxy.
    LocalReset,
    /// A circuit breaker was open.
    Overflow,
    /// `per_try_timeout` or `per_try_idle_timeout` passed.
    PerTryTimeout,
    /// The response was not valid HTTP.
    ProtocolError,
    /// The upstream refused the stream before processing it (HTTP/2).
    RefusedStream,
    /// The upstream reset the stream (HTTP/2).
    RemoteReset,
}

/// The retries of one request.
#[derive(Debug)]
pub struct RetryState<'a> {
    policy: &'a RetryPolicy,
    retry_on: RetryOn,
    retries_left: u32,
    /// The upper bound of the next exponential delay.
    bound: Duration,
    /// The delay that the last response asked for.
    requested_delay: Option<Duration>,
    /// A retry is in progress.
    is_retry: bool,
    /// The last attempt timed out.
    timed_out: bool,
    /// Additions to the policy from request headers.
    added: RequestedRetries,
}

/// The retries that a client asks for in request headers.
#[derive(Debug, Default)]
struct RequestedRetries {
    /// From `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    retry_on: RetryOn,
    /// From `x-envoy-max-retries`.
    max_retries: Option<u32>,
    /// From `x-envoy-retriable-status-codes`.
    status_codes: Vec<u16>,
    /// From `x-envoy-retriable-header-names`.
    headers: Vec<HeaderMatcher>,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Retry after [`RetryState::next_delay`], if the retry circuit breaker allows it
    /// (`upstream_rq_retry`; otherwise `upstream_rq_retry_overflow`, flag UO).
    Retry,
    /// Do not retry.
    No(Refusal),
}

/// Why there is no retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Retriable, but the limit is reached: `upstream_rq_retry_limit_exceeded`, flag URX.
    LimitExceeded,
    /// Not retriable.
    NotRetriable,
    /// A retry succeeded: `upstream_rq_retry_success`.
    Succeeded,
}

/// The delay before the next attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryDelay {
    /// `upstream_rq_retry_backoff_exponential`
    Exponential(Duration),
    /// `upstream_rq_retry_backoff_ratelimited`
    RateLimited(Duration),
}

impl Default for RetryPolicy {
    /// A policy without any field set.
    fn default() -> Self {
        Self::NONE
    }
}

impl RetryPolicy {
    /// Retries nothing by itself; headers of an internal client may add to it.
    const NONE: Self = Self {
        retry_on: RetryOn(0),
        num_retries: 1,
        per_try_timeout: None,
        per_try_idle_timeout: None,
        back_off: BackOff::DEFAULT,
        rate_limited_back_off: None,
        retriable_status_codes: Vec::new(),
        retriable_headers: Vec::new(),
        retriable_request_headers: Vec::new(),
        previous_priorities: None,
        avoids_previous_hosts: false,
        host_predicates: Vec::new(),
        host_selection_attempts_max: 1,
    };

    /// Whether the host of a retry depends on the attempts before it.
    #[must_use]
    #[inline]
    pub const fn selects_hosts(&self) -> bool {
        self.avoids_previous_hosts
            || self.previous_priorities.is_some()
            || !self.host_predicates.is_empty()
    }
}

// === impl RetryOn ===

/// The conditions for a retry.
const TOKENS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl RetryOn {
    const FIVE_XX: Self = Self(1);
    const GATEWAY_ERROR: Self = Self(1 << 1);
    const RESET: Self = Self(1 << 2);
    const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    const CONNECT_FAILURE: Self = Self(1 << 4);
    const ENVOY_RATELIMITED: Self = Self(1 << 5);
    const RETRIABLE_4XX: Self = Self(1 << 6);
    const REFUSED_STREAM: Self = Self(1 << 7);
    const RETRIABLE_STATUS_CODES: Self = Self(1 << 8);
    const RETRIABLE_HEADERS: Self = Self(1 << 9);
    const HTTP3_POST_CONNECT_FAILURE: Self = Self(1 << 10);
    const GRPC_CANCELLED: Self = Self(1 << 11);
    const GRPC_DEADLINE_EXCEEDED: Self = Self(1 << 12);
    const GRPC_INTERNAL: Self = Self(1 << 13);
    const GRPC_RESOURCE_EXHAUSTED: Self = Self(1 << 14);
    const GRPC_UNAVAILABLE: Self = Self(1 << 15);

    /// Parses the tokens of a `retry_on`. Calls `unknown` with each unknown one; these have no
    /// effect.
    pub fn parse<'a>(tokens: &'a str, mut unknown: impl FnMut(&'a str)) -> Self {
        let mut set = Self::default();
        for token in tokens.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            match Self::http(token).or_else(|| Self::grpc(token)) {
                Some(cause) => set = set.with(cause),
                None => unknown(token),
            }
        }
        set
    }

    /// The tokens of the conditions.
    #[must_use]
    pub fn tokens(self) -> Vec<&'static str> {
        let has = |token: &&str| {
            let cause = Self::http(token).or_else(|| Self::grpc(token));
            cause.is_some_and(|cause| self.0 & cause.0 != 0)
        };
        TOKENS.into_iter().filter(has).collect()
    }

    /// Whether nothing is retried.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn http(token: &str) -> Option<Self> {
        Some(match token {
            "5xx" => Self::FIVE_XX,
            "gateway-error" => Self::GATEWAY_ERROR,
            "reset" => Self::RESET,
            "reset-before-request" => Self::RESET_BEFORE_REQUEST,
            "connect-failure" => Self::CONNECT_FAILURE,
            "envoy-ratelimited" => Self::ENVOY_RATELIMITED,
            "retriable-4xx" => Self::RETRIABLE_4XX,
            "refused-stream" => Self::REFUSED_STREAM,
            "retriable-status-codes" => Self::RETRIABLE_STATUS_CODES,
            "retriable-headers" => Self::RETRIABLE_HEADERS,
            // Without effect: there are no HTTP/3 upstreams.
            "http3-post-connect-failure" => Self::HTTP3_POST_CONNECT_FAILURE,
            _ => return None,
        })
    }

    fn grpc(token: &str) -> Option<Self> {
        Some(match token {
            "cancelled" => Self::GRPC_CANCELLED,
            "deadline-exceeded" => Self::GRPC_DEADLINE_EXCEEDED,
            "internal" => Self::GRPC_INTERNAL,
            "resource-exhausted" => Self::GRPC_RESOURCE_EXHAUSTED,
            "unavailable" => Self::GRPC_UNAVAILABLE,
            _ => return None,
        })
    }

    /// Whether every token of a request header is known, as `strict_check_headers` requires.
    pub fn is_known(field: FieldName, value: &[u8]) -> bool {
        let grpc = field == FieldName::XEnvoyRetryGrpcOn;
        let token = if grpc { Self::grpc } else { Self::http };
        std::str::from_utf8(value).is_ok() && tokens(Some(value)).all(|name| token(name).is_some())
    }

    /// Parses the tokens of a request header; unknown ones have no effect.
    fn from_header(value: Option<&[u8]>, token: fn(&str) -> Option<Self>) -> Self {
        tokens(value).filter_map(token).fold(Self::default(), Self::with)
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, cause: Self) -> bool {
        self.0 & cause.0 != 0
    }
}

// === impl BackOff ===

impl BackOff {
    /// 25 ms and 250 ms.
    pub const DEFAULT: Self =
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) };
}

// === impl Reset ===

impl Reset {
    /// The text in the body of a local reply.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailure => "remote connection failure",
            Self::ConnectTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::LocalReset | Self::PerTryTimeout => "local reset",
            Self::Overflow => "overflow",
            Self::ProtocolError => "protocol error",
            Self::RefusedStream => "remote refused stream reset",
            Self::RemoteReset => "remote reset",
        }
    }

    /// The response flag of a request that ends with it.
    pub const fn flag(self) -> Flag {
        match self {
            Self::ConnectFailure | Self::ConnectTimeout => Flag::UpstreamConnectionFailure,
            Self::ConnectionTermination => Flag::UpstreamConnectionTermination,
            Self::LocalReset => Flag::LocalReset,
            Self::Overflow => Flag::UpstreamOverflow,
            Self::PerTryTimeout => Flag::UpstreamRequestTimeout,
            Self::ProtocolError => Flag::UpstreamProtocolError,
            Self::RefusedStream | Self::RemoteReset => Flag::UpstreamRemoteReset,
        }
    }
}

// === impl RetryState ===

impl<'a> RetryState<'a> {
    /// The state before the first attempt; `None` if this request is never retried. Request headers
    /// add to the policy; those of external clients have been removed by now.
    #[inline]
    pub fn new(policy: Option<&'a RetryPolicy>, request: &RequestHead) -> Option<Self> {
        const FIELDS: FieldSet =
            FieldSet::of(&[FieldName::XEnvoyRetryOn, FieldName::XEnvoyRetryGrpcOn]);
        let asks = request.fields.has_any(FIELDS);
        if policy.is_some() || asks { Self::of(policy, request) } else { None }
    }

    fn of(policy: Option<&'a RetryPolicy>, request: &RequestHead) -> Option<Self> {
        let added = RequestedRetries::read(request);
        let policy = policy.unwrap_or(const { &RetryPolicy::NONE });
        let retry_on = policy.retry_on.with(added.retry_on);
        let conditions = &policy.retriable_request_headers;
        let fits = conditions.is_empty() || conditions.iter().any(|m| m.matches(request));
        if retry_on.is_empty() || !fits {
            return None;
        }
        Some(Self {
            policy,
            retry_on,
            retries_left: added.max_retries.unwrap_or(policy.num_retries),
            bound: policy.back_off.base,
            requested_delay: None,
            is_retry: false,
            timed_out: false,
            added,
        })
    }

    /// Decides after the head of a response. `now` reads the wall clock, for a response that names
    /// a time.
    pub fn on_response(
        &mut self,
        head: &ResponseHead,
        now: impl FnOnce() -> SystemTime,
    ) -> Decision {
        self.timed_out = false;
        let is_retriable = self.is_retriable_response(head);
        if is_retriable {
            let rate_limited = self.policy.rate_limited_back_off.as_ref();
            self.requested_delay =
                rate_limited.and_then(|back_off| back_off.requested(head, now()));
        }
        self.decide(is_retriable)
    }

    /// Decides after an attempt without a response head. `headers_sent`: whether any byte of the
    /// request may have reached the upstream.
    pub fn on_reset(&mut self, reset: Reset, headers_sent: bool) -> Decision {
        self.timed_out = reset == Reset::PerTryTimeout;
        self.decide(self.is_retriable_reset(reset, headers_sent))
    }

    /// The delay before the retry that was decided.
    pub fn next_delay(&mut self, random: u64) -> RetryDelay {
        self.is_retry = true;
        if let Some(asked) = self.requested_delay.take() {
            let asked = millis(asked);
            let jitter = random.checked_rem(asked >> 1).unwrap_or(0);
            return RetryDelay::RateLimited(Duration::from_millis(asked.saturating_add(jitter)));
        }
        let delay = random.checked_rem(millis(self.bound)).unwrap_or(0);
        self.bound = self.bound.saturating_mul(2).min(self.policy.back_off.max);
        RetryDelay::Exponential(Duration::from_millis(delay))
    }

    /// Whether the previous attempt ended by `per_try_timeout` or `per_try_idle_timeout`.
    pub const fn follows_timeout(&self) -> bool {
        self.timed_out
    }

    /// The policy.
    pub const fn policy(&self) -> &'a RetryPolicy {
        self.policy
    }

    fn decide(&mut self, is_retriable: bool) -> Decision {
        let was_retry = std::mem::take(&mut self.is_retry);
        if !is_retriable {
            let success = if was_retry { Refusal::Succeeded } else { Refusal::NotRetriable };
            return Decision::No(success);
        }
        match self.retries_left.checked_sub(1) {
            None => Decision::No(Refusal::LimitExceeded),
            Some(left) => {
                self.retries_left = left;
                Decision::Retry
            }
        }
    }

    /// How many retries there may be.
    #[must_use]
    pub const fn retries_left(&self) -> u32 {
        self.retries_left
    }

    /// What is retried: what the policy says, and what the request asks for.
    #[must_use]
    pub const fn retry_on(&self) -> RetryOn {
        self.retry_on
    }

    fn is_retriable_response(&self, head: &ResponseHead) -> bool {
        let on = self.retry_on;
        // A rate-limited response is retried only with `envoy-ratelimited`.
        if head.fields.has(FieldName::XEnvoyRatelimited) {
            return on.has(RetryOn::ENVOY_RATELIMITED);
        }
        let status = head.status;
        let mut codes = self.policy.retriable_status_codes.iter().chain(&self.added.status_codes);
        let mut headers = self.policy.retriable_headers.iter().chain(&self.added.headers);
        (on.has(RetryOn::FIVE_XX) && (500..600).contains(&status))
            || (on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
            || (on.has(RetryOn::RETRIABLE_4XX) && status == 409)
            || (on.has(RetryOn::RETRIABLE_STATUS_CODES) && codes.any(|code| *code == status))
            || (on.has(RetryOn::RETRIABLE_HEADERS) && headers.any(|m| m.matches(head)))
            || on.has(grpc_cause(head))
    }

    fn is_retriable_reset(&self, reset: Reset, headers_sent: bool) -> bool {
        if reset == Reset::Overflow {
            return false;
        }
        let on = self.retry_on;
        let failed_to_connect = matches!(reset, Reset::ConnectFailure | Reset::ConnectTimeout);
        on.has(RetryOn::RESET.with(RetryOn::FIVE_XX).with(RetryOn::GATEWAY_ERROR))
            || (on.has(RetryOn::RESET_BEFORE_REQUEST) && !headers_sent)
            || (on.has(RetryOn::CONNECT_FAILURE) && failed_to_connect)
            || (on.has(RetryOn::REFUSED_STREAM) && reset == Reset::RefusedStream)
    }
}

impl RequestedRetries {
    fn read(request: &RequestHead) -> Self {
        const FIELDS: FieldSet = FieldSet::of(&[
            FieldName::XEnvoyRetryOn,
            FieldName::XEnvoyRetryGrpcOn,
            FieldName::XEnvoyMaxRetries,
            FieldName::XEnvoyRetriableStatusCodes,
            FieldName::XEnvoyRetriableHeaderNames,
        ]);
        if !request.fields.has_any(FIELDS) {
            return Self::default();
        }
        let asked = |name| request.fields.get(name);
        let http = RetryOn::from_header(asked(FieldName::XEnvoyRetryOn), RetryOn::http);
        let grpc = RetryOn::from_header(asked(FieldName::XEnvoyRetryGrpcOn), RetryOn::grpc);
        let codes = tokens(asked(FieldName::XEnvoyRetriableStatusCodes));
        let names = tokens(asked(FieldName::XEnvoyRetriableHeaderNames));
        Self {
            retry_on: http.with(grpc),
            max_retries: asked(FieldName::XEnvoyMaxRetries).and_then(number),
            status_codes: codes.filter_map(|code| code.parse().ok()).collect(),
            headers: names.map(is_present).collect(),
        }
    }
}

impl RateLimitedBackOff {
    /// The delay that the response asks for.
    fn requested(&self, head: &ResponseHead, now: SystemTime) -> Option<Duration> {
        self.reset_headers.iter().find_map(|header| {
            let seconds: u64 = number(head.fields.find(&header.name)?)?;
            let seconds = match header.format {
                ResetFormat::Seconds => seconds,
                ResetFormat::UnixTimestamp => {
                    seconds.checked_sub(now.duration_since(UNIX_EPOCH).ok()?.as_secs())?
                }
            };
            let asked = Duration::from_secs(seconds);
            (!asked.is_zero() && asked <= self.max).then_some(asked)
        })
    }
}

/// The retry condition for the gRPC status in a response head.
fn grpc_cause(head: &ResponseHead) -> RetryOn {
    match head.fields.get(FieldName::GrpcStatus) {
        Some(b"1") => RetryOn::GRPC_CANCELLED,
        Some(b"4") => RetryOn::GRPC_DEADLINE_EXCEEDED,
        Some(b"8") => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        Some(b"13") => RetryOn::GRPC_INTERNAL,
        Some(b"14") => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn::default(),
    }
}

fn is_present(name: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: HeaderName::new(name),
        condition: HeaderCondition::Present(true),
        invert: false,
        missing_is_empty: false,
    }
}

/// The items of a comma-separated header.
fn tokens(value: Option<&[u8]>) -> impl Iterator<Item = &str> {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let tokens = text.into_iter().flat_map(|text| text.split(','));
    tokens.map(str::trim).filter(|token| !token.is_empty())
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
