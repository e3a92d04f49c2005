//! Puts one configuration after the other into force while traffic flows.
//!
//! A new one is read, checked and compiled, its new addresses are bound and its new clusters get their hosts;
//! only then do the shards get it, all at once. What did not change keeps its sockets, connections, pools,
//! health and counts. Connections of listeners that are gone, or not what they were, drain.
//!
//! Invariant: a configuration that cannot be used changes nothing.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::admin::{Reloaded, ServerState};
use super::drain::Drain;
use super::logs::Logs;
use super::membership::{Membership, key};
use super::moves::Watchers;
use super::rds::RouteFollower;
use super::sds::SecretFiles;
use super::server::Running;
use super::shards::Shards;
use super::sockets_in_use::{Orders, SocketsInUse};
use super::subscription::{Counts, Subscription};
use super::{Options, StartError, count_runtime, counted};
use crate::address::Address;
use crate::compile::{Compiled, Compiler, DynamicSources, Updated};
use crate::config_source::compile::Response;
use crate::downstream::Listener;
use crate::downstream::filter_chain_compile::RouteChange;
use crate::downstream::local::Listeners;
use crate::dynamic_compile::Kind;
use crate::runtime::Runtime;
use crate::snapshot::Snapshot;
use crate::stats::{Gauge, ListenerManagerStats, ProcessStats, Registry};
use crate::upstream::Cluster;

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

/// A configuration that is accepted, and that is put into force when its clusters are ready.
#[derive(Debug)]
pub(super) struct Accepted {
    snapshot: Arc<Snapshot>,
    runtime: Runtime,
    orders: Orders,
    addresses: Vec<Vec<Address>>,
    /// Of a configuration that was read again.
    read: Option<Box<Read>>,
}

/// A configuration that was read again, and who waits for it.
#[derive(Debug)]
struct Read {
    bootstrap: Value,
    warnings: String,
    reply: Reply,
}

/// What happens to the shards, in turn.
#[derive(Debug)]
pub(super) enum Step {
    PutIntoForce(Box<Accepted>),
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
    pub(super) secrets: SecretFiles,
    pub(super) routes: RouteFollower,
    pub(super) sockets: RefCell<SocketsInUse>,
    /// What was ordered before connections are accepted; none: they are.
    pub(super) before_live: RefCell<Option<Vec<Orders>>>,
    pub(super) steps: UnboundedSender<Step>,
}

/// How long a new cluster may take to get its hosts before it is used without.
const WARMING_MAX: Duration = Duration::from_secs(15);

