//! Compiles the lists of `static_resources`: what is in force already stays what it is.

use std::cell::Ref;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use crate::downstream::connection_limit::ConnectionLimit;
use crate::downstream::filter_chain::{FilterChain, Speaks};
use crate::downstream::filter_chain_compile::{Known, RouteChange};
use crate::downstream::{self, ListenAddress, Listener};
use crate::dynamic_compile::{Cause, Dynamic, Item};
use crate::fingerprint::Fingerprint;
use crate::in_force::InForce;
use crate::stats::Registry;
use crate::transport::tls::context::compile::Secrets;
use crate::upstream;
use crate::upstream::cluster::Cluster;
use crate::upstream::compile::Surroundings;
use crate::upstream::discovery::Discovery;
use crate::upstream::numbers::Number;

/// One configuration being compiled.
pub(crate) struct Round<'a> {
    /// Stands for what every listener and cluster depends on.
    pub(crate) surroundings: u64,
    pub(crate) registry: &'a Registry,
    /// What is in force.
    pub(crate) before: Ref<'a, InForce>,
    pub(crate) dynamic: &'a Dynamic,
    pub(crate) cause: Cause,
}

impl Round<'_> {
    /// Whether nothing is in force yet.
    pub(crate) fn is_first(&self) -> bool {
        self.before.fixed.is_empty()
    }

    /// The limits on all connections with these values. One that is the same keeps its count.
    pub(crate) fn limits(&self, wanted: [Option<u64>; 2]) -> [Option<Arc<ConnectionLimit>>; 2] {
        let [overload, runtime] = &self.before.limits;
        let limit = |before: &Option<Arc<ConnectionLimit>>, most: Option<u64>| {
            let same = before.as_ref().filter(|before| Some(before.most()) == most);
            same.map(Arc::clone).or_else(|| most.map(ConnectionLimit::new))
        };
        let [by_overload, by_runtime] = wanted;
        [limit(overload, by_overload), limit(runtime, by_runtime)]
    }

    /// The fingerprints of fields that count when the process starts only; warns of those that are not what
    /// they were then.
    pub(crate) fn fixed(
        &self,
        fields: &[(&'static str, &dyn fmt::Debug)],
        problems: &mut Problems,
    ) -> HashMap<&'static str, Fingerprint> {
        let mut fixed = HashMap::new();
        for (name, schema) in fields {
            let fingerprint = Fingerprint::of(schema, 0);
            let before = self.before.fixed.get(name);
            if before.is_some_and(|before| *before != fingerprint) {
                let why = "a change of this takes effect when the process starts again";
                problems.warn(&Path::root().field(name), why);
            }
            // What counts is what it started with.
            fixed.insert(*name, before.cloned().unwrap_or(fingerprint));
        }
        fixed
    }

    /// The members of a list in `static_resources`.
    pub(crate) fn statics<'s, S>(
        schemas: &'s [S],
        list: &'static str,
    ) -> impl Iterator<Item = Item<'s, S>> {
        let at = Path::root().field("static_resources").field(list);
        let item = move |(i, schema)| Item { schema, at: at.index(i), loaded: None };
        schemas.iter().enumerate().map(item)
    }

    /// Compiles the clusters that are not in force already, in their order.
    pub(crate) fn clusters(
        &self,
        schemas: &[config::Cluster],
        proxy: &Surroundings<'_>,
        secrets: &Secrets,
        problems: &mut Problems,
        next: &mut InForce,
    ) -> Vec<Arc<Cluster>> {
        let static_names: HashSet<&str> = schemas.iter().map(|it| it.name.as_str()).collect();
        let mut names = HashSet::new();
        let mut clusters = Vec::with_capacity(schemas.len());
        for item in Self::statics(schemas, "clusters").chain(self.dynamic.clusters()) {
            let Item { schema, at, loaded } = &item;
            //= envoy: a dynamic cluster with the name of a static one is ignored
            if loaded.is_some() && static_names.contains(schema.name.as_str()) {
                continue;
            }
            if !names.insert(schema.name.as_str()) {
                let message = format!("cluster manager: duplicate cluster '{}'", schema.name);
                problems.error(&at.field("name"), message);
            }
            let fingerprint = item.fingerprint(self.surroundings, self.cause);
            let known = self.before.clusters.get(&fingerprint).map(Arc::clone);
            let cluster = known.unwrap_or_else(|| {
                Arc::new(upstream::compile::cluster(
                    schema,
                    at,
                    proxy,
                    self.registry,
                    secrets,
                    problems,
                ))
            });
            next.clusters.insert(fingerprint, Arc::clone(&cluster));
            clusters.push(cluster);
        }
        clusters
    }

    /// The filter chains that are in force.
    pub(crate) fn known<'k>(
        &'k self,
        clusters: &'k HashMap<&'k str, &'k Arc<Number>>,
    ) -> Known<'k> {
        let chains = self.before.listeners.values().flat_map(|it| it.filter_chains.all());
        Known::new(chains, clusters, self.surroundings)
    }

    /// Compiles the listeners that are not in force already, in their order.
    pub(crate) fn listeners(
        &self,
        schemas: &[config::Listener],
        context: &downstream::compile::Context<'_>,
        clusters: &HashMap<&str, &Arc<Number>>,
        problems: &mut Problems,
        next: &mut InForce,
    ) -> Vec<Arc<Listener>> {
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        let mut compiled = Vec::with_capacity(schemas.len());
        for item in Self::statics(schemas, "listeners").chain(self.dynamic.listeners()) {
            let Item { schema, at, loaded } = &item;
            // A dynamic listener may have lost a cluster that it names.
            let is_strict = self.cause == Cause::Bootstrap && loaded.is_none();
            context.known.set_strict(is_strict);
            if !schema.name.is_empty() && !names.insert(&schema.name) {
                let message = format!("duplicate listener name '{}'", schema.name);
                problems.error(&at.field("name"), message);
            }
            let fingerprint = item.fingerprint(self.surroundings, self.cause);
            let known = self.before.listeners.get(&fingerprint);
            let holds = |known: &&Arc<Listener>| {
                let mut chains = known.filter_chains.all().iter();
                !is_strict || chains.all(|chain| chain.holds(clusters))
            };
            let listener = match known.filter(holds) {
                Some(known) => Arc::clone(known),
                None => {
                    let listener =
                        downstream::compile::listener(schema, at, context, self.registry, problems);
                    let Some(listener) = listener else { continue };
                    Arc::new(listener)
                }
            };
            for ListenAddress { address, .. } in &listener.addresses {
                if address.port() != Some(0) && !addresses.insert(*address) {
                    let message = format!("'{}' has duplicate address '{address}'", listener.name);
                    problems.error(&at.field("address"), message);
                }
            }
            next.listeners.insert(fingerprint, Arc::clone(&listener));
            compiled.push(listener);
        }
        compiled
    }
}

