//! The head of a request on its way to a host, in the codec of its connection.

use std::time::Duration;

use super::Core;
use super::deadlines::Timer;
use super::forward::Forwarder;
use super::route::action::stream_duration::{grpc_timeout, set_grpc_timeout};
use super::route::{Forward, scheme};
use crate::http::header_key_format::{self, HeaderKeyFormat};
use crate::http::{FieldName, Method};
use crate::http1::encode;
use crate::shard::clock::millis;
use crate::upstream::origin::{HeadTaken, Origin};
use crate::upstream::pool_key::Speaks;

/// Tells the origin the time left for this attempt: in `x-envoy-expected-rq-timeout-ms`, and in
/// `grpc-timeout` if that has set the timeout.
pub(super) fn set_expected_timeout(core: &mut Core<'_>, plan: &Forward, elapsed: Duration) {
    let Some(expected) = core.timeouts.expected_ms(elapsed) else { return };
    if !core.service().manager.suppress_envoy_headers {
        let mut digits = itoa::Buffer::new();
        let expected = digits.format(expected).as_bytes();
        core.heads.request.fields.set(FieldName::XEnvoyExpectedRqTimeoutMs, expected);
    }
    if plan.max_grpc_timeout(&core.heads.request).is_some() {
        set_grpc_timeout(&mut core.heads.request.fields, Duration::from_millis(expected));
    }
}

/// Limits the duration of the exchange as the route says. As in Envoy, the origin is told the limit in
/// `grpc-timeout`, without the time that has already passed.
pub(super) fn set_stream_duration(core: &mut Core<'_>, plan: &Forward) {
    let manager = core.service().manager.timeouts.max_stream_duration;
    let Some(limit) = core.set_duration_limit(plan) else { return };
    let request = &mut core.heads.request;
    if request.is_grpc() {
        match limit {
            Some(limit) => set_grpc_timeout(&mut request.fields, limit),
            // As in Envoy: the route lifts the connection manager's limit.
            None if manager.is_some() => request.fields.remove(FieldName::GrpcTimeout),
            None => {}
        }
    }
}

impl Core<'_> {
    /// Limits the duration of the exchange as the route says, if it says anything; returns the limit.
    pub(super) fn set_duration_limit(&mut self, plan: &Forward) -> Option<Option<Duration>> {
        let duration = plan.max_stream_duration.as_ref()?;
        let manager = self.service().manager.timeouts.max_stream_duration;
        let limit = duration.limit(grpc_timeout(&self.heads.request.fields), manager);
        let at = limit.map(|limit| self.heads.began.saturating_add(millis(limit)));
        self.deadlines.set(Timer::StreamDuration, at);
        Some(limit)
    }
}

impl Forwarder<'_> {
    /// Begins the request on the connection, unless its head is in the upload already.
    #[inline]
    pub(super) fn begin_request(&mut self, core: &mut Core<'_>, mut origin: Origin) -> Origin {
        if origin.pool().speaks() != Speaks::Http1
            && !self.terminates(core)
            && origin.begin_request(core.heads, self.upload.end_stream()) == HeadTaken::No
        {
            let head = self.encode(core);
            self.upload.put_head(head);
        }
        origin
    }

    /// Encodes the head of the request for HTTP/1. As in Envoy, header names are written as the upstream
    /// codec is configured, unless the client's codec has preserved them.
    #[inline]
    pub(super) fn encode(&self, core: &mut Core<'_>) -> Vec<u8> {
        core.announce_framing();
        let mut out = core.shard.buffers.take();
        self.write_head(core, &mut out);
        out
    }

    fn write_head(&self, core: &Core<'_>, out: &mut Vec<u8>) {
        let request = &core.heads.request;
        let pool = core.upstream.pool.as_ref();
        let http = &pool.map_or_else(|| &**self.cluster.cluster(), |pool| pool.cluster()).http;
        encode::request(request, out);
        match core.service().manager.header_key_format {
            format @ HeaderKeyFormat::PreserveCase(_) => {
                header_key_format::write(out, format, Some(&core.heads.request_as_received));
            }
            HeaderKeyFormat::LowerCase | HeaderKeyFormat::ProperCaseWords => {
                header_key_format::write(out, http.header_key_format, None);
            }
        }
        if http.send_fully_qualified_url && request.method != Method::Connect {
            let host = request.authority().unwrap_or_default();
            let url = [scheme(request), b"://", host].concat();
            let at = request.method_name().len() + 1;
            out.splice(at..at, url);
        }
    }
}
