//! The filters of a connection manager or of a cluster, and what routes make of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::local_ratelimit::ConnectionBuckets;
use super::upstream::{ClusterChains, UpstreamChains};
use super::{Filter, RouteConfig};
use crate::request::route::Route;
use crate::request::service::LocalService;
use crate::shard::Shard;

/// The filters of a connection manager, or those of a cluster, in order.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) filters: Box<[Named]>,
    /// For requests that no route matches.
    pub(super) without_route: Plan,
    /// The filters behind the router.
    pub(super) upstream: UpstreamChains,
    /// The filters for requests that upgrade, where these are others.
    pub(super) upgrades: Box<[Upgrade]>,
}

/// The protocol and the filters of its requests.
type Upgrade = (Box<[u8]>, Arc<Chain>);

#[derive(Debug)]
pub(super) struct Named {
    /// What routes call it.
    pub(super) name: Box<str>,
    pub(super) filter: Filter,
    /// `disabled`: it runs only where a route enables it.
    pub(super) disabled: bool,
}

/// Which filters run for the requests of a route, in the order of the chain.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(super) steps: Arc<[Step]>,
    /// What the route says to the filters of clusters and upgrades, by their names; none: nothing.
    pub(super) by_name: Option<Arc<BTreeMap<Box<str>, Said>>>,
}

#[derive(Debug)]
pub(super) struct Step {
    /// Its place in the chain.
    pub(super) filter: usize,
    /// What the levels of the route configuration say to it, the most specific first.
    pub(super) configs: Box<[Arc<RouteConfig>]>,
}

/// What the levels of the route configuration say to a filter.
#[derive(Debug)]
pub(super) enum Said {
    /// That it does not run.
    Disabled,
    /// These, the most specific first; none: nothing.
    Configs(Box<[Arc<RouteConfig>]>),
}

impl Chain {
    /// Only the filters of clusters.
    pub(crate) fn of_clusters(of_clusters: Arc<ClusterChains>) -> Self {
        Self { upstream: UpstreamChains { of_clusters, of_router: None }, ..Self::default() }
    }

    /// Whether the router is the only filter.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.upgrades.is_empty()
    }

    /// The filters for requests that upgrade to this protocol; none: the same as for others.
    pub(super) fn for_upgrade(&self, protocol: &[u8]) -> Option<&Arc<Self>> {
        let mut all = self.upgrades.iter();
        all.find(|(other, _)| other.eq_ignore_ascii_case(protocol)).map(|(_, chain)| chain)
    }

    /// The chains whose filters have their configuration of a route by name.
    pub(super) fn by_name(&self) -> impl Iterator<Item = &Self> {
        self.upstream.all().chain(self.upgrades.iter().map(|(_, chain)| &**chain))
    }

    /// The names of the filters that run for a route, or for none, in order.
    pub(crate) fn names_of<'a>(
        &'a self,
        route: Option<&'a Route>,
    ) -> impl Iterator<Item = &'a str> {
        let steps = self.plan(route).steps.iter();
        steps.filter_map(|step| self.filters.get(step.filter).map(|named| &*named.name))
    }

    /// What the filters keep for a new connection, if any keeps something.
    #[must_use]
    pub fn for_connection(&self) -> Option<Rc<ConnectionBuckets>> {
        // A selector may run any filter.
        let keeps =
            |filter: &Filter| matches!(filter, Filter::LocalRateLimit(_) | Filter::Selector(_));
        let of_upgrades = self.upgrades.iter().flat_map(|(_, chain)| &chain.filters);
        let keeps = self.filters.iter().chain(of_upgrades).any(|named| keeps(&named.filter));
        keeps.then(Rc::default)
    }

    /// The connection manager is on a shard now: what need not wait for a request begins.
    pub fn begin_on_shard(&self, service: &LocalService, shard: &'static Shard) {
        let others = self.by_name().flat_map(|chain| &chain.filters);
        for named in self.filters.iter().chain(others) {
            match &named.filter {
                Filter::CredentialInjector(filter) => drop(filter.local(service, shard)),
                Filter::JwtAuthn(filter) => drop(filter.local(service, shard)),
                _ => {}
            }
        }
    }

    /// The plan for the requests of a route, or of none.
    pub(super) fn plan<'a>(&'a self, route: Option<&'a Route>) -> &'a Plan {
        route.map_or(&self.without_route, |route| &route.filters)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Named> {
        self.filters.get(at)
    }
}

impl Named {
    /// Whether it runs for a route with this plan, in a chain of a cluster or an upgrade.
    pub(super) fn runs(&self, plan: Option<&Plan>) -> bool {
        let said = plan.and_then(|plan| plan.by_name.as_ref()?.get(&self.name));
        said.map_or(!self.disabled, |said| matches!(said, Said::Configs(_)))
    }
}

impl Plan {
    /// What the route says to the filter with this name of a cluster or an upgrade, the most specific first.
    pub(super) fn configs_by_name(&self, name: &str) -> &[Arc<RouteConfig>] {
        match self.by_name.as_ref().and_then(|said| said.get(name)) {
            Some(Said::Configs(configs)) => configs,
            Some(Said::Disabled) | None => &[],
        }
    }

    /// What the route says to the filter at this place in the chain, the most specific first. `guess` is
    /// where to look first.
    pub(super) fn configs(&self, filter: usize, guess: usize) -> &[Arc<RouteConfig>] {
        let step = self.steps.get(guess).filter(|step| step.filter == filter);
        let step = step.or_else(|| self.steps.iter().find(|step| step.filter == filter));
        step.map_or(&[], |step| &step.configs)
    }
}
