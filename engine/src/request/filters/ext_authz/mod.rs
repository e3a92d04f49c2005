//! `ext_authz`: asks an authorization service whether a request may pass, and what changes on it.
//!
//! The way of a request: [`ExtAuthz::request_head`] asks (`question.rs`, written as a gRPC message or as a
//! request of its own), waits, and follows the [`Verdict`] that `grpc.rs` or `http.rs` reads from the answer.
//!
//! Invariant: a request that the service has not let pass goes on only if `failure_mode_allow` says so.

pub(super) mod compile;
mod grpc;
mod http;
pub(super) mod proto;
mod question;
pub(super) mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{self, Poll};

use self::http::HttpService;
use self::question::Question;
use self::verdict::{Change, Denial, Verdict};
use super::mutation_rules::MutationRules;
use super::{Context, Flow, RouteConfig, Wait};
use crate::flags::Flag;
use crate::format::Inputs;
use crate::http::{BodyLength, ResponseHead};
use crate::metadata_matcher::MetadataMatcher;
use crate::request::callout::grpc::GrpcMethod;
use crate::request::callout::{Call, CallFailed, Response};
use crate::request::reply::LocalReply;
use crate::runtime::{RuntimeFlag, RuntimeFraction};
use crate::shard::clock::Millis;
use crate::stats::{Origin, Scope, stats};

stats! {
    /// `http.<stat_prefix>.ext_authz.`
    pub struct ExtAuthzStats {
        counter denied;
        counter disabled;
        counter error;
        counter failure_mode_allowed;
        constant counter filter_state_name_collision;
        counter ignored_dynamic_metadata;
        counter invalid;
        counter ok;
        constant counter omitted_response_headers;
        constant counter request_header_limits_reached;
        constant counter response_header_limits_reached;
        counter shadow_denied;
        counter shadow_error;
    }
}

/// The namespace of the metadata that a service sets.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// The filter.
#[derive(Debug)]
pub struct ExtAuthz {
    service: Arc<Service>,
    /// What of the body is sent; none: nothing.
    body: Option<BodySettings>,
    question: Question,
    failure: FailureMode,
    enforcement: Enforcement,
    status_on_error: u16,
    clear_route_cache: bool,
    ingests_metadata: bool,
    /// Which headers of a request the service may change; none: all.
    rules: Option<MutationRules>,
    /// At most so many bytes of the body of a denial reach the client; 0: all.
    denied_body_max: usize,
    /// For which requests it runs.
    enabled: Option<RuntimeFraction>,
    enabled_metadata: Option<EnabledMetadata>,
    /// Whether requests for which it does not run are refused.
    deny_at_disable: RuntimeFlag,
    charges_cluster: bool,
    stats: Arc<Scope<ExtAuthzStats>>,
    /// What the cluster of the request counts.
    counted: Counted,
}

/// The names of what a cluster counts: `cluster.<name>.ext_authz.<stat_prefix>.<name>`.
#[derive(Debug)]
struct Counted {
    denied: &'static str,
    error: &'static str,
    failure_mode_allowed: &'static str,
    ok: &'static str,
}

/// `filter_enabled_metadata`
#[derive(Debug)]
struct EnabledMetadata {
    matcher: MetadataMatcher,
    invert: bool,
}

/// Who is asked.
#[derive(Debug)]
enum Service {
    Grpc(GrpcMethod),
    Http(HttpService),
}

/// What happens to a request when the service does not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FailureMode {
    Refuse,
    Allow,
    /// The same, and the origin learns it from a header.
    AllowWithHeader,
}

/// Whether the service has the last word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Enforcement {
    Full,
    /// What it refuses is only counted.
    Shadow,
}

/// `with_request_body`
#[derive(Clone, Copy, Debug)]
struct BodySettings {
    bytes_max: usize,
    /// Whether the first bytes of a longer body are sent; otherwise it is answered with 413.
    allow_partial: bool,
    /// Whether it is sent as bytes, whatever it is.
    pack_as_bytes: bool,
}

/// What a route says.
#[derive(Debug)]
pub enum PerRoute {
    /// Its requests are not checked.
    Disabled,
    /// They are checked like this.
    Check(Box<CheckSettings>),
}

/// `CheckSettings`
#[derive(Debug)]
pub struct CheckSettings {
    context_extensions: BTreeMap<String, String>,
    body: RouteBody,
    service: Option<Arc<Service>>,
}

/// What a route says about the body.
#[derive(Clone, Copy, Debug)]
enum RouteBody {
    /// What the filter says.
    Inherited,
    /// It is not sent.
    NotSent,
    Sent(BodySettings),
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State(Progress);

/// How far it is.
#[derive(Debug, Default)]
enum Progress {
    /// The service was not asked.
    #[default]
    New,
    /// It is asked when the body has arrived.
    Holding,
    /// It was asked at this time.
    Asking(Call, Arc<Service>, Millis),
    /// It has answered, and changes the response.
    Answered(Vec<Change>),
}

/// How a route says that the service is asked.
struct Plan<'a> {
    service: &'a Arc<Service>,
    body: Option<BodySettings>,
    extensions: BTreeMap<&'a str, &'a str>,
}

