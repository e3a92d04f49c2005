//! The groups of requests that have stats of their own: the virtual cluster of a request, and the
//! `stat_prefix` of its route.

use super::Core;
use super::route::{Route, VirtualCluster, VirtualHost};
use crate::stats::{Scope, VirtualClusterStats};

/// The groups that a request is counted in; most requests are in none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Groups<'a> {
    virtual_cluster: Option<&'a VirtualCluster>,
    route: Option<&'a Scope<VirtualClusterStats>>,
    shard: usize,
}

impl<'a> Groups<'a> {
    /// Those of a request that is about to be forwarded.
    #[inline]
    pub(super) fn of(core: &Core<'_>, virtual_host: &'a VirtualHost, route: &'a Route) -> Self {
        Self {
            virtual_cluster: virtual_host.virtual_clusters.of(&core.heads.request),
            route: route.stats.as_deref(),
            shard: core.shard.id,
        }
    }

    /// Counts for each group.
    #[inline]
    pub(super) fn each(&self, count: impl Fn(&VirtualClusterStats)) {
        if let Some(group) = self.virtual_cluster {
            count(group.stats.shard(self.shard));
        }
        if let Some(scope) = self.route {
            count(scope.shard(self.shard));
        }
    }

    /// The virtual cluster of the request.
    pub(super) const fn virtual_cluster(&self) -> Option<&'a VirtualCluster> {
        self.virtual_cluster
    }
}
