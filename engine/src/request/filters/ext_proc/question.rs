//! What a processor is told.

use std::collections::HashMap;

use prost_types::Struct;

use super::proto::{
    HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, ProtocolConfiguration, Request,
};
use super::{ExtProc, Work};
use crate::cel::Program;
use crate::format::Inputs;
use crate::http::{FieldName, Fields, RequestHead, ResponseHead};
use crate::request::callout::json;
use crate::request::filters::ext_authz::proto::{HeaderMap, HeaderValue, Metadata};
use crate::request::filters::{Context, Way};
use crate::text_matcher::TextMatcher;

/// The key of the attributes.
const ATTRIBUTES: &str = "envoy.filters.http.ext_proc";

/// Which headers a processor sees.
#[derive(Debug, Default)]
pub(super) struct ForwardRules {
    /// Only these, if there are any.
    pub(super) allowed: Box<[TextMatcher]>,
    /// And none of these.
    pub(super) disallowed: Box<[TextMatcher]>,
}

/// The attributes that a processor is told, by what they are called.
pub(super) type Attributes = Box<[(String, Program)]>;

impl ForwardRules {
    fn passes(&self, name: &[u8]) -> bool {
        let is_in = |list: &[TextMatcher]| list.iter().any(|matcher| matcher.matches(name));
        !is_in(&self.disallowed) && (self.allowed.is_empty() || is_in(&self.allowed))
    }

    fn add(&self, name: &[u8], value: &[u8], to: &mut HeaderMap) {
        if self.passes(name) {
            to.headers.push(HeaderValue {
                key: String::from_utf8_lossy(name).into_owned(),
                value: String::new(),
                raw_value: value.to_vec(),
            });
        }
    }

    fn add_fields(&self, fields: &Fields, to: &mut HeaderMap) {
        for (id, name, value) in fields.iter() {
            if id != FieldName::Host {
                self.add(name, value, to);
            }
        }
    }

    fn of_request(&self, head: &RequestHead) -> HeaderMap {
        let mut map = HeaderMap::default();
        if let Some(authority) = head.authority() {
            self.add(b":authority", authority, &mut map);
        }
        self.add(b":path", head.target(), &mut map);
        self.add(b":method", head.method_name(), &mut map);
        if let Some(scheme) = head.scheme {
            self.add(b":scheme", scheme.as_str().as_bytes(), &mut map);
        }
        self.add_fields(&head.fields, &mut map);
        map
    }

    fn of_response(&self, head: &ResponseHead) -> HeaderMap {
        let mut map = HeaderMap::default();
        let mut digits = itoa::Buffer::new();
        self.add(b":status", digits.format(head.status).as_bytes(), &mut map);
        self.add_fields(&head.fields, &mut map);
        map
    }

    fn of_trailers(&self, lines: &[u8]) -> HeaderMap {
        let mut map = HeaderMap::default();
        self.add_fields(&Fields::of_lines(lines), &mut map);
        map
    }
}

impl ExtProc {
    /// The head of a message.
    pub(super) fn headers(&self, way: Way, has_body: bool, cx: &Context<'_, '_>) -> Request {
        let end_of_stream = !has_body;
        match way {
            Way::Request => {
                let headers = Some(self.forward_rules.of_request(&cx.core.heads.request));
                Request::RequestHeaders(HttpHeaders { headers, end_of_stream })
            }
            Way::Response => {
                let headers = Some(self.forward_rules.of_response(&cx.core.heads.response));
                Request::ResponseHeaders(HttpHeaders { headers, end_of_stream })
            }
        }
    }

    /// Trailers, given as field lines.
    pub(super) fn trailers(&self, way: Way, lines: &[u8]) -> Request {
        let trailers = HttpTrailers { trailers: Some(self.forward_rules.of_trailers(lines)) };
        match way {
            Way::Request => Request::RequestTrailers(trailers),
            Way::Response => Request::ResponseTrailers(trailers),
        }
    }

    /// All that a processor is told with a part of a message.
    pub(super) fn message(
        &self,
        way: Way,
        request: Request,
        work: &mut Work,
        cx: &Context<'_, '_>,
    ) -> ProcessingRequest {
        let protocol_config =
            (!std::mem::replace(&mut work.knows_protocol, true)).then_some(ProtocolConfiguration {
                request_body_mode: work.request.parts.body as i32,
                response_body_mode: work.response.parts.body as i32,
                send_body_without_waiting_for_header_response: self.sends_body_early,
            });
        let direction = work.direction_mut(way);
        let attributes = match way {
            Way::Request => &self.request_attributes,
            Way::Response => &self.response_attributes,
        };
        let mut told = HashMap::new();
        if !attributes.is_empty() && !std::mem::replace(&mut direction.knows_attributes, true) {
            told.insert(ATTRIBUTES.to_owned(), evaluate(way, attributes, cx));
        }
        ProcessingRequest {
            request: Some(request),
            metadata_context: Some(metadata(&work.plan.forwarding, cx)),
            attributes: told,
            observability_mode: self.observes,
            protocol_config,
        }
    }
}

/// A part of a body.
pub(super) const fn body(way: Way, body: Vec<u8>, end_of_stream: bool) -> Request {
    let body = HttpBody { body, end_of_stream };
    match way {
        Way::Request => Request::RequestBody(body),
        Way::Response => Request::ResponseBody(body),
    }
}

fn evaluate(way: Way, attributes: &[(String, Program)], cx: &Context<'_, '_>) -> Struct {
    let heads = &cx.core.heads;
    let request_stream;
    let response_stream;
    let inputs = match way {
        Way::Request => {
            request_stream = cx.stream();
            Inputs { request: Some(&heads.request), ..Inputs::new(&request_stream) }
        }
        Way::Response => {
            response_stream = cx.response_stream();
            Inputs {
                request: Some(&heads.request),
                response: Some(&heads.response),
                ..Inputs::new(&response_stream)
            }
        }
    };
    let mut values = serde_json::Map::new();
    for (name, program) in attributes {
        let mut text = Vec::new();
        if program.write_json(&inputs, None, &mut text).is_some()
            && let Ok(value) = serde_json::from_slice(&text)
        {
            values.insert(name.clone(), value);
        }
    }
    json::to_struct(&values.into())
}

/// The metadata of these namespaces. As in Envoy, what is noted about the request comes before what is about
/// its connection.
fn metadata(namespaces: &[String], cx: &Context<'_, '_>) -> Metadata {
    let mut filter_metadata = HashMap::new();
    for namespace in namespaces {
        let noted = cx.core.noted.as_ref();
        let of_request = noted.and_then(|noted| noted.metadata.find(namespace, &[]));
        let of_connection = cx.core.given.listener_facts.as_ref();
        let of_connection = of_connection.and_then(|facts| facts.metadata.find(namespace, &[]));
        if let Some(value) = of_request.or(of_connection) {
            filter_metadata.insert(namespace.clone(), json::to_struct(value));
        }
    }
    Metadata { filter_metadata }
}
