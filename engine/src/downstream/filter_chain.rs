//! Filter chains: the connection manager, its routes and its stats.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::connection_manager::ConnectionManager;
use crate::request::route::RouteTable;
use crate::stats::{Http1Stats, HttpStats, ListenerHttpStats, RouterStats, Scope, TracingStats};

/// One filter chain of a listener.
#[derive(Debug)]
pub struct FilterChain {
    /// The options of the connection manager.
    pub manager: ConnectionManager,
    /// The routes.
    pub routes: RouteTable,
    /// `http.<stat_prefix>.`
    pub http: Arc<Scope<HttpStats>>,
    /// `http.<stat_prefix>.`, the router's part.
    pub router: Arc<Scope<RouterStats>>,
    /// `http.<stat_prefix>.tracing.`
    pub tracing: Arc<Scope<TracingStats>>,
    /// `http1.`
    pub http1: Arc<Scope<Http1Stats>>,
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_http: Arc<Scope<ListenerHttpStats>>,
}

/// A filter chain on one shard. Connections and requests count references to this: the reference
/// count of the chain itself is shared with other shards and must not be written per request.
#[derive(Debug)]
pub struct ConnectionChain(Arc<FilterChain>);

impl ConnectionChain {
    /// `chain` for the connections of one shard.
    #[must_use]
    pub fn new(chain: &Arc<FilterChain>) -> Rc<Self> {
        Rc::new(Self(Arc::clone(chain)))
    }
}

impl Deref for ConnectionChain {
    type Target = FilterChain;

    fn deref(&self) -> &FilterChain {
        &self.0
    }
}
