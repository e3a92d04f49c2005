//! The chain at work for one request.

use std::cell::RefCell;
use std::sync::Arc;

use super::piece::{self, Piece};
use super::{Chain, Filter, Flow, RouteConfig, State, Wait};
use crate::http::Fields;
use crate::limits;
use crate::request::Core;
use crate::request::reply::LocalReply;
use crate::request::route::Route;
use crate::request::stream::Stream;

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
    running: Vec<Running>,
    /// How many have let the head of the request pass.
    passed: usize,
    /// The request body as far as it waits here.
    held: Piece,
    /// A part of a body, while filters look at it.
    pub(super) piece: Piece,
}

#[derive(Debug)]
struct Running {
    /// Its place in the chain.
    filter: usize,
    state: State,
    sees: Sees,
}

/// Whether a filter wants to see the bodies.
#[derive(Clone, Copy, Debug, Default)]
struct Sees {
    request: bool,
    response: bool,
}

impl Sees {
    const fn includes(self, way: Way) -> bool {
        match way {
            Way::Request => self.request,
            Way::Response => self.response,
        }
    }
}

/// What a filter works with.
pub(in crate::request) struct Context<'c, 'a> {
    pub(super) core: &'c mut Core<'a>,
    /// What the route says to the filter, the most specific level first.
    pub(super) configs: &'c [Arc<RouteConfig>],
    /// The request body, if the filter has waited for it.
    pub(super) held: &'c Piece,
    /// The local reply whose head it is.
    reply: Option<&'c LocalReply>,
    sees: &'c mut Sees,
}

impl<'c, 'a> Context<'c, 'a> {
    /// What the most specific level of the route says to the filter; `of` takes it out.
    pub(super) fn route_config<T>(
        &self,
        of: impl FnMut(&'c RouteConfig) -> Option<&'c T>,
    ) -> Option<&'c T> {
        self.configs.iter().map(|config| &**config).find_map(of)
    }

    /// What formats know of the request.
    pub(super) fn stream(&self) -> Stream<'a> {
        self.core.stream(self.core.record.route)
    }

    /// What formats know once there is a response.
    pub(super) fn response_stream(&self) -> Stream<'c> {
        let (status, flags) = (self.core.heads.response.status, self.core.flags);
        match self.reply {
            Some(reply) => {
                self.stream().before_local_reply(reply.flags, &reply.details).answered(status)
            }
            None => self.stream().with_upstream_response(status, flags),
        }
    }

    /// The filter is to see the body that follows the head, and the trailers.
    pub(super) const fn see_body(&mut self, way: Way) {
        match way {
            Way::Request => self.sees.request = true,
            Way::Response => self.sees.response = true,
        }
    }
}

/// Why the head of a request has not passed all filters.
#[derive(Debug)]
pub(super) enum Stop {
    Reply(Box<LocalReply>),
    Wait(Wait),
}

impl Active {
    /// For a request with this route.
    pub(super) fn begin(&mut self, chain: &Chain, route: Option<&Route>) {
        self.running.extend(chain.plan(route).0.iter().filter_map(|step| {
            let state = chain.filter(step.filter)?.begin();
            Some(Running { filter: step.filter, state, sees: Sees::default() })
        }));
    }

    /// Whether no filter runs.
    pub(super) const fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a filter wants to see the body.
    #[inline]
    pub(super) fn sees(&self, way: Way) -> bool {
        self.running.iter().any(|running| running.sees.includes(way))
    }

    /// The head of the request, from the first filter that it has not passed.
    pub(super) fn request_head(&mut self, core: &mut Core<'_>) -> Result<(), Stop> {
        let chain = &core.given.service.filters;
        let plan = chain.plan(core.record.route);
        while let Some(running) = self.running.get_mut(self.passed) {
            let mut cx = Context {
                core,
                configs: plan.configs(running.filter, self.passed),
                held: &self.held,
                reply: None,
                sees: &mut running.sees,
            };
            let Some(filter) = chain.filter(running.filter) else { break };
            match filter.request_head(&mut running.state, &mut cx) {
                Flow::Continue => self.passed += 1,
                Flow::Reply(reply) => return Err(Stop::Reply(reply)),
                Flow::Wait(wait) => return Err(Stop::Wait(wait)),
            }
        }
        Ok(())
    }

    /// The head of the response.
    pub(super) fn response_head<'a>(&mut self, core: &mut Core<'a>, reply: Option<&LocalReply>) {
        let head = |filter: &Filter, state: &mut State, cx: &mut Context<'_, 'a>| {
            filter.response_head(state, cx);
        };
        self.each(Way::Response, core, reply, head);
    }

    /// Trailers, where a filter wants to see them.
    pub(super) fn trailers<'a>(&mut self, way: Way, core: &mut Core<'a>, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let mut fields = Fields::of_lines(lines);
        self.each(way, core, None, |filter, _, cx| {
            if cx.sees.includes(way) {
                filter.trailers(way, &mut fields, cx);
            }
        });
        piece::lines_of(&fields, lines);
    }

    /// Calls `each` with the filters in the order in which a message passes them.
    fn each<'a>(
        &mut self,
        way: Way,
        core: &mut Core<'a>,
        reply: Option<&LocalReply>,
        mut each: impl FnMut(&Filter, &mut State, &mut Context<'_, 'a>),
    ) {
        let chain = &core.given.service.filters;
        let plan = chain.plan(core.record.route);
        let Self { running, held, .. } = self;
        let mut call = |(at, running): (usize, &mut Running)| {
            let configs = plan.configs(running.filter, at);
            let mut cx = Context { core, configs, held, reply, sees: &mut running.sees };
            if let Some(filter) = chain.filter(running.filter) {
                each(filter, &mut running.state, &mut cx);
            }
        };
        let filters = running.iter_mut().enumerate();
        match way {
            Way::Request => filters.for_each(&mut call),
            Way::Response => filters.rev().for_each(&mut call),
        }
    }

    /// What waits of the request body.
    pub(in crate::request) const fn held(&mut self) -> &mut Piece {
        &mut self.held
    }

    fn clear(&mut self) {
        let Self { running, passed, held, piece } = self;
        running.clear();
        *passed = 0;
        held.clear();
        piece.clear();
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
