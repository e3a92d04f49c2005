//! What clients ask of the router in `x-envoy-*` fields. Those of a client that may not ask are gone
//! before a route is looked for (`downstream/normalize.rs`); those that are heard end here.
//!
//! Two of them are taken and not heard: an attempt is never hedged, and there are no stats under
//! another name.

use super::Exchange;
use super::reply::LocalReply;
use super::retry::RetryOn;
use super::route::Forward;
use crate::flags::Flag;
use crate::http::{FieldName, FieldSet};

/// What a request gets that took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TimeoutReply {
    /// 504, with a text.
    GatewayTimeout,
    /// 204: `x-envoy-upstream-rq-timeout-alt-response`, whatever it says.
    NoContent,
}

impl TimeoutReply {
    /// `reply`, or what takes its place.
    pub(super) fn of(self, reply: LocalReply) -> LocalReply {
        match self {
            Self::GatewayTimeout => reply,
            Self::NoContent => LocalReply { status: 204, body: Default::default(), ..reply },
        }
    }
}

impl Exchange<'_> {
    /// The reply to a request with a field that `strict_check_headers` names and that says nothing
    /// valid.
    pub(super) fn check_strict_headers(&self) -> Option<LocalReply> {
        let fields = &self.heads.request.fields;
        let value = |name| fields.get(name).filter(|value| !is_valid(name, value));
        let mut names = self.chain.manager.strict_check_headers.iter();
        let (name, value) = names.find_map(|&name| Some((name.as_str(), value(name)?)))?;
        let value = String::from_utf8_lossy(value);
        let details = format!("request_headers_failed_strict_check{{{name}}}");
        Some(
            LocalReply::new(400, &format!("invalid header '{name}' with value '{value}'"))
                .with_details(Some(Flag::InvalidEnvoyRequestHeaders), details),
        )
    }

    /// Sets the timers of a request, and takes the fields away that ask for others.
    ///
    /// Envoy: if an Envoy before us says what it expects and is believed, that is the timeout, and
    /// both fields go on.
    pub(super) fn take_timeouts(&mut self, plan: &Forward) {
        let request = &mut self.heads.request;
        let expected = FieldName::XEnvoyExpectedRqTimeoutMs;
        let is_respected =
            self.chain.manager.respect_expected_rq_timeout && request.fields.has(expected);
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

    /// Takes the fields away that ask for retries.
    pub(super) fn remove_retry_fields(&mut self) {
        self.heads.request.fields.remove_set(RETRIES);
    }
}

fn is_valid(name: FieldName, value: &[u8]) -> bool {
    match name {
        FieldName::XEnvoyRetryGrpcOn | FieldName::XEnvoyRetryOn => RetryOn::knows(name, value),
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
