//! `ratelimit`: a service that counts the requests of many proxies says whether a request may pass.
//!
//! Which descriptors a request has is decided by `request::rate_limit`: those of the filter or, if it has none,
//! of the route.

mod answer;
pub(super) mod compile;
mod proto;

use std::sync::Arc;
use std::task::{self, Poll};

use self::answer::Answer;
use self::proto::{Entry, Override, RateLimitDescriptor, RateLimitRequest};
use super::ext_authz::verdict::Change;
use super::{Context, Flow, RouteConfig, Wait};
use crate::flags::Flag;
use crate::format::Inputs;
use crate::http::{FieldName, Fields, ResponseHead};
use crate::request::callout::Call;
use crate::request::callout::grpc::GrpcMethod;
use crate::request::rate_limit::{Descriptor, QuotaHeaders, RateLimit, VirtualHostLimits, entries};
use crate::request::reply::LocalReply;
use crate::request::route::{Action, HeaderMutations};
use crate::runtime::RuntimeFraction;
use crate::stats::Origin;

/// The filter.
#[derive(Debug)]
pub struct GlobalRateLimit {
    method: GrpcMethod,
    domain: Box<str>,
    /// Of the rate limits of routes.
    stage: u32,
    /// In place of those of routes; empty: those.
    rate_limits: Box<[RateLimit]>,
    requests: Requests,
    /// Of the requests, how many it applies to.
    enabled: RuntimeFraction,
    /// Of those over a limit, how many are refused.
    enforced: RuntimeFraction,
    /// Of those that the service does not answer, how many are refused.
    denied_on_failure: RuntimeFraction,
    status: u16,
    /// The gRPC status, if it is not the one that corresponds to the status.
    grpc_status: Option<u8>,
    status_on_error: u16,
    /// For the replies to requests that are refused.
    response_headers: Arc<HeaderMutations>,
    /// Whether clients learn of their quota.
    quota_headers: bool,
    /// Whether refused clients learn that a limit is the reason.
    limited_header: bool,
    /// Whether refused clients learn when to come back.
    retry_after: bool,
    metadata_namespace: Box<str>,
    counted: Counted,
}

/// The names of what a cluster counts: `cluster.<name>.ratelimit.<stat_prefix>.<name>`.
#[derive(Debug)]
struct Counted {
    error: &'static str,
    failure_mode_allowed: &'static str,
    ok: &'static str,
    over_limit: &'static str,
}

/// Which requests it applies to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Requests {
    All,
    /// Those of the own network.
    Internal,
    External,
}

/// What a route says.
#[derive(Debug)]
pub struct PerRoute {
    virtual_host_limits: VirtualHostLimits,
    /// In place of all others; empty: those.
    rate_limits: Box<[RateLimit]>,
    /// Empty: that of the filter.
    domain: Box<str>,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State(Progress);

#[derive(Debug, Default)]
enum Progress {
    #[default]
    New,
    /// The service is asked; what its descriptors say about the quota.
    Asking(Call, Vec<QuotaHeaders>),
    /// These go to the client.
    Answered(Fields),
}

impl State {
    /// Ready when the service has answered.
    pub(super) fn poll_answer(&self, cx: &task::Context<'_>) -> Poll<()> {
        match &self.0 {
            Progress::Asking(call, _) => call.poll_done(cx),
            Progress::New | Progress::Answered(_) => Poll::Ready(()),
        }
    }
}

impl GlobalRateLimit {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match std::mem::replace(&mut state.0, Progress::Answered(Fields::default())) {
            Progress::New => self.ask(state, cx),
            Progress::Asking(call, quota) => match Answer::read(call.take_whole()) {
                Some(answer) => self.follow(answer, &quota, state, cx),
                None => self.failed(cx),
            },
            Progress::Answered(_) => Flow::Continue,
        }
    }

    fn ask(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        // As in Envoy, requests that no cluster gets are not limited.
        if cx.core.upstream.cluster.is_none()
            || !self.is_drawn(&self.enabled, cx)
            || !self.requests.include(cx)
        {
            return Flow::Continue;
        }
        let of_route = per_route(cx);
        let stream = cx.stream();
        let inputs = Inputs { request: Some(&cx.core.heads.request), ..Inputs::new(&stream) };
        let descriptors = self.descriptors(of_route, &inputs, cx);
        if descriptors.is_empty() {
            return Flow::Continue;
        }
        let domain = of_route.map(|config| &*config.domain).filter(|domain| !domain.is_empty());
        let message = RateLimitRequest {
            domain: domain.unwrap_or(&self.domain).to_owned(),
            descriptors: descriptors.iter().map(written).collect(),
        };
        let Some(call) = self.method.call(cx.core.given, &inputs, &message) else {
            return self.failed(cx);
        };
        let quota = descriptors.iter().map(|descriptor| descriptor.headers).collect();
        state.0 = Progress::Asking(call, quota);
        Flow::Wait(Wait::Call)
    }

