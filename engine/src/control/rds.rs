//! Follows the routes of connection managers that have them from a source of their own.
//!
//! New routes are for the requests that begin from then on, also on connections that are open. Nothing else
//! changes.
//!
//! Invariant: routes that cannot be used change nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::resources::{Handle, Interest, Sources, Subscriber, Unanswered, Wanted};
use super::server::Running;
use super::shards::Shards;
use super::subscription::{Counts, unix_millis};
use crate::compile::Compiler;
use crate::config_source::compile::{Resource, Response};
use crate::downstream::Listener;
use crate::downstream::filter_chain::Speaks;
use crate::downstream::local::Listeners;
use crate::dynamic_compile::Loaded;
use crate::request::route::RouteTable;
use crate::request::routes::RouteSource;
use crate::request::service::Service;
use crate::snapshot::Snapshot;
use crate::stats::{RdsStats, Registry, Scope};

/// Those of one name: each has its source.
type Subscriptions = Vec<(Rc<Followed>, Handle)>;

/// What follows routes.
pub(super) struct RouteFollower {
    context: Rc<Context>,
    sources: Rc<Sources>,
    /// By the names of the routes.
    followed: RefCell<HashMap<String, Subscriptions>>,
    next_id: Cell<u64>,
}

/// What routes need to be compiled and used.
struct Context {
    compiler: Rc<Compiler>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    shards: Arc<Shards>,
}

/// Routes that come from a source.
struct Followed {
    id: u64,
    source: RouteSource,
    context: Rc<Context>,
    /// The connection managers that have them.
    services: RefCell<Vec<Arc<Service>>>,
    stats: Arc<Scope<RdsStats>>,
    /// The last ones.
    last: RefCell<Option<Arc<Loaded>>>,
    /// Those who wait for the first ones besides the one that has subscribed; none: they have come, or are not waited
    /// for any longer.
    waiting: RefCell<Option<Vec<Unanswered>>>,
}

impl RouteFollower {
    pub(super) fn new(
        compiler: &Rc<Compiler>,
        registry: &Arc<Registry>,
        running: &Arc<Running>,
        shards: &Arc<Shards>,
        sources: &Rc<Sources>,
    ) -> Self {
        let context = Context {
            compiler: Rc::clone(compiler),
            registry: Arc::clone(registry),
            running: Arc::clone(running),
            shards: Arc::clone(shards),
        };
        Self {
            context: Rc::new(context),
            sources: Rc::clone(sources),
            followed: RefCell::default(),
            next_id: Cell::new(0),
        }
    }

    /// Gives the connection managers of a configuration their routes, before it is in force; those that are
    /// followed already are left alone. Each listener with new ones completes, with an error, when they are there or
    /// are not waited for any longer.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn follow(
        &self,
        snapshot: &Snapshot,
    ) -> io::Result<Vec<(Arc<Listener>, oneshot::Receiver<()>)>> {
        let known = self.known();
        let mut all = Vec::new();
        for listener in &snapshot.listeners {
            let new = services_of(listener).filter(|service| !known.contains(&key(service)));
            let new: Vec<_> = new.filter(|service| service.routes.source.is_some()).collect();
            if new.is_empty() {
                continue;
            }
            let (followed, answered) = self.sources.first_answers(|| {
                new.into_iter().try_for_each(|service| match &service.routes.source {
                    Some(source) => self.follow_one(service, source),
                    None => Ok(()),
                })
            });
            followed?;
            all.push((Arc::clone(listener), answered));
        }
        Ok(all)
    }

    /// The connection managers that have their routes.
    fn known(&self) -> HashSet<usize> {
        let followed = self.followed.borrow();
        let all = followed.values().flatten();
        all.flat_map(|(it, _)| it.services.borrow().iter().map(key).collect::<Vec<_>>()).collect()
    }

    //= envoy: connection managers with the same routes of the same source share a subscription
    fn follow_one(&self, service: &Arc<Service>, source: &RouteSource) -> io::Result<()> {
        let followed = self.followed.borrow();
        let same = followed.get(&source.name).into_iter().flatten();
        let same = same.map(|(followed, _)| followed).find(|it| it.source == *source);
        if let Some(same) = same.map(Rc::clone) {
            drop(followed);
            same.join(service, self.sources.hold());
            return Ok(());
        }
        drop(followed);
        let prefix = format!("{}rds.{}.", service.http.prefix(), source.name);
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let registry = &self.context.registry;
        let followed = Rc::new(Followed {
            id,
            source: source.clone(),
            context: Rc::clone(&self.context),
            services: RefCell::new(vec![Arc::clone(service)]),
            stats: registry.scope(&prefix),
            last: RefCell::default(),
            waiting: RefCell::new(Some(Vec::new())),
        });
        let interest = Interest {
            kind: "envoy.config.route.v3.RouteConfiguration",
            wanted: Wanted::Names(BTreeSet::from([source.name.clone()])),
            what: format!("routes {}", source.name),
            counts: Counts::Own(registry.scope(&prefix)),
            prefix,
        };
        followed.wait_for_first(service);
        let subscriber = Rc::clone(&followed) as Rc<dyn Subscriber>;
        let handle = self.sources.subscribe(interest, &source.origin, subscriber)?;
        let mut all = self.followed.borrow_mut();
        all.entry(source.name.clone()).or_default().push((followed, handle));
        Ok(())
    }

    /// Follows no others than the connection managers of these configurations any more.
    pub(super) fn retain(&self, snapshots: [&Snapshot; 2]) {
        let listeners = snapshots.into_iter().flat_map(|it| &it.listeners);
        let kept: HashSet<usize> = listeners.flat_map(|it| services_of(it)).map(key).collect();
        self.followed.borrow_mut().retain(|_, all| {
            all.retain(|(followed, _)| {
                let mut services = followed.services.borrow_mut();
                let gone = services.extract_if(.., |service| !kept.contains(&key(service)));
                followed.forget(gone);
                !services.is_empty()
            });
            !all.is_empty()
        });
    }
}

