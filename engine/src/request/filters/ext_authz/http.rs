//! A service that is asked over HTTP: with a copy of the request's head.

use std::sync::Arc;

use super::question::{Question, matches};
use super::verdict::{Allowed, Change, Denial, Verdict, is_field};
use super::{BodySettings, Context};
use crate::format::Inputs;
use crate::http::{FieldName, Fields, JOINED_IN_REQUESTS, RequestHead};
use crate::limits;
use crate::request::callout::{Body, Call, CallFailed, Response, Target};
use crate::request::route::HeaderAddition;
use crate::text_matcher::TextMatcher;

/// The service.
#[derive(Debug)]
pub(super) struct HttpService {
    pub(super) target: Arc<Target>,
    pub(super) path: PathRule,
    pub(super) headers_to_add: Box<[HeaderAddition]>,
    /// Headers of its answer that the request to the origin gets instead of its own.
    pub(super) upstream: Box<[TextMatcher]>,
    /// Headers that are appended to those of the request.
    pub(super) upstream_append: Box<[TextMatcher]>,
    /// Headers that the client gets with a denial; empty: all.
    pub(super) client: Box<[TextMatcher]>,
    /// Headers that the client gets with the response of the origin.
    pub(super) client_on_success: Box<[TextMatcher]>,
    /// Headers that become metadata.
    pub(super) metadata: Box<[TextMatcher]>,
}

/// The path that the service is asked at.
#[derive(Debug)]
pub(super) enum PathRule {
    /// That of the request, behind this prefix.
    Prefix(Box<[u8]>),
    /// This one.
    Fixed(Box<[u8]>),
}

impl HttpService {
    pub(super) fn call(
        &self,
        question: &Question,
        cx: &Context<'_, '_>,
        body: Option<BodySettings>,
    ) -> Option<Call> {
        let (sent, partial) = question.body(cx, body);
        let stream = cx.stream();
        let request = &cx.core.heads.request;
        let fill = |head: &mut RequestHead| {
            head.set_method(request.method_name());
            head.scheme = request.scheme;
            let target = match &self.path {
                PathRule::Prefix(prefix) => [prefix, request.target()].concat(),
                PathRule::Fixed(path) => path.to_vec(),
            };
            head.set_target(&target);
            head.fields.append(FieldName::Host, request.authority().unwrap_or_default());
            let mut digits = itoa::Buffer::new();
            let length = digits.format(sent.len());
            head.fields.append(FieldName::ContentLength, length.as_bytes());
            for (name, value) in question.headers(cx) {
                if !name.starts_with(b":") && name != b"content-length" {
                    head.fields.append_other(name, &value);
                }
            }
            if let Some(partial) = partial {
                let text: &[u8] = if partial { b"true" } else { b"false" };
                head.fields.append_other(b"x-envoy-auth-partial-body", text);
            }
            for addition in &self.headers_to_add {
                let inputs = Inputs { request: Some(request), ..Inputs::new(&stream) };
                let mut value = Vec::new();
                addition.write_value(&inputs, &mut value);
                if !value.is_empty() {
                    addition.put(&value, &mut head.fields, JOINED_IN_REQUESTS);
                }
            }
            head.fields.set(FieldName::XEnvoyInternal, b"true");
        };
        let most = limits::CALL_RESPONSE_BYTES_MAX;
        Call::start(cx.core.given, &self.target, fill, Body::Whole(sent), most)
    }

    pub(super) fn read(&self, answer: Result<Response, CallFailed>) -> Verdict {
        let Ok(Response { head, body, .. }) = answer else { return Verdict::Failed(None) };
        if head.status >= 500 {
            return Verdict::Failed(None);
        }
        let metadata = self.metadata_of(&head.fields);
        if head.status != 200 {
            let mut fields = Fields::default();
            for (_, name, value) in head.fields.iter() {
                if self.reaches_client(name) {
                    fields.append_other(name, value);
                }
            }
            return Verdict::Deny(Denial { status: head.status, fields, body, metadata });
        }
        let mut allowed = Allowed { metadata, ..Allowed::default() };
        let mut appended = Vec::new();
        for (_, name, value) in head.fields.iter() {
            if matches(&self.upstream, name) {
                allowed.request.push(Change::Set(name.to_vec(), value.to_vec()));
            }
            if matches(&self.upstream_append, name) {
                appended.push(Change::Add(name.to_vec(), value.to_vec()));
            }
            if matches(&self.client_on_success, name) {
                allowed.response.push(Change::Add(name.to_vec(), value.to_vec()));
            }
        }
        allowed.request.append(&mut appended);
        allowed.request.extend(removals(&head.fields));
        Verdict::Allow(allowed)
    }

    fn metadata_of(&self, fields: &Fields) -> Vec<(String, serde_json::Value)> {
        let noted = fields.iter().filter(|(_, name, _)| matches(&self.metadata, name));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        noted.map(|(_, name, value)| (text(name), text(value).into())).collect()
    }

    /// Whether the client gets this header with a denial.
    fn reaches_client(&self, name: &[u8]) -> bool {
        const ALWAYS: [FieldName; 3] =
            [FieldName::ContentLength, FieldName::Location, FieldName::WwwAuthenticate];
        self.client.is_empty()
            || ALWAYS.contains(&FieldName::of(name))
            || matches(&self.client, name)
    }
}

/// What the service wants removed from the request: `x-envoy-auth-headers-to-remove`.
fn removals(fields: &Fields) -> impl Iterator<Item = Change> {
    let lists = fields.iter().filter(|(_, name, _)| *name == b"x-envoy-auth-headers-to-remove");
    lists.flat_map(|(_, _, value)| {
        let names = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let names = names.filter(|name| is_field(&name.to_ascii_lowercase(), b""));
        names.map(|name| Change::Remove(name.to_ascii_lowercase()))
    })
}