    fn descriptors(
        &self,
        of_route: Option<&PerRoute>,
        inputs: &Inputs<'_>,
        cx: &Context<'_, '_>,
    ) -> Vec<Descriptor> {
        let of_route_limits = of_route.map(|config| &*config.rate_limits).unwrap_or_default();
        for limits in [of_route_limits, &self.rate_limits] {
            if !limits.is_empty() {
                return limits.iter().filter_map(|limit| limit.descriptor(inputs)).collect();
            }
        }
        let Some(Action::Forward(plan)) = cx.core.record.route.map(|route| &route.action) else {
            return Vec::new();
        };
        let Some(limits) = &plan.rate_limits else { return Vec::new() };
        let virtual_host_limits =
            of_route.map(|config| config.virtual_host_limits).unwrap_or_default();
        let random = || cx.core.shard.random.borrow_mut().u64(..);
        limits.descriptors(self.stage, virtual_host_limits, inputs, random)
    }

    fn follow(
        &self,
        mut answer: Answer,
        quota: &[QuotaHeaders],
        state: &mut State,
        cx: &mut Context<'_, '_>,
    ) -> Flow {
        if !answer.metadata.is_empty() {
            let metadata = std::mem::take(&mut answer.metadata);
            cx.core.note().metadata.set_all(&self.metadata_namespace, &metadata);
        }
        let mut told = Fields::default();
        for change in std::mem::take(&mut answer.response) {
            change.apply(&mut told);
        }
        if answer.is_over_limit {
            Self::count(cx, self.counted.over_limit);
            if let Some(cluster) = &cx.core.upstream.cluster {
                cluster.stats().record_response(self.status, Origin::Internal, false);
            }
            if self.limited_header {
                told.append_other(b"x-envoy-ratelimited", b"true");
            }
        } else {
            Self::count(cx, self.counted.ok);
        }
        if self.quota_headers {
            answer.add_quota(quota, &mut told);
        }
        if let Some(seconds) = answer.retry_after().filter(|_| answer.is_over_limit)
            && self.retry_after
        {
            told.append(FieldName::RetryAfter, seconds.to_string().as_bytes());
        }
        if answer.is_over_limit && self.is_drawn(&self.enforced, cx) {
            return Flow::Reply(Box::new(self.reply(answer.body, told, cx)));
        }
        let request = &mut cx.core.heads.request.fields;
        answer.request.into_iter().for_each(|change: Change| change.apply(request));
        state.0 = Progress::Answered(told);
        Flow::Continue
    }

    /// The reply to a request that is refused.
    fn reply(&self, body: Vec<u8>, told: Fields, cx: &Context<'_, '_>) -> LocalReply {
        let content_type = told.get(FieldName::ContentType).map(Into::into);
        let mut head =
            ResponseHead { status: self.status, fields: told, ..ResponseHead::default() };
        if !self.response_headers.is_empty() {
            let stream = cx.stream();
            let scratch = &mut cx.core.given.service.scratch.borrow_mut();
            let request = Some(&cx.core.heads.request);
            self.response_headers.apply_to_response(&mut head, request, &stream, scratch);
        }
        LocalReply {
            grpc_status: self.grpc_status,
            body: body.into(),
            fields: Some(Box::new(head.fields)),
            content_type,
            ..LocalReply::new(self.status, "")
                .with_details(Some(Flag::RateLimited), "request_rate_limited")
        }
    }

    /// The service has not answered.
    fn failed(&self, cx: &Context<'_, '_>) -> Flow {
        Self::count(cx, self.counted.error);
        if self.is_drawn(&self.denied_on_failure, cx) {
            let reply = LocalReply::new(self.status_on_error, "");
            let flag = Some(Flag::RateLimitServiceError);
            return Flow::Reply(Box::new(reply.with_details(flag, "rate_limiter_error")));
        }
        Self::count(cx, self.counted.failure_mode_allowed);
        Flow::Continue
    }

    pub(super) fn response_head(state: &mut State, cx: &mut Context<'_, '_>) {
        if let Progress::Answered(told) = &mut state.0 {
            let fields = &mut cx.core.heads.response.fields;
            for (_, name, value) in std::mem::take(told).iter() {
                fields.append_other(name, value);
            }
        }
    }

    fn is_drawn(&self, fraction: &RuntimeFraction, cx: &Context<'_, '_>) -> bool {
        fraction.includes(cx.core.shard.random.borrow_mut().u64(..))
    }

    /// Counts for the cluster of the request.
    fn count(cx: &Context<'_, '_>, name: &'static str) {
        if let Some(cluster) = &cx.core.upstream.cluster {
            cluster.stats().ratelimit.record(name);
        }
    }
}

impl Requests {
    fn include(self, cx: &Context<'_, '_>) -> bool {
        let internal = cx.core.heads.request.fields.get(FieldName::XEnvoyInternal);
        let is_internal = internal == Some(b"true");
        match self {
            Self::All => true,
            Self::Internal => is_internal,
            Self::External => !is_internal,
        }
    }
}

fn per_route<'c>(cx: &Context<'c, '_>) -> Option<&'c PerRoute> {
    cx.route_config(|config| match config {
        RouteConfig::GlobalRateLimit(config) => Some(&**config),
        _ => None,
    })
}

/// A descriptor as the service reads it. As in Envoy, what is not UTF-8 is replaced.
fn written(descriptor: &Descriptor) -> RateLimitDescriptor {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = entries(&descriptor.entries);
    RateLimitDescriptor {
        entries: entries.map(|(key, value)| Entry { key: text(key), value: text(value) }).collect(),
        limit: descriptor
            .limit
            .map(|limit| Override { requests_per_unit: limit.requests_per_unit, unit: limit.unit }),
        hits_addend: descriptor.hits,
        is_negative_hits: descriptor.is_negative,
    }
}
