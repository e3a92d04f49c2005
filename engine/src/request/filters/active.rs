//! The chain at work for one request.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{self, Poll};

use super::body::{Inside, Lane, Sees};
use super::context::{Context, ResponseLength, Shared};
use super::piece::Piece;
use super::selector::{self, Late};
use super::{Back, Chain, Filter, Flow, Named, Plan, State, Wait};
use crate::http::BodyLength;
use crate::limits;
use crate::request::Core;
use crate::request::reply::LocalReply;
use crate::request::route::Route;
use crate::shard::clock::Millis;

/// The direction of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request) enum Way {
    Request,
    Response,
}

/// The filters that run for a request.
#[derive(Debug, Default)]
pub(in crate::request) struct Active {
    /// In the order of the chain. As in Envoy, the first route decides which; if a filter changes the
    /// route, the others get what the new one says to them.
    pub(super) running: Vec<Running>,
    /// The filters of the connection manager for the request's upgrade, if these are others.
    pub(super) own: Option<Arc<Chain>>,
    /// How many of them are the connection manager's. Behind these are those of the cluster, while an attempt
    /// lasts.
    of_manager: usize,
    /// The filters of the cluster.
    pub(super) upstream: Option<Arc<Chain>>,
    /// A filter of the cluster waits for the body of the response.
    upstream_holds: bool,
    /// How many have let the head of the request pass. In front of the next one the body waits that it
    /// wants to have as a whole.
    pub(super) passed: usize,
    /// In front of this one the response waits.
    holding: Option<usize>,
    /// What it waits for there.
    held_for: Cell<HeldFor>,
    pub(super) shared: Shared,
    /// A part of a body that is being received.
    pub(super) received: Piece,
    /// What a filter has just put out.
    pub(super) output: Piece,
}

/// What the head of a response waits for in front of a filter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::request) enum HeldFor {
    /// All of the body.
    #[default]
    Body,
    /// All of the body, or so many bytes of it.
    BodyUpTo(usize),
    /// An answer to the filter.
    Answer,
    /// The same, or a part of the body.
    AnswerOrBody,
    /// Nothing more: the filter has its answer.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Running {
    /// Its place in the chain, or that of the selector that has selected it. The chain of the cluster continues
    /// that of the connection manager.
    filter: usize,
    origin: Origin,
    pub(super) state: State,
    pub(super) request: Lane,
    pub(super) response: Lane,
}

/// Where a filter comes from.
#[derive(Debug)]
enum Origin {
    /// The chain.
    Chain,
    /// A selector has selected it.
    Selected(Arc<Filter>),
    /// A selector had selected it, but it runs no longer.
    Skipped,
}

impl Running {
    fn new(filter: usize, origin: Origin, state: State) -> Self {
        Self { filter, origin, state, request: Lane::default(), response: Lane::default() }
    }

    pub(super) const fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Request => &self.request,
            Way::Response => &self.response,
        }
    }

    pub(super) const fn lane_mut(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }
}

/// Why the head of a request has not passed all filters.
#[derive(Debug)]
pub(super) enum Stop {
    Reply(Box<LocalReply>),
    Wait(Wait),
}

/// What a filter is called for.
struct Call<'c> {
    way: Way,
    reply: Option<&'c LocalReply>,
    response_body: BodyLength,
}

/// Why the head of a response has not passed all filters.
#[derive(Debug)]
pub(super) enum HeldUp {
    /// One of them waits for the body.
    Waiting,
    /// One of them has replaced it.
    Replaced(Box<LocalReply>),
}

impl Active {
    /// For a request with this route.
    pub(super) fn begin(&mut self, chain: &Chain, route: Option<&Route>) {
        self.running.extend(chain.plan(route).steps.iter().filter_map(|step| {
            let state = chain.get(step.filter)?.filter.begin();
            Some(Running::new(step.filter, Origin::Chain, state))
        }));
        self.of_manager = self.running.len();
    }

