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
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::admin::{ConfigDump, Reloaded, ServerState};
use super::drain::Drain;
use super::logs::Logs;
use super::membership::{Membership, key};
use super::sds::SecretFiles;
use super::server::Running;
use super::shards::Shards;
use super::sockets_in_use::{Plan, SocketsInUse};
use super::{Options, StartError, count_runtime, counted};
use crate::compile::{Compiled, Compiler};
use crate::downstream::Listener;
use crate::downstream::local::Listeners;
use crate::snapshot::Snapshot;
use crate::stats::ProcessStats;
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

/// A request to read the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    /// Who waits for the result.
    pub(super) reply: Option<oneshot::Sender<Reloaded>>,
}

/// What puts a configuration into force.
pub(super) struct Reloader {
    pub(super) configuration: Box<dyn Configuration>,
    pub(super) compiler: Compiler,
    pub(super) options: Rc<Options>,
    pub(super) process: Arc<ProcessStats>,
    pub(super) running: Arc<Running>,
    pub(super) shards: Arc<Shards>,
    pub(super) logs: Logs,
    pub(super) membership: Membership,
    pub(super) secrets: SecretFiles,
    pub(super) sockets: RefCell<SocketsInUse>,
}

impl Reloader {
    /// Opens the sockets of the first configuration, which the shards have already.
    pub(super) fn go_live(&self, plan: Plan) {
        self.sockets.borrow_mut().carry_out(plan, &self.shards);
        self.running.set_state(ServerState::Live);
        let snapshot = self.running.snapshot();
        let changes =
            Changes::between(&Snapshot { listeners: Vec::new(), clusters: Vec::new() }, &snapshot);
        self.count(&changes);
        self.process.listener_manager.control().workers_started.set(1);
        let took = self.running.identity.started.elapsed().as_millis();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.process.server.control().initialization_time_ms.record(took);
        let addresses = self.running.change(|changing| changing.addresses.clone());
        let listeners = snapshot.listeners.iter().zip(&addresses);
        for address in listeners.filter(|(listener, _)| listener.binds).flat_map(|(_, all)| all) {
            tracing::info!(target: "main", "listening on {address}");
        }
        tracing::info!(target: "main", "serving after {took} ms");
    }

    /// Carries out requests, one after the other, forever.
    pub(super) async fn run(self, mut requests: UnboundedReceiver<Reload>, drain: Drain) {
        while let Some(Reload { reply }) = requests.recv().await {
            let reloaded = self.reload(&drain).await;
            match &reloaded {
                Ok(changes) => {
                    let changes = changes.lines().next().unwrap_or_default();
                    tracing::info!(target: "config", "the configuration is read again: {changes}");
                }
                Err(why) => {
                    for line in why.lines().filter(|line| !line.is_empty()) {
                        tracing::error!(target: "config", "{line}");
                    }
                    tracing::error!(target: "config", "the configuration that was read again is refused, nothing is changed");
                }
            }
            // Whoever asked may have gone.
            let _received = reply.map(|reply| reply.send(reloaded));
        }
    }

    async fn reload(&self, drain: &Drain) -> Reloaded {
        if drain.has_stopped() {
            return Err("the listeners were stopped by /drain_listeners\n".to_owned());
        }
        let Fresh { compiled, bootstrap, warnings } = self.configuration.read(&self.compiler)?;
        let snapshot = Arc::clone(&compiled.snapshot);
        let plan = self.prepare(&snapshot).map_err(|error| in_words(&error))?;
        self.membership.follow(&snapshot.clusters).await;
        let changes = Changes::between(&self.running.snapshot(), &snapshot);
        self.put_into_force(compiled, plan, bootstrap);
        self.count(&changes);
        drop(tokio::task::spawn_local(self.close_later(&changes)));
        Ok(format!("{changes}\n{warnings}"))
    }

