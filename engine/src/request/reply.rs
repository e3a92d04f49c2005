//! Local replies: the responses that the proxy makes itself, as data, with Envoy's texts.
//!
//! A reply is written to a response head in steps, because the headers of the route and of every
//! response go in between: [`LocalReply::begin`], the headers that the route adds,
//! [`LocalReply::add_upstream_headers`], [`LocalReply::describe`], then `date`, `server` and
//! `connection`, and [`LocalReply::end`]. When to reply, and whether the connection is kept, is
//! decided elsewhere.
//!
//! Invariant: the head describes exactly the body that [`LocalReply::body_for`] returns.

use std::borrow::Cow;

use bytes::Bytes;

use crate::flags::{Flag, Flags};
use crate::http::grpc;
use crate::http::{FieldName, Fields, Method, Misdeed, Reject, RequestHead, ResponseHead};
use crate::upstream::error::Error;

/// The timeout that limits how long a head may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadLimit {
    /// `request_headers_timeout`
    Head,
    /// `request_timeout`, which covers the body too.
    Request,
    /// `stream_idle_timeout`, which bytes of a head do not restart.
    Idle,
    /// `max_stream_duration`
    Duration,
}

/// A response made by the proxy.
#[derive(Clone, Debug)]
pub(crate) struct LocalReply {
    /// The HTTP status. A gRPC client gets 200 and the corresponding gRPC status.
    pub(crate) status: u16,
    /// The gRPC status for a gRPC client; none: the one that corresponds to the HTTP status.
    pub(crate) grpc_status: Option<u8>,
    /// May be empty.
    pub(crate) body: Bytes,
    /// Added first, before the headers of the route.
    pub(crate) fields: Option<Box<Fields>>,
    /// Whether the connection closes after it.
    pub(crate) closes: bool,
    /// Whether to add `x-envoy-overloaded`.
    pub(crate) is_overloaded: bool,
    /// The value of `x-envoy-attempt-count`.
    pub(crate) attempts: Option<u32>,
    /// Replaces any other content type, if a rewrite has set it.
    pub(crate) content_type: Option<Box<[u8]>>,
    /// The response flags, for logs.
    pub(crate) flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`
    pub(crate) details: Cow<'static, str>,
    /// Whose response it is.
    pub(crate) maker: Maker,
    /// Whether the client speaks gRPC; none: the content type of the request says it.
    pub(crate) for_grpc: Option<bool>,
}

/// Who makes a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Maker {
    /// The proxy, about the request: the headers of the route and `local_reply_config` apply to it, and a
    /// gRPC client gets a gRPC status.
    Proxy,
    /// An HTTP filter, in the place of an origin: it is as the filter makes it.
    Filter,
}

impl LocalReply {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            grpc_status: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
            fields: None,
            closes: false,
            is_overloaded: false,
            attempts: None,
            content_type: None,
            flags: Flags::NONE,
            details: Cow::Borrowed(""),
            maker: Maker::Proxy,
            for_grpc: None,
        }
    }

    /// The response of an HTTP filter without a body.
    pub(crate) fn by_filter(status: u16) -> Self {
        Self { maker: Maker::Filter, ..Self::new(status, "") }
    }

    /// Adds a header.
    pub(crate) fn add_field(&mut self, name: FieldName, value: &[u8]) {
        self.fields.get_or_insert_default().append(name, value);
    }

    /// To a request whose body is too large to be held.
    pub(crate) fn too_large() -> Self {
        Self::closing(413, "Payload Too Large").with_details(None, "request_payload_too_large")
    }

    /// In the place of a response that is too large to be held.
    pub(crate) fn response_too_large() -> Self {
        Self::new(500, "Internal Server Error").with_details(None, "response_payload_too_large")
    }

    pub(crate) fn closing(status: u16, body: &str) -> Self {
        Self { closes: true, ..Self::new(status, body) }
    }

    /// To a request that the codec rejects.
    pub(crate) fn protocol_error(reject: Reject) -> Self {
        if reject.misdeed == Misdeed::Content {
            return Self::new(reject.status, reject.body).with_details(None, reject.details);
        }
        Self::closing(reject.status, reject.body)
            .with_details(Some(Flag::DownstreamProtocolError), reject.details)
    }

    pub(crate) fn no_route() -> Self {
        Self::new(404, "").with_details(Some(Flag::NoRouteFound), "route_not_found")
    }

    pub(crate) fn cluster_not_found(status: u16) -> Self {
        Self::new(status, "").with_details(Some(Flag::NoClusterFound), "cluster_not_found")
    }

    /// A `direct_response`.
    pub(crate) fn direct(status: u16, body: Bytes) -> Self {
        Self { body, ..Self::new(status, "").with_details(None, "direct_response") }
    }

    /// A `redirect`.
    pub(crate) fn redirect(status: u16, location: &[u8]) -> Self {
        let mut reply = Self::new(status, "").with_details(None, "direct_response");
        reply.add_field(FieldName::Location, location);
        reply
    }

    pub(crate) fn no_healthy_upstream() -> Self {
        Self::new(503, "no healthy upstream")
            .with_details(Some(Flag::NoHealthyUpstream), "no_healthy_upstream")
    }

    /// No attempt got a response; `error` ended the last one.
    pub(crate) fn upstream_reset(error: Error, after_retry: bool) -> Self {
        let flag = Self::flag_of(error);
        Self {
            is_overloaded: error == Error::Overflow,
            ..Self::new(error.status(), &error.body(after_retry))
                .with_details(Some(flag), error.response_code_details(false))
        }
    }

    /// The flag of an exchange that `error` has ended.
    pub(crate) const fn flag_of(error: Error) -> Flag {
        match error {
            Error::Overflow => Flag::UpstreamOverflow,
            Error::LocalConnectionFailure
            | Error::RemoteConnectionFailure(_)
            | Error::TlsFailure(_)
            | Error::ConnectionTimeout => Flag::UpstreamConnectionFailure,
            Error::ConnectionTermination => Flag::UpstreamConnectionTermination,
            Error::ProtocolError => Flag::UpstreamProtocolError,
            Error::RemoteRefusedStreamReset | Error::RemoteReset => Flag::UpstreamRemoteReset,
        }
    }

    pub(crate) fn upstream_timeout() -> Self {
        Self::new(504, UPSTREAM_TIMEOUT)
            .with_details(Some(Flag::UpstreamRequestTimeout), "response_timeout")
    }

    pub(crate) fn per_try_timeout() -> Self {
        Self::new(504, UPSTREAM_TIMEOUT)
            .with_details(Some(Flag::UpstreamRequestTimeout), "upstream_per_try_timeout")
    }

    /// `max_stream_duration` of the cluster. `complete`: whether the whole request had been received.
    pub(crate) fn upstream_duration(complete: bool) -> Self {
        let flag = Flag::UpstreamMaxStreamDurationReached;
        Self::late(complete, "upstream max stream duration reached")
            .with_details(Some(flag), "upstream_max_stream_duration_reached")
    }

    pub(crate) fn request_header_timeout() -> Self {
        Self::closing(408, "request header timeout").with_details(None, "request_header_timeout")
    }

    pub(crate) fn request_timeout() -> Self {
        Self::closing(408, "request timeout").with_details(None, "request_overall_timeout")
    }

    /// `complete`: whether the whole request had been received.
    pub(crate) fn max_duration(complete: bool) -> Self {
        Self {
            grpc_status: Some(grpc::DEADLINE_EXCEEDED),
            ..Self::late(complete, "downstream duration timeout")
                .with_details(None, "max_duration_timeout")
        }
    }

    /// `complete`: whether the whole request had been received.
    pub(crate) fn stream_idle(complete: bool) -> Self {
        Self::late(complete, "stream timeout")
            .with_details(Some(Flag::StreamIdleTimeout), "stream_idle_timeout")
    }

    /// 504 if the upstream is late with its response, 408 if the client is late with its request.
    fn late(complete: bool, body: &str) -> Self {
        if complete { Self::new(504, body) } else { Self::closing(408, body) }
    }

    /// Adds a response flag and sets the response code details.
    pub(crate) fn with_details(
        mut self,
        flag: Option<Flag>,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        if let Some(flag) = flag {
            self.flags.set(flag);
        }
        self.details = details.into();
        self
    }

    /// The first step: the status, and the headers that precede those of the route.
    pub(crate) fn begin(&self, head: &mut ResponseHead) {
        head.clear();
        head.status = self.status;
        for (_, name, value) in self.fields.iter().flat_map(|fields| fields.iter()) {
            head.fields.append_other(name, value);
        }
    }

    /// The second step: the headers about the upstream. Those that a rewrite adds follow.
    pub(crate) fn add_upstream_headers(&self, head: &mut ResponseHead) {
        let mut digits = itoa::Buffer::new();
        if self.is_overloaded {
            head.fields.set(FieldName::XEnvoyOverloaded, b"true");
        }
        if let Some(attempts) = self.attempts {
            head.fields.set(FieldName::XEnvoyAttemptCount, digits.format(attempts).as_bytes());
        }
    }

    /// The third step: the headers about the body. There is no request if it could not be parsed.
    pub(crate) fn describe(&self, head: &mut ResponseHead, request: Option<&RequestHead>) {
        if let Some(request) = request.filter(|request| self.is_for_grpc(request)) {
            return self.describe_for_grpc(head, request.method);
        }
        if self.body.is_empty() || !has_body(self.status) {
            head.fields.remove(FieldName::ContentLength);
            head.fields.remove(FieldName::ContentType);
            return;
        }
        let mut digits = itoa::Buffer::new();
        let length = digits.format(self.body.len()).as_bytes();
        head.fields.set(FieldName::ContentLength, length);
        if let Some(content_type) = &self.content_type {
            head.fields.set(FieldName::ContentType, content_type);
        } else if !head.fields.has(FieldName::ContentType) {
            head.fields.append(FieldName::ContentType, b"text/plain");
        }
    }

    /// Whether it becomes a gRPC status.
    fn is_for_grpc(&self, request: &RequestHead) -> bool {
        self.maker == Maker::Proxy && self.for_grpc.unwrap_or_else(|| request.is_grpc())
    }

    /// A gRPC client gets status and message in headers, and no body.
    fn describe_for_grpc(&self, head: &mut ResponseHead, method: Method) {
        head.status = 200;
        head.fields.set(FieldName::ContentType, b"application/grpc");
        if !head.fields.has(FieldName::GrpcStatus) {
            let status = self.grpc_status.unwrap_or_else(|| grpc::status_of_http(self.status));
            let mut digits = itoa::Buffer::new();
            head.fields.append(FieldName::GrpcStatus, digits.format(status).as_bytes());
        }
        if !self.body.is_empty() && method != Method::Head {
            // As in Envoy, the final line end of a JSON body is not part of the message.
            let is_json = self.content_type.as_deref() == Some(b"application/json");
            let line = self.body.strip_suffix(b"\n").filter(|_| is_json);
            let mut message = Vec::with_capacity(self.body.len());
            percent_encode(line.unwrap_or(&self.body), &mut message);
            head.fields.set_other(b"grpc-message", &message);
        }
        head.fields.remove(FieldName::ContentLength);
    }

    /// The body to send.
    pub(crate) fn body_for(&self, request: Option<&RequestHead>) -> &[u8] {
        let is_without =
            |request: &RequestHead| request.method == Method::Head || self.is_for_grpc(request);
        if !has_body(self.status) || request.is_some_and(is_without) { &[] } else { &self.body }
    }
}

/// Whether a response of this status may have a body.
///
/// RFC 9110 §6.4.1 forbids it for these, and the peer would take the body for the next response.
/// Envoy sends the body that a direct response is configured with.
const fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Encodes a `grpc-message`. Envoy also encodes `~`, which the specification of gRPC does not ask for.
pub(crate) fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if (b' '..b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

const UPSTREAM_TIMEOUT: &str = "upstream request timeout";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::framing;
    use crate::request::route::tests::{request, shown};

    /// Status, headers and body that a client gets from a route without headers of its own.
    fn sent(reply: &LocalReply, request: &RequestHead) -> (u16, Vec<String>, String) {
        let mut head = ResponseHead::default();
        reply.begin(&mut head);
        reply.describe(&mut head, Some(request));
        head.fields.append(FieldName::Date, b"now");
        head.fields.append(FieldName::Server, b"envoy");
        framing::announce_local_response(request.method, request.version, &mut head);
        let body = String::from_utf8(reply.body_for(Some(request)).to_vec()).unwrap();
        (head.status, shown(&head.fields), body)
    }

    fn by(method: Method, fields: &[&str]) -> RequestHead {
        let mut request = request("/", fields);
        request.method = method;
        request
    }

    #[test]
    fn a_reply_with_a_body_begins_with_its_length_and_type() {
        let (status, fields, body) = sent(&LocalReply::upstream_timeout(), &by(Method::Get, &[]));
        assert_eq!(status, 504);
        assert_eq!(
            fields,
            ["content-length: 24", "content-type: text/plain", "date: now", "server: envoy"]
        );
        assert_eq!(body, "upstream request timeout");
    }

    #[test]
    fn a_reply_without_a_body_ends_with_a_length_of_zero() {
        let (_, fields, body) = sent(&LocalReply::no_route(), &by(Method::Get, &[]));
        assert_eq!(fields, ["date: now", "server: envoy", "content-length: 0"]);
        assert_eq!(body, "");
    }

    #[test]
    fn head_gets_the_same_head_and_no_body() {
        let (_, fields, body) = sent(&LocalReply::upstream_timeout(), &by(Method::Head, &[]));
        assert_eq!((fields[0].as_str(), body.as_str()), ("content-length: 24", ""));
        let (_, fields, _) = sent(&LocalReply::no_route(), &by(Method::Head, &[]));
        assert_eq!(fields, ["date: now", "server: envoy", "transfer-encoding: chunked"]);
    }

    #[test]
    fn statuses_without_a_body_get_none_even_if_one_is_configured() {
        for status in [204, 304] {
            let reply = LocalReply::direct(status, Bytes::from_static(b"hello"));
            let (_, fields, body) = sent(&reply, &by(Method::Get, &[]));
            assert_eq!(
                (fields, body),
                (vec!["date: now".into(), "server: envoy".into()], String::new())
            );
        }
    }

    #[test]
    fn a_grpc_client_gets_status_and_message_in_headers() {
        let grpc = ["content-type: application/grpc"];
        let reply = LocalReply::direct(503, Bytes::from_static("50 % ü".as_bytes()));
        let (status, fields, body) = sent(&reply, &by(Method::Post, &grpc));
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(
            fields,
            [
                "content-type: application/grpc",
                "grpc-status: 14",
                "grpc-message: 50 %25 %C3%BC",
                "date: now",
                "server: envoy",
                "content-length: 0"
            ]
        );
        let (_, fields, _) = sent(&LocalReply::no_route(), &by(Method::Post, &grpc));
        assert_eq!(fields[..2], ["content-type: application/grpc", "grpc-status: 12"]);
    }

    #[test]
    fn an_overflow_adds_its_headers_after_those_of_the_route() {
        let mut reply = LocalReply::upstream_reset(Error::Overflow, false);
        reply.attempts = Some(1);
        let mut head = ResponseHead::default();
        reply.begin(&mut head);
        head.fields.append_other(b"x-route", b"1");
        reply.add_upstream_headers(&mut head);
        reply.describe(&mut head, None);
        assert_eq!(
            shown(&head.fields)[..4],
            [
                "x-route: 1",
                "x-envoy-overloaded: true",
                "x-envoy-attempt-count: 1",
                "content-length: 81"
            ]
        );
    }

    #[test]
    fn a_route_may_set_the_type_but_not_the_length() {
        let reply = LocalReply::direct(200, Bytes::from_static(b"{}"));
        let mut head = ResponseHead::default();
        reply.begin(&mut head);
        head.fields.append(FieldName::ContentType, b"application/json");
        head.fields.append(FieldName::ContentLength, b"77");
        reply.describe(&mut head, None);
        assert_eq!(shown(&head.fields), ["content-type: application/json", "content-length: 2"]);
    }

    #[test]
    fn every_cause_has_envoys_texts() {
        let reply = LocalReply::upstream_reset(Error::ConnectionTermination, true);
        assert_eq!(
            reply.body,
            "upstream connect error or disconnect/reset before headers. \
             retried and the latest reset reason: connection termination"
        );
        for (reply, status, flags, details, closes) in [
            (
                LocalReply::upstream_reset(Error::ProtocolError, false),
                502,
                "UPE",
                "upstream_reset_before_response_started{protocol_error}",
                false,
            ),
            (LocalReply::no_route(), 404, "NR", "route_not_found", false),
            (LocalReply::cluster_not_found(503), 503, "NC", "cluster_not_found", false),
            (LocalReply::no_healthy_upstream(), 503, "UH", "no_healthy_upstream", false),
            (LocalReply::per_try_timeout(), 504, "UT", "upstream_per_try_timeout", false),
            (LocalReply::stream_idle(true), 504, "SI", "stream_idle_timeout", false),
            (LocalReply::stream_idle(false), 408, "SI", "stream_idle_timeout", true),
            (LocalReply::max_duration(true), 504, "", "max_duration_timeout", false),
            (LocalReply::request_timeout(), 408, "", "request_overall_timeout", true),
            (LocalReply::request_header_timeout(), 408, "", "request_header_timeout", true),
            (
                LocalReply::protocol_error(crate::http1::Error::HeadTooLarge.into()),
                431,
                "DPE",
                "http1.headers_too_large",
                true,
            ),
        ] {
            let mut shown = Vec::new();
            reply.flags.write(Flag::short, &mut shown);
            assert_eq!(String::from_utf8(shown).unwrap(), flags, "{details}");
            assert_eq!((reply.status, &*reply.details, reply.closes), (status, details, closes));
        }
    }
}
