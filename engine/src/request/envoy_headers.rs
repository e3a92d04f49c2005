//! The `x-envoy-*` headers with which clients control the router. Those of external clients are
//! removed before a route is selected (`manager/normalize.rs`); the rest are removed here.
//!
//! Three of them are accepted without effect: `x-envoy-hedge-on-per-try-timeout`,
//! `x-envoy-upstream-alt-stat-name` and `x-envoy-upstream-stream-duration-ms`.

use super::Core;
use super::reply::LocalReply;
use super::retry::RetryOn;
use super::route::Forward;
use crate::flags::Flag;
use crate::http::{FieldName, FieldSet};

/// The reply to a request that timed out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TimeoutReply {
    /// 504 with a body.
    GatewayTimeout,
    /// 204: `x-envoy-upstream-rq-timeout-alt-response` is present, with any value.
    NoContent,
}

impl TimeoutReply {
    /// `reply`, or its replacement.
    pub(super) fn apply(self, reply: LocalReply) -> LocalReply {
        match self {
            Self::GatewayTimeout => reply,
            Self::NoContent => LocalReply { status: 204, body: Default::default(), ..reply },
        }
    }
}

impl Core<'_> {
    /// The reply to a request with an invalid value in a header that `strict_check_headers` lists.
    pub(super) fn check_strict_headers(&self) -> Option<LocalReply> {
        let fields = &self.heads.request.fields;
        let value = |name| fields.get(name).filter(|value| !is_valid(name, value));
        let mut names = self.service().manager.strict_check_headers.iter();
        let (name, value) = names.find_map(|&name| Some((name.as_str(), value(name)?)))?;
        let value = String::from_utf8_lossy(value);
        let details = format!("request_headers_failed_strict_check{{{name}}}");
        Some(
            LocalReply::new(400, &format!("invalid header '{name}' with value '{value}'"))
                .with_details(Some(Flag::InvalidEnvoyRequestHeaders), details),
        )
    }

    /// Sets the timeouts of a request, and removes the headers that set them.
    ///
    /// As in Envoy, with `respect_expected_rq_timeout` the `x-envoy-expected-rq-timeout-ms` of the
    /// Envoy in front is the timeout, and that header and `x-envoy-upstream-rq-timeout-ms` are
    /// forwarded.
    #[inline(always)]
    pub(super) fn set_timeouts(&mut self, plan: &Forward) {
        let service = self.service();
        let request = &mut self.heads.request;
        let expected = FieldName::XEnvoyExpectedRqTimeoutMs;
        let is_respected =
            service.manager.respect_expected_rq_timeout && request.fields.has(expected);
        if request.fields.has(FieldName::XEnvoyUpstreamRqTimeoutAltResponse) {
            self.timeout_reply = TimeoutReply::NoContent;
        }
        if is_respected {
            self.timeouts = plan.timeouts(request, expected);
            request.fields.remove_set(TIMEOUTS);
        } else {
            let asked = FieldName::XEnvoyUpstreamRqTimeoutMs;
            self.timeouts = plan.timeouts(request, asked);
            request.fields.remove_set(TIMEOUTS.with(&[asked]));
        }
    }

    /// Removes the headers that control retries.
    pub(super) fn remove_retry_fields(&mut self) {
        self.heads.request.fields.remove_set(RETRIES);
    }
}

fn is_valid(name: FieldName, value: &[u8]) -> bool {
    match name {
        FieldName::XEnvoyRetryGrpcOn | FieldName::XEnvoyRetryOn => RetryOn::is_known(name, value),
        _ => std::str::from_utf8(value).is_ok_and(|text| text.parse::<u64>().is_ok()),
    }
}

const TIMEOUTS: FieldSet = FieldSet::of(&[
    FieldName::XEnvoyHedgeOnPerTryTimeout,
    FieldName::XEnvoyUpstreamAltStatName,
    FieldName::XEnvoyUpstreamRqPerTryTimeoutMs,
    FieldName::XEnvoyUpstreamRqTimeoutAltResponse,
    FieldName::XEnvoyUpstreamStreamDurationMs,
]);

const RETRIES: FieldSet = FieldSet::of(&[
    FieldName::XEnvoyMaxRetries,
    FieldName::XEnvoyRetriableHeaderNames,
    FieldName::XEnvoyRetriableStatusCodes,
    FieldName::XEnvoyRetryGrpcOn,
    FieldName::XEnvoyRetryOn,
]);