    /// Gets everything that may fail.
    fn prepare(&self, snapshot: &Snapshot) -> Result<Plan, StartError> {
        let plan = self.sockets.borrow().plan(snapshot, &self.options)?;
        self.logs.take_up(self.compiler.files())?;
        self.secrets.update()?;
        Ok(plan)
    }

    fn put_into_force(&self, compiled: Compiled, plan: Plan, bootstrap: Value) {
        let Compiled { snapshot, runtime, in_force, .. } = compiled;
        let addresses = plan.addresses(&snapshot);
        let clusters = snapshot.clusters.clone();
        let hosts: HashMap<_, _> = self.running.change(|changing| {
            changing.snapshot = Arc::clone(&snapshot);
            changing.addresses = addresses;
            changing.runtime = runtime.json();
            let secrets = changing.config_dump.dynamic_secrets.clone();
            let mut dump = ConfigDump::of_bootstrap(bootstrap, SystemTime::now());
            dump.dynamic_secrets = secrets;
            changing.config_dump = Arc::new(dump);
            clusters.iter().map(|it| (key(it), changing.hosts_of(it))).collect()
        });
        // In one errand, so that no request finds a cluster without its hosts.
        self.shards.send_to_all(move |shard| {
            snapshot.install(shard, |cluster| hosts.get(&key(cluster)).map(Arc::clone));
        });
        for address in self.sockets.borrow_mut().carry_out(plan, &self.shards) {
            tracing::info!(target: "main", "listening on {address}");
        }
        self.membership.retain(&clusters);
        let kept: HashSet<_> = clusters.iter().map(key).collect();
        self.running.change(|changing| changing.hosts.retain(|key, _| kept.contains(key)));
        self.compiler.commit(in_force);
        count_runtime(&self.process, &runtime);
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
        stats.total_listeners_draining.add(changes.gone.len() as u64);
        let stats = self.process.cluster_manager.control();
        stats.cluster_added.add(clusters.added);
        stats.cluster_modified.add(clusters.modified);
        stats.cluster_removed.add(clusters.removed);
        stats.active_clusters.set(clusters.total);
    }

    /// Closes the connections of listeners that are gone, after the drain time.
    fn close_later(&self, changes: &Changes) -> impl Future<Output = ()> + use<> {
        let (gone, shards) = (changes.gone.clone(), Arc::clone(&self.shards));
        let (process, drain_time) = (Arc::clone(&self.process), self.options.drain_time);
        async move {
            tokio::time::sleep(drain_time).await;
            for listener in gone {
                shards.send_to_all(move |shard| Listeners::of(shard).close(&listener));
                process.listener_manager.control().total_listeners_draining.dec();
            }
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
    listeners: Counts,
    clusters: Counts,
    /// The listeners whose connections drain.
    gone: Vec<Arc<Listener>>,
}

#[derive(Debug, Default)]
struct Counts {
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
            listeners: Counts::of(&before.listeners, &after.listeners, name),
            clusters: Counts::of(&before.clusters, &after.clusters, |it: &Cluster| it.name.clone()),
            gone: before.listeners.iter().filter(|it| !is_kept(it)).map(Arc::clone).collect(),
        }
    }
}

impl Counts {
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
            let Counts { added, modified, removed, total } = counts;
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
            Counts::of(&[Arc::clone(&a), b], &[Arc::clone(&a), b2, Arc::clone(&c)], String::clone);
        let clusters = Counts::of(&[Arc::clone(&c), a], &[c], String::clone);
        let changes = Changes { listeners, clusters, gone: Vec::new() };
        assert_eq!(changes.to_string(), "3 listeners: 1 added, 1 modified; 1 cluster: 1 removed");
        let same = Counts { total: 2, ..Counts::default() };
        let changes = Changes { listeners: Counts::default(), clusters: same, gone: Vec::new() };
        assert_eq!(changes.to_string(), "0 listeners: unchanged; 2 clusters: unchanged");
    }
}
