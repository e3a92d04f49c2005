//! The clusters and listeners that come while the process runs, and where they come from.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use corvoy_config::{self as config, Path, Problems};

use crate::compile::Compiled;
use crate::config_source::compile::{self as source_compile, Resource, check_existence};
use crate::config_source::{ConfigSource, GrpcSource};
use crate::downstream::compile::without_chains;
use crate::fingerprint::Fingerprint;

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
            Self::Clusters => matches!(resource.message(), Ok(config::Any::Cluster(_))),
            Self::Listeners => matches!(resource.message(), Ok(config::Any::Listener(_))),
        }
    }

    /// Whether only filter chains of a listener are different.
    fn differs_in_place(self, before: &Resource, after: &Resource) -> bool {
        use config::Any::Listener;
        match (self, before.message(), after.message()) {
            (Self::Listeners, Ok(Listener(before)), Ok(Listener(after))) => {
                without_chains(before) == without_chains(after)
            }
            _ => false,
        }
    }
}

/// A resource in use, as `/config_dump` shows it.
#[derive(Debug)]
pub struct Loaded {
    pub(crate) resource: Resource,
    /// The `version_info` of the response that brought it.
    pub(crate) version: String,
    pub(crate) updated: SystemTime,
    /// What it was compiled from, so that an update of other resources does not compute it again.
    fingerprint: Mutex<Option<(u64, Fingerprint)>>,
}

impl Loaded {
    pub(crate) fn new(resource: Resource, version: &str) -> Self {
        let (version, updated) = (version.to_owned(), SystemTime::now());
        Self { resource, version, updated, fingerprint: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        self.resource.name()
    }

    /// The fingerprint of its `schema` in these surroundings. `reread`: also the contents of the files that it names
    /// may be different.
    fn fingerprint(&self, schema: &impl Debug, surroundings: u64, reread: bool) -> Fingerprint {
        let mut known = self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((around, fingerprint)) = &*known
            && *around == surroundings
            && !reread
        {
            return fingerprint.clone();
        }
        let fingerprint = Fingerprint::of(schema, surroundings);
        *known = Some((surroundings, fingerprint.clone()));
        fingerprint
    }
}

/// A resource that was rejected.
#[derive(Debug)]
pub struct Failed {
    pub(crate) resource: Resource,
    pub(crate) why: String,
    pub(crate) at: SystemTime,
}

/// Whether one of two listeners may take the place of the other and keep its connections.
pub(crate) fn without_chains_is_same(before: &Loaded, after: &Loaded) -> bool {
    Kind::Listeners.differs_in_place(&before.resource, &after.resource)
}

/// What is different in the resources of a kind.
#[derive(Clone, Debug)]
pub struct Change {
    /// The `version_info` of the response.
    pub version: String,
    /// The resources in it.
    pub resources: Resources,
}

/// The resources of a response.
#[derive(Clone, Debug)]
pub enum Resources {
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
    pub(crate) clusters: Loadeds,
    pub(crate) listeners: Loadeds,
    /// Whether clusters have come.
    pub(crate) has_clusters: bool,
}

/// The resources of a kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loadeds {
    /// The version of the last response that changed anything.
    pub(crate) version: String,
    pub(crate) list: Vec<Arc<Loaded>>,
    /// Those of the last response that were rejected.
    pub(crate) failed: Vec<Arc<Failed>>,
}

/// A cluster or listener to compile.
pub(crate) struct Item<'a, S> {
    pub(crate) schema: &'a S,
    pub(crate) at: Path,
    /// Where it comes from, if it does not come from the bootstrap.
    pub(crate) loaded: Option<&'a Loaded>,
}

impl<S: Debug> Item<'_, S> {
    /// What it is compiled from.
    pub(crate) fn fingerprint(&self, surroundings: u64, cause: Cause) -> Fingerprint {
        match self.loaded {
            Some(loaded) => {
                loaded.fingerprint(&self.schema, surroundings, cause == Cause::Bootstrap)
            }
            None => Fingerprint::of(&self.schema, surroundings),
        }
    }
}

impl Dynamic {
    /// Changes those of a kind; returns the former ones.
    pub(crate) fn apply(&mut self, kind: Kind, change: Change) -> Vec<Arc<Loaded>> {
        self.has_clusters |= kind == Kind::Clusters;
        let Change { version, resources } = change;
        let Loadeds { version: _, list, failed } = self.of_mut(kind);
        failed.clear();
        let before = list.clone();
        let places = before.iter().enumerate();
        let places: HashMap<&str, usize> = places.map(|(i, it)| (it.name(), i)).collect();
        let load = |resource: Resource| {
            let known = places.get(resource.name()).and_then(|place| before.get(*place));
            match known {
                Some(known) if known.resource.hash() == resource.hash() => Arc::clone(known),
                //= envoy: a listener of which only filter chains are different keeps its version
                Some(known) if kind.differs_in_place(&known.resource, &resource) => {
                    Arc::new(Loaded::new(resource, &known.version))
                }
                _ => Arc::new(Loaded::new(resource, &version)),
            }
        };
        match resources {
            Resources::All(resources) => *list = resources.into_iter().map(load).collect(),
            Resources::Some { changed, removed } => {
                for loaded in changed.into_iter().map(load) {
                    match places.get(loaded.name()).and_then(|place| list.get_mut(*place)) {
                        Some(known) => *known = loaded,
                        None => list.push(loaded),
                    }
                }
                let removed: HashSet<&str> = removed.iter().map(String::as_str).collect();
                list.retain(|loaded| !removed.contains(loaded.name()));
            }
        }
        before
    }