/// The connection managers of a listener.
fn services_of(listener: &Listener) -> impl Iterator<Item = &Arc<Service>> {
    listener.filter_chains.all().iter().filter_map(|chain| match &chain.speaks {
        Speaks::Http(service) => Some(service),
        Speaks::Tcp(_) => None,
    })
}

pub(super) fn key(service: &Arc<Service>) -> usize {
    Arc::as_ptr(service).addr()
}

impl Subscriber for Followed {
    fn replace(&self, response: Response) -> Result<(), String> {
        self.answered();
        let taken = self.take(&response);
        self.waiting.take();
        taken
    }

    fn nothing_came(&self) {
        self.answered();
        self.waiting.take();
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.answered();
        self.context.running.change(|changing| changing.loaded.forget_routes(self.id));
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
        let is_same = |last: &Arc<Loaded>| last.resource.hash() == resource.hash();
        if self.last.borrow().as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let services = self.services.borrow();
        let tables = services.iter().map(|service| self.compile(service, resource));
        let tables: Vec<_> = tables.collect::<Result<_, _>>()?;
        for (service, table) in services.iter().zip(tables) {
            self.put_into_force(service, table);
        }
        let loaded = Arc::new(Loaded::new(resource.clone(), &response.version));
        let shown = Arc::clone(&loaded);
        self.context.running.change(|changing| changing.loaded.set_routes(self.id, shown));
        self.last.replace(Some(loaded));
        let stats = self.stats.control();
        stats.config_reload.inc();
        stats.config_reload_time_ms.set(unix_millis());
        tracing::info!(target: "config", "routes {name} have changed");
        Ok(())
    }

    /// A connection manager waits for the first routes, as `/init_dump` shows.
    fn wait_for_first(&self, service: &Arc<Service>) {
        let name = self.source.name.clone();
        self.context.running.change(|changing| changing.no_routes_yet.insert(key(service), name));
    }

    fn answered(&self) {
        self.forget(self.services.borrow().iter().cloned());
    }

    /// These do not wait any longer.
    fn forget(&self, services: impl Iterator<Item = Arc<Service>>) {
        self.context.running.change(|changing| {
            for service in services {
                changing.no_routes_yet.remove(&key(&service));
            }
        });
    }

    /// Another connection manager has these routes.
    fn join(&self, service: &Arc<Service>, unanswered: Unanswered) {
        self.services.borrow_mut().push(Arc::clone(service));
        let last = self.last.borrow().as_ref().map(Arc::clone);
        let Some(last) = last else {
            if let Some(waiting) = &mut *self.waiting.borrow_mut() {
                waiting.push(unanswered);
                self.wait_for_first(service);
            }
            return;
        };
        match self.compile(service, &last.resource) {
            Ok(table) => self.put_into_force(service, table),
            Err(why) => {
                let name = &self.source.name;
                tracing::warn!(target: "config", "routes {name}: version {} is rejected: {why}", last.version);
            }
        }
    }

    fn compile(&self, service: &Service, resource: &Resource) -> Result<RouteTable, String> {
        self.context.compiler.routes(service, resource, &self.context.registry)
    }

    fn put_into_force(&self, service: &Arc<Service>, table: RouteTable) {
        let table = Arc::new(table);
        service.routes.replace(Arc::clone(&table));
        let service = Arc::clone(service);
        self.context.shards.send_to_all(move |shard| {
            Listeners::of(shard).set_routes(&service, &table);
        });
    }
}
