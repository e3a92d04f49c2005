//! The clusters and listeners that come while the process runs, and where they come from.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use crate::compile::Compiled;
use crate::config_source::compile::{self as source_compile, Resource, check_existence};
use crate::config_source::{ConfigSource, GrpcSource};

/// Which resources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster`
    Clusters,
    /// `envoy.config.listener.v3.Listener`
    Listeners,
}

impl Kind {
    /// For messages: `cluster`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Clusters => "cluster",
            Self::Listeners => "listener",
        }
    }

    /// The full name of the message.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Clusters => "envoy.config.cluster.v3.Cluster",
            Self::Listeners => "envoy.config.listener.v3.Listener",
        }
    }

    /// Where their problems are.
    fn at(self) -> Path {
        Path::root().field(match self {
            Self::Clusters => "dynamic_clusters",
            Self::Listeners => "dynamic_listeners",
        })
    }

    fn is_of(self, resource: &Resource) -> bool {
        match self {
            Self::Clusters => matches!(resource.message, config::Any::Cluster(_)),
            Self::Listeners => matches!(resource.message, config::Any::Listener(_)),
        }
    }
}

/// What is different in the resources of a kind.
#[derive(Clone, Debug)]
pub enum Change {
    /// These are all that there are now.
    All(Vec<Resource>),
    /// These are different or new, and those with these names are gone.
    Some {
        /// Different or new.
        changed: Vec<Resource>,
        /// Gone.
        removed: Vec<String>,
    },
}

/// What was made of resources that came while the process runs.
#[derive(Debug)]
pub struct Updated {
    /// The configuration with those that can be used.
    pub compiled: Option<Compiled>,
    /// Why others are rejected, in words; none: all are used.
    pub rejected: Option<String>,
}

/// Why something is compiled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// There is a bootstrap.
    Bootstrap,
    /// Dynamic resources have changed. A listener that is there already may lose a cluster that it names.
    Update,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dynamic {
    clusters: Vec<Arc<Resource>>,
    listeners: Vec<Arc<Resource>>,
    /// Whether clusters have come.
    pub(crate) has_clusters: bool,
}

/// A cluster or listener to compile.
pub(crate) struct Item<'a, S> {
    pub(crate) schema: &'a S,
    pub(crate) at: Path,
    /// Whether it comes from somewhere else than the bootstrap.
    pub(crate) is_dynamic: bool,
}

impl Dynamic {
    /// Changes those of a kind; returns the former ones.
    pub(crate) fn apply(&mut self, kind: Kind, change: Change) -> Vec<Arc<Resource>> {
        self.has_clusters |= kind == Kind::Clusters;
        let list = self.list(kind);
        let before = list.clone();
        match change {
            Change::All(resources) => *list = resources.into_iter().map(Arc::new).collect(),
            Change::Some { changed, removed } => {
                let removed: HashSet<&str> = removed.iter().map(String::as_str).collect();
                list.retain(|resource| !removed.contains(resource.name()));
                let places = list.iter().enumerate();
                let places: HashMap<String, usize> =
                    places.map(|(i, resource)| (resource.name().to_owned(), i)).collect();
                for resource in changed.into_iter().map(Arc::new) {
                    match places.get(resource.name()).and_then(|place| list.get_mut(*place)) {
                        Some(known) => *known = resource,
                        None => list.push(resource),
                    }
                }
            }
        }
        before
    }

    fn list(&mut self, kind: Kind) -> &mut Vec<Arc<Resource>> {
        match kind {
            Kind::Clusters => &mut self.clusters,
            Kind::Listeners => &mut self.listeners,
        }
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = Item<'_, config::Cluster>> {
        self.clusters.iter().enumerate().filter_map(|(i, resource)| {
            let config::Any::Cluster(schema) = &resource.message else { return None };
            let at = Kind::Clusters.at().index(i);
            Some(Item { schema: schema.as_ref(), at, is_dynamic: true })
        })
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Item<'_, config::Listener>> {
        self.listeners.iter().enumerate().filter_map(|(i, resource)| {
            let config::Any::Listener(schema) = &resource.message else { return None };
            let at = Kind::Listeners.at().index(i);
            Some(Item { schema: schema.as_ref(), at, is_dynamic: true })
        })
    }