impl State {
    /// Ready when the service has answered.
    pub(super) fn poll_answer(&self, cx: &task::Context<'_>) -> Poll<()> {
        match &self.0 {
            Progress::Asking(call, ..) => call.poll_done(cx),
            Progress::New | Progress::Holding | Progress::Answered(_) => Poll::Ready(()),
        }
    }
}

impl ExtAuthz {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match std::mem::replace(&mut state.0, Progress::Answered(Vec::new())) {
            Progress::New => self.begin(state, cx),
            Progress::Holding => self.ask(state, cx),
            Progress::Asking(call, service, since) => {
                let verdict = service.read(call.take_whole());
                self.follow(verdict, since, state, cx)
            }
            Progress::Answered(_) => Flow::Continue,
        }
    }

    /// Decides whether the service is asked at all.
    fn begin(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        // As in Envoy, what no route matches is not checked.
        if cx.core.record.route.is_none() || Self::is_disabled(cx) {
            return Flow::Continue;
        }
        if !self.is_enabled(cx) {
            self.stats(cx).disabled.inc();
            if self.deny_at_disable.get() {
                return Flow::Reply(self.refusal());
            }
            return Flow::Continue;
        }
        self.ask(state, cx)
    }

    fn ask(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let Some(plan) = self.plan(cx) else { return Flow::Continue };
        let has_body = !matches!(cx.core.body, BodyLength::None | BodyLength::Length(0));
        let body = plan.body.filter(|_| has_body && cx.core.heads.request.upgrade().is_none());
        if let Some(settings) = body
            && !cx.held.has_ended()
            && (!settings.allow_partial || cx.held.data.len() < settings.bytes_max)
        {
            state.0 = Progress::Holding;
            return Flow::Wait(if settings.allow_partial {
                Wait::BodyUpTo { bytes: settings.bytes_max }
            } else {
                Wait::Body { bytes_max: settings.bytes_max }
            });
        }
        let call = match &**plan.service {
            Service::Grpc(method) => {
                let request = self.question.message(cx, body, &plan.extensions);
                let stream = cx.stream();
                let head = Some(&cx.core.heads.request);
                let inputs = Inputs { request: head, ..Inputs::new(&stream) };
                method.call(cx.core.given, &inputs, &request)
            }
            Service::Http(service) => service.call(&self.question, cx, body),
        };
        let Some(call) = call else { return self.failed(None, cx) };
        state.0 = Progress::Asking(call, Arc::clone(plan.service), cx.core.shard.clock.now());
        Flow::Wait(Wait::Call)
    }

    /// Whether the route says that its requests are not checked.
    fn is_disabled(cx: &Context<'_, '_>) -> bool {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::ExtAuthz(config) => Some(config),
            _ => None,
        });
        matches!(of_route, Some(PerRoute::Disabled))
    }

    /// How the route says that the service is asked; none: it is not.
    fn plan<'a>(&'a self, cx: &Context<'a, '_>) -> Option<Plan<'a>> {
        let mut plan =
            Plan { service: &self.service, body: self.body, extensions: BTreeMap::new() };
        let said = cx.configs.iter().filter_map(|config| match &**config {
            RouteConfig::ExtAuthz(config) => Some(config),
            _ => None,
        });
        let said: Vec<&PerRoute> = said.collect();
        match said.first() {
            None => {}
            Some(PerRoute::Disabled) => return None,
            Some(PerRoute::Check(settings)) => {
                match settings.body {
                    RouteBody::Inherited => {}
                    RouteBody::NotSent => plan.body = None,
                    RouteBody::Sent(body) => plan.body = Some(body),
                }
                if let Some(service) = &settings.service {
                    plan.service = service;
                }
            }
        }
        // As in Envoy, those of all levels are merged.
        for config in said.into_iter().rev() {
            if let PerRoute::Check(settings) = config {
                let extensions = settings.context_extensions.iter();
                plan.extensions.extend(extensions.map(|(key, value)| (&**key, &**value)));
            }
        }
        Some(plan)
    }

    fn is_enabled(&self, cx: &Context<'_, '_>) -> bool {
        let random = cx.core.shard.random.borrow_mut().u64(..);
        self.enabled.as_ref().is_none_or(|fraction| fraction.includes(random))
            && self.enabled_metadata.as_ref().is_none_or(|enabled| {
                let noted = cx.core.noted.as_ref();
                let matches = noted.and_then(|noted| enabled.matcher.matches(&noted.metadata));
                matches.unwrap_or(false) != enabled.invert
            })
    }

    fn follow(
        &self,
        verdict: Verdict,
        since: Millis,
        state: &mut State,
        cx: &mut Context<'_, '_>,
    ) -> Flow {
        match verdict {
            Verdict::Allow(mut allowed) => {
                if let Some(rules) = &self.rules
                    && rules.keep_allowed(&mut allowed.request).is_err()
                {
                    return self.invalid(cx);
                }
                self.stats(cx).ok.inc();
                Self::count(cx, self.counted.ok);
                let mut metadata = allowed.metadata;
                if !metadata.is_empty() {
                    let took = cx.core.shard.clock.now().saturating_sub(since);
                    metadata.push(("ext_authz_duration".to_owned(), took.into()));
                }
                self.note(metadata, cx);
                let changes = allowed.request.len() + allowed.query.len();
                verdict::change_request(allowed.request, &mut cx.core.heads.request);
                verdict::change_query(allowed.query, &mut cx.core.heads.request);
                state.0 = Progress::Answered(allowed.response);
                if self.clear_route_cache && changes > 0 {
                    cx.clear_route_cache();
                }
                Flow::Continue
            }
            Verdict::Deny(denial) => {
                self.stats(cx).denied.inc();
                Self::count(cx, self.counted.denied);
                self.note(denial.metadata.clone(), cx);
                self.charge(denial.status, cx);
                if self.enforcement == Enforcement::Shadow {
                    self.stats(cx).shadow_denied.inc();
                    return Flow::Continue;
                }
                Flow::Reply(self.reply(denial, "ext_authz_denied"))
            }
            Verdict::Invalid => self.invalid(cx),
            Verdict::Failed(answer) => self.failed(answer, cx),
        }
    }

    /// The service has answered with something that may not be sent.
    fn invalid(&self, cx: &Context<'_, '_>) -> Flow {
        self.stats(cx).invalid.inc();
        if self.enforcement == Enforcement::Shadow {
            self.stats(cx).shadow_error.inc();
            return Flow::Continue;
        }
        let reply = LocalReply::new(500, "");
        Flow::Reply(Box::new(reply.with_details(FLAG, "ext_authz_invalid")))
    }

    /// The service has not answered, or has failed.
    fn failed(&self, mut answer: Option<Denial>, cx: &mut Context<'_, '_>) -> Flow {
        if let Some(answer) = &mut answer {
            self.note(std::mem::take(&mut answer.metadata), cx);
        }
        self.stats(cx).error.inc();
        Self::count(cx, self.counted.error);
        if self.enforcement == Enforcement::Shadow {
            self.stats(cx).shadow_error.inc();
            return Flow::Continue;
        }
        if self.failure == FailureMode::Refuse {
            return Flow::Reply(match answer {
                Some(answer) => self.reply(answer, ERROR),
                None => self.refusal(),
            });
        }
        self.stats(cx).failure_mode_allowed.inc();
        Self::count(cx, self.counted.failure_mode_allowed);
        if self.failure == FailureMode::AllowWithHeader {
            let fields = &mut cx.core.heads.request.fields;
            fields.append_other(b"x-envoy-auth-failure-mode-allowed", b"true");
        }
        Flow::Continue
    }

    fn refusal(&self) -> Box<LocalReply> {
        Box::new(LocalReply::new(self.status_on_error, "").with_details(FLAG, ERROR))
    }

    /// The service's answer, as the client gets it.
    fn reply(&self, answer: Denial, details: &'static str) -> Box<LocalReply> {
        let Denial { status, fields, mut body, metadata: _ } = answer;
        if self.denied_body_max > 0 {
            body.truncate(self.denied_body_max);
        }
        let reply = LocalReply::new(status, "").with_details(FLAG, details);
        Box::new(LocalReply { body: body.into(), fields: Some(Box::new(fields)), ..reply })
    }

    pub(super) fn response_head(state: &mut State, cx: &mut Context<'_, '_>) {
        if let Progress::Answered(changes) = &mut state.0 {
            let head: &mut ResponseHead = &mut cx.core.heads.response;
            for change in std::mem::take(changes) {
                change.apply(&mut head.fields);
            }
        }
    }

    /// Notes what the service says about the request.
    fn note(&self, metadata: Vec<(String, serde_json::Value)>, cx: &mut Context<'_, '_>) {
        if metadata.is_empty() {
            return;
        }
        if !self.ingests_metadata {
            self.stats(cx).ignored_dynamic_metadata.inc();
            return;
        }
        for (key, value) in metadata {
            cx.core.note().metadata.set(NAMESPACE, &key, value);
        }
    }

    /// Counts a denial as a response of the cluster of the request. As in Envoy, as an internal one.
    fn charge(&self, status: u16, cx: &Context<'_, '_>) {
        if self.charges_cluster
            && let Some(cluster) = &cx.core.upstream.cluster
        {
            cluster.stats().record_response(status, Origin::Internal, false);
        }
    }

    /// Counts for the cluster of the request.
    fn count(cx: &Context<'_, '_>, name: &'static str) {
        if let Some(cluster) = &cx.core.upstream.cluster {
            cluster.stats().ext_authz.record(name);
        }
    }

    fn stats(&self, cx: &Context<'_, '_>) -> &ExtAuthzStats {
        self.stats.shard(cx.core.shard.id)
    }
}

const FLAG: Option<Flag> = Some(Flag::UnauthorizedExternalService);
const ERROR: &str = "ext_authz_error";

impl Service {
    fn read(&self, answer: Result<Response, CallFailed>) -> Verdict {
        match self {
            Self::Grpc(_) => grpc::read(answer),
            Self::Http(service) => service.read(answer),
        }
    }
}
