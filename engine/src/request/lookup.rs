//! The route of a request, and the cluster that it leads to.

use std::rc::Rc;

use super::Core;
use super::route::{self, Action, ClusterChoice, Forward, Lookup};
use crate::address::Ends;
use crate::upstream::local::LocalCluster;

impl<'a> Core<'a> {
    /// The request, as conditions see it.
    #[inline]
    pub(super) fn route_request(&self) -> route::Request<'_> {
        let given = self.given;
        route::Request {
            head: &self.heads.request,
            tls: given.tls.as_deref(),
            client: self.facts.map_or(given.peer, |facts| facts.client),
            ends: Ends { remote: given.peer, local: given.local },
            random: self.random,
            metadata: self.noted.as_ref().map(|noted| &noted.metadata),
            state: self.noted.as_ref().map(|noted| &noted.state),
        }
    }

    /// Finds the route of the request, and notes it.
    #[inline(always)]
    pub(super) fn find_route(&mut self) -> Lookup<'a> {
        let lookup = self.given.routes.find(&self.route_request());
        self.record.route = lookup.route();
        // As in Envoy, the header counts that the request has now, whatever filters make of it.
        if let Some(Action::Forward(plan)) = lookup.route().map(|route| &route.action)
            && let ClusterChoice::Header(name) = &plan.cluster
        {
            let name = name.first_value(&self.heads.request);
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            self.named_cluster = name.and_then(|name| self.clusters.named(name)).map(Rc::clone);
        }
        lookup
    }

    /// The cluster that the request goes to.
    pub(super) fn cluster_of(&self, plan: &Forward) -> Option<Rc<LocalCluster>> {
        match &plan.cluster {
            ClusterChoice::Index(index) => self.clusters.get(*index).map(Rc::clone),
            ClusterChoice::Header(_) | ClusterChoice::Open => self.named_cluster.clone(),
        }
    }
}
