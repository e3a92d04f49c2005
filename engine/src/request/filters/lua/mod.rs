//! `lua`: scripts that see and change requests and responses, in LuaJIT.
//!
//! A script is a coroutine per message (`vm.rs`). What it does to heads and bodies it does directly (`live.rs`); what
//! needs the exchange, or takes time, it asks for by yielding: [`run`] answers, or lets the message wait. Each script
//! has one state of Lua per shard.
//!
//! Invariant: a script that fails, or runs too long, is counted, and its message goes on. It takes no more memory
//! than its limit.

mod ask;
mod body;
pub(super) mod compile;
mod live;
mod run;
mod value;
mod vm;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};

use serde_json::Value;

use self::run::{Run, Step, Waits};
use self::vm::Vm;
use super::active::HeldFor;
use super::{Back, Context, FilterId, Flow, RouteConfig, Wait, Way};
use crate::http::BodyLength;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.lua.<stat_prefix>.`
    pub struct LuaStats {
        counter errors;
        counter executions;
    }
}

/// The filter.
#[derive(Debug)]
pub struct Lua {
    default: Option<Arc<Script>>,
    /// By the names that routes call them.
    scripts: Box<[(String, Arc<Script>)]>,
    /// Whether the route is looked up again when a script has changed the head of a request.
    clear_route_cache: bool,
    context: Arc<Value>,
    stats: Arc<Scope<LuaStats>>,
}

/// A script.
#[derive(Debug)]
struct Script {
    id: FilterId,
    code: Box<str>,
}

/// What a level of a route says.
#[derive(Debug)]
pub struct PerRoute {
    source: RouteSource,
    context: Option<Arc<Value>>,
}

/// Which script runs for a route.
#[derive(Debug)]
enum RouteSource {
    /// That of the filter.
    Inherited,
    Disabled,
    /// The one of this name.
    Named(String),
    Own(Arc<Script>),
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub(in crate::request) struct State {
    request: Message,
    response: Message,
}

/// What it remembers of a request or of a response.
#[derive(Debug, Default)]
enum Message {
    /// Its head has not come yet.
    #[default]
    New,
    Running(Box<Run>),
    /// No script runs for it any more.
    Done,
}

impl State {
    const fn message(&mut self, way: Way) -> &mut Message {
        match way {
            Way::Request => &mut self.request,
            Way::Response => &mut self.response,
        }
    }

    /// Ready when the answer is here that a script waits for.
    pub(super) fn poll_answer(&self, way: Way, cx: &task::Context<'_>) -> Poll<()> {
        let message = match way {
            Way::Request => &self.request,
            Way::Response => &self.response,
        };
        match message {
            Message::Running(run) => match &run.waits {
                Waits::Call { call, .. } => call.poll_done(cx),
                _ => Poll::Ready(()),
            },
            Message::New | Message::Done => Poll::Ready(()),
        }
    }
}

impl Lua {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match self.head(Way::Request, state, cx) {
            Step::Finished | Step::Chunk | Step::Trailers => Flow::Continue,
            Step::Body => Flow::Wait(Wait::Body { bytes_max: bytes_max(cx) }),
            Step::Call => Flow::Wait(Wait::Call),
            Step::Respond(reply) => Flow::Reply(reply),
        }
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        match self.head(Way::Response, state, cx) {
            Step::Finished | Step::Chunk | Step::Trailers => Back::Continue,
            Step::Body => Back::Hold(HeldFor::Body),
            Step::Call => Back::Hold(HeldFor::Answer),
            Step::Respond(reply) => Back::Replace(reply),
        }
    }

    /// A head that has come, or what its script waits for.
    fn head(&self, way: Way, state: &mut State, cx: &mut Context<'_, '_>) -> Step {
        let message = state.message(way);
        let step = match std::mem::replace(message, Message::Done) {
            Message::Done => return Step::Finished,
            Message::New => match self.begin(way, cx) {
                Some((mut run, handle)) => {
                    let step = self.resume(&mut run, vec![handle], way, cx);
                    Some((run, step))
                }
                None => None,
            },
            Message::Running(mut run) => {
                let step = self.go_on(&mut run, way, cx);
                Some((run, step))
            }
        };
        let Some((mut run, step)) = step else { return Step::Finished };
        match step {
            Step::Chunk | Step::Trailers => {
                run.is_held = false;
                cx.see_body(way);
                *message = Message::Running(run);
            }
            Step::Body | Step::Call => *message = Message::Running(run),
            Step::Finished | Step::Respond(_) => {}
        }
        step
    }

    /// Begins the script for a message; none: there is none.
    fn begin(&self, way: Way, cx: &Context<'_, '_>) -> Option<(Box<Run>, mlua::Value)> {
        let script = self.script(cx)?;
        let shard = cx.core.shard;
        let kept = cx.core.service().filters_on_shard.of(script.id, || {
            // That it can be loaded was checked with the configuration.
            Rc::new(Vm::load(&script.code).map_err(|error| error.to_string()))
        });
        let vm = match &*kept {
            Ok(_) => kept,
            Err(error) => {
                self.stats.shard(shard.id).errors.inc();
                tracing::error!(target: "lua", "script error: {error}");
                return None;
            }
        };
        let run = Run::begin(&vm, way);
        match run {
            Ok(run) => {
                if run.is_some() {
                    self.stats.shard(shard.id).executions.inc();
                }
                run
            }
            Err(error) => {
                self.failed(&error, cx);
                None
            }
        }
    }

    fn script<'c>(&'c self, cx: &Context<'c, '_>) -> Option<&'c Arc<Script>> {
        match per_route(cx).map(|config| &config.source) {
            None | Some(RouteSource::Inherited) => self.default.as_ref(),
            Some(RouteSource::Disabled) => None,
            Some(RouteSource::Named(name)) => {
                self.scripts.iter().find(|(other, _)| other == name).map(|(_, script)| script)
            }
            Some(RouteSource::Own(script)) => Some(script),
        }
    }

    fn failed(&self, error: &mlua::Error, cx: &Context<'_, '_>) {
        self.stats.shard(cx.core.shard.id).errors.inc();
        tracing::error!(target: "lua", "script error: {error}");
    }
}

fn per_route<'c>(cx: &Context<'c, '_>) -> Option<&'c PerRoute> {
    cx.route_config(|config| match config {
        RouteConfig::Lua(config) => Some(&**config),
        _ => None,
    })
}

/// The most bytes of a body that are held; 0 is without a limit.
fn bytes_max(cx: &Context<'_, '_>) -> usize {
    match cx.core.service().buffer_limit {
        0 => usize::MAX,
        limit => limit,
    }
}

fn has_body(way: Way, cx: &Context<'_, '_>) -> bool {
    let length = match way {
        Way::Request => cx.core.body,
        Way::Response => cx.response_body,
    };
    !matches!(length, BodyLength::None | BodyLength::Length(0))
}
