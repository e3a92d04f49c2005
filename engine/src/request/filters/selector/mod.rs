//! `ExtensionWithMatcher` and `composite`: a matcher tree selects the filters that run for a request.
//!
//! The selected filters run right behind the selector, as if they were in the chain there, and with what the
//! route says to it. A tree may also look at the response: until that begins, the filters run that need no
//! selection.

pub(super) mod compile;

use std::collections::HashMap;
use std::sync::Arc;

use super::{Context, Filter, Flow, RouteConfig};
use crate::filter_state::{EXECUTED, Kind, Object};
use crate::format::Inputs;
use crate::matcher::{Matcher, Undecided};
use crate::runtime::RuntimeFraction;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.composite.`
    pub struct CompositeStats {
        constant counter filter_delegation_error;
        counter filter_delegation_success;
    }
}

/// Filters in the order in which a request passes them.
pub(super) type Filters = Arc<[Arc<Filter>]>;

/// The tree of a selector.
pub type Tree = Matcher<Action>;

/// The filter.
#[derive(Debug)]
pub struct Selector {
    tree: Tree,
    /// What runs unless the tree selects anything.
    otherwise: Filters,
    /// `named_filter_chains`
    named: HashMap<Box<str>, Filters>,
    /// None, if the tree can only skip a filter.
    stats: Option<Arc<Scope<CompositeStats>>>,
}

/// Where a tree leads to.
#[derive(Debug)]
pub enum Action {
    /// No filter runs.
    Skip,
    /// These filters run.
    Execute(Execute),
}

/// `ExecuteFilterAction`
#[derive(Debug)]
pub struct Execute {
    filters: Executed,
    /// The fraction of requests that it is done for; none: all.
    sample: Option<RuntimeFraction>,
}

#[derive(Debug)]
enum Executed {
    /// The name under which they are noted, and the filters.
    Own(Box<str>, Filters),
    /// Those with this name.
    Named(Box<str>),
}

/// What the filter remembers of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// The request has not come this far.
    #[default]
    New,
    /// It depends on the response. The filters run that need no selection.
    Undecided,
    /// Nothing changes anymore.
    Decided,
}

/// What the beginning of a response decides.
#[derive(Debug)]
pub(super) enum Late {
    /// Nothing.
    Nothing,
    /// The filters that run do so no longer.
    Skip,
    /// These filters run.
    Run(Filters),
}

impl Selector {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let decided = {
            let stream = cx.stream();
            let request = Some(&cx.core.heads.request);
            self.tree_for(cx).decide(&Inputs { request, ..Inputs::new(&stream) })
        };
        *state = if decided.is_ok() { State::Decided } else { State::Undecided };
        match decided {
            Err(Undecided) | Ok(None) => Flow::Run(Arc::clone(&self.otherwise)),
            Ok(Some(Action::Skip)) => Flow::Continue,
            Ok(Some(Action::Execute(execute))) => {
                self.execute(execute, cx).map_or(Flow::Continue, Flow::Run)
            }
        }
    }

    /// Decides what depends on the response, which has begun.
    pub(super) fn response_begins(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Late {
        match std::mem::replace(state, State::Decided) {
            State::Decided => return Late::Nothing,
            // As in Envoy, a filter sees the response to a request that it has not seen.
            State::New => return Late::Run(Arc::clone(&self.otherwise)),
            State::Undecided => {}
        }
        let decided = {
            let stream = cx.response_stream();
            let (request, response) = (&cx.core.heads.request, &cx.core.heads.response);
            let inputs = Inputs { response: Some(response), ..Inputs::new(&stream) };
            self.tree_for(cx).decide(&Inputs { request: Some(request), ..inputs })
        };
        match decided {
            Err(Undecided) | Ok(None) => Late::Nothing,
            Ok(Some(Action::Skip)) => Late::Skip,
            Ok(Some(Action::Execute(execute))) => {
                self.execute(execute, cx).map_or(Late::Nothing, Late::Run)
            }
        }
    }

    fn tree_for<'c>(&'c self, cx: &Context<'c, '_>) -> &'c Tree {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::Selector(tree) => Some(&**tree),
            _ => None,
        });
        of_route.unwrap_or(&self.tree)
    }

    /// The filters to run, if the request is one of the sample.
    fn execute(&self, execute: &Execute, cx: &mut Context<'_, '_>) -> Option<Filters> {
        let Execute { filters, sample } = execute;
        let random = || cx.core.shard.random.borrow_mut().u64(..);
        if sample.as_ref().is_some_and(|sample| !sample.includes(random())) {
            return None;
        }
        let (name, filters) = match filters {
            Executed::Own(name, filters) => (name, filters),
            Executed::Named(name) => (name, self.named.get(name)?),
        };
        if let Some(stats) = &self.stats {
            stats.shard(cx.core.shard.id).filter_delegation_success.inc();
        }
        note(cx, name);
        Some(Arc::clone(filters))
    }
}

/// Notes what is executed, by the name of the selector, for logs.
fn note(cx: &mut Context<'_, '_>, executed: &str) {
    let state = &mut cx.core.note().state;
    let before = state.text(EXECUTED).and_then(|text| serde_json::from_str(text).ok());
    let mut all: serde_json::Map<String, serde_json::Value> = before.unwrap_or_default();
    all.insert(cx.name.to_owned(), executed.into());
    let object = Object { key: EXECUTED.into(), kind: Kind::Text };
    state.set(&object, &serde_json::Value::Object(all).to_string());
}