impl Reloader {
    /// Follows the clusters and listeners that the bootstrap does not have. Each source is read once before
    /// connections are accepted.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn follow(
        self: &Rc<Self>,
        sources: DynamicSources,
        watchers: &Watchers,
    ) -> io::Result<()> {
        self.routes.follow(&self.running.snapshot())?;
        let DynamicSources { clusters, listeners } = sources;
        let kinds = [
            (Kind::Clusters, clusters, "cluster_manager.cds."),
            (Kind::Listeners, listeners, "listener_manager.lds."),
        ];
        for (kind, source, prefix) in kinds {
            let Some(source) = source else { continue };
            let counts = Counts::Own(self.registry.scope(prefix));
            let what = format!("dynamic {}s", kind.noun());
            let subscription = Subscription::new(what, source, counts, &watchers.watcher()?);
            let this = Rc::clone(self);
            subscription.load(|response| this.update(kind, response));
            drop(tokio::task::spawn_local(async move {
                loop {
                    subscription.changed().await;
                    subscription.load(|response| this.update(kind, response));
                }
            }));
        }
        Ok(())
    }

    /// Takes all resources of a kind.
    fn update(&self, kind: Kind, response: Response) -> Result<(), String> {
        let updated = self.compiler.update(kind, response.resources, &self.registry);
        let Updated { compiled, rejected } = updated;
        if let Some(compiled) = compiled {
            self.accept(compiled, None).map_err(|(why, _)| why)?;
        }
        rejected.map_or(Ok(()), Err)
    }

    /// Carries out requests to read the configuration again, one after the other, forever.
    pub(super) async fn read_on_request(
        self: Rc<Self>,
        mut requests: UnboundedReceiver<Reload>,
        drain: Drain,
    ) {
        while let Some(Reload { reply }) = requests.recv().await {
            let refused = self.read_again(&drain, reply);
            let Err((why, reply)) = refused else { continue };
            for line in why.lines().filter(|line| !line.is_empty()) {
                tracing::error!(target: "config", "{line}");
            }
            tracing::error!(target: "config", "the configuration that was read again is refused, nothing is changed");
            // Whoever asked may have gone.
            let _received = reply.map(|reply| reply.send(Err(why)));
        }
    }

    fn read_again(&self, drain: &Drain, reply: Reply) -> Result<(), (String, Reply)> {
        if drain.has_stopped() {
            return Err(("the listeners were stopped by /drain_listeners\n".to_owned(), reply));
        }
        match self.configuration.read(&self.compiler) {
            Ok(Fresh { compiled, bootstrap, warnings }) => {
                let accepted =
                    self.accept(compiled, Some(Box::new(Read { bootstrap, warnings, reply })));
                accepted.map_err(|(why, read)| (why, read.and_then(|read| read.reply)))
            }
            Err(why) => Err((why, reply)),
        }
    }

    /// Gets everything that may fail. From here on the next configuration is compared with this one.
    fn accept(
        &self,
        compiled: Compiled,
        read: Option<Box<Read>>,
    ) -> Result<(), (String, Option<Box<Read>>)> {
        let Compiled { snapshot, runtime, in_force, .. } = compiled;
        let orders = match self.prepare(&snapshot) {
            Ok(orders) => orders,
            Err(error) => return Err((in_words(&error), read)),
        };
        for RouteChange { service, table } in &snapshot.routes {
            service.routes.replace(Arc::clone(table));
        }
        self.compiler.commit(in_force);
        let addresses = self.sockets.borrow().addresses(&snapshot);
        let accepted = Accepted { snapshot, runtime, orders, addresses, read };
        // The receiver lives as long as the process serves.
        let _ended = self.steps.send(Step::PutIntoForce(Box::new(accepted)));
        Ok(())
    }

    fn prepare(&self, snapshot: &Snapshot) -> Result<Orders, StartError> {
        self.logs.take_up(self.compiler.files())?;
        self.secrets.update()?;
        self.sockets.borrow_mut().change(snapshot, &self.options)
    }

    /// Does what was accepted, in turn, forever.
    pub(super) async fn take_steps(self: Rc<Self>, mut steps: UnboundedReceiver<Step>) {
        while let Some(step) = steps.recv().await {
            match step {
                Step::PutIntoForce(accepted) => {
                    let ready = self.membership.follow(&accepted.snapshot.clusters);
                    if tokio::time::timeout(WARMING_MAX, ready).await.is_err() {
                        tracing::warn!(target: "config", "new clusters are used although they are not ready");
                    }
                    if let Err(error) = self.routes.follow(&accepted.snapshot) {
                        tracing::error!(target: "config", "routes cannot be followed: {error}");
                    }
                    self.put_into_force(*accepted);
                }
                Step::GoLive(done) => {
                    self.go_live();
                    // Whoever waits has given up if the process ends.
                    let _waits = done.send(());
                }
            }
        }
    }

    fn put_into_force(&self, accepted: Accepted) {
        let Accepted { snapshot, runtime, orders, addresses, read } = accepted;
        let changes = Changes::between(&self.running.snapshot(), &snapshot);
        let clusters = snapshot.clusters.clone();
        let hosts: HashMap<_, _> = self.running.change(|changing| {
            changing.snapshot = Arc::clone(&snapshot);
            changing.addresses = addresses;
            changing.runtime = runtime.json();
            clusters.iter().map(|it| (key(it), changing.hosts_of(it))).collect()
        });
        // In one errand, so that no request finds a cluster without its hosts.
        self.shards.send_to_all(move |shard| {
            snapshot.install(shard, |cluster| hosts.get(&key(cluster)).map(Arc::clone));
        });
        match &mut *self.before_live.borrow_mut() {
            Some(waiting) => waiting.push(orders),
            None => orders.carry_out(&self.shards),
        }
        self.membership.retain(&clusters);
        self.routes.retain(&self.running.snapshot());
        let kept: HashSet<_> = clusters.iter().map(key).collect();
        self.running.change(|changing| changing.hosts.retain(|key, _| kept.contains(key)));
        count_runtime(&self.process, &runtime);
        self.count(&changes);
        drop(tokio::task::spawn_local(self.close_later(&changes)));
        if let Some(read) = read {
            let Read { bootstrap, warnings, reply } = *read;
            tracing::info!(target: "config", "the configuration is read again: {changes}");
            self.running.change(|changing| changing.show_bootstrap(bootstrap));
            // Whoever asked may have gone.
            let _received = reply.map(|reply| reply.send(Ok(format!("{changes}\n{warnings}"))));
        } else {
            tracing::info!(target: "config", "dynamic resources have changed: {changes}");
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

    /// Closes the connections of what is gone, after the drain time.
    fn close_later(&self, changes: &Changes) -> impl Future<Output = ()> + use<> {
        let (gone, shards) = (changes.gone.clone(), Arc::clone(&self.shards));
        let (process, drain_time) = (Arc::clone(&self.process), self.options.drain_time);
        async move {
            tokio::time::sleep(drain_time).await;
            for it in gone {
                it.gauge(process.listener_manager.control()).sub(it.amount);
                shards.send_to_all(move |shard| Listeners::of(shard).close(&it.listener));
            }
        }
    }
}

/// A listener that is gone, or not what it was.
#[derive(Clone, Debug)]
struct Gone {
    listener: Arc<Listener>,
    /// Whether one of its name has its addresses now: then only filter chains are gone.
    in_place: bool,
    /// How many of them; 1 for a whole listener.
    amount: u64,
}

impl Gone {
    fn of(listener: &Arc<Listener>, after: &Snapshot) -> Self {
        let addresses = |it: &Listener| format!("{:?}", it.addresses);
        let next = after.listeners.iter().find(|it| it.name == listener.name);
        let next = next.filter(|it| addresses(it) == addresses(listener));
        let amount = next.map_or(1, |next| next.filter_chains.count_gone(&listener.filter_chains));
        Self { listener: Arc::clone(listener), in_place: next.is_some(), amount }
    }

    /// What counts it while it drains.
    const fn gauge<'a>(&self, stats: &'a ListenerManagerStats) -> &'a Gauge {
        if self.in_place {
            &stats.total_filter_chains_draining
        } else {
            &stats.total_listeners_draining
        }
    }
}

