//! `fault`: delays requests, aborts them, and slows their responses down.

mod by_header;
pub(super) mod compile;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::limiter::Limiter;
use super::{Context, Flow, Piece, Progress, RouteConfig, Wait, Way};
use crate::flags::Flag;
use crate::http::{BodyLength, FieldName, RequestHead};
use crate::request::reply::LocalReply;
use crate::request::route::HeaderMatcher;
use crate::runtime::{Entry, RuntimeFraction, RuntimeInteger};
use crate::shard::clock::{Millis, millis};
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.fault.`
    pub struct FaultStats {
        counter aborts_injected;
        gauge active_faults;
        counter delays_injected;
        counter faults_overflow;
        counter response_rl_injected;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Fault {
    settings: Settings,
    stats: Arc<Scope<FaultStats>>,
}

/// What the filter, or a level of a route, says.
#[derive(Debug)]
pub struct Settings {
    /// Which requests: those to this cluster; empty: any.
    upstream_cluster: Box<str>,
    /// Those that all of these match.
    headers: Vec<HeaderMatcher>,
    /// Those from one of these nodes; empty: any.
    downstream_nodes: Box<[Box<[u8]>]>,
    delay: Option<(Delay, RuntimeFraction)>,
    abort: Option<Abort>,
    rate_limit: Option<(Rate, RuntimeFraction)>,
    /// So many requests may have a fault at the same time.
    active_max: RuntimeInteger,
    /// What is noted about a request with a fault.
    metadata: Map<String, Value>,
}

#[derive(Clone, Debug)]
enum Delay {
    /// Milliseconds.
    Fixed(RuntimeInteger),
    /// As a header says.
    ByHeader {
        /// What the runtime sets it to, whatever the header says.
        overridden: Arc<Entry>,
    },
}

#[derive(Debug)]
struct Abort {
    status: AbortStatus,
    percentage: RuntimeFraction,
    body: Bytes,
}

#[derive(Clone, Debug)]
enum AbortStatus {
    Http(RuntimeInteger),
    Grpc(RuntimeInteger),
    /// As a header says.
    ByHeader,
}

/// KiB a second.
#[derive(Clone, Copy, Debug)]
enum Rate {
    Fixed(u64),
    /// As a header says.
    ByHeader,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub struct State {
    phase: Phase,
    active: Option<ActiveFault>,
    limiter: Option<Limiter>,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// Nothing is decided.
    #[default]
    New,
    /// It is delayed up to now.
    Delayed,
}

/// Counts a request as one with a fault, while it exists.
#[derive(Debug)]
struct ActiveFault {
    stats: Arc<Scope<FaultStats>>,
    shard: usize,
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.stats.shard(self.shard).active_faults.dec();
    }
}

impl Fault {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::Fault(settings) => Some(&**settings),
            _ => None,
        });
        let settings = of_route.unwrap_or(&self.settings);
        if state.phase == Phase::New {
            if !settings.apply_to(cx) {
                return Flow::Continue;
            }
            self.limit_rate(settings, state, cx);
            if let Some(delay) = settings.delay(cx)
                && self.activate(settings, state, cx)
            {
                self.stats.shard(cx.core.shard.id).delays_injected.inc();
                cx.core.flags.set(Flag::DelayInjected);
                settings.note(cx);
                state.phase = Phase::Delayed;
                let until = cx.core.shard.clock.now().saturating_add(millis(delay));
                return Flow::Wait(Wait::Until(until));
            }
        }
        if let Some(reply) = settings.abort(cx)
            && self.activate(settings, state, cx)
        {
            self.stats.shard(cx.core.shard.id).aborts_injected.inc();
            settings.note(cx);
            return Flow::Reply(Box::new(reply));
        }
        if state.phase == Phase::Delayed && settings.rate_limit.is_none() {
            // The delay is over.
            state.active = None;
        }
        Flow::Continue
    }

    /// Slows the response down, if it is one of those.
    fn limit_rate(&self, settings: &Settings, state: &mut State, cx: &mut Context<'_, '_>) {
        let request = &cx.core.heads.request;
        let Some((rate, percentage)) = &settings.rate_limit else { return };
        let percentage = by_header::capped(percentage.get(), request, by_header::RATE_PERCENTAGE);
        if !percentage.includes(cx.core.shard.random.borrow_mut().u64(..)) {
            return;
        }
        let rate = match rate {
            Rate::Fixed(rate) => Some(*rate),
            Rate::ByHeader => by_header::number(request, by_header::RATE).filter(|rate| *rate > 0),
        };
        let Some(rate) = rate else { return };
        if self.activate(settings, state, cx) {
            self.stats.shard(cx.core.shard.id).response_rl_injected.inc();
            state.limiter = Some(Limiter::new(rate));
        }
    }

    pub(super) fn response_head(state: &mut State, cx: &mut Context<'_, '_>) {
        if state.limiter.is_some() && cx.response_body != BodyLength::None {
            cx.see_body(Way::Response);
        } else {
            // Nothing more happens to it.
            state.active = None;
        }
    }

    pub(super) fn body(
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        now: Millis,
    ) -> Progress {
        match (&mut state.limiter, way) {
            (Some(limiter), Way::Response) => {
                let progress = limiter.pass(input, output, now);
                if output.has_ended() {
                    state.active = None;
                }
                progress
            }
            _ => {
                output.take_all(input);
                Progress::Moved
            }
        }
    }

    /// Counts the request as one with a fault, unless there are too many.
    fn activate(&self, settings: &Settings, state: &mut State, cx: &Context<'_, '_>) -> bool {
        if state.active.is_some() {
            return true;
        }
        let shard = cx.core.shard.id;
        let stats = self.stats.shard(shard);
        let active = || self.stats.gauge(|stats| &stats.active_faults);
        let most = settings.active_max.get();
        if most < u64::MAX && active() >= most {
            stats.faults_overflow.inc();
            return false;
        }
        stats.active_faults.inc();
        state.active = Some(ActiveFault { stats: Arc::clone(&self.stats), shard });
        true
    }
}

impl Settings {
    fn apply_to(&self, cx: &Context<'_, '_>) -> bool {
        let request = &cx.core.heads.request;
        let cluster = cx.core.upstream.cluster.as_ref().map(|it| &*it.cluster().name);
        let node = request.fields.get(FieldName::XEnvoyDownstreamServiceNode);
        (self.upstream_cluster.is_empty() || cluster == Some(&*self.upstream_cluster))
            && (self.downstream_nodes.is_empty()
                || node.is_some_and(|node| self.downstream_nodes.iter().any(|it| **it == *node)))
            && self.headers.iter().all(|matcher| matcher.matches(request))
    }

    /// How long the request is delayed, if it is.
    fn delay(&self, cx: &Context<'_, '_>) -> Option<Duration> {
        let request = &cx.core.heads.request;
        let (delay, percentage) = self.delay.as_ref()?;
        let percentage = by_header::capped(percentage.get(), request, by_header::DELAY_PERCENTAGE);
        if !percentage.includes(cx.core.shard.random.borrow_mut().u64(..)) {
            return None;
        }
        let delay = match delay {
            Delay::Fixed(millis) => Duration::from_millis(millis.get()),
            Delay::ByHeader { overridden } => {
                let asked = Duration::from_millis(by_header::number(request, by_header::DELAY)?);
                overridden.integer().map_or(asked, Duration::from_millis)
            }
        };
        Some(delay).filter(|delay| delay.as_millis() > 0)
    }

    /// The reply, if the request is aborted.
    fn abort(&self, cx: &Context<'_, '_>) -> Option<LocalReply> {
        let request = &cx.core.heads.request;
        let Abort { status, percentage, body } = self.abort.as_ref()?;
        let percentage = by_header::capped(percentage.get(), request, by_header::ABORT_PERCENTAGE);
        if !percentage.includes(cx.core.shard.random.borrow_mut().u64(..)) {
            return None;
        }
        let (status, grpc_status) = match status {
            AbortStatus::Http(status) => (u16::try_from(status.get()).ok()?, None),
            AbortStatus::Grpc(status) => (200, Some(u8::try_from(status.get()).unwrap_or(u8::MAX))),
            AbortStatus::ByHeader => asked_for(request)?,
        };
        let reply = LocalReply { body: body.clone(), grpc_status, ..LocalReply::new(status, "") };
        Some(reply.with_details(Some(Flag::FaultInjected), "fault_filter_abort"))
    }

    fn note(&self, cx: &mut Context<'_, '_>) {
        let name = cx.name;
        cx.core.note().metadata.set_all(name, &self.metadata);
    }
}

/// The HTTP status, and perhaps that of gRPC, that a request asks for.
fn asked_for(request: &RequestHead) -> Option<(u16, Option<u8>)> {
    let status = by_header::number(request, by_header::ABORT);
    if let Some(status) = status.filter(|status| (200..600).contains(status)) {
        return Some((u16::try_from(status).ok()?, None));
    }
    let status = by_header::number(request, by_header::ABORT_GRPC)?;
    Some((200, Some(u8::try_from(status).ok()?)))
}