    /// Notes the version of a response, if anything of it is used.
    //= envoy: a response that changes nothing does not change the version
    pub(crate) fn note_version(&mut self, kind: Kind, version: &str, before: &[Arc<Loaded>]) {
        let Loadeds { version: last, list, .. } = self.of_mut(kind);
        let is_same = |(a, b): (&Arc<Loaded>, &Arc<Loaded>)| Arc::ptr_eq(a, b);
        if list.len() != before.len() || !list.iter().zip(before).all(is_same) {
            version.clone_into(last);
        }
    }

    /// Replaces those of a kind, or leaves them out.
    pub(crate) fn change_list(
        &mut self,
        kind: Kind,
        change: impl FnMut(Arc<Loaded>) -> Option<Arc<Loaded>>,
    ) {
        let list = &mut self.of_mut(kind).list;
        *list = std::mem::take(list).into_iter().filter_map(change).collect();
    }

    pub(crate) const fn of(&self, kind: Kind) -> &Loadeds {
        match kind {
            Kind::Clusters => &self.clusters,
            Kind::Listeners => &self.listeners,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut Loadeds {
        match kind {
            Kind::Clusters => &mut self.clusters,
            Kind::Listeners => &mut self.listeners,
        }
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = Item<'_, config::Cluster>> {
        self.clusters.list.iter().enumerate().filter_map(|(i, loaded)| {
            let Ok(config::Any::Cluster(schema)) = loaded.resource.message() else { return None };
            let at = Kind::Clusters.at().index(i);
            Some(Item { schema: schema.as_ref(), at, loaded: Some(loaded) })
        })
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Item<'_, config::Listener>> {
        self.listeners.list.iter().enumerate().filter_map(|(i, loaded)| {
            let Ok(config::Any::Listener(schema)) = loaded.resource.message() else { return None };
            let at = Kind::Listeners.at().index(i);
            Some(Item { schema: schema.as_ref(), at, loaded: Some(loaded) })
        })
    }

    /// Puts the former ones in place of those that have problems, if there are such. Says what is wrong with
    /// them; empty: nothing.
    pub(crate) fn reject(
        &mut self,
        kind: Kind,
        before: &[Arc<Loaded>],
        unusable: &HashMap<String, String>,
        problems: &Problems,
    ) -> String {
        let mut found = problems_by_place(kind, problems);
        let mut why = Vec::new();
        let mut kept = Vec::new();
        let Loadeds { version: _, list, failed } = self.of_mut(kind);
        for (i, loaded) in list.drain(..).enumerate() {
            let mut of_it = found.remove(&i).unwrap_or_default();
            match loaded.resource.message() {
                Err(flaw) => of_it.push(flaw),
                Ok(_) if !kind.is_of(&loaded.resource) => {
                    let found = loaded.resource.type_name();
                    of_it.push(format!("{found} is not a {}", kind.noun()));
                }
                Ok(_) => {}
            }
            of_it.extend(unusable.get(loaded.name()).cloned());
            if of_it.is_empty() {
                kept.push(loaded);
                continue;
            }
            let of_it = of_it.join(", ");
            why.push(format!("{}: {of_it}", loaded.name()));
            // One that is rejected again is not put back.
            let former = before.iter().find(|it| it.name() == loaded.name());
            kept.extend(former.filter(|it| !Arc::ptr_eq(it, &loaded)).map(Arc::clone));
            let resource = loaded.resource.clone();
            failed.push(Arc::new(Failed { resource, why: of_it, at: SystemTime::now() }));
        }
        *list = kept;
        if why.is_empty() {
            return String::new();
        }
        //= envoy: the details of a rejected update
        format!("Error adding/updating {}(s) {}", kind.noun(), why.join(", "))
    }

    /// Whether all of a kind are of its type and without flaw.
    pub(crate) fn are_of_kind(&self, kind: Kind) -> bool {
        self.of(kind).list.iter().all(|loaded| kind.is_of(&loaded.resource))
    }
}

/// The problems of the resources of a kind, in words, by their places.
fn problems_by_place(kind: Kind, problems: &Problems) -> HashMap<usize, Vec<String>> {
    let list = kind.at().to_string();
    let mut found: HashMap<usize, Vec<String>> = HashMap::new();
    for problem in problems.errors() {
        let path = problem.path.to_string();
        let Some((place, field)) =
            path.strip_prefix(&list).and_then(|rest| rest.strip_prefix('[')?.split_once(']'))
        else {
            continue;
        };
        let Ok(place) = place.parse() else { continue };
        let field = field.trim_start_matches('.');
        found.entry(place).or_default().push(if field.is_empty() {
            problem.message.clone()
        } else {
            format!("{field}: {}", problem.message)
        });
    }
    found
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
