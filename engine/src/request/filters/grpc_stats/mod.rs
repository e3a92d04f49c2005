//! `grpc_stats`: counts the calls and messages of gRPC, by method.

pub(super) mod compile;
pub(super) mod frames;
pub mod methods;

use std::collections::HashSet;
use std::sync::Arc;

use self::frames::Frames;
use self::methods::{GrpcStats, Method, Naming};
use super::{Context, Flow, Piece, Way};
use crate::filter_state::{GRPC_MESSAGES, Kind, Object};
use crate::http::{BodyLength, FieldName, grpc};
use crate::stats::{Registry, Scope};

/// The filter.
#[derive(Debug)]
pub struct GrpcMethodStats {
    registry: Registry,
    named: Named,
    naming: Naming,
    /// `emit_filter_state`
    notes_messages: bool,
    /// `enable_upstream_stats`
    records_time: bool,
}

/// Which methods have stats of their own.
#[derive(Debug)]
enum Named {
    All,
    /// By service and method, separated by a slash.
    Listed(HashSet<Box<str>>),
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub struct State {
    is_grpc: bool,
    is_grpc_response: bool,
    /// None: it is not counted.
    stats: Option<Arc<Scope<GrpcStats>>>,
    request: Frames,
    response: Frames,
    request_messages: u64,
    response_messages: u64,
}

impl GrpcMethodStats {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let request = &cx.core.heads.request;
        state.is_grpc = request.is_grpc();
        if !state.is_grpc {
            return Flow::Continue;
        }
        if let (Some(cluster), Some(method)) =
            (&cx.core.upstream.cluster, Method::of(request.path()))
        {
            let name = &cluster.cluster().observability_name;
            let named = Some(method).filter(|method| self.named.include(*method));
            let methods = cx.core.given.service.grpc_methods;
            state.stats = Some(methods.stats(&self.registry, self.naming, name, named));
        }
        cx.see_body(Way::Request);
        Flow::Continue
    }

    pub(super) fn response_head(&self, state: &mut State, cx: &mut Context<'_, '_>) {
        let response = &cx.core.heads.response;
        let status = response.fields.get(FieldName::GrpcStatus);
        let has_body = !matches!(cx.response_body, BodyLength::None | BodyLength::Length(0));
        state.is_grpc_response =
            if has_body { response.is_grpc() && response.status == 200 } else { status.is_some() };
        if let (Some(stats), Some(status)) = (&state.stats, status) {
            stats.shard(cx.core.shard.id).count_status(status);
        }
        if !has_body {
            self.record_time(state, cx);
        } else if state.is_grpc_response || state.stats.is_some() {
            cx.see_body(Way::Response);
        }
    }

    pub(super) fn body(
        &self,
        way: Way,
        state: &mut State,
        piece: &Piece,
        cx: &mut Context<'_, '_>,
    ) {
        let counts = match way {
            Way::Request => state.is_grpc,
            Way::Response => state.is_grpc_response,
        };
        if counts {
            let (frames, messages) = match way {
                Way::Request => (&mut state.request, &mut state.request_messages),
                Way::Response => (&mut state.response, &mut state.response_messages),
            };
            let count = frames.count(&piece.data);
            *messages += count;
            if count > 0 {
                self.count_messages(way, count, state, cx);
            }
        }
        if let (Way::Response, Some(trailers)) = (way, &piece.end) {
            if let (Some(stats), Some(status)) = (&state.stats, grpc::status_in_trailers(trailers))
            {
                stats.shard(cx.core.shard.id).count_status(status);
            }
            self.record_time(state, cx);
        }
    }

    fn count_messages(&self, way: Way, count: u64, state: &State, cx: &mut Context<'_, '_>) {
        if let Some(stats) = &state.stats {
            let stats = stats.shard(cx.core.shard.id);
            match way {
                Way::Request => stats.count_request_messages(count),
                Way::Response => stats.count_response_messages(count),
            }
        }
        if self.notes_messages {
            let (request, response) = (state.request_messages, state.response_messages);
            let object = Object { key: GRPC_MESSAGES.into(), kind: Kind::Text };
            cx.core.note().state.set(&object, &format!("{request},{response}"));
        }
    }

    /// Records how long the upstream host took, from the end of the request.
    fn record_time(&self, state: &State, cx: &Context<'_, '_>) {
        if let (true, Some(stats), Some(received)) =
            (self.records_time, &state.stats, cx.core.received)
        {
            let took = cx.core.shard.clock.now().saturating_sub(received);
            stats.shard(cx.core.shard.id).upstream_rq_time.record(took);
        }
    }
}

impl Named {
    fn include(&self, method: Method<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => {
                names.contains([method.service, "/", method.method].concat().as_str())
            }
        }
    }
}