/// Whether a request, or a network filter, may name any cluster.
pub(crate) fn name_clusters_at_run_time(
    schemas: &[config::Listener],
    compiled: &[Arc<Listener>],
    changes: &[RouteChange],
) -> bool {
    let by_header = |chain: &FilterChain| match &chain.speaks {
        Speaks::Http(service) if service.routes.source.is_some() => true,
        _ => chain.table(changes).is_some_and(|table| table.name_clusters_at_run_time()),
    };
    let by_filter = |filter: &config::Filter| {
        matches!(
            filter.typed_config,
            Some(config::Any::SniCluster(_) | config::Any::NetworkSetFilterState(_))
        )
    };
    let mut chains =
        schemas.iter().flat_map(|it| it.filter_chains.iter().chain(&it.default_filter_chain));
    compiled.iter().any(|listener| listener.filter_chains.all().iter().any(by_header))
        || chains.any(|chain| chain.filters.iter().any(by_filter))
}

/// Whether the names of all clusters could be read.
pub(crate) fn clusters_are_known(clusters: &[Arc<Cluster>], problems: &Problems) -> bool {
    let names = clusters.iter().map(|cluster| &*cluster.name);
    let others = Path::root().field("dynamic_resources");
    names_are_read("clusters", names, problems) && problems.is_read_whole(&others)
}

/// Whether these are all the names, as configured, of the messages in this list of
/// `static_resources`.
pub(crate) fn names_are_read<'a>(
    list: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
    problems: &Problems,
) -> bool {
    let resources = Path::root().field("static_resources");
    let at = resources.field(list);
    if names.len() == 0 {
        return problems.is_left_out(&resources) && problems.is_left_out(&at);
    }
    names.enumerate().all(|(i, name)| {
        let at = at.index(i).field("name");
        if name.is_empty() { problems.is_left_out(&at) } else { problems.is_read(&at) }
    })
}

/// The names of the clusters that resources come from.
pub(crate) fn management_servers(
    clusters: &[Arc<Cluster>],
    listeners: &[Arc<Listener>],
    secrets: &Secrets,
) -> Vec<String> {
    let of_secrets = secrets.sources().into_iter().map(|secret| secret.origin);
    let of_hosts = clusters.iter().filter_map(|cluster| match &cluster.discovery {
        Discovery::Eds(eds) => Some(eds.source.clone()),
        Discovery::Static(_)
        | Discovery::Dns(_)
        | Discovery::OriginalDst(_)
        | Discovery::DynamicForwardProxy(_)
        | Discovery::Aggregate(_) => None,
    });
    let chains = listeners.iter().flat_map(|listener| listener.filter_chains.all());
    let of_routes = chains.filter_map(|chain| match &chain.speaks {
        Speaks::Http(service) => Some(service.routes.source.as_ref()?.origin.clone()),
        Speaks::Tcp(_) => None,
    });
    let sources = of_secrets.chain(of_hosts).chain(of_routes);
    sources.filter_map(|source| Some(source.server()?.cluster.clone())).collect()
}

/// Warns of clusters that nothing uses, and of those without hosts that something does use.
pub(crate) fn check_use_of_clusters(
    clusters: &[Arc<Cluster>],
    used: &HashSet<usize>,
    is_any_used: bool,
    resources: &Path,
    problems: &mut Problems,
) {
    if problems.has_errors() {
        return;
    }
    let at = resources.field("clusters");
    let in_others = clusters.iter().flat_map(|cluster| match &cluster.discovery {
        Discovery::Aggregate(aggregate) => aggregate.clusters.as_slice(),
        _ => &[],
    });
    let in_others: HashSet<usize> = in_others.map(|number| number.index()).collect();
    for (index, cluster) in clusters.iter().enumerate() {
        let at = at.index(index);
        let number = cluster.number.index();
        let is_used = used.contains(&number) || in_others.contains(&number) || cluster.is_local;
        if !is_used {
            if !is_any_used {
                problems.warn(&at.field("name"), "nothing uses this cluster");
            }
        } else if !cluster.discovery.has_any() {
            let why = "this cluster has no hosts: what is forwarded to it is answered with 503";
            problems.warn(&at, why);
        }
    }
}

#[cfg(test)]
#[path = "resources_compile_tests.rs"]
mod tests;
