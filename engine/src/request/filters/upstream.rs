//! The filters behind the router: those of a cluster, or those of the router for clusters that have none.
//!
//! They run for each attempt, once its host is chosen, and see its response before it is decided whether there
//! is another attempt. While an attempt lasts they stand in [`Active`] behind the filters of the connection
//! manager, so bodies pass all of them. As in Envoy, what they change in the head of the request stays for
//! later attempts, and a reply of theirs ends the request.

use std::collections::HashMap;
use std::sync::Arc;

use super::active::{Active, HeldUp, Stop};
use super::{Chain, Plan, Wait};
use crate::http::BodyLength;
use crate::request::attempt::Failed;
use crate::request::end::ClientEnd;
use crate::request::reply::LocalReply;
use crate::request::upload::Upload;
use crate::request::{Core, Exchange, Outcome};
use crate::upstream::local::LocalCluster;

/// The filters of clusters, by the names of the clusters.
#[derive(Debug, Default)]
pub struct ClusterChains {
    pub(super) by_name: HashMap<Box<str>, Arc<Chain>>,
    /// Whether one of them makes calls.
    pub(super) make_calls: bool,
}

impl ClusterChains {
    /// Whether one of the filters makes calls.
    #[must_use]
    pub const fn make_calls(&self) -> bool {
        self.make_calls
    }
}

/// The filters behind the router of a connection manager.
#[derive(Clone, Debug, Default)]
pub struct UpstreamChains {
    /// `http_filters` of the HTTP options of clusters.
    pub(super) of_clusters: Arc<ClusterChains>,
    /// `upstream_http_filters` of the router, for clusters without.
    pub(super) of_router: Option<Arc<Chain>>,
}

impl UpstreamChains {
    /// Whether no cluster has any.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.of_router.is_none() && self.of_clusters.by_name.is_empty()
    }

    fn of(&self, cluster: &str) -> Option<&Arc<Chain>> {
        self.of_clusters.by_name.get(cluster).or(self.of_router.as_ref())
    }

    /// The chains of all clusters.
    pub(super) fn all(&self) -> impl Iterator<Item = &Chain> {
        self.of_clusters.by_name.values().chain(&self.of_router).map(|chain| &**chain)
    }
}

impl Core<'_> {
    /// Whether clusters may have filters.
    #[inline(always)]
    pub(in crate::request) fn may_filter_upstream(&self) -> bool {
        !self.service().filters.upstream.is_empty()
    }

    /// Whether it is a filter of the cluster that waits.
    pub(super) fn waits_upstream(&self) -> bool {
        self.filters.as_ref().is_some_and(|active| active.upstream.is_some())
    }

    /// Puts the filters of `cluster` behind those of the connection manager.
    fn begin_upstream_filters(&mut self, cluster: &LocalCluster) {
        let service = self.service();
        let mut active = self.filters.take().unwrap_or_else(|| service.active_filters.take());
        active.end_attempt();
        if let Some(chain) = service.filters.upstream.of(&cluster.cluster().name) {
            let plan = self.record.route.map(|route| &route.filters);
            active.begin_attempt(chain, &service.filters, plan);
        }
        if active.is_empty() {
            service.active_filters.give(active);
        } else {
            self.filters = Some(active);
        }
    }

    /// The attempt has ended without a response: its filters see nothing more.
    #[inline]
    pub(in crate::request) fn end_upstream_filters(&mut self) {
        if let Some(active) = &mut self.filters {
            active.end_attempt();
        }
    }

    /// Whether a filter of the cluster sees, and may change, the body of the request.
    #[inline]
    pub(in crate::request) fn is_body_changed_upstream(&self) -> bool {
        self.filters.as_ref().is_some_and(|active| active.changes_body_upstream())
    }

    /// Passes the head of a host's response through the filters of its cluster.
    ///
    /// # Errors
    /// One of them replies instead.
    #[inline(always)]
    pub(in crate::request) fn filter_upstream_response(
        &mut self,
        body: BodyLength,
    ) -> Result<(), Failed> {
        if self.filters.is_none() || !self.may_filter_upstream() {
            return Ok(());
        }
        self.filter_upstream_response_head(body)
    }

    #[cold]
    fn filter_upstream_response_head(&mut self, body: BodyLength) -> Result<(), Failed> {
        match self.with_filters(|active, core| active.upstream_response_head(core, body)) {
            Some(Err(HeldUp::Replaced(reply))) => Err(self.replied(reply)),
            None | Some(Ok(()) | Err(HeldUp::Waiting)) => Ok(()),
        }
    }

    fn replied(&mut self, reply: Box<LocalReply>) -> Failed {
        self.end_upstream_filters();
        self.replacement = Some(reply);
        Failed::Replied
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Passes the head of the request through the filters of the cluster of an attempt.
    ///
    /// # Errors
    /// One of them replies, or waits in vain.
    pub(in crate::request) async fn filter_for_host(
        &mut self,
        cluster: &LocalCluster,
        upload: &mut Upload,
    ) -> Result<(), Failed> {
        self.core.begin_upstream_filters(cluster);
        loop {
            let passed = self.core.with_filters(|active, core| active.request_head(core));
            let wait = match passed {
                None | Some(Ok(())) => break,
                Some(Err(Stop::Reply(reply))) => return Err(self.core.replied(reply)),
                Some(Err(Stop::Wait(wait))) => wait,
            };
            let is_for_body = matches!(wait, Wait::Body { .. } | Wait::BodyUpTo { .. } | Wait::End);
            if is_for_body && upload.has_ended() {
                // An earlier attempt has received it.
                self.core.with_filters(|active, _| active.passed += 1);
                continue;
            }
            match self.wait_for_filter(wait).await {
                Ok(()) => {}
                Err(Outcome::Reply(reply)) => return Err(self.core.replied(reply)),
                Err(Outcome::Done(_) | Outcome::Redirected) => return Err(Failed::ClientGone),
            }
        }
        upload.set_length(self.core.body);
        Ok(())
    }
}

impl Active {
    /// Puts the filters of a cluster behind those of the connection manager, `manager`. `plan` is that of the
    /// route.
    fn begin_attempt(&mut self, chain: &Arc<Chain>, manager: &Chain, plan: Option<&Plan>) {
        let behind = self.own.as_deref().unwrap_or(manager).filters.len();
        for (i, named) in chain.filters.iter().enumerate() {
            if named.runs(plan) {
                self.add(behind + i, named.filter.begin());
            }
        }
        self.upstream = Some(Arc::clone(chain));
    }
}
