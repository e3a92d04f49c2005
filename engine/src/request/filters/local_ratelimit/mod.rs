//! `local_ratelimit`: requests take tokens from buckets that fill over time. All shards share the buckets,
//! unless each connection has its own.
//!
//! `limiter` decides, `clients` has the buckets of single clients; which descriptors a request has is
//! decided by `request::rate_limit`.

mod clients;
pub(super) mod compile;
mod limiter;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use self::limiter::{Decision, Limiter, Plan, Quota, Verdict};
use super::{Context, Flow, RouteConfig};
use crate::flags::Flag;
use crate::format::Inputs;
use crate::http::{FieldName, ResponseHead};
use crate::request::rate_limit::{Descriptor, QuotaHeaders, RateLimit, VirtualHostLimits};
use crate::request::reply::LocalReply;
use crate::request::route::{Action, HeaderMutations};
use crate::runtime::RuntimeFraction;
use crate::stats::{Scope, stats};

stats! {
    /// `<stat_prefix>.http_local_rate_limit.`
    pub struct HttpLocalRateLimitStats {
        counter enabled;
        counter enforced;
        counter ok;
        counter rate_limited;
        counter shadow_mode;
    }
}

/// The filter.
#[derive(Debug)]
pub struct LocalRateLimit {
    settings: Settings,
}

/// What the filter does, or what a route says in its place.
#[derive(Debug)]
pub struct Settings {
    buckets: Buckets,
    /// Of the requests, how many it applies to.
    enabled: RuntimeFraction,
    /// Of those, how many it refuses.
    enforced: RuntimeFraction,
    /// Without any, those of the route count.
    rate_limits: Box<[RateLimit]>,
    /// Which of those of the route.
    stage: u32,
    virtual_host_limits: VirtualHostLimits,
    status: u16,
    /// The gRPC status, if it is not the one that corresponds to the status.
    grpc_status: Option<u8>,
    /// For requests that are limited and pass.
    request_headers: HeaderMutations,
    /// For the replies to those that are refused.
    response_headers: HeaderMutations,
    /// Whether clients learn of their quota, unless a descriptor says so.
    quota_headers: bool,
    /// Whether a refused client learns when to come back.
    retry_after: bool,
    stats: Arc<Scope<HttpLocalRateLimitStats>>,
}

/// Whose the buckets are.
#[derive(Debug)]
enum Buckets {
    Shared(Box<Limiter>),
    /// Each connection makes its own.
    PerConnection {
        id: u64,
        plan: Plan,
    },
}

/// The buckets of a connection, by the id of their settings.
#[derive(Debug, Default)]
pub struct ConnectionBuckets(RefCell<Vec<(u64, Rc<Limiter>)>>);

/// What the filter remembers of a request.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// What the client is told.
    quota: Option<Quota>,
}

impl State {
    /// That of a new request.
    pub(super) const NEW: Self = Self { quota: None };
}

impl LocalRateLimit {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let settings = self.settings(cx);
        let enabled = settings.enabled.includes(cx.core.shard.random.borrow_mut().u64(..));
        if !enabled {
            return Flow::Continue;
        }
        let stats = settings.stats.shard(cx.core.shard.id);
        stats.enabled.inc();
        let Decision { verdict, quota, headers } = settings.decide(cx);
        state.quota = quota.filter(|_| match headers {
            QuotaHeaders::Unspecified => settings.quota_headers,
            QuotaHeaders::Off => false,
            QuotaHeaders::On => true,
        });
        match verdict {
            Verdict::Allowed => stats.ok.inc(),
            Verdict::Shadow => {
                stats.rate_limited.inc();
                stats.shadow_mode.inc();
            }
            Verdict::Limited => {
                stats.rate_limited.inc();
                let enforced =
                    settings.enforced.includes(cx.core.shard.random.borrow_mut().u64(..));
                if enforced {
                    stats.enforced.inc();
                    return Flow::Reply(Box::new(settings.reply(quota, cx)));
                }
                settings.mark_request(cx);
            }
        }
        Flow::Continue
    }

    /// As it was when the request was decided about.
    pub(super) fn response_head(state: &State, cx: &mut Context<'_, '_>) {
        if let Some(quota) = state.quota {
            let fields = &mut cx.core.heads.response.fields;
            for (name, value) in [
                (&b"x-ratelimit-limit"[..], quota.limit),
                (b"x-ratelimit-remaining", quota.left.floor()),
                (b"x-ratelimit-reset", quota.next_token_seconds()),
            ] {
                fields.append_other(name, value.to_string().as_bytes());
            }
        }
    }

    fn settings<'c>(&'c self, cx: &Context<'c, '_>) -> &'c Settings {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::LocalRateLimit(settings) => Some(&**settings),
            _ => None,
        });
        of_route.unwrap_or(&self.settings)
    }
}