/// The error with its cause, as a line.
fn in_words(error: &StartError) -> String {
    error.source().map_or_else(|| format!("{error}\n"), |why| format!("{error}: {why}\n"))
}

/// What is different in a new configuration.
#[derive(Debug)]
struct Changes {
    listeners: Tally,
    clusters: Tally,
    /// What drains.
    gone: Vec<Gone>,
}

#[derive(Debug, Default)]
struct Tally {
    added: u64,
    modified: u64,
    removed: u64,
    total: u64,
}

impl Changes {
    fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let name = |listener: &Listener| listener.name.clone();
        let is_kept =
            |gone: &&Arc<Listener>| after.listeners.iter().any(|it| Arc::ptr_eq(it, gone));
        Self {
            listeners: Tally::of(&before.listeners, &after.listeners, name),
            clusters: Tally::of(&before.clusters, &after.clusters, |it: &Cluster| it.name.clone()),
            gone: {
                let gone = before.listeners.iter().filter(|it| !is_kept(it));
                gone.map(|it| Gone::of(it, after)).collect()
            },
        }
    }
}

impl Tally {
    /// Those that are the same in both count for nothing.
    fn of<T>(before: &[Arc<T>], after: &[Arc<T>], name: impl Fn(&T) -> String) -> Self {
        let mut counts = Self { total: after.len() as u64, ..Self::default() };
        let mut old: HashMap<String, &Arc<T>> = before.iter().map(|it| (name(it), it)).collect();
        for new in after {
            match old.remove(&name(new)) {
                None => counts.added += 1,
                Some(old) if !Arc::ptr_eq(old, new) => counts.modified += 1,
                Some(_) => {}
            }
        }
        counts.removed = old.len() as u64;
        counts
    }
}

impl fmt::Display for Changes {
    /// `2 listeners: 1 added, 1 modified; 3 clusters: unchanged`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (noun, counts, end) in
            [("listener", &self.listeners, "; "), ("cluster", &self.clusters, "")]
        {
            let Tally { added, modified, removed, total } = counts;
            write!(f, "{}: ", counted(*total, noun))?;
            let parts = [(added, "added"), (modified, "modified"), (removed, "removed")];
            let mut text = String::new();
            for (count, what) in parts.into_iter().filter(|(count, _)| **count > 0) {
                let comma = if text.is_empty() { "" } else { ", " };
                write!(text, "{comma}{count} {what}")?;
            }
            f.write_str(if text.is_empty() { "unchanged" } else { &text })?;
            f.write_str(end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_their_numbers() {
        let [a, b, b2, c] = ["a", "b", "b", "c"].map(|name| Arc::new(name.to_owned()));
        let listeners =
            Tally::of(&[Arc::clone(&a), b], &[Arc::clone(&a), b2, Arc::clone(&c)], String::clone);
        let clusters = Tally::of(&[Arc::clone(&c), a], &[c], String::clone);
        let changes = Changes { listeners, clusters, gone: Vec::new() };
        assert_eq!(changes.to_string(), "3 listeners: 1 added, 1 modified; 1 cluster: 1 removed");
        let same = Tally { total: 2, ..Tally::default() };
        let changes = Changes { listeners: Tally::default(), clusters: same, gone: Vec::new() };
        assert_eq!(changes.to_string(), "0 listeners: unchanged; 2 clusters: unchanged");
    }
}
