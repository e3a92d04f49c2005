//! What a service is told about a request.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use prost_types::Timestamp;

use super::proto::{
    Address, AddressKind, AttributeContext, CheckRequest, HeaderMap, HeaderValue, HttpRequest,
    Metadata, Peer, Pipe, Request, SocketAddress, TlsSession,
};
use super::{BodySettings, Context};
use crate::address;
use crate::format::StreamInfo;
use crate::http::{FieldName, RequestHead, Scheme};
use crate::request::callout::json;
use crate::text_matcher::TextMatcher;
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::facts::TlsFacts;

/// What is told.
#[derive(Debug)]
pub(super) struct Question {
    /// Which headers; none: all.
    pub(super) allowed: Option<Box<[TextMatcher]>>,
    /// Which of them not.
    pub(super) disallowed: Box<[TextMatcher]>,
    /// Whether values are told as they are, and repeated headers apart.
    pub(super) raw_headers: bool,
    pub(super) peer_certificate: bool,
    pub(super) tls_session: bool,
    pub(super) metadata: Box<[String]>,
    pub(super) route_metadata: Box<[String]>,
}

impl Question {
    /// Calls `each` with the headers that are told, as Envoy names them.
    fn each_header<'c>(&self, cx: &'c Context<'_, '_>, mut each: impl FnMut(&'c [u8], &'c [u8])) {
        let head = &cx.core.heads.request;
        let mut tell = |name: &'c [u8], value: &'c [u8]| {
            let is_allowed = self.allowed.as_ref().is_none_or(|list| matches(list, name));
            if is_allowed && !matches(&self.disallowed, name) && name != PARTIAL_BODY {
                each(name, value);
            }
        };
        tell(b":authority", head.authority().unwrap_or_default());
        tell(b":path", head.target());
        tell(b":method", head.method_name());
        if let Some(scheme) = head.scheme {
            tell(b":scheme", scheme.as_str().as_bytes());
        }
        for (id, name, value) in head.fields.iter() {
            if id != FieldName::Host {
                tell(name, value);
            }
        }
    }

    /// The headers that are told. As in Envoy, repeated ones are joined, unless they are told as they are.
    pub(super) fn headers<'c>(&self, cx: &'c Context<'_, '_>) -> Vec<(&'c [u8], Cow<'c, [u8]>)> {
        let mut headers = Vec::<(&[u8], Cow<'_, [u8]>)>::new();
        self.each_header(cx, |name, value| {
            let earlier = headers.iter_mut().find(|(other, _)| *other == name && !self.raw_headers);
            match earlier {
                Some((_, joined)) => {
                    let joined = joined.to_mut();
                    joined.push(b',');
                    joined.extend_from_slice(value);
                }
                None => headers.push((name, Cow::Borrowed(value))),
            }
        });
        headers
    }

    /// What is told of the body, and whether that is only a part of it, if there is one.
    pub(super) fn body<'c>(
        &self,
        cx: &'c Context<'_, '_>,
        settings: Option<BodySettings>,
    ) -> (&'c [u8], Option<bool>) {
        let Some(settings) = settings else { return (&[], None) };
        let held = &cx.held.data;
        let sent = held.get(..settings.bytes_max).unwrap_or(held);
        (sent, Some(sent.len() < held.len() || !cx.held.has_ended()))
    }

    /// All of it, as a gRPC message.
    pub(super) fn message(
        &self,
        cx: &Context<'_, '_>,
        body: Option<BodySettings>,
        extensions: &BTreeMap<&str, &str>,
    ) -> CheckRequest {
        let given = cx.core.given;
        let tls = given.tls.as_deref();
        let stream = cx.stream();
        let facts = cx.core.facts;
        let source = Peer {
            address: address(facts.map_or(given.peer, |facts| facts.client)),
            principal: tls.and_then(TlsFacts::peer_certificate).map(principal).unwrap_or_default(),
            certificate: tls
                .filter(|_| self.peer_certificate)
                .and_then(TlsFacts::peer_certificate)
                .map(|certificate| certificate.url_encoded_pem().to_owned())
                .unwrap_or_default(),
            ..Peer::default()
        };
        let destination = Peer {
            address: address(given.local),
            principal: tls
                .and_then(|tls| tls.local_certificate.as_deref())
                .map(principal)
                .unwrap_or_default(),
            ..Peer::default()
        };
        let since = stream.start_time().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        };
        let owned = |(key, value): (&&str, &&str)| ((*key).to_owned(), (*value).to_owned());
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(source),
                destination: Some(destination),
                request: Some(Request { time: Some(time), http: Some(self.http(cx, body)) }),
                context_extensions: extensions.iter().map(owned).collect(),
                metadata_context: Some(self.metadata_context(cx)),
                route_metadata_context: Some(self.route_metadata_context(cx)),
                tls_session: self.tls_session.then(|| {
                    let sni = tls.and_then(|tls| tls.server_name.as_deref());
                    TlsSession { sni: sni.unwrap_or_default().to_owned() }
                }),
            }),
        }
    }

    fn http(&self, cx: &Context<'_, '_>, body: Option<BodySettings>) -> HttpRequest {
        let head: &RequestHead = &cx.core.heads.request;
        let (sent, partial) = self.body(cx, body);
        let mut http = HttpRequest {
            id: cx.core.random.to_string(),
            method: text(head.method_name()).into_owned(),
            path: text(head.target()).into_owned(),
            host: text(head.authority().unwrap_or_default()).into_owned(),
            scheme: head.scheme.map_or("", Scheme::as_str).to_owned(),
            // As in Envoy, what was received of the body.
            size: i64::try_from(cx.held.data.len()).unwrap_or(i64::MAX),
            protocol: head.version.as_str().to_owned(),
            ..HttpRequest::default()
        };
        if body.is_some_and(|settings| settings.pack_as_bytes) {
            http.raw_body = sent.to_vec();
        } else {
            http.body = text(sent).into_owned();
        }
        let partial = partial.map(|partial| if partial { "true" } else { "false" });
        let partial = partial.map(|partial| (PARTIAL_BODY, Cow::Borrowed(partial.as_bytes())));
        let headers = self.headers(cx).into_iter().chain(partial);
        if self.raw_headers {
            let raw = headers.map(|(name, value)| HeaderValue {
                key: text(name).into_owned(),
                raw_value: value.into_owned(),
                ..HeaderValue::default()
            });
            http.header_map = Some(HeaderMap { headers: raw.collect() });
        } else {
            http.headers = headers
                .map(|(name, value)| (text(name).into_owned(), text(&value).into_owned()))
                .collect();
        }
        http
    }

    fn metadata_context(&self, cx: &Context<'_, '_>) -> Metadata {
        let mut filter_metadata = HashMap::new();
        for namespace in &self.metadata {
            // As in Envoy, what is noted about the request comes before what is about its connection.
            let of_connection = cx.core.given.listener_facts.as_ref();
            let of_connection = of_connection.and_then(|facts| facts.metadata.find(namespace, &[]));
            let noted = cx.core.noted.as_ref();
            let of_request = noted.and_then(|noted| noted.metadata.find(namespace, &[]));
            if let Some(value) = of_request.or(of_connection) {
                filter_metadata.insert(namespace.clone(), json::to_struct(value));
            }
        }
        Metadata { filter_metadata }
    }

    fn route_metadata_context(&self, cx: &Context<'_, '_>) -> Metadata {
        let mut filter_metadata = HashMap::new();
        let route = cx.core.record.route;
        for namespace in &self.route_metadata {
            if let Some(value) = route.and_then(|route| route.metadata.find(namespace, &[])) {
                filter_metadata.insert(namespace.clone(), json::to_struct(value));
            }
        }
        Metadata { filter_metadata }
    }
}

/// Says whether the body is only a part of it.
const PARTIAL_BODY: &[u8] = b"x-envoy-auth-partial-body";

/// Whether one of the matchers accepts the name of a header.
pub(super) fn matches(matchers: &[TextMatcher], name: &[u8]) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name))
}

/// As in Envoy, a byte that is not UTF-8 becomes `!`.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|_| '!'));
            }
            Cow::Owned(text)
        }
    }
}

fn address(address: address::Address) -> Option<Address> {
    let kind = match address.ip() {
        Some(ip) => AddressKind::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_value: address.port().unwrap_or_default().into(),
        }),
        None => AddressKind::Pipe(Pipe { path: address.to_string() }),
    };
    Some(Address { address: Some(kind) })
}

/// As in Envoy: the first URI, else the first DNS name, else the subject.
fn principal(certificate: &Certificate) -> String {
    let details = certificate.details();
    let name = details.uris.first().or_else(|| details.dns_names.first());
    name.unwrap_or(&details.subject).clone()
}
