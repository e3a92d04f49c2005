//! What a filter works with.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use super::active::Way;
use super::body::{Inside, Sees};
use super::compressor::Decision;
use super::piece::Piece;
use super::{Chain, Filter, RouteConfig};
use crate::flags::Flag;
use crate::http::BodyLength;
use crate::request::Core;
use crate::request::reply::LocalReply;
use crate::request::stream::Stream;

/// What filters decide for all of the request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared {
    pub(super) route_cache: RouteCache,
    pub(super) response_length: ResponseLength,
    pub(super) coding: Option<Decision>,
    /// Whether the client speaks gRPC, if a filter translates that.
    pub(super) client_speaks_grpc: Option<bool>,
}

/// Whether the route is the one that the request began with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::request) enum RouteCache {
    #[default]
    Kept,
    /// A filter has changed the head: it was looked up again.
    Cleared,
}

/// Whether the length of the response's body is still known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum ResponseLength {
    #[default]
    Kept,
    /// A filter changes the body.
    Unknown,
    /// A filter has changed it to one of so many bytes.
    Known(u64),
}

/// What a filter works with.
pub(in crate::request) struct Context<'c, 'a> {
    pub(super) core: &'c mut Core<'a>,
    /// The name of the filter.
    pub(super) name: &'c str,
    /// The filter, if a selector has selected it.
    pub(super) selected: Option<&'c Filter>,
    /// What the route says to the filter, the most specific level first.
    pub(super) configs: &'c [Arc<RouteConfig>],
    /// The body, if the filter has waited for it.
    pub(super) held: &'c mut Piece,
    /// Of the response, once it is on its way.
    pub(super) response_body: BodyLength,
    /// The local reply whose head it is.
    pub(super) reply: Option<&'c LocalReply>,
    /// The filters of the cluster, if it is one of them.
    pub(super) upstream: Option<&'c Chain>,
    /// Those, or those of the upgrade.
    pub(super) other: Option<&'c Chain>,
    /// What the filter wants to see of the request and of the response.
    pub(super) sees: (&'c mut Sees, &'c mut Sees),
    /// What it holds of the request and of the response.
    pub(super) inside: (&'c Cell<Inside>, &'c Cell<Inside>),
    pub(super) shared: &'c mut Shared,
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
        let stream = self.core.stream(self.core.record.route);
        if self.upstream.is_some() { stream.with_upstream_host() } else { stream }
    }

    /// What formats know once there is a response.
    pub(super) fn response_stream(&self) -> Stream<'c> {
        let (status, flags) = (self.core.heads.response.status, self.core.flags);
        match self.reply {
            Some(reply) => {
                self.stream().before_local_reply(reply.flags, &reply.details).answered(status)
            }
            // As in Envoy, the filters of a cluster know no status but that in the head.
            None if self.upstream.is_some() => self.stream(),
            None => self.stream().with_upstream_response(status, flags),
        }
    }

    /// Whether the head is that of a local reply.
    pub(super) const fn is_local_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Whether the head is that of a local reply with this flag.
    pub(super) fn has_flag(&self, flag: Flag) -> bool {
        self.reply.is_some_and(|reply| reply.flags.has(flag))
    }

    /// `%RESPONSE_CODE_DETAILS%` of the response whose head it is.
    pub(super) fn response_details(&self) -> Cow<'static, str> {
        self.reply.map_or(Cow::Borrowed("via_upstream"), |reply| reply.details.clone())
    }

    /// The head has changed, and the route is looked up again. Later filters get what the new route says to
    /// them.
    pub(super) fn clear_route_cache(&mut self) {
        self.shared.route_cache = RouteCache::Cleared;
        self.core.enter_new_route();
    }

    /// The filter is to see the trailers that follow the body.
    pub(super) fn see_trailers(&mut self, way: Way) {
        self.see(way, Sees::Trailers);
    }

    /// The filter is to see the body that follows the head, and the trailers.
    pub(super) fn see_body(&mut self, way: Way) {
        self.see(way, Sees::Body);
    }

    /// The same, and the length of the body is no longer known. The filter removes `content-length`.
    pub(super) fn change_body(&mut self, way: Way) {
        self.see_body(way);
        match way {
            Way::Request => self.core.body = BodyLength::Chunked,
            Way::Response => self.shared.response_length = ResponseLength::Unknown,
        }
    }

    /// The filter removes the trailers of the response, or changes its body, which has so many bytes
    /// afterwards. The filter sets `content-length`.
    pub(super) fn resize_response(&mut self, bytes: u64) {
        self.see_body(Way::Response);
        self.shared.response_length = ResponseLength::Known(bytes);
    }

    /// The filter puts out a body of its own, which has so many bytes, or any number of them.
    pub(super) fn put_out(&mut self, way: Way, length: BodyLength) {
        self.see_body(way);
        self.set_length(way, length);
        match way {
            Way::Request => self.inside.0.set(Inside::PerhapsMore),
            Way::Response => self.inside.1.set(Inside::PerhapsMore),
        }
    }

    /// The body has this length when it has passed the filter.
    pub(super) const fn set_length(&mut self, way: Way, length: BodyLength) {
        match (way, length) {
            (Way::Request, length) => self.core.body = length,
            (Way::Response, BodyLength::Length(bytes)) => {
                self.shared.response_length = ResponseLength::Known(bytes);
            }
            (Way::Response, _) => self.shared.response_length = ResponseLength::Unknown,
        }
    }

    /// A filter translates between gRPC and something else: local replies are for a client that does, or does
    /// not, speak gRPC.
    pub(super) const fn set_client_speaks_grpc(&mut self, speaks: bool) {
        self.shared.client_speaks_grpc = Some(speaks);
    }

    /// Whether trailers can be added to a body.
    pub(super) fn may_add_trailers(&self, way: Way) -> bool {
        let core = &*self.core;
        match (way, &core.upstream.cluster) {
            (Way::Response, _) => core.client_may_send_trailers(),
            (Way::Request, Some(cluster)) => core.passes_trailers(&cluster.cluster().http),
            (Way::Request, None) => false,
        }
    }

    /// The filters of the chain that run, and the filter itself, with what the route says to each.
    pub(super) fn running(&self) -> impl Iterator<Item = (&Filter, &[Arc<RouteConfig>])> {
        let chain = &self.core.given.service.filters;
        let plan = chain.plan(self.core.record.route);
        let of_manager = plan.steps.iter().filter(|_| self.other.is_none());
        let of_manager =
            of_manager.filter_map(|step| Some((&chain.get(step.filter)?.filter, &*step.configs)));
        let of_other = self.other.into_iter().flat_map(|chain| &chain.filters);
        let of_other = of_other
            .filter(|named| named.runs(Some(plan)))
            .map(|named| (&named.filter, plan.configs_by_name(&named.name)));
        let selected = self.selected.map(|filter| (filter, self.configs));
        of_manager.chain(of_other).chain(selected)
    }

    /// Which coding the response gets, if compressors have decided that already.
    pub(super) const fn coding(&self) -> Option<Decision> {
        self.shared.coding
    }

    /// Decides it for all compressors of the chain.
    pub(super) const fn set_coding(&mut self, decision: Decision) {
        self.shared.coding = Some(decision);
    }

    fn see(&mut self, way: Way, what: Sees) {
        let sees = match way {
            Way::Request => &mut *self.sees.0,
            Way::Response => &mut *self.sees.1,
        };
        *sees = what.max(*sees);
    }
}
