//! `header_mutation`: changes headers, trailers and the query.

pub(in crate::request) mod compile;
mod query;

use std::sync::Arc;

use self::query::QueryMutation;
use super::{Context, Flow, RouteConfig, Way};
use crate::format::{Inputs, StreamInfo};
use crate::http::{
    FieldName, FieldSet, Fields, JOINED_IN_REQUESTS, JOINED_IN_RESPONSES, RequestHead,
};
use crate::pipe::heads::Heads;
use crate::request::route::HeaderAddition;
use crate::text_matcher::TextMatcher;

/// The filter.
#[derive(Debug)]
pub struct HeaderMutation {
    mutations: Mutations,
    /// Whether those of the most specific level of a route come last, and so win.
    most_specific_wins: bool,
}

/// What the filter, or a level of a route, changes.
#[derive(Debug, Default)]
pub struct Mutations {
    request: Box<[Mutation]>,
    query: Box<[QueryMutation]>,
    response: Box<[Mutation]>,
    request_trailers: Box<[Mutation]>,
    response_trailers: Box<[Mutation]>,
}

/// One change.
#[derive(Debug)]
enum Mutation {
    /// Removes a header; its name is in lower case.
    Remove(Box<[u8]>),
    /// Removes each header whose name matches.
    RemoveMatching(TextMatcher),
    Add(HeaderAddition),
}

/// Changes of a request outside the filter: `early_header_mutation_extensions`, before the connection
/// manager makes its own, and those of a mirror.
#[derive(Debug)]
pub struct RequestMutations(Box<[Mutation]>);

impl RequestMutations {
    /// Changes the request.
    pub(in crate::request) fn apply(&self, request: &mut RequestHead, stream: &dyn StreamInfo) {
        let mut value = Vec::new();
        for mutation in &self.0 {
            mutation.write_value(|| inputs(request, stream), &mut value);
            mutation.apply(&value, &mut request.fields, JOINED_IN_REQUESTS);
        }
    }
}

impl HeaderMutation {
    /// The mutations of the filter, then those of the route, in the order in which they are made.
    fn each<'a>(&'a self, configs: &'a [Arc<RouteConfig>], mut each: impl FnMut(&'a Mutations)) {
        let of_route = configs.iter().filter_map(|config| match &**config {
            RouteConfig::HeaderMutation(mutations) => Some(&**mutations),
            _ => None,
        });
        each(&self.mutations);
        if self.most_specific_wins {
            of_route.rev().for_each(each);
        } else {
            of_route.for_each(each);
        }
    }

    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let configs = cx.configs;
        let mut sees = (false, false);
        self.each(configs, |mutations| {
            mutations.change_request(cx);
            sees.0 |= !mutations.request_trailers.is_empty();
            sees.1 |= !mutations.response_trailers.is_empty();
        });
        if sees.0 {
            cx.see_trailers(Way::Request);
        }
        if sees.1 {
            cx.see_trailers(Way::Response);
        }
        Flow::Continue
    }

    pub(super) fn response_head(&self, cx: &mut Context<'_, '_>) {
        self.each(cx.configs, |mutations| {
            if mutations.response.is_empty() {
                return;
            }
            let stream = cx.response_stream();
            let mut value = cx.core.shard.buffers.take();
            let Heads { request, response, .. } = &mut *cx.core.heads;
            for mutation in &mutations.response {
                let inputs = || Inputs { response: Some(response), ..inputs(request, &stream) };
                mutation.write_value(inputs, &mut value);
                mutation.apply(&value, &mut response.fields, JOINED_IN_RESPONSES);
            }
            cx.core.shard.buffers.give(value);
        });
    }

    pub(super) fn trailers(&self, way: Way, trailers: &mut Fields, cx: &mut Context<'_, '_>) {
        self.each(cx.configs, |mutations| {
            let (list, joined) = match way {
                Way::Request => (&mutations.request_trailers, JOINED_IN_REQUESTS),
                Way::Response => (&mutations.response_trailers, JOINED_IN_RESPONSES),
            };
            if list.is_empty() {
                return;
            }
            let stream = match way {
                Way::Request => cx.stream(),
                Way::Response => cx.response_stream(),
            };
            let mut value = cx.core.shard.buffers.take();
            let Heads { request, response, .. } = &mut *cx.core.heads;
            let response = (way == Way::Response).then_some(&*response);
            for mutation in list {
                let inputs =
                    || Inputs { response, trailers: Some(trailers), ..inputs(request, &stream) };
                mutation.write_value(inputs, &mut value);
                mutation.apply(&value, trailers, joined);
            }
            cx.core.shard.buffers.give(value);
        });
    }
}

impl Mutations {
    fn change_request(&self, cx: &mut Context<'_, '_>) {
        if self.request.is_empty() && self.query.is_empty() {
            return;
        }
        let stream = cx.stream();
        let buffers = cx.core.shard.buffers;
        let mut value = buffers.take();
        let request = &mut cx.core.heads.request;
        for mutation in &self.request {
            mutation.write_value(|| inputs(request, &stream), &mut value);
            mutation.apply(&value, &mut request.fields, JOINED_IN_REQUESTS);
        }
        if !self.query.is_empty() {
            query::change(&self.query, request, &stream, &mut value);
        }
        buffers.give(value);
    }
}

fn inputs<'a>(request: &'a RequestHead, stream: &'a dyn StreamInfo) -> Inputs<'a> {
    Inputs { request: Some(request), ..Inputs::new(stream) }
}

impl Mutation {
    /// Computes what is added, before anything changes.
    fn write_value<'a>(&self, inputs: impl FnOnce() -> Inputs<'a>, value: &mut Vec<u8>) {
        value.clear();
        if let Self::Add(addition) = self {
            addition.write_value(&inputs(), value);
        }
    }

    fn apply(&self, value: &[u8], fields: &mut Fields, joined: FieldSet) {
        match self {
            Self::Remove(name) => fields.remove_other(name),
            Self::RemoveMatching(matcher) => {
                // Where a body ends is for the codec to say.
                fields.retain(|_, name, id, _| FRAMING.contains(&id) || !matcher.matches(name));
            }
            Self::Add(addition) => {
                if addition.applies_to(fields) && (!value.is_empty() || addition.keep_empty) {
                    addition.put(value, fields, joined);
                }
            }
        }
    }
}

const FRAMING: [FieldName; 3] =
    [FieldName::ContentLength, FieldName::TransferEncoding, FieldName::Host];
