//! What HTTP connections serve their requests with: the connection manager, its routes and its stats.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::filters::grpc_stats::methods::Methods;
use super::filters::{ActivePool, Chain, OnShard};
use super::manager::ConnectionManager;
use super::mirror::ClusterPolicies;
use super::route::{RouteTable, Scratch};
use super::routes::{LocalRoutes, Routes};
use crate::access_log::LocalLogs;
use crate::metadata::ListenerInfo;
use crate::pipe::heads::{HeadsPool, HeadsPools};
use crate::shard::Shard;
use crate::shard::drain::{Direction, Phase};
use crate::stats::{
    Http1Stats, Http2Stats, HttpStats, ListenerHttpStats, RouterStats, Scope, TracingStats,
};
use crate::upstream::clusters::Clusters;

/// The HTTP of a filter chain.
#[derive(Debug)]
pub struct Service {
    /// The options of the connection manager.
    pub manager: ConnectionManager,
    /// The HTTP filters before the router.
    pub filters: Chain,
    /// The routes.
    pub routes: Routes,
    /// `http.<stat_prefix>.`
    pub http: Arc<Scope<HttpStats>>,
    /// `http.<stat_prefix>.`, the router's part.
    pub router: Arc<Scope<RouterStats>>,
    /// `http.<stat_prefix>.tracing.`
    pub tracing: Arc<Scope<TracingStats>>,
    /// `http1.`
    pub http1: Arc<Scope<Http1Stats>>,
    /// `http2.`
    pub http2: Arc<Scope<Http2Stats>>,
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_http: Arc<Scope<ListenerHttpStats>>,
    /// The listener and the filter chain.
    pub info: Arc<ListenerInfo>,
    /// `traffic_direction` of the listener: what a drain applies to.
    pub direction: Direction,
    /// How many bytes of a request body are kept for a retry.
    pub buffer_limit: usize,
    /// What the requests are served with that filters make themselves, if there are any.
    pub calls: Option<Arc<Self>>,
    /// The same for the mirrors of requests.
    pub mirrors: Option<Arc<Self>>,
    /// The mirrors that clusters want.
    pub cluster_mirrors: Arc<ClusterPolicies>,
}

/// A service on one shard, with what its requests use of the shard. Connections and requests count
/// references to this: the reference count of the service itself is shared with other shards and must
/// not be written per request.
#[derive(Debug)]
pub struct LocalService {
    service: Arc<Service>,
    /// The access logs of the connection manager.
    pub access_logs: LocalLogs,
    /// The access logs of requests to hosts.
    pub upstream_logs: LocalLogs,
    /// The clusters.
    pub clusters: &'static Clusters,
    /// Heads that are not in use.
    pub heads: &'static HeadsPool,
    /// The same for requests over HTTP/2.
    pub stream_heads: &'static HeadsPool,
    /// For the values of headers that a route adds.
    pub scratch: &'static RefCell<Scratch>,
    /// The stats of gRPC methods.
    pub grpc_methods: &'static Methods,
    /// Filters at work for no request.
    pub active_filters: &'static ActivePool,
    /// The same for the requests that filters make themselves.
    pub calls: Option<Rc<Self>>,
    /// The same for the mirrors of requests.
    pub mirrors: Option<Rc<Self>>,
    /// Whether its connections are to end.
    pub phase: Cell<Phase>,
    /// The routes of the requests that begin from now on.
    newest_routes: RefCell<Rc<LocalRoutes>>,
    /// What HTTP filters keep on the shard.
    pub filters_on_shard: OnShard,
}

impl LocalService {
    /// `service` for the connections of one shard.
    #[must_use]
    pub fn new(service: Arc<Service>, shard: &'static Shard) -> Rc<Self> {
        let heads = shard.kept(|_| HeadsPools::default());
        let local = |service: &Arc<Service>| Self::new(Arc::clone(service), shard);
        let routes = Rc::new(LocalRoutes(service.routes.newest()));
        let local = Rc::new(Self {
            newest_routes: RefCell::new(routes),
            access_logs: LocalLogs::new(&service.manager.access_logs, shard),
            upstream_logs: LocalLogs::new(&service.manager.upstream_logs.logs, shard),
            calls: service.calls.as_ref().map(local),
            mirrors: service.mirrors.as_ref().map(local),
            service,
            clusters: Clusters::of(shard),
            heads: &heads.received,
            stream_heads: &heads.decoded,
            scratch: shard.kept(|_| RefCell::default()),
            grpc_methods: shard.kept(|_| Methods::default()),
            active_filters: shard.kept(|_| ActivePool::default()),
            phase: Cell::default(),
            filters_on_shard: OnShard::default(),
        });
        local.filters.begin_on_shard(&local, shard);
        local
    }
}

impl LocalService {
    /// The routes of a request that begins now.
    #[must_use]
    pub fn newest_routes(&self) -> Rc<LocalRoutes> {
        Rc::clone(&self.newest_routes.borrow())
    }

    /// Puts the newest routes in place of `routes`, if these are others.
    #[inline]
    pub fn renew(&self, routes: &mut Rc<LocalRoutes>) {
        let newest = self.newest_routes.borrow();
        if !Rc::ptr_eq(&newest, routes) {
            *routes = Rc::clone(&newest);
        }
    }

    /// Replaces the routes of the requests that begin from now on.
    pub fn set_routes(&self, table: Arc<RouteTable>) {
        *self.newest_routes.borrow_mut() = Rc::new(LocalRoutes(table));
    }

    /// Starts the task of a connection. It ends when its filter chain, which is not in force any more, has been
    /// drained for long enough.
    pub fn spawn(self: &Rc<Self>, shard: &'static Shard, task: impl Future<Output = ()> + 'static) {
        let service = Rc::clone(self);
        shard.spawn_until(move || service.phase.get() == Phase::Closed, task);
    }

    /// The service as configured.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

impl Deref for LocalService {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}
