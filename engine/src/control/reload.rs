//! Puts one configuration after the other into force while traffic flows.
//!
//! A new one is read, checked and compiled, its new addresses are bound and its new clusters get their hosts;
//! only then do the shards get it, all at once. What did not change keeps its sockets, connections, pools,
//! health and counts. Connections of listeners that are gone, or not what they were, drain.
//!
//! Invariant: a configuration that cannot be used changes nothing.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use super::admin::{Reloaded, ServerState};
use super::changes::Changes;
use super::drain::Drain;
use super::logs::Logs;
use super::membership::{Membership, key};
use super::pending::{Item, Pending, Waits, is_settled, still_waiting};
use super::rds::RouteFollower;
use super::refusal::Refusal;
use super::resources::{Handle, Interest, Sources, Subscriber, Wanted};
use super::runtime::RuntimeSources;
use super::sds::SecretSubscriptions;
use super::server::Running;
use super::shards::Shards;
use super::sockets_in_use::{Orders, SocketsInUse, Start};
use super::subscription::{Counts, unix_millis};
use super::{Options, StartError};
use crate::compile::{Compiled, Compiler};
use crate::config_source::ConfigSource;
use crate::config_source::compile::Response;
use crate::downstream::filter_chain_compile::RouteChange;
use crate::downstream::local::Listeners;
use crate::dynamic_compile::{Change, Dynamic, DynamicSources, Kind, Loaded, Resources, Updated};
use crate::runtime::LayerSource;
use crate::snapshot::Snapshot;
use crate::stats::{CdsStats, ProcessStats, Registry, Scope};

/// Where configurations come from.
pub trait Configuration: fmt::Debug {
    /// Reads, checks and compiles it.
    ///
    /// # Errors
    /// All that is wrong with it, in lines of text.
    fn read(&self, compiler: &Compiler) -> Result<Fresh, String>;
}

/// A configuration that has just been read.
#[derive(Debug)]
pub struct Fresh {
    /// What it was compiled to.
    pub compiled: Compiled,
    /// The configuration itself, for `/config_dump`.
    pub bootstrap: Value,
    /// What is questionable about it, in lines of text; may be empty.
    pub warnings: String,
}

/// Who waits for the result.
type Reply = Option<oneshot::Sender<Reloaded>>;

/// A request to read the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    /// Who waits for the result.
    pub(super) reply: Reply,
}

/// A configuration that was read again, and who waits for it.
#[derive(Debug)]
pub(super) struct Read {
    bootstrap: Value,
    warnings: String,
    reply: Reply,
}

/// What happens to the shards, in turn.
#[derive(Debug)]
pub(super) enum Step {
    PutIntoForce(Box<Pending>),
    /// What this has waited for is there.
    Ready(Item),
    /// Connections are accepted from here on.
    GoLive(oneshot::Sender<()>),
}

/// What puts a configuration into force.
pub(super) struct Reloader {
    pub(super) configuration: Box<dyn Configuration>,
    pub(super) compiler: Rc<Compiler>,
    pub(super) options: Rc<Options>,
    pub(super) registry: Arc<Registry>,
    pub(super) process: Arc<ProcessStats>,
    pub(super) running: Arc<Running>,
    pub(super) shards: Arc<Shards>,
    pub(super) logs: Logs,
    pub(super) membership: Membership,
    pub(super) secrets: SecretSubscriptions,
    pub(super) sources: Rc<Sources>,
    /// To clusters and listeners.
    pub(super) subscriptions: RefCell<Vec<Handle>>,
    pub(super) routes: RouteFollower,
    pub(super) runtime: RuntimeSources,
    pub(super) sockets: RefCell<SocketsInUse>,
    /// What was ordered before connections are accepted; none: they are.
    pub(super) before_live: RefCell<Option<Vec<Orders>>>,
    pub(super) steps: UnboundedSender<Step>,
    pub(super) drain: Drain,
    /// The last one that was accepted.
    pub(super) accepted: RefCell<Arc<Snapshot>>,
}

/// Takes the dynamic resources of a kind.
struct Updates {
    kind: Kind,
    reloader: Rc<Reloader>,
    /// Counts changes of clusters.
    changes: Option<Arc<Scope<CdsStats>>>,
}

