//! What a connection is given: the connection manager, its routes, and where it is counted.

use std::sync::Arc;

use super::connection_manager::ConnectionManager;
use crate::request::route::RouteTable;
use crate::stats::{HttpStats, ListenerHttpStats, RouterStats, Scope, TracingStats};

/// One filter chain of a listener.
#[derive(Debug)]
pub struct FilterChain {
    /// The options of the connection manager.
    pub manager: ConnectionManager,
    /// Where requests go.
    pub routes: RouteTable,
    /// `http.<stat_prefix>.`
    pub http: Arc<Scope<HttpStats>>,
    /// `http.<stat_prefix>.`, the router's part.
    pub router: Arc<Scope<RouterStats>>,
    /// `http.<stat_prefix>.tracing.`
    pub tracing: Arc<Scope<TracingStats>>,
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_http: Arc<Scope<ListenerHttpStats>>,
}
