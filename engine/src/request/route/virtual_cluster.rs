//! `virtual_clusters`: groups of requests of a virtual host that have stats of their own.

use std::sync::Arc;

use super::matchers::HeaderMatcher;
use crate::http::RequestHead;
use crate::stats::{Scope, VirtualClusterStats};

/// The virtual clusters of a virtual host.
#[derive(Debug)]
pub struct VirtualClusters {
    listed: Vec<VirtualCluster>,
    /// `other`: for requests that match none of them. It is shown even if there are none, and does not
    /// count then.
    other: VirtualCluster,
}

/// A virtual cluster.
#[derive(Debug)]
pub struct VirtualCluster {
    /// Its name; empty for `other`.
    pub name: Box<str>,
    /// All must match.
    pub headers: Vec<HeaderMatcher>,
    /// `vhost.<virtual host>.vcluster.<name>.`
    pub stats: Arc<Scope<VirtualClusterStats>>,
}

impl VirtualClusters {
    /// The listed ones in declared order, and `other`.
    pub(super) const fn new(listed: Vec<VirtualCluster>, other: VirtualCluster) -> Self {
        Self { listed, other }
    }

    /// The virtual cluster of a request.
    #[must_use]
    #[inline]
    pub fn of(&self, head: &RequestHead) -> Option<&VirtualCluster> {
        if self.listed.is_empty() {
            return None;
        }
        let matches = |it: &&VirtualCluster| it.headers.iter().all(|header| header.matches(head));
        Some(self.listed.iter().find(matches).unwrap_or(&self.other))
    }
}
