//! The clusters and listeners that come while the process runs.

use std::collections::HashMap;
use std::sync::Arc;

use corvoy_config::{self as config, Path, Problems};

use crate::config_source::compile::Resource;

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
    /// Replaces those of a kind; returns the former ones.
    pub(crate) fn replace(&mut self, kind: Kind, resources: Vec<Resource>) -> Vec<Arc<Resource>> {
        self.has_clusters |= kind == Kind::Clusters;
        std::mem::replace(self.list(kind), resources.into_iter().map(Arc::new).collect())
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
