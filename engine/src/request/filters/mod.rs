//! The HTTP filters before the router.
//!
//! The head of a request passes them in the order of the chain, the head of its response, also of a local
//! reply, in reverse. A filter may change a head, reply, or wait for the body of the request. A filter
//! that wants to see bodies says so when it sees the head; the body then passes [`Piece`] by piece. Every
//! other body goes past the filters.
//!
//! A [`Chain`] is compiled once per connection manager. A [`Plan`] is what a route makes of it: which
//! filters run, and what the route configures for each. [`Active`] is the chain at work for one request.
//! A new filter is a folder, a variant in each enum of this file, and its types in `compile.rs`.
//!
//! Invariant: where the router is the only filter, a request is never `Active`.

mod active;
pub mod admission_control;
pub mod api_key_auth;
mod asking;
pub mod bandwidth_limit;
pub mod basic_auth;
mod body;
pub mod buffer;
pub mod cdn_loop;
mod chain;
pub(crate) mod compile;
pub mod compressor;
mod context;
pub mod cors;
pub mod credential_injector;
pub mod csrf;
pub mod custom_response;
pub mod decompressor;
pub mod dynamic_forward_proxy;
mod exchange;
pub mod ext_authz;
pub mod ext_proc;
pub mod fault;
pub mod grpc_http1_bridge;
pub mod grpc_http1_reverse_bridge;
pub mod grpc_stats;
pub mod grpc_web;
pub mod header_mutation;
pub mod header_to_metadata;
pub mod health_check;
pub mod json_to_metadata;
pub mod jwt_authn;
mod limiter;
pub mod local_ratelimit;
pub mod lua;
mod mutation_rules;
mod piece;
pub mod ratelimit;
pub mod rbac;
pub mod selector;
pub mod set_filter_state;
pub mod set_metadata;
pub mod stateful_session;
mod transfer;
mod upstream;
pub(crate) mod upstream_compile;
mod wait;

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{self, Poll};

pub use self::active::ActivePool;
use self::active::HeldFor;
pub(super) use self::active::{Active, Way};
use self::admission_control::AdmissionControl;
use self::api_key_auth::ApiKeyAuth;
use self::bandwidth_limit::BandwidthLimit;
use self::basic_auth::BasicAuth;
pub(super) use self::body::Passage;
use self::body::Progress;
use self::buffer::Buffer;
use self::cdn_loop::CdnLoop;
use self::chain::Named;
pub use self::chain::{Chain, Plan};
use self::compressor::Compressor;
pub(super) use self::context::{Context, RouteCache};
use self::cors::Cors;
use self::credential_injector::CredentialInjector;
use self::csrf::Csrf;
use self::custom_response::CustomResponse;
use self::decompressor::Decompressor;
use self::dynamic_forward_proxy::DynamicForwardProxy;
pub(super) use self::exchange::filter_refusal;
use self::ext_authz::ExtAuthz;
use self::ext_proc::ExtProc;
use self::fault::Fault;
use self::grpc_http1_bridge::GrpcHttp1Bridge;
use self::grpc_http1_reverse_bridge::GrpcHttp1ReverseBridge;
use self::grpc_stats::GrpcMethodStats;
use self::grpc_web::GrpcWeb;
use self::header_mutation::HeaderMutation;
use self::header_to_metadata::HeaderToMetadata;
use self::health_check::HealthCheck;
use self::json_to_metadata::JsonToMetadata;
use self::jwt_authn::JwtAuthn;
use self::local_ratelimit::LocalRateLimit;
use self::lua::Lua;
pub(super) use self::piece::Piece;
use self::ratelimit::GlobalRateLimit;
use self::rbac::Rbac;
use self::selector::Selector;
use self::set_filter_state::SetFilterState;
use self::set_metadata::SetMetadata;
use self::stateful_session::StatefulSession;
pub(super) use self::transfer::ReplyBody;
pub use self::upstream::{ClusterChains, UpstreamChains};
use super::reply::LocalReply;
use crate::http::{self, Fields};
use crate::shard::clock::Millis;

