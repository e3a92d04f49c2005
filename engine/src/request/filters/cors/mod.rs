//! `cors`: answers preflight requests, and tells browsers which origins may read a response.

pub(super) mod compile;

use std::sync::Arc;

use super::{Context, Flow, RouteConfig};
use crate::http::{FieldName, Method};
use crate::request::reply::LocalReply;
use crate::request::route::Action;
use crate::runtime::RuntimeFraction;
use crate::stats::{Scope, stats};
use crate::text_matcher::TextMatcher;

stats! {
    /// `http.<stat_prefix>.cors.`
    pub struct CorsStats {
        counter origin_invalid;
        counter origin_valid;
    }
}

/// The filter. Its policies are those of the route.
#[derive(Debug)]
pub struct Cors {
    pub(super) stats: Arc<Scope<CorsStats>>,
}

/// A policy of a route or a virtual host. What it leaves out, a less specific one may say.
#[derive(Clone, Debug)]
pub struct Policy {
    /// One must match the origin; empty: left out.
    origins: Vec<TextMatcher>,
    methods: Box<[u8]>,
    headers: Box<[u8]>,
    expose_headers: Box<[u8]>,
    max_age: Box<[u8]>,
    credentials: Option<bool>,
    /// Of the requests, how many it applies to.
    enabled: RuntimeFraction,
    /// Of the others, how many are counted.
    shadow: RuntimeFraction,
    private_network: Option<bool>,
    forward_not_matching_preflights: Option<bool>,
}

/// What the filter remembers of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It has no origin, or none that may read the response.
    #[default]
    Ordinary,
    /// This origin may read the response.
    CrossOrigin(Box<[u8]>),
}

impl Cors {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        // As in Envoy, only requests that are forwarded have a policy.
        let forwards =
            |action: &Action| matches!(action, Action::Forward(_) | Action::ClusterNotFound { .. });
        if !cx.core.record.route.is_some_and(|route| forwards(&route.action)) {
            return Flow::Continue;
        }
        let policies = Policies(cx.configs);
        let Some(first) = policies.each().next() else { return Flow::Continue };
        let (enabled, shadow) = {
            let mut random = cx.core.shard.random.borrow_mut();
            (first.enabled.includes(random.u64(..)), first.shadow.includes(random.u64(..)))
        };
        let request = &cx.core.heads.request;
        let origin = request.fields.get(FieldName::Origin).filter(|origin| !origin.is_empty());
        let Some(origin) = origin.filter(|_| enabled || shadow) else { return Flow::Continue };
        let allowed = policies.allow(origin);
        let stats = self.stats.shard(cx.core.shard.id);
        if allowed { &stats.origin_valid } else { &stats.origin_invalid }.inc();
        if !enabled {
            return Flow::Continue;
        }
        if allowed {
            *state = State::CrossOrigin(origin.into());
        }
        let asked = request.fields.get(FieldName::AccessControlRequestMethod).unwrap_or_default();
        let is_preflight = request.method == Method::Options && !asked.is_empty();
        let forwards =
            !allowed && policies.first(|it| it.forward_not_matching_preflights) != Some(false);
        if !is_preflight || forwards {
            return Flow::Continue;
        }
        Flow::Reply(Box::new(policies.preflight(origin, allowed, &request.fields)))
    }

    pub(super) fn response_head(&self, state: &State, cx: &mut Context<'_, '_>) {
        let State::CrossOrigin(origin) = state else { return };
        let policies = Policies(cx.configs);
        let fields = &mut cx.core.heads.response.fields;
        fields.set(FieldName::AccessControlAllowOrigin, origin);
        if policies.first(|policy| policy.credentials) == Some(true) {
            fields.set(FieldName::AccessControlAllowCredentials, b"true");
        }
        if let Some(expose) = policies.text(|policy| &policy.expose_headers) {
            fields.set(FieldName::AccessControlExposeHeaders, expose);
        }
    }
}

/// The policies of a request, the most specific first.
struct Policies<'a>(&'a [Arc<RouteConfig>]);

impl<'a> Policies<'a> {
    fn each(&self) -> impl Iterator<Item = &'a Policy> + use<'a> {
        self.0.iter().filter_map(|config| match &**config {
            RouteConfig::Cors(policy) => Some(&**policy),
            _ => None,
        })
    }

    /// The first value that is not left out.
    fn first<T>(&self, of: impl Fn(&Policy) -> Option<T>) -> Option<T> {
        self.each().find_map(of)
    }

    fn text(&self, of: impl Fn(&'a Policy) -> &'a [u8]) -> Option<&'a [u8]> {
        self.each().map(of).find(|text| !text.is_empty())
    }

    fn allow(&self, origin: &[u8]) -> bool {
        // As in Envoy, a matcher that matches `*` itself is for every origin.
        let allows = |matcher: &TextMatcher| matcher.matches(b"*") || matcher.matches(origin);
        let mut all = self.each().map(|policy| &policy.origins);
        all.find(|origins| !origins.is_empty()).is_some_and(|origins| origins.iter().any(allows))
    }

    /// The answer to a preflight request.
    fn preflight(&self, origin: &[u8], allowed: bool, asked: &crate::http::Fields) -> LocalReply {
        let mut reply = LocalReply::by_filter(200).with_details(None, "cors_response");
        let mut add = |name, value: &[u8]| reply.add_field(name, value);
        // `*` is whatever the request asks for.
        let or_asked = |text: &'a [u8], name| match text {
            b"*" => asked.get(name).unwrap_or_default().to_vec(),
            text => text.to_vec(),
        };
        if allowed {
            add(FieldName::AccessControlAllowOrigin, origin);
        }
        if self.first(|policy| policy.credentials) == Some(true) {
            add(FieldName::AccessControlAllowCredentials, b"true");
        }
        if let Some(methods) = self.text(|policy| &policy.methods) {
            let methods = or_asked(methods, FieldName::AccessControlRequestMethod);
            add(FieldName::AccessControlAllowMethods, &methods);
        }
        if let Some(headers) = self.text(|policy| &policy.headers) {
            let headers = or_asked(headers, FieldName::AccessControlRequestHeaders);
            add(FieldName::AccessControlAllowHeaders, &headers);
        }
        if let Some(max_age) = self.text(|policy| &policy.max_age) {
            add(FieldName::AccessControlMaxAge, max_age);
        }
        let private = asked.get(FieldName::AccessControlRequestPrivateNetwork) == Some(b"true");
        if private && self.first(|policy| policy.private_network) == Some(true) {
            add(FieldName::AccessControlAllowPrivateNetwork, b"true");
        }
        reply
    }
}