impl Updates {
    fn take(&self, version: String, resources: Resources) -> Result<(), String> {
        let before = Arc::clone(&self.reloader.accepted.borrow());
        self.reloader.update(self.kind, &Change { version, resources })?;
        let before: HashSet<_> = before.clusters.iter().map(key).collect();
        let is_new = |it: &Arc<_>| !before.contains(&key(it));
        if let Some(stats) = &self.changes
            && self.reloader.accepted.borrow().clusters.iter().any(is_new)
        {
            stats.control().config_reload.inc();
            stats.control().config_reload_time_ms.set(unix_millis());
        }
        Ok(())
    }
}

impl Subscriber for Updates {
    fn replace(&self, response: Response) -> Result<(), String> {
        let Response { version, resources } = response;
        self.take(version, Resources::All(resources))
    }

    fn change(&self, response: Response, removed: &[String]) -> Result<(), String> {
        let Response { version, resources: changed } = response;
        self.take(version, Resources::Some { changed, removed: removed.to_vec() })
    }
}

/// How long whoever asked for a configuration to be read again waits until all that is new in it is ready.
const WARMING_MAX: Duration = Duration::from_secs(15);

impl Reloader {
    /// Subscribes to the clusters and listeners that the bootstrap does not have, and to routes. Completes when they
    /// are there, or are not waited for any longer: first clusters, then what refers to them.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) async fn subscribe(self: &Rc<Self>, dynamic: DynamicSources) -> io::Result<()> {
        let DynamicSources { clusters, listeners, ads: _ } = dynamic;
        self.follow(Kind::Clusters, clusters, "cluster_manager.cds.").await?;
        let routes = self.routes.follow(&self.running.snapshot())?;
        self.follow(Kind::Listeners, listeners, "listener_manager.lds.").await?;
        for (_, answered) in routes {
            // An error means that the sender is gone: all are answered.
            drop(answered.await);
        }
        Ok(())
    }

    async fn follow(
        self: &Rc<Self>,
        kind: Kind,
        source: Option<ConfigSource>,
        prefix: &str,
    ) -> io::Result<()> {
        let Some(source) = source else { return Ok(()) };
        let interest = Interest {
            kind: kind.message(),
            wanted: Wanted::All,
            what: format!("dynamic {}s", kind.noun()),
            prefix: prefix.to_owned(),
            counts: Counts::Own(self.registry.scope(prefix)),
        };
        let changes = (kind == Kind::Clusters).then(|| self.registry.scope(prefix));
        let subscriber = Rc::new(Updates { kind, reloader: Rc::clone(self), changes });
        let (subscription, answered) =
            self.sources.first_answers(|| self.sources.subscribe(interest, &source, subscriber));
        self.subscriptions.borrow_mut().push(subscription?);
        drop(answered.await);
        Ok(())
    }

    /// Takes resources of a kind. A listener whose address cannot be bound does not hold up the others.
    fn update(&self, kind: Kind, change: &Change) -> Result<(), String> {
        let mut unusable = HashMap::new();
        loop {
            let updated = self.compiler.update(kind, change.clone(), &unusable, &self.registry);
            let Updated { compiled, rejected } = updated;
            let Some(compiled) = compiled else { return rejected.map_or(Ok(()), Err) };
            match self.accept(compiled, None) {
                Ok(()) => return rejected.map_or(Ok(()), Err),
                Err((Refusal::Listener { name, why }, _)) if !unusable.contains_key(&name) => {
                    self.process.listener_manager.control().listener_create_failure.inc();
                    unusable.insert(name, why);
                }
                Err((refusal, _)) => return Err(refusal.in_words()),
            }
        }
    }

    /// Carries out requests to read the configuration again, one after the other, forever.
    pub(super) async fn read_on_request(self: Rc<Self>, mut requests: UnboundedReceiver<Reload>) {
        while let Some(Reload { reply }) = requests.recv().await {
            let refused = self.read_again(reply);
            let Err((why, reply)) = refused else { continue };
            for line in why.lines().filter(|line| !line.is_empty()) {
                tracing::error!(target: "config", "{line}");
            }
            tracing::error!(target: "config", "the configuration that was read again is refused, nothing is changed");
            // Whoever asked may have gone.
            let _received = reply.map(|reply| reply.send(Err(why)));
        }
    }

    fn read_again(&self, reply: Reply) -> Result<(), (String, Reply)> {
        match self.configuration.read(&self.compiler) {
            Ok(Fresh { compiled, bootstrap, warnings }) => {
                let read = Box::new(Read { bootstrap, warnings, reply });
                self.accept(compiled, Some(read)).map_err(|(refusal, read)| {
                    (refusal.in_words(), read.and_then(|read| read.reply))
                })
            }
            Err(why) => Err((why, reply)),
        }
    }

    /// Gets everything that may fail. From here on the next configuration is compared with this one.
    fn accept(
        &self,
        compiled: Compiled,
        read: Option<Box<Read>>,
    ) -> Result<(), (Refusal, Option<Box<Read>>)> {
        let Compiled { snapshot, runtime, in_force, .. } = compiled;
        let dynamic = in_force.dynamic.clone();
        if read.is_none() && snapshot.is_same(&self.accepted.borrow()) {
            self.compiler.commit(in_force);
            self.show_accepted(dynamic);
            return Ok(());
        }
        let (prepared, secrets) = self.sources.first_answers(|| self.prepare(&snapshot));
        let orders = match prepared {
            Ok(orders) => orders,
            Err(refusal) => return Err((refusal, read)),
        };
        for RouteChange { service, table } in &snapshot.routes {
            service.routes.accept(Arc::clone(table));
        }
        self.compiler.commit(in_force);
        self.show_accepted(dynamic.clone());
        let before = self.accepted.replace(Arc::clone(&snapshot));
        self.running.change(|changing| changing.accepted = Arc::clone(&snapshot));
        // At once: a management server may send with its next response what these refer to.
        let waits = self.waits(&before, &snapshot, secrets);
        let pending = Pending {
            target: snapshot,
            dynamic,
            runtime,
            orders,
            unready: waits.keys().copied().collect(),
            since: self.running.snapshot(),
            reads: read.into_iter().map(|read| *read).collect(),
        };
        // The receiver lives as long as the process serves.
        let _ended = self.steps.send(Step::PutIntoForce(Box::new(pending)));
        for (item, waits) in waits {
            let steps = self.steps.clone();
            drop(tokio::task::spawn_local(async move {
                for wait in waits {
                    // An error means that the sender is gone: nothing is left to wait for.
                    drop(wait.await);
                }
                let _ended = steps.send(Step::Ready(item));
            }));
        }
        Ok(())
    }

    /// What the clusters and listeners wait for that are new in a configuration.
    fn waits(
        &self,
        before: &Snapshot,
        snapshot: &Snapshot,
        secrets: oneshot::Receiver<()>,
    ) -> Waits {
        let mut waits = Waits::new();
        self.membership.serve_dns(&self.compiler.dns_caches().all());
        for (cluster, ready) in self.membership.follow(&snapshot.clusters) {
            waits.entry(Item::cluster(&cluster)).or_default().push(ready);
        }
        match self.routes.follow(snapshot) {
            Ok(listeners) => {
                for (listener, ready) in listeners {
                    waits.entry(Item::listener(&listener)).or_default().push(ready);
                }
            }
            Err(error) => {
                tracing::error!(target: "config", "routes cannot be followed: {error}");
            }
        }
        let known: HashSet<Item> = items(before).collect();
        let new: Vec<Item> = items(snapshot).filter(|item| !known.contains(item)).collect();
        // All that is new waits for the secrets that are new with it.
        let (mut tell, mut told) = (Vec::new(), Vec::new());
        for _ in &new {
            let (sender, receiver) = oneshot::channel();
            tell.push(sender);
            told.push(receiver);
        }
        let mut secrets = secrets;
        if matches!(secrets.try_recv(), Err(TryRecvError::Empty)) {
            drop(tokio::task::spawn_local(async move {
                drop(secrets.await);
                drop::<Vec<oneshot::Sender<()>>>(tell);
            }));
            for (item, receiver) in new.into_iter().zip(told) {
                waits.entry(item).or_default().push(receiver);
            }
        }
        still_waiting(waits)
    }

    fn prepare(&self, snapshot: &Snapshot) -> Result<Orders, Refusal> {
        if self.drain.has_stopped() {
            return Err(Refusal::Stopped);
        }
        self.logs.take_up(self.compiler.files()).map_err(StartError::from)?;
        self.secrets.update().map_err(StartError::from)?;
        Ok(self.sockets.borrow_mut().change(snapshot, &self.options, Start::Later)?)
    }

    /// Does what was accepted, in turn, forever.
    pub(super) async fn take_steps(self: Rc<Self>, mut steps: UnboundedReceiver<Step>) {
        let mut pending: Option<Pending> = None;
        let mut go_live = None;
        let mut until = Instant::now();
        loop {
            let is_waited_for = pending.as_ref().is_some_and(|it| !it.reads.is_empty());
            let step = tokio::select! {
                step = steps.recv() => step,
                () = tokio::time::sleep_until(until), if is_waited_for => {
                    if let Some(pending) = &mut pending {
                        self.answer(pending);
                    }
                    continue;
                }
            };
            let mut next = step;
            let Some(_) = next else { return };
            // Whatever else has come meanwhile is put into force together.
            while let Some(step) = next {
                match step {
                    Step::PutIntoForce(later) => {
                        if pending.as_ref().is_none_or(|it| it.reads.is_empty()) {
                            until = Instant::now() + WARMING_MAX;
                        }
                        pending = Some(match pending.take() {
                            Some(pending) => pending.and_then(*later),
                            None => *later,
                        });
                    }
                    Step::Ready(item) => {
                        pending.as_mut().map(|pending| pending.unready.remove(&item));
                    }
                    Step::GoLive(done) => go_live = Some(done),
                }
                next = steps.try_recv().ok();
            }
            if let Some(mut current) = pending.take() {
                if current.may_be_used() {
                    self.put_into_force(&mut current);
                }
                pending = Some(current).filter(|pending| !pending.unready.is_empty());
            }
            if pending.is_none()
                && let Some(done) = go_live.take()
            {
                self.go_live();
                // Whoever waits has given up if the process ends.
                let _waits = done.send(());
            }
        }
    }

    /// Whoever has asked for a configuration does not wait for all that is new in it any longer.
    fn answer(&self, pending: &mut Pending) {
        tracing::warn!(target: "config", "new clusters, routes or secrets are not there yet; what needs them is used when they are");
        self.set_runtime(pending.runtime.clone());
        self.tell(pending);
        self.put_into_force(pending);
    }

    /// Puts into force what is ready.
    fn put_into_force(&self, pending: &mut Pending) {
        let now = self.running.snapshot();
        let used = Arc::new(pending.usable(&now));
        let target = Arc::clone(&pending.target);
        let changes = Changes::between(&now, &used);
        let settled = is_settled(&target.listeners, &used.listeners, |it| it.name.clone());
        let settled_clusters = is_settled(&target.clusters, &used.clusters, |it| it.name.clone());
        let mut drain = Vec::new();
        let clusters = used.clusters.clone();
        let (dynamic, addresses) =
            (pending.dynamic.clone(), self.sockets.borrow().addresses(&used));
        let hosts: HashMap<_, _> = self.running.change(|changing| {
            drain = changing.loaded.put_into_force(dynamic, |kind, name| match kind {
                Kind::Clusters => settled_clusters(name),
                Kind::Listeners => settled(name),
            });
            changing.snapshot = Arc::clone(&used);
            changing.addresses = addresses;
            clusters.iter().map(|it| (key(it), changing.hosts_of(it))).collect()
        });
        for RouteChange { service, table } in &used.routes {
            service.routes.replace(Arc::clone(table));
        }
        let installed = Arc::clone(&used);
        // In one errand, so that no request finds a cluster without its hosts.
        self.shards.send_to_all(move |shard| {
            installed.install(shard, |cluster| hosts.get(&key(cluster)).map(Arc::clone));
        });
        // They are with the shards now.
        pending.target = Arc::new(Snapshot {
            listeners: target.listeners.clone(),
            clusters: target.clusters.clone(),
            routes: Vec::new(),
        });
        let orders = pending.orders.take(settled);
        match &mut *self.before_live.borrow_mut() {
            Some(waiting) => waiting.push(orders),
            // Nobody listens any more: new sockets are closed.
            None if self.drain.has_stopped() => {}
            None => orders.carry_out(&self.shards),
        }
        let all: Vec<_> = clusters.iter().chain(&target.clusters).cloned().collect();
        self.membership.retain(&all);
        self.routes.retain([&used, &target]);
        let kept: HashSet<_> = all.iter().map(key).collect();
        self.running.change(|changing| changing.hosts.retain(|key, _| kept.contains(key)));
        self.count(&changes);
        self.count_warming();
        if !changes.gone.is_empty() || !drain.is_empty() {
            drop(tokio::task::spawn_local(self.close_later(&changes, drain)));
        }
        if pending.reads.is_empty() {
            if changes.any() {
                tracing::info!(target: "config", "dynamic resources have changed: {changes}");
            }
        } else {
            self.set_runtime(pending.runtime.clone());
            if pending.unready.is_empty() {
                self.tell(pending);
            }
        }
    }

    /// Says what has become of configurations that were read again.
    fn tell(&self, pending: &mut Pending) {
        let changes = Changes::between(&pending.since, &pending.target);
        for read in std::mem::take(&mut pending.reads) {
            let Read { bootstrap, warnings, reply } = read;
            tracing::info!(target: "config", "the configuration is read again: {changes}");
            self.running.change(|changing| changing.show_bootstrap(&bootstrap));
            // Whoever asked may have gone.
            let _received = reply.map(|reply| reply.send(Ok(format!("{changes}\n{warnings}"))));
        }
    }

    /// Runtime values come from these sources from now on.
    fn set_runtime(&self, sources: Vec<LayerSource>) {
        let values = &self.running.runtime;
        if values.layers.sources() == sources {
            return;
        }
        values.count(values.layers.configure(sources));
        // Nobody waits for what is new in them.
        if let Err(error) = self.runtime.follow() {
            tracing::error!(target: "config", "runtime values cannot be followed: {error}");
        }
    }

    /// Opens the sockets.
    fn go_live(&self) {
        for orders in self.before_live.take().unwrap_or_default() {
            orders.carry_out(&self.shards);
        }
        self.running.set_state(ServerState::Live);
        self.process.listener_manager.control().workers_started.set(1);
        let took = self.running.identity.started.elapsed().as_millis();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.process.server.control().initialization_time_ms.record(took);
        tracing::info!(target: "main", "serving after {took} ms");
    }

    /// Counts the listeners and clusters of the first configuration.
    pub(super) fn count_first(&self) {
        let none = Snapshot::default();
        self.count(&Changes::between(&none, &self.running.snapshot()));
    }

    fn count(&self, changes: &Changes) {
        let Changes { listeners, clusters, .. } = changes;
        let stats = self.process.listener_manager.control();
        stats.listener_added.add(listeners.added);
        stats.listener_modified.add(listeners.modified);
        stats.listener_removed.add(listeners.removed);
        let created = (listeners.added + listeners.modified) * self.shards.count() as u64;
        stats.listener_create_success.add(created);
        stats.total_listeners_active.set(listeners.total);
        let in_place = changes.gone.iter().filter(|gone| gone.in_place);
        stats.listener_in_place_updated.add(in_place.count() as u64);
        changes.gone.iter().for_each(|gone| gone.gauge(stats).add(gone.amount));
        let stats = self.process.cluster_manager.control();
        stats.cluster_added.add(clusters.added);
        stats.cluster_modified.add(clusters.modified);
        stats.cluster_removed.add(clusters.removed);
        stats.active_clusters.set(clusters.total);
    }

    /// Shows what is accepted.
    fn show_accepted(&self, dynamic: Dynamic) {
        self.running.change(|changing| changing.loaded.accept(dynamic));
        self.count_warming();
    }

    fn count_warming(&self) {
        let [clusters, listeners] = self.running.change(|changing| {
            [Kind::Clusters, Kind::Listeners].map(|kind| changing.loaded.warming(kind).count())
        });
        self.process.cluster_manager.control().warming_clusters.set(clusters as u64);
        let stats = self.process.listener_manager.control();
        stats.total_listeners_warming.set(listeners as u64);
    }

    /// Closes the connections of what is gone, after the drain time. `shown` drain in `/config_dump`.
    fn close_later(
        &self,
        changes: &Changes,
        shown: Vec<Arc<Loaded>>,
    ) -> impl Future<Output = ()> + use<> {
        let running = Arc::clone(&self.running);
        let (gone, shards) = (changes.gone.clone(), Arc::clone(&self.shards));
        let (process, drain_time) = (Arc::clone(&self.process), self.options.drain_time);
        async move {
            tokio::time::sleep(drain_time).await;
            for it in &gone {
                it.gauge(process.listener_manager.control()).sub(it.amount);
            }
            running.change(|changing| changing.loaded.drained(&shown));
            let listeners: Vec<_> = gone.into_iter().map(|it| it.listener).collect();
            shards.send_to_all(move |shard| Listeners::of(shard).close(&listeners));
        }
    }
}

/// The clusters and listeners of a configuration.
fn items(snapshot: &Snapshot) -> impl Iterator<Item = Item> {
    let clusters = snapshot.clusters.iter().map(Item::cluster);
    clusters.chain(snapshot.listeners.iter().map(Item::listener))
}