    /// For a request that upgrades, with filters of its own.
    pub(super) fn begin_upgrade(&mut self, chain: &Arc<Chain>, chain_plan: Option<&Plan>) {
        for (i, named) in chain.filters.iter().enumerate() {
            if named.runs(chain_plan) {
                self.add(i, named.filter.begin());
            }
        }
        self.own = Some(Arc::clone(chain));
        self.of_manager = self.running.len();
    }

    /// Adds a filter of a chain that is not the connection manager's first one.
    pub(super) fn add(&mut self, filter: usize, state: State) {
        self.running.push(Running::new(filter, Origin::Chain, state));
    }

    /// Whether a filter of the cluster sees the body of the request.
    pub(super) fn changes_body_upstream(&self) -> bool {
        self.running.iter().skip(self.of_manager).any(|it| it.request.sees == Sees::Body)
    }

    /// The filters of the cluster run no longer.
    pub(super) fn end_attempt(&mut self) {
        self.running.truncate(self.of_manager);
        self.passed = self.passed.min(self.of_manager);
        self.upstream = None;
        self.upstream_holds = false;
        self.holding = self.holding.filter(|at| *at < self.of_manager);
        self.shared.response_length = ResponseLength::Kept;
    }

    /// Whether no filter runs.
    pub(super) const fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// How the body of the response ends for the client, if it ends so without filters.
    pub(super) const fn length_for_client(&self, length: BodyLength) -> BodyLength {
        match self.shared.response_length {
            ResponseLength::Kept => length,
            ResponseLength::Unknown => BodyLength::Chunked,
            ResponseLength::Known(bytes) => BodyLength::Length(bytes),
        }
    }

    /// Whether the client speaks gRPC, if a filter translates that.
    pub(super) const fn client_speaks_grpc(&self) -> Option<bool> {
        self.shared.client_speaks_grpc
    }

    /// In front of which filter a body waits until all of it is there.
    pub(super) fn holder(&self, way: Way) -> Option<usize> {
        match way {
            Way::Request => (self.passed < self.running.len()).then_some(self.passed),
            Way::Response => self.holding,
        }
    }

    /// The head of the request, from the first filter that it has not passed.
    pub(super) fn request_head(&mut self, core: &mut Core<'_>) -> Result<(), Stop> {
        let call = Call { way: Way::Request, reply: None, response_body: BodyLength::None };
        while self.passed < self.running.len() {
            let head = |filter: &Filter, state: &mut State, cx: &mut Context<'_, '_>| {
                filter.request_head(state, cx)
            };
            match self.call(self.passed, core, &call, head) {
                None | Some(Flow::Continue) => self.passed += 1,
                Some(Flow::Run(filters)) => {
                    self.select(self.passed, &filters);
                    self.passed += 1;
                }
                Some(Flow::Reply(reply)) => return Err(Stop::Reply(reply)),
                Some(Flow::Wait(wait)) => return Err(Stop::Wait(wait)),
            }
        }
        Ok(())
    }

    /// The head of the response, from the last filter on, or from the one that has waited for the body.
    pub(super) fn response_head(
        &mut self,
        core: &mut Core<'_>,
        reply: Option<&LocalReply>,
        response_body: BodyLength,
    ) -> Result<(), HeldUp> {
        let call = Call { way: Way::Response, reply, response_body };
        if std::mem::take(&mut self.upstream_holds) {
            return Err(HeldUp::Waiting);
        }
        let from = self.holding.take().map_or(self.of_manager, |at| at + 1);
        self.pass_response_head(core, &call, from, 0)
    }

    /// The head of the response, through the filters of the cluster. One of them that waits for the body gets it
    /// when the response is delivered.
    pub(super) fn upstream_response_head(
        &mut self,
        core: &mut Core<'_>,
        response_body: BodyLength,
    ) -> Result<(), HeldUp> {
        let call = Call { way: Way::Response, reply: None, response_body };
        let passed = self.pass_response_head(core, &call, self.running.len(), self.of_manager);
        self.upstream_holds = self.holding.is_some();
        passed
    }