/// A filter, compiled.
#[derive(Debug)]
pub(super) enum Filter {
    AdmissionControl(Box<AdmissionControl>),
    ApiKeyAuth(ApiKeyAuth),
    BandwidthLimit(Box<BandwidthLimit>),
    BasicAuth(BasicAuth),
    Buffer(Buffer),
    CdnLoop(CdnLoop),
    Compressor(Box<Compressor>),
    Cors(Cors),
    CredentialInjector(Box<CredentialInjector>),
    Csrf(Csrf),
    CustomResponse(Box<CustomResponse>),
    ExtAuthz(Box<ExtAuthz>),
    ExtProc(Box<ExtProc>),
    Decompressor(Box<Decompressor>),
    DynamicForwardProxy(DynamicForwardProxy),
    Fault(Box<Fault>),
    GlobalRateLimit(Box<GlobalRateLimit>),
    GrpcHttp1Bridge(GrpcHttp1Bridge),
    GrpcHttp1ReverseBridge(Box<GrpcHttp1ReverseBridge>),
    GrpcStats(Box<GrpcMethodStats>),
    GrpcWeb(GrpcWeb),
    HeaderMutation(HeaderMutation),
    HeaderToMetadata(HeaderToMetadata),
    HealthCheck(Box<HealthCheck>),
    JsonToMetadata(Box<JsonToMetadata>),
    JwtAuthn(Box<JwtAuthn>),
    LocalRateLimit(Box<LocalRateLimit>),
    Lua(Box<Lua>),
    Rbac(Box<Rbac>),
    Selector(Box<Selector>),
    SetFilterState(SetFilterState),
    SetMetadata(SetMetadata),
    StatefulSession(Box<StatefulSession>),
}

/// What a level of the route configuration says to a filter.
#[derive(Debug)]
pub(super) enum RouteConfig {
    ApiKeyAuth(Box<api_key_auth::PerRoute>),
    BandwidthLimit(Box<bandwidth_limit::Settings>),
    BasicAuth(basic_auth::Users),
    Buffer(buffer::PerRoute),
    Compressor(Box<compressor::PerRoute>),
    Cors(Box<cors::Policy>),
    Csrf(Box<csrf::Policy>),
    CustomResponse(Box<custom_response::Tree>),
    DynamicForwardProxy(dynamic_forward_proxy::HostRewrite),
    ExtAuthz(ext_authz::PerRoute),
    ExtProc(Box<ext_proc::PerRoute>),
    Fault(Box<fault::Settings>),
    GlobalRateLimit(Box<ratelimit::PerRoute>),
    GrpcHttp1ReverseBridge { disabled: bool },
    HeaderMutation(Box<header_mutation::Mutations>),
    HeaderToMetadata(Box<header_to_metadata::Rules>),
    JsonToMetadata(Box<json_to_metadata::Rules>),
    JwtAuthn(jwt_authn::PerRoute),
    LocalRateLimit(Box<local_ratelimit::Settings>),
    Lua(Box<lua::PerRoute>),
    Rbac(Box<rbac::Settings>),
    Selector(Box<selector::Tree>),
    SetFilterState(set_filter_state::Values),
    StatefulSession(Box<stateful_session::PerRoute>),
}

/// What a filter remembers of a request.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing.
    None,
    AdmissionControl(admission_control::State),
    BandwidthLimit(Box<bandwidth_limit::State>),
    Compressor(Box<compressor::State>),
    Cors(cors::State),
    Decompressor(Box<decompressor::State>),
    DynamicForwardProxy(dynamic_forward_proxy::State),
    ExtAuthz(Box<ext_authz::State>),
    ExtProc(Box<ext_proc::State>),
    Fault(Box<fault::State>),
    GrpcHttp1Bridge(Box<grpc_http1_bridge::State>),
    GrpcHttp1ReverseBridge(grpc_http1_reverse_bridge::State),
    GrpcStats(Box<grpc_stats::State>),
    GrpcWeb(grpc_web::State),
    HealthCheck(health_check::State),
    GlobalRateLimit(Box<ratelimit::State>),
    JsonToMetadata(json_to_metadata::State),
    JwtAuthn(Box<jwt_authn::State>),
    LocalRateLimit(local_ratelimit::State),
    Lua(Box<lua::State>),
    Selector(selector::State),
    StatefulSession(stateful_session::State),
}

impl State {
    /// Ready when an answer is here that the filter waits for, or it waits no longer.
    fn poll_answer(&self, way: Way, cx: &task::Context<'_>, now: Millis) -> Poll<()> {
        match self {
            Self::DynamicForwardProxy(state) => state.poll_answer(cx),
            Self::ExtAuthz(state) => state.poll_answer(cx),
            Self::ExtProc(state) => state.poll_answer(way, cx, now),
            Self::Lua(state) => state.poll_answer(way, cx),
            Self::GlobalRateLimit(state) => state.poll_answer(cx),
            Self::JwtAuthn(state) => state.poll_keys(cx),
            _ => Poll::Ready(()),
        }
    }

    /// When it waits no longer for an answer.
    fn answer_deadline(&self) -> Option<Millis> {
        match self {
            Self::ExtProc(state) => state.answer_deadline(),
            _ => None,
        }
    }
}

