//! The routes of requests that the proxy makes itself.

use std::sync::Arc;
use std::time::Duration;

use super::action::compile::timers;
use super::hash_policy::HashPolicies;
use super::path::{PathIndex, PathMatch};
use super::virtual_cluster::{VirtualCluster, VirtualClusters};
use super::virtual_host::DomainsBuilder;
use super::{
    Action, ClusterChoice, Connect, Forward, HeaderMutations, HostRewrite, PathRewrite, RequireTls,
    Route, RouteTable, Search, Upgrades, VirtualHost,
};
use crate::metadata::Metadata;
use crate::request::filters::Plan;
use crate::request::retry::RetryPolicy;
use crate::stats::Scope;
use crate::text_matcher::Literal;
use crate::upstream::circuit_breaker::RoutingPriority;
use crate::upstream::numbers::Uses;

/// The route of requests that the proxy makes itself: to this cluster, with this timeout (`None`: unlimited).
pub(crate) fn call_target(
    cluster: usize,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
) -> (Route, VirtualHost) {
    target(ClusterChoice::Index(cluster), timeout, retry)
}

/// The route of mirrored requests. Their timeout is that of the original, which a header says.
pub(crate) fn mirror_target() -> (Route, VirtualHost) {
    target(ClusterChoice::Open, None, None)
}

/// The route of a request to a cluster that its caller names, with this timeout.
pub(crate) fn open_target(timeout: Option<Duration>) -> (Route, VirtualHost) {
    target(ClusterChoice::Open, timeout, None)
}

fn target(
    cluster: ClusterChoice,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
) -> (Route, VirtualHost) {
    let route = Route {
        name: Box::default(),
        path: PathMatch::Prefix(Literal::new("/", false)),
        action: Action::Forward(to_cluster(cluster, timeout, retry)),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        body_buffer_max: None,
        metadata: Metadata::default(),
        virtual_host_metadata: Arc::default(),
        filters: Plan::default(),
        stats: None,
    };
    let virtual_host = VirtualHost {
        name: Box::default(),
        virtual_clusters: VirtualClusters::new(
            Vec::new(),
            VirtualCluster {
                name: Box::default(),
                headers: Vec::new(),
                stats: Arc::new(Scope::unlisted(0)),
            },
        ),
        include_request_attempt_count: false,
        include_attempt_count_in_response: false,
        include_is_timeout_retry_header: false,
        require_tls: RequireTls::None,
        entries: Vec::new(),
        search: Search::InOrder(PathIndex::new(std::iter::empty())),
    };
    (route, virtual_host)
}

/// A table without routes.
pub(crate) fn no_routes() -> RouteTable {
    RouteTable {
        name: Box::default(),
        domains: DomainsBuilder::default().build(),
        virtual_hosts: Vec::new(),
        internal_only_headers: Box::default(),
        ignore_port: false,
        ignore_path_parameters: false,
        uses: Uses::default(),
    }
}

/// Forwards to a cluster, with this timeout (`None`: unlimited), and with nothing else that a route may say.
fn to_cluster(
    cluster: ClusterChoice,
    timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
) -> Forward {
    let (timeouts, expected) = timers(Some(timeout.unwrap_or_default()), retry.as_ref());
    Forward {
        cluster,
        not_found_status: 503,
        hash_policies: HashPolicies::default(),
        subset: None,
        timeouts,
        expected,
        max_stream_duration: None,
        max_grpc_timeout: None,
        idle_timeout: Some(Duration::ZERO),
        flush_timeout: None,
        upgrades: Upgrades::default(),
        connect: Connect::Forwarded,
        retry,
        host_rewrite: HostRewrite::None,
        append_x_forwarded_host: false,
        path_rewrite: PathRewrite::None,
        priority: RoutingPriority::Default,
        rate_limits: None,
        internal_redirect: None,
        mirrors: None,
    }
}