    /// The head of the response, from the filter before `from` to the one at `to`.
    fn pass_response_head(
        &mut self,
        core: &mut Core<'_>,
        call: &Call<'_>,
        from: usize,
        to: usize,
    ) -> Result<(), HeldUp> {
        let mut next = from;
        while let Some(at) = next.checked_sub(1).filter(|at| *at >= to) {
            next = at;
            if let Some(selector) = self.undecided_selector(at) {
                // What it selects now gets the response before it.
                next += self.select_late(selector, core, call);
            }
            if next != at {
                next += 1;
                continue;
            }
            match self.call(at, core, call, |filter, state, cx| filter.response_head(state, cx)) {
                None | Some(Back::Continue) => {}
                Some(Back::Hold(held_for)) => {
                    self.holding = Some(at);
                    self.held_for.set(held_for);
                    return Err(HeldUp::Waiting);
                }
                Some(Back::Replace(reply)) => return Err(HeldUp::Replaced(reply)),
            }
        }
        Ok(())
    }

    /// Lets these filters run behind the selector at `at`.
    fn select(&mut self, at: usize, filters: &selector::Filters) {
        let Some(place) = self.running.get(at).map(|selector| selector.filter) else { return };
        let selected = filters.iter().map(|filter| {
            Running::new(place, Origin::Selected(Arc::clone(filter)), filter.begin())
        });
        self.running.splice(at + 1..=at, selected);
        if self.passed > at {
            self.passed += filters.len();
        }
        if self.of_manager > at {
            self.of_manager += filters.len();
        }
    }

    /// Where the selector runs that waits for the response, if the filter at `at` is it, or one that it has selected.
    fn undecided_selector(&self, at: usize) -> Option<usize> {
        let place = self.running.get(at)?.filter;
        let before = self.running.get(..=at)?;
        let selector = before.iter().rposition(|it| matches!(it.origin, Origin::Chain))?;
        let Running { filter, state, .. } = before.get(selector)?;
        let waits =
            matches!(state, State::Selector(selector::State::New | selector::State::Undecided));
        (*filter == place && waits).then_some(selector)
    }

    /// Lets a selector decide now; returns how many more filters run behind it.
    fn select_late(&mut self, at: usize, core: &mut Core<'_>, call: &Call<'_>) -> usize {
        let decided = self.call(at, core, call, |filter, state, cx| match (filter, state) {
            (Filter::Selector(filter), State::Selector(state)) => filter.response_begins(state, cx),
            _ => Late::Nothing,
        });
        match decided {
            None | Some(Late::Nothing) => 0,
            Some(Late::Run(filters)) => {
                self.select(at, &filters);
                filters.len()
            }
            Some(Late::Skip) => {
                let place = self.running.get(at).map(|selector| selector.filter);
                let behind = self.running.iter_mut().skip(at + 1);
                for running in behind.take_while(|it| Some(it.filter) == place) {
                    running.origin = Origin::Skipped;
                    (running.request.sees, running.response.sees) = (Sees::Nothing, Sees::Nothing);
                }
                0
            }
        }
    }

    /// Ready when the answer is here that the next filter waits for.
    pub(super) fn poll_answer(&self, cx: &task::Context<'_>, now: Millis) -> Poll<()> {
        let next = self.running.get(self.passed);
        next.map_or(Poll::Ready(()), |running| running.state.poll_answer(Way::Request, cx, now))
    }

    /// Ready when an answer is here that a filter waits for with a response or with a body. The filter gets
    /// them again then.
    pub(in crate::request) fn poll_answers(&self, cx: &task::Context<'_>, now: Millis) -> Poll<()> {
        let mut any = Poll::Pending;
        for (at, running) in self.running.iter().enumerate() {
            for way in [Way::Request, Way::Response] {
                let inside = &running.lane(way).inside;
                let asks = matches!(inside.get(), Inside::Asking | Inside::Blocked);
                let holds = way == Way::Response && self.holds_for_answer(at);
                if (asks || holds) && running.state.poll_answer(way, cx, now).is_ready() {
                    if asks {
                        inside.set(Inside::PerhapsMore);
                    }
                    if holds {
                        self.held_for.set(HeldFor::Nothing);
                    }
                    any = Poll::Ready(());
                }
            }
        }
        any
    }

