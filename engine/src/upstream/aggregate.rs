//! `envoy.clusters.aggregate`: a cluster of clusters. A request goes to the first cluster as far as its hosts
//! can carry the traffic, then to the next one.
//!
//! The priorities of all clusters stand one after the other; a cluster without hosts is passed over. The chosen
//! cluster picks the host, and its connections, limits and hosts serve the request; timeouts, retries and the
//! counts of responses are those of the aggregate cluster.

use std::rc::Rc;
use std::sync::Arc;

use super::balance::LbContext;
use super::clusters::ClusterList;
use super::host_set::HostSet;
use super::host_set::loads::{self, Availability, Load, Target};
use super::local::LocalCluster;
use super::numbers::Number;
use super::pool::Pool;

/// The clusters of an aggregate cluster, the preferred first.
#[derive(Debug)]
pub struct Aggregate {
    /// The numbers of their names. A cluster need not exist.
    pub clusters: Vec<Arc<Number>>,
    /// `healthy_panic_threshold`, over the priorities of all clusters.
    pub panic_threshold: f64,
}

/// The priorities of all clusters in one row, on one shard.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What it was made from.
    hosts: Vec<Option<Arc<HostSet>>>,
    /// By place in the row: the cluster and the priority in it.
    places: Vec<(usize, u32)>,
    levels: Vec<Availability>,
    loads: Vec<Load>,
}

/// The cluster that a request goes to, and its priority there.
pub(super) struct Choice {
    pub(super) cluster: Rc<LocalCluster>,
    pub(super) priority: u32,
    pub(super) degraded: bool,
}

impl Row {
    /// Makes the row again if the hosts of a cluster have changed.
    pub(super) fn refresh(&mut self, aggregate: &Aggregate, all: &ClusterList) {
        let clusters = || aggregate.clusters.iter().map(|number| all.get(number.index()));
        let has = |(cluster, hosts): (Option<&Rc<LocalCluster>>, &Option<Arc<HostSet>>)| match hosts
        {
            Some(hosts) => cluster.is_some_and(|it| it.has_hosts(hosts)),
            None => cluster.is_none(),
        };
        if self.hosts.len() == aggregate.clusters.len() && clusters().zip(&self.hosts).all(has) {
            return;
        }
        *self = Self::default();
        for (place, cluster) in clusters().enumerate() {
            let hosts = cluster.map(|it| it.hosts());
            let whole = hosts.as_ref().and_then(|hosts| hosts.divisions().first());
            let levels = whole.map_or(&[][..], |whole| &whole.levels);
            for (priority, level) in (0..).zip(levels).filter(|(_, level)| level.hosts > 0) {
                self.places.push((place, priority));
                self.levels.push(*level);
            }
            self.hosts.push(hosts);
        }
        self.loads = loads::loads(&self.levels, aggregate.panic_threshold).loads;
    }

    /// What the priorities can carry.
    pub(super) fn levels(&self) -> &[Availability] {
        &self.levels
    }

    /// Which cluster a request goes to; `percentage` is a random number (0 to 99).
    pub(super) fn choose(
        &self,
        aggregate: &Aggregate,
        all: &ClusterList,
        request: &LbContext<'_>,
        percentage: u32,
    ) -> Option<Choice> {
        let target = request.target.unwrap_or(Target::Loads(&self.loads));
        let (place, degraded) = target.choose(percentage)?;
        let (cluster, priority) = *self.places.get(place as usize)?;
        let number = aggregate.clusters.get(cluster)?;
        let cluster = Rc::clone(all.get(number.index())?);
        Some(Choice { cluster, priority, degraded })
    }

    /// Where the host of a pool stands in the row.
    pub(super) fn place_of(&self, aggregate: &Aggregate, pool: &Pool) -> Option<u32> {
        let number = &pool.cluster().number;
        let cluster = aggregate.clusters.iter().position(|it| it == number)?;
        let wanted = (cluster, self.hosts.get(cluster)?.as_ref()?.priority_of(pool.host())?);
        let place = self.places.iter().position(|it| *it == wanted)?;
        u32::try_from(place).ok()
    }
}