impl Settings {
    fn decide(&self, cx: &Context<'_, '_>) -> Decision {
        let descriptors = self.descriptors(cx);
        let now = cx.core.shard.clock.now();
        match &self.buckets {
            Buckets::Shared(limiter) => limiter.decide(&descriptors, now),
            Buckets::PerConnection { id, plan } => {
                let buckets = cx.core.given.buckets.as_ref();
                let limiter = buckets.map(|buckets| buckets.limiter(*id, plan));
                // Every connection of a chain with this filter has buckets.
                limiter.unwrap_or_else(|| Rc::new(Limiter::new(plan))).decide(&descriptors, now)
            }
        }
    }

    fn descriptors(&self, cx: &Context<'_, '_>) -> Vec<Descriptor> {
        let of_route = match cx.core.record.route.map(|route| &route.action) {
            Some(Action::Forward(plan)) if self.rate_limits.is_empty() => plan.rate_limits.as_ref(),
            _ => None,
        };
        if self.rate_limits.is_empty() && of_route.is_none() {
            return Vec::new();
        }
        let stream = cx.stream();
        let request = Some(&cx.core.heads.request);
        let inputs = Inputs { request, ..Inputs::new(&stream) };
        let of_route = of_route.into_iter();
        let of_route =
            of_route.flat_map(|limits| limits.counted_here(self.stage, self.virtual_host_limits));
        let limits = self.rate_limits.iter().chain(of_route);
        limits.filter_map(|limit| limit.descriptor(&inputs)).collect()
    }

    /// The reply to a request that is refused.
    fn reply(&self, quota: Option<Quota>, cx: &Context<'_, '_>) -> LocalReply {
        let mut head = ResponseHead { status: self.status, ..ResponseHead::default() };
        if !self.response_headers.is_empty() {
            let stream = cx.stream();
            let scratch = &mut cx.core.given.service.scratch.borrow_mut();
            let request = Some(&cx.core.heads.request);
            self.response_headers.apply_to_response(&mut head, request, &stream, scratch);
        }
        let fields = &mut head.fields;
        if let Some(quota) = quota.filter(|_| self.retry_after && self.status == 429)
            && !fields.has(FieldName::RetryAfter)
        {
            let seconds = quota.next_token_seconds().max(1.0).to_string();
            fields.append(FieldName::RetryAfter, seconds.as_bytes());
        }
        LocalReply {
            grpc_status: self.grpc_status,
            fields: (!head.fields.is_empty()).then(|| Box::new(head.fields)),
            ..LocalReply::new(self.status, "local_rate_limited")
                .with_details(Some(Flag::RateLimited), "local_rate_limited")
        }
    }

    /// The headers of a request that is limited and passes.
    fn mark_request(&self, cx: &mut Context<'_, '_>) {
        if self.request_headers.is_empty() {
            return;
        }
        let stream = cx.stream();
        let scratch = &mut cx.core.given.service.scratch.borrow_mut();
        self.request_headers.apply_to_request(&mut cx.core.heads.request, &stream, scratch);
    }
}

impl ConnectionBuckets {
    fn limiter(&self, id: u64, plan: &Plan) -> Rc<Limiter> {
        let mut limiters = self.0.borrow_mut();
        if let Some((_, limiter)) = limiters.iter().find(|(other, _)| *other == id) {
            return Rc::clone(limiter);
        }
        let limiter = Rc::new(Limiter::new(plan));
        limiters.push((id, Rc::clone(&limiter)));
        limiter
    }
}