    /// When the nearest filter gives up waiting for an answer.
    pub(super) fn answer_deadline(&self) -> Option<Millis> {
        self.running.iter().filter_map(|running| running.state.answer_deadline()).min()
    }

    fn holds_for_answer(&self, at: usize) -> bool {
        self.holding == Some(at)
            && matches!(self.held_for.get(), HeldFor::Answer | HeldFor::AnswerOrBody)
    }

    /// Whether the head of the response waits for an answer, and its body is to stay where it is.
    pub(super) fn awaits_only_answer(&self) -> bool {
        self.holding.is_some() && matches!(self.held_for.get(), HeldFor::Answer | HeldFor::Nothing)
    }

    /// What the head of the response waits for, if it waits.
    pub(super) fn held_for(&self) -> Option<HeldFor> {
        self.holding.map(|_| self.held_for.get())
    }

    /// Calls `what` with a filter.
    fn call<'a, R>(
        &mut self,
        at: usize,
        core: &mut Core<'a>,
        call: &Call<'_>,
        what: impl FnOnce(&Filter, &mut State, &mut Context<'_, 'a>) -> R,
    ) -> Option<R> {
        let chain = &core.given.service.filters;
        let running = self.running.get_mut(at)?;
        let Running { filter, origin, state, request, response } = running;
        let inside = (&request.inside, &response.inside);
        let plan = chain.plan(core.record.route);
        let own = self.own.as_deref();
        let (place, chain) = (*filter, own.unwrap_or(chain));
        let (Named { name, filter, .. }, upstream) = match chain.get(place) {
            Some(named) => (named, None),
            None => {
                let upstream = self.upstream.as_deref()?;
                (upstream.get(place - chain.filters.len())?, Some(upstream))
            }
        };
        let other = upstream.or(own);
        let configs = match other {
            None => plan.configs(place, at),
            Some(_) => plan.configs_by_name(name),
        };
        let selected = match origin {
            Origin::Chain => None,
            Origin::Selected(filter) => Some(Arc::clone(filter)),
            Origin::Skipped => return None,
        };
        let filter = selected.as_deref().unwrap_or(filter);
        let mut cx = Context {
            core,
            name,
            selected: selected.as_deref(),
            configs,
            held: match call.way {
                Way::Request => &mut request.waiting,
                Way::Response => &mut response.waiting,
            },
            response_body: call.response_body,
            reply: call.reply,
            upstream,
            other,
            sees: (&mut request.sees, &mut response.sees),
            inside,
            shared: &mut self.shared,
        };
        Some(what(filter, state, &mut cx))
    }

    /// Calls `what` with a filter while a body passes it.
    pub(super) fn call_for_body<'a, R>(
        &mut self,
        at: usize,
        core: &mut Core<'a>,
        what: impl FnOnce(&Filter, &mut State, &mut Context<'_, 'a>) -> R,
    ) -> Option<R> {
        let call = Call { way: Way::Request, reply: None, response_body: BodyLength::None };
        self.call(at, core, &call, what)
    }

    pub(super) fn clear(&mut self) {
        let Self {
            running,
            own,
            of_manager,
            upstream,
            upstream_holds,
            passed,
            holding,
            held_for,
            shared,
            received,
            output,
        } = self;
        running.clear();
        held_for.set(HeldFor::Body);
        *own = None;
        *of_manager = 0;
        *upstream = None;
        *upstream_holds = false;
        *holding = None;
        *passed = 0;
        *shared = Shared::default();
        received.clear();
        output.clear();
    }
}

/// Chains that no request uses at the moment, of one shard.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "an exchange holds the box")]
pub struct ActivePool(RefCell<Vec<Box<Active>>>);

impl ActivePool {
    pub(super) fn take(&self) -> Box<Active> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut active: Box<Active>) {
        active.clear();
        let mut pool = self.0.borrow_mut();
        if pool.len() < limits::POOLED_BLOCKS_MAX {
            pool.push(active);
        }
    }
}
