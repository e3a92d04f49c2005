//! `ext_proc`: a processor behind a gRPC stream sees requests and responses, and changes them.
//!
//! `head.rs` takes a head to the processor and waits with it, `body.rs` takes bodies and trailers there as
//! they pass; `answer.rs` reads what the processor says. Both directions of an exchange share one stream, and
//! each [`Direction`] has its own stage.
//!
//! Invariant: what the processor has not answered does not go on, unless it has failed and
//! `failure_mode_allow` says so. What waits for it is bounded. A body is as long as the head before it says.

mod answer;
mod body;
pub(super) mod compile;
mod direction;
mod head;
mod mode;
mod mutation;
mod proto;
mod question;
mod stream;

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use self::direction::Direction;
use self::mode::{BodyMode, Mode};
use self::question::{Attributes, ForwardRules};
use self::stream::Stream;
use super::mutation_rules::MutationRules;
use super::{Back, Context, Flow, Piece, Progress, RouteConfig, Way};
use crate::http::Fault;
use crate::request::callout::grpc::GrpcMethod;
use crate::request::reply::LocalReply;
use crate::request::route::HeaderAddition;
use crate::shard::clock::Millis;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.ext_proc.<stat_prefix>`
    pub struct ExtProcStats {
        counter clear_route_cache_disabled;
        counter clear_route_cache_ignored;
        constant counter clear_route_cache_upstream_ignored;
        counter failure_mode_allowed;
        constant counter http_not_ok_resp_received;
        counter immediate_responses_sent;
        counter message_timeouts;
        counter override_message_timeout_ignored;
        counter override_message_timeout_received;
        counter rejected_header_mutations;
        constant counter send_immediate_resp_upstream_ignored;
        counter server_half_closed;
        counter spurious_msgs_received;
        counter stream_msgs_received;
        counter stream_msgs_sent;
        counter streams_closed;
        counter streams_failed;
        counter streams_started;
    }
}

/// The filter.
#[derive(Debug)]
pub struct ExtProc {
    /// What it is without what a route says.
    plan: Arc<Plan>,
    request_attributes: Attributes,
    response_attributes: Attributes,
    forward_rules: ForwardRules,
    rules: MutationRules,
    message_timeout: Duration,
    max_message_timeout: Duration,
    route_cache: RouteCacheAction,
    immediate: Immediate,
    /// Which modes a processor may ask for.
    overrides: Overrides,
    status_on_error: u16,
    /// Whether it only shows messages to the processor.
    observes: bool,
    /// How long what an observer was sent may take to arrive.
    deferred_close: Duration,
    /// `send_body_without_waiting_for_header_response`
    sends_body_early: bool,
    /// Whether `content-length` stays although the body may change.
    keeps_length: bool,
    stats: Arc<Scope<ExtProcStats>>,
}

/// How the requests of a route are processed.
#[derive(Clone, Debug)]
struct Plan {
    service: Arc<GrpcMethod>,
    /// Metadata of the stream besides that of the service.
    metadata: Box<[HeaderAddition]>,
    mode: Mode,
    /// Whether a message goes on when the processor has failed.
    allows_failure: bool,
    /// Metadata of these namespaces is sent.
    forwarding: Arc<[String]>,
    /// Metadata of these namespaces is taken.
    receiving: Arc<[String]>,
}

/// `RouteCacheAction`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RouteCacheAction {
    /// The route is looked up again if the processor says so.
    Default,
    /// It is, if the processor changes headers.
    Clear,
    Retain,
}

/// Whether a processor may reply to requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Immediate {
    Allowed,
    Disabled,
}

/// Which modes a processor may ask for.
#[derive(Debug)]
enum Overrides {
    None,
    Any,
    Listed(Box<[Mode]>),
}

/// What a level of a route says.
#[derive(Debug)]
pub enum PerRoute {
    /// Its messages are not processed.
    Disabled,
    /// They are processed like this.
    Overrides(Box<RouteOverrides>),
}

/// `ExtProcOverrides`
#[derive(Debug)]
pub struct RouteOverrides {
    mode: Option<Mode>,
    service: Option<Arc<GrpcMethod>>,
    metadata: Box<[HeaderAddition]>,
    allows_failure: Option<bool>,
    forwarding: Option<Arc<[String]>>,
    receiving: Option<Arc<[String]>>,
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State {
    /// None: the filter has seen nothing yet.
    work: Option<Work>,
}

/// The processing of an exchange.
#[derive(Debug)]
struct Work {
    plan: Arc<Plan>,
    stream: Option<Stream>,
    /// Nothing more is sent to the processor, and nothing waits for it.
    is_over: bool,
    /// Whether it was over when parts of a body were at the processor alone.
    has_lost_parts: bool,
    knows_protocol: bool,
    request: Direction,
    response: Direction,
}

/// As in Envoy, these are the details when a body is not as long as its head says.
const WRONG_LENGTH: &str = "mismatch between content length and the length of the mutated body";

/// Why a message does not go on: the exchange ends with this.
type Ends = Box<LocalReply>;

impl Work {
    const fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::Request => &self.request,
            Way::Response => &self.response,
        }
    }

    const fn direction_mut(&mut self, way: Way) -> &mut Direction {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }

    /// No more is sent, and nothing waits. What the processor has answered already still counts.
    fn finish(&mut self) {
        self.is_over = true;
        self.stream = None;
        for direction in [&mut self.request, &mut self.response] {
            self.has_lost_parts |= direction.is_given_away();
            direction.deadline = None;
            direction.looks_again = None;
        }
    }

    /// Whether more is read from the processor, for a message that waits for it. Answers about the other
    /// message are not in its way, unless there are very many.
    fn has_room(&self, way: Way) -> bool {
        let others = self.request.answers.len() + self.response.answers.len();
        self.direction(way).answers.len() < ANSWERS_MAX && others < ALL_ANSWERS_MAX
    }
}

/// So many answers about a message wait at most until they are used.
const ANSWERS_MAX: usize = 64;

/// So many about both.
const ALL_ANSWERS_MAX: usize = 16 * ANSWERS_MAX;

impl State {
    /// Ready when the processor has said something, or is given up.
    pub(super) fn poll_answer(&self, way: Way, cx: &task::Context<'_>, now: Millis) -> Poll<()> {
        let Some(work) = &self.work else { return Poll::Ready(()) };
        let direction = work.direction(way);
        let is_past = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        let is_due = is_past(direction.deadline) || is_past(direction.looks_again);
        if work.is_over || is_due || !direction.answers.is_empty() {
            return Poll::Ready(());
        }
        match work.stream.as_ref().and_then(Stream::get) {
            Some(stream) if work.has_room(way) => stream.poll(cx),
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// When the processor is given up.
    pub(super) fn answer_deadline(&self) -> Option<Millis> {
        let Work { request, response, .. } = self.work.as_ref()?;
        let times = [request, response].map(|way| [way.deadline, way.looks_again]);
        times.into_iter().flatten().flatten().min()
    }
}

impl ExtProc {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match self.head(Way::Request, state, cx) {
            Ok(step) => step.for_request(cx),
            Err(reply) => Flow::Reply(reply),
        }
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        match self.head(Way::Response, state, cx) {
            Ok(step) => step.for_response(cx),
            Err(reply) => Back::Replace(reply),
        }
    }

    /// # Errors
    /// If the exchange ends with a reply of the filter.
    pub(super) fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Result<Progress, Fault> {
        let Some(work) = &mut state.work else {
            output.take_all(input);
            return Ok(Progress::Moved);
        };
        let before = output.data.len();
        let progress = self.process_body(way, work, input, output, cx).and_then(|progress| {
            let bytes = output.data.len() - before;
            if work.direction_mut(way).count(bytes, output.end.is_some()) {
                return Ok(progress);
            }
            Err(self.invalid(WRONG_LENGTH, work, cx))
        });
        progress.map_err(|reply| {
            output.clear();
            cx.core.replacement = Some(reply);
            Fault::Replaced
        })
    }

    /// How the exchange is processed, begun with what the route says.
    fn begin<'s>(&self, state: &'s mut State, cx: &Context<'_, '_>) -> &'s mut Work {
        state.work.get_or_insert_with(|| {
            let plan = self.plan(cx);
            let mode = plan.mode;
            let of = |way| Direction { parts: mode.of(way), ..Direction::default() };
            Work {
                plan,
                stream: None,
                is_over: false,
                has_lost_parts: false,
                knows_protocol: false,
                request: of(Way::Request),
                response: of(Way::Response),
            }
        })
    }

    fn plan(&self, cx: &Context<'_, '_>) -> Arc<Plan> {
        let said = cx.configs.iter().filter_map(|config| match &**config {
            RouteConfig::ExtProc(config) => Some(&**config),
            _ => None,
        });
        let said: Vec<&PerRoute> = said.collect();
        if said.is_empty() {
            return Arc::clone(&self.plan);
        }
        let mut plan = Plan::clone(&self.plan);
        if let Some(PerRoute::Disabled) = said.first() {
            plan.mode = Mode::NOTHING;
            return Arc::new(plan);
        }
        // The most specific level comes last.
        for level in said.into_iter().rev() {
            match level {
                // As in Envoy, what is disabled says nothing about the mode to the levels below.
                PerRoute::Disabled => plan.mode = self.plan.mode,
                PerRoute::Overrides(overrides) => overrides.apply(&mut plan),
            }
        }
        Arc::new(plan)
    }

    /// The most bytes of a body that are held; 0 is without a limit.
    fn bytes_max(cx: &Context<'_, '_>) -> usize {
        match cx.core.service().buffer_limit {
            0 => usize::MAX,
            limit => limit,
        }
    }

    fn stats(&self, cx: &Context<'_, '_>) -> &ExtProcStats {
        self.stats.shard(cx.core.shard.id)
    }
}

impl RouteOverrides {
    fn apply(&self, plan: &mut Plan) {
        let Self { mode, service, metadata, allows_failure, forwarding, receiving } = self;
        plan.mode = mode.unwrap_or(plan.mode);
        plan.allows_failure = allows_failure.unwrap_or(plan.allows_failure);
        if let Some(service) = service {
            plan.service = Arc::clone(service);
        }
        if !metadata.is_empty() {
            let others = plan.metadata.iter();
            let others = others.filter(|old| metadata.iter().all(|new| new.name != old.name));
            plan.metadata = others.chain(metadata).cloned().collect();
        }
        if let Some(namespaces) = forwarding {
            plan.forwarding = Arc::clone(namespaces);
        }
        if let Some(namespaces) = receiving {
            plan.receiving = Arc::clone(namespaces);
        }
    }
}

/// Whether a whole body is collected in front of the filter.
const fn collects(mode: BodyMode) -> bool {
    matches!(mode, BodyMode::Buffered | BodyMode::BufferedPartial)
}