/// What becomes of the head of a request after a filter.
#[derive(Debug)]
pub(super) enum Flow {
    /// The next filter gets it.
    Continue,
    /// The next filters are these.
    Run(selector::Filters),
    /// It is answered.
    Reply(Box<LocalReply>),
    /// The filter gets it again afterwards.
    Wait(Wait),
}

/// What becomes of the head of a response after a filter.
#[derive(Debug)]
pub(super) enum Back {
    /// The next filter gets it.
    Continue,
    /// The filter gets it again when what it waits for has come as far as the filter. A body of more bytes
    /// than the buffer limit of the listener is answered with 500.
    Hold(HeldFor),
    /// The client gets this instead, which no filter sees.
    Replace(Box<LocalReply>),
}

/// What a filter waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// The end of the request. A body of more bytes than this is answered with 413.
    Body { bytes_max: usize },
    /// This time.
    Until(Millis),
    /// The end of the request, whose body is dropped.
    End,
    /// The end of the request, or so many bytes of its body.
    BodyUpTo { bytes: usize },
    /// An answer: [`State::poll_answer`].
    Call,
    /// The same, or a part of the body.
    CallOrBody,
}

/// What filters keep on a shard for a connection manager, by their ids.
#[derive(Debug, Default)]
pub struct OnShard(RefCell<Vec<(FilterId, Rc<dyn Any>)>>);

/// A filter that keeps something on each shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FilterId(u64);

impl FilterId {
    /// Another one than all others in this process.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

impl OnShard {
    /// What the filter keeps; made when it is first asked for.
    fn of<T: 'static>(&self, filter: FilterId, make: impl FnOnce() -> Rc<T>) -> Rc<T> {
        let known = self.0.borrow().iter().find(|(id, _)| *id == filter).map(|it| Rc::clone(&it.1));
        let known = known.and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            let made = make();
            let kept: Rc<dyn Any> = Rc::<T>::clone(&made);
            self.0.borrow_mut().push((filter, kept));
            made
        })
    }
}

/// One line per filter: nothing else knows them all, but `compile.rs`.
impl Filter {
    /// The state with which a request begins.
    fn begin(&self) -> State {
        match self {
            Self::AdmissionControl(_) => State::AdmissionControl(admission_control::State::Ignored),
            Self::BandwidthLimit(_) => State::BandwidthLimit(Box::default()),
            Self::Compressor(_) => State::Compressor(Box::default()),
            Self::Cors(_) => State::Cors(cors::State::Ordinary),
            Self::ExtAuthz(_) => State::ExtAuthz(Box::default()),
            Self::ExtProc(_) => State::ExtProc(Box::default()),
            Self::Decompressor(_) => State::Decompressor(Box::default()),
            Self::DynamicForwardProxy(_) => {
                State::DynamicForwardProxy(dynamic_forward_proxy::State::New)
            }
            Self::Fault(_) => State::Fault(Box::default()),
            Self::GrpcHttp1Bridge(_) => State::GrpcHttp1Bridge(Box::default()),
            Self::GrpcHttp1ReverseBridge(_) => {
                State::GrpcHttp1ReverseBridge(grpc_http1_reverse_bridge::State::Other)
            }
            Self::GrpcStats(_) => State::GrpcStats(Box::default()),
            Self::GrpcWeb(_) => State::GrpcWeb(grpc_web::State::Other),
            Self::HealthCheck(_) => State::HealthCheck(health_check::State::Ordinary),
            Self::GlobalRateLimit(_) => State::GlobalRateLimit(Box::default()),
            Self::JsonToMetadata(_) => State::JsonToMetadata(json_to_metadata::State::default()),
            Self::JwtAuthn(_) => State::JwtAuthn(Box::default()),
            Self::LocalRateLimit(_) => State::LocalRateLimit(local_ratelimit::State::NEW),
            Self::Lua(_) => State::Lua(Box::default()),
            Self::Selector(_) => State::Selector(selector::State::New),
            Self::StatefulSession(_) => State::StatefulSession(stateful_session::State::Off),
            Self::ApiKeyAuth(_)
            | Self::BasicAuth(_)
            | Self::Buffer(_)
            | Self::CdnLoop(_)
            | Self::CredentialInjector(_)
            | Self::Csrf(_)
            | Self::CustomResponse(_)
            | Self::HeaderMutation(_)
            | Self::HeaderToMetadata(_)
            | Self::Rbac(_)
            | Self::SetFilterState(_)
            | Self::SetMetadata(_) => State::None,
        }
    }

