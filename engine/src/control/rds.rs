//! Follows the routes of connection managers that have them from a source of their own.
//!
//! New routes are for the requests that begin from then on, also on connections that are open. Nothing else
//! changes.
//!
//! Invariant: routes that cannot be used change nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::resources::{Handle, Interest, Sources, Subscriber, Wanted};
use super::shards::Shards;
use super::subscription::Counts;
use crate::compile::Compiler;
use crate::config_source::compile::Response;
use crate::downstream::filter_chain::Speaks;
use crate::downstream::local::Listeners;
use crate::request::routes::RouteSource;
use crate::request::service::Service;
use crate::snapshot::Snapshot;
use crate::stats::{RdsStats, Registry, Scope};

/// What follows routes.
pub(super) struct RouteFollower {
    compiler: Rc<Compiler>,
    registry: Arc<Registry>,
    shards: Arc<Shards>,
    sources: Rc<Sources>,
    followed: RefCell<HashMap<usize, Handle>>,
}

/// The routes of one connection manager.
struct Followed {
    service: Arc<Service>,
    source: RouteSource,
    compiler: Rc<Compiler>,
    registry: Arc<Registry>,
    shards: Arc<Shards>,
    stats: Arc<Scope<RdsStats>>,
    /// A hash of the last ones.
    last: Cell<u64>,
}

impl RouteFollower {
    pub(super) fn new(
        compiler: &Rc<Compiler>,
        registry: &Arc<Registry>,
        shards: &Arc<Shards>,
        sources: &Rc<Sources>,
    ) -> Self {
        Self {
            compiler: Rc::clone(compiler),
            registry: Arc::clone(registry),
            shards: Arc::clone(shards),
            sources: Rc::clone(sources),
            followed: RefCell::default(),
        }
    }

    /// Gives the connection managers of a configuration their routes, before it is in force; those that are
    /// followed already are left alone.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn follow(&self, snapshot: &Snapshot) -> io::Result<()> {
        for service in services(snapshot) {
            let Some(source) = &service.routes.source else { continue };
            if self.followed.borrow().contains_key(&key(service)) {
                continue;
            }
            let prefix = format!("{}rds.{}.", service.http.prefix(), source.name);
            let followed = Followed {
                service: Arc::clone(service),
                source: source.clone(),
                compiler: Rc::clone(&self.compiler),
                registry: Arc::clone(&self.registry),
                shards: Arc::clone(&self.shards),
                stats: self.registry.scope(&prefix),
                last: Cell::new(0),
            };
            let interest = Interest {
                kind: "envoy.config.route.v3.RouteConfiguration",
                wanted: Wanted::Names(BTreeSet::from([source.name.clone()])),
                what: format!("routes {}", source.name),
                counts: Counts::Own(self.registry.scope(&prefix)),
                prefix,
            };
            let handle = self.sources.subscribe(interest, &source.origin, Rc::new(followed))?;
            self.followed.borrow_mut().insert(key(service), handle);
        }
        Ok(())
    }

    /// Follows no others than the connection managers of this configuration any more.
    pub(super) fn retain(&self, snapshot: &Snapshot) {
        let kept: Vec<usize> = services(snapshot).map(key).collect();
        let mut followed = self.followed.borrow_mut();
        followed.retain(|key, _| kept.contains(key));
    }
}

/// The connection managers of a configuration.
fn services(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Service>> {
    let chains = snapshot.listeners.iter().flat_map(|listener| listener.filter_chains.all());
    chains.filter_map(|chain| match &chain.speaks {
        Speaks::Http(service) => Some(service),
        Speaks::Tcp(_) => None,
    })
}

fn key(service: &Arc<Service>) -> usize {
    Arc::as_ptr(service).addr()
}

impl Subscriber for Followed {
    fn replace(&self, response: Response) -> Result<(), String> {
        self.take(&response)
    }
}

impl Followed {
    fn take(&self, response: &Response) -> Result<(), String> {
        let name = &self.source.name;
        let Some(resource) = response.resources.iter().find(|it| it.name() == name) else {
            if let [other] = response.resources.as_slice() {
                return Err(format!(
                    "Unexpected RDS configuration (expecting {name}): {}",
                    other.name()
                ));
            }
            self.stats.control().update_empty.inc();
            return Ok(());
        };
        let hash = resource.hash();
        if self.last.get() == hash {
            return Ok(());
        }
        let table = self.compiler.routes(&self.service, resource, &self.registry)?;
        let table = Arc::new(table);
        self.service.routes.replace(Arc::clone(&table));
        let service = Arc::clone(&self.service);
        self.shards.send_to_all(move |shard| {
            Listeners::of(shard).set_routes(&service, &table);
        });
        self.last.set(hash);
        let stats = self.stats.control();
        stats.config_reload.inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        stats.config_reload_time_ms.set(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        tracing::info!(target: "config", "routes {name} have changed");
        Ok(())
    }
}