    /// Puts the former ones in place of those that have problems, if there are such. Says what is wrong with
    /// them; empty: nothing.
    pub(crate) fn reject(
        &mut self,
        kind: Kind,
        before: &[Arc<Resource>],
        unusable: &HashMap<String, String>,
        problems: &Problems,
    ) -> String {
        let mut why = Vec::new();
        let mut kept = Vec::new();
        for (i, resource) in self.list(kind).drain(..).enumerate() {
            let at = kind.at().index(i).to_string();
            let of_it = problems.errors().filter_map(|problem| {
                let path = problem.path.to_string();
                let field = path.strip_prefix(&at)?.trim_start_matches('.').to_owned();
                Some(if field.is_empty() {
                    problem.message.clone()
                } else {
                    format!("{field}: {}", problem.message)
                })
            });
            let mut of_it: Vec<String> = of_it.collect();
            if !kind.is_of(&resource) {
                of_it.push(format!("{} is not a {}", resource.message.type_name(), kind.noun()));
            }
            of_it.extend(unusable.get(resource.name()).cloned());
            if of_it.is_empty() {
                kept.push(resource);
                continue;
            }
            why.push(format!("{}: {}", resource.name(), of_it.join(", ")));
            // One that is rejected again is not put back.
            let former = before.iter().find(|it| it.name() == resource.name());
            kept.extend(former.filter(|it| !Arc::ptr_eq(it, &resource)).map(Arc::clone));
        }
        *self.list(kind) = kept;
        if why.is_empty() {
            return String::new();
        }
        //= envoy: the details of a rejected update
        format!("Error adding/updating {}(s) {}", kind.noun(), why.join(", "))
    }

    /// Whether all of a kind are of its type.
    pub(crate) fn are_of_kind(&self, kind: Kind) -> bool {
        let list = match kind {
            Kind::Clusters => &self.clusters,
            Kind::Listeners => &self.listeners,
        };
        list.iter().all(|resource| kind.is_of(resource))
    }
}

/// `dynamic_resources`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DynamicSources {
    /// `cds_config`
    pub clusters: Option<ConfigSource>,
    /// `lds_config`
    pub listeners: Option<ConfigSource>,
    /// `ads_config`
    pub ads: Option<GrpcSource>,
}

impl DynamicSources {
    pub(crate) const fn any(&self) -> bool {
        self.clusters.is_some() || self.listeners.is_some() || self.ads.is_some()
    }
}

/// Where dynamic resources come from.
pub(crate) fn dynamic_sources(
    schema: &config::DynamicResources,
    at: &Path,
    problems: &mut Problems,
) -> DynamicSources {
    let config::DynamicResources { lds_config, cds_config, ads_config } = schema;
    let mut source = |schema: Option<&config::ConfigSource>, field: &str| {
        let at = at.field(field);
        let source = source_compile::source(schema?, &at, problems)?;
        check_existence(&source, schema?, &at, problems)?;
        Some(source)
    };
    DynamicSources {
        clusters: source(cds_config.as_ref(), "cds_config"),
        listeners: source(lds_config.as_ref(), "lds_config"),
        ads: ads_config.as_ref().and_then(|schema| {
            source_compile::grpc_source(schema, &at.field("ads_config"), problems)
        }),
    }
}

/// Checks that the management servers that the bootstrap names can be talked to.
pub(crate) fn check_servers(
    sources: &DynamicSources,
    has_identity: bool,
    is_cluster: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    let DynamicSources { clusters, listeners, ads } = sources;
    let api = "api_config_source";
    let of = |source: &Option<ConfigSource>| source.as_ref()?.server().cloned();
    let servers = [
        (ads.clone(), vec!["ads_config"]),
        (of(clusters), vec!["cds_config", api]),
        (of(listeners), vec!["lds_config", api]),
    ];
    for (server, fields) in servers {
        let Some(GrpcSource { cluster, .. }) = server else { continue };
        let root = Path::root().field("dynamic_resources");
        let at = fields.iter().fold(root, |at, field| at.field(field));
        if !has_identity {
            problems.missing(&at, NEEDS_IDENTITY);
        }
        if !is_cluster(&cluster) {
            let at = at.field("grpc_services").index(0).field("envoy_grpc").field("cluster_name");
            problems.error(&at, format!("unknown cluster '{cluster}'"));
        }
    }
}

const NEEDS_IDENTITY: &str = "a management server needs a `node` with an `id` and a `cluster`, or \
                              --service-node and --service-cluster, as in Envoy";