    /// The head of a request on its way to the router.
    #[expect(clippy::too_many_lines, reason = "a line or two per filter")]
    fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        match (self, state) {
            (Self::AdmissionControl(filter), State::AdmissionControl(state)) => {
                filter.request_head(state, cx)
            }
            (Self::ApiKeyAuth(filter), _) => filter.request_head(cx),
            (Self::BandwidthLimit(filter), _) => filter.request_head(cx),
            (Self::BasicAuth(filter), _) => filter.request_head(cx),
            (Self::Buffer(filter), _) => filter.request_head(cx),
            (Self::CdnLoop(filter), _) => filter.request_head(cx),
            (Self::Compressor(filter), State::Compressor(state)) => filter.request_head(state, cx),
            (Self::Cors(filter), State::Cors(state)) => filter.request_head(state, cx),
            (Self::Decompressor(filter), State::Decompressor(state)) => {
                filter.request_head(state, cx)
            }
            (Self::CredentialInjector(filter), _) => filter.request_head(cx),
            (Self::Csrf(filter), _) => filter.request_head(cx),
            (Self::DynamicForwardProxy(filter), State::DynamicForwardProxy(state)) => {
                filter.request_head(state, cx)
            }
            (Self::ExtAuthz(filter), State::ExtAuthz(state)) => filter.request_head(state, cx),
            (Self::ExtProc(filter), State::ExtProc(state)) => filter.request_head(state, cx),
            (Self::Fault(filter), State::Fault(state)) => filter.request_head(state, cx),
            (Self::GrpcHttp1Bridge(filter), State::GrpcHttp1Bridge(state)) => {
                filter.request_head(state, cx)
            }
            (Self::GrpcHttp1ReverseBridge(filter), State::GrpcHttp1ReverseBridge(state)) => {
                filter.request_head(state, cx)
            }
            (Self::GrpcStats(filter), State::GrpcStats(state)) => filter.request_head(state, cx),
            (Self::GrpcWeb(filter), State::GrpcWeb(state)) => filter.request_head(state, cx),
            (Self::HeaderMutation(filter), _) => filter.request_head(cx),
            (Self::HeaderToMetadata(filter), _) => filter.request_head(cx),
            (Self::HealthCheck(filter), State::HealthCheck(state)) => {
                filter.request_head(state, cx)
            }
            (Self::GlobalRateLimit(filter), State::GlobalRateLimit(state)) => {
                filter.request_head(state, cx)
            }
            (Self::JsonToMetadata(filter), State::JsonToMetadata(state)) => {
                filter.request_head(state, cx)
            }
            (Self::JwtAuthn(filter), State::JwtAuthn(state)) => filter.request_head(state, cx),
            (Self::LocalRateLimit(filter), State::LocalRateLimit(state)) => {
                filter.request_head(state, cx)
            }
            (Self::Lua(filter), State::Lua(state)) => filter.request_head(state, cx),
            (Self::Rbac(filter), _) => filter.request_head(cx),
            (Self::Selector(filter), State::Selector(state)) => filter.request_head(state, cx),
            (Self::SetFilterState(filter), _) => filter.request_head(cx),
            (Self::SetMetadata(filter), _) => filter.request_head(cx),
            (Self::StatefulSession(filter), State::StatefulSession(state)) => {
                filter.request_head(state, cx)
            }
            (
                Self::AdmissionControl(_)
                | Self::Compressor(_)
                | Self::Cors(_)
                | Self::CustomResponse(_)
                | Self::Decompressor(_)
                | Self::DynamicForwardProxy(_)
                | Self::ExtAuthz(_)
                | Self::ExtProc(_)
                | Self::Fault(_)
                | Self::GrpcHttp1Bridge(_)
                | Self::GrpcHttp1ReverseBridge(_)
                | Self::GrpcStats(_)
                | Self::GrpcWeb(_)
                | Self::HealthCheck(_)
                | Self::GlobalRateLimit(_)
                | Self::JsonToMetadata(_)
                | Self::JwtAuthn(_)
                | Self::LocalRateLimit(_)
                | Self::Lua(_)
                | Self::Selector(_)
                | Self::StatefulSession(_),
                _,
            ) => Flow::Continue,
        }
    }

    /// The head of a response on its way to the client, before what the connection manager adds.
    fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Back {
        match (self, state) {
            (Self::AdmissionControl(filter), State::AdmissionControl(state)) => {
                filter.response_head(state, cx);
            }
            (Self::BandwidthLimit(filter), State::BandwidthLimit(state)) => {
                filter.response_head(state, cx);
            }
            (Self::Compressor(filter), State::Compressor(state)) => {
                filter.response_head(state, cx);
            }
            (Self::Cors(filter), State::Cors(state)) => filter.response_head(state, cx),
            (Self::CustomResponse(filter), _) => return filter.response_head(cx),
            (Self::ExtAuthz(_), State::ExtAuthz(state)) => ExtAuthz::response_head(state, cx),
            (Self::ExtProc(filter), State::ExtProc(state)) => {
                return filter.response_head(state, cx);
            }
            (Self::Lua(filter), State::Lua(state)) => return filter.response_head(state, cx),
            (Self::Decompressor(filter), State::Decompressor(state)) => {
                filter.response_head(state, cx);
            }
            (Self::Fault(_), State::Fault(state)) => Fault::response_head(state, cx),
            (Self::GrpcHttp1Bridge(_), State::GrpcHttp1Bridge(state)) => {
                return GrpcHttp1Bridge::response_head(state, cx);
            }
            (Self::GrpcHttp1ReverseBridge(filter), State::GrpcHttp1ReverseBridge(state)) => {
                return filter.response_head(state, cx);
            }
            (Self::GrpcStats(filter), State::GrpcStats(state)) => filter.response_head(state, cx),
            (Self::GrpcWeb(_), State::GrpcWeb(state)) => return GrpcWeb::response_head(state, cx),
            (Self::HeaderMutation(filter), _) => filter.response_head(cx),
            (Self::HeaderToMetadata(filter), _) => filter.response_head(cx),
            (Self::HealthCheck(filter), State::HealthCheck(state)) => {
                filter.response_head(*state, cx);
            }
            (Self::GlobalRateLimit(_), State::GlobalRateLimit(state)) => {
                GlobalRateLimit::response_head(state, cx);
            }
            (Self::JsonToMetadata(filter), State::JsonToMetadata(state)) => {
                return filter.response_head(state, cx);
            }
            (Self::LocalRateLimit(_), State::LocalRateLimit(state)) => {
                LocalRateLimit::response_head(state, cx);
            }
            (Self::StatefulSession(filter), State::StatefulSession(state)) => {
                filter.response_head(state, cx);
            }
            _ => {}
        }
        Back::Continue
    }

    /// A part of a body that the filter sees: takes it out of `input` and puts what goes on into `output`. If
    /// `output` has a block, the rest of `input` is left for the next call.
    ///
    /// # Errors
    /// If the body cannot be read.
    fn body(
        &self,
        way: Way,
        state: &mut State,
        input: &mut Piece,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Result<Progress, http::Fault> {
        let shard = cx.core.shard;
        match (self, state) {
            (Self::AdmissionControl(filter), State::AdmissionControl(state)) => {
                filter.body(state, input, cx);
                output.take_all(input);
                Ok(Progress::Moved)
            }
            (Self::BandwidthLimit(filter), State::BandwidthLimit(state)) => {
                Ok(filter.body(way, state, input, output, cx))
            }
            (Self::Compressor(filter), State::Compressor(state)) => {
                Ok(filter.body(way, state, input, output, shard.id))
            }
            (Self::Decompressor(filter), State::Decompressor(state)) => {
                filter.body(way, state, input, output, cx)
            }
            (Self::ExtProc(filter), State::ExtProc(state)) => {
                filter.body(way, state, input, output, cx)
            }
            (Self::Lua(filter), State::Lua(state)) => {
                Ok(filter.body(way, state, input, output, cx))
            }
            (Self::Fault(_), State::Fault(state)) => {
                Ok(Fault::body(way, state, input, output, shard.clock.now()))
            }
            (Self::GrpcHttp1Bridge(_), State::GrpcHttp1Bridge(state)) => {
                Ok(GrpcHttp1Bridge::body(way, state, input, output))
            }
            (Self::GrpcHttp1ReverseBridge(_), State::GrpcHttp1ReverseBridge(state)) => {
                GrpcHttp1ReverseBridge::body(way, state, input, output)
            }
            (Self::GrpcStats(filter), State::GrpcStats(state)) => {
                filter.body(way, state, input, cx);
                output.take_all(input);
                Ok(Progress::Moved)
            }
            (Self::GrpcWeb(_), State::GrpcWeb(state)) => {
                GrpcWeb::body(way, state, input, output, shard.id)
            }
            _ => {
                output.take_all(input);
                Ok(Progress::Moved)
            }
        }
    }

    /// The trailers of a message whose trailers the filter sees.
    fn trailers(&self, way: Way, trailers: &mut Fields, cx: &mut Context<'_, '_>) {
        if let Self::HeaderMutation(filter) = self {
            filter.trailers(way, trailers, cx);
        }
    }
}
