//! Subscribes to secrets: certificates, validation contexts and ticket keys.
//!
//! All of them are read once before the first connection is accepted, and those of a new configuration
//! before it is in force. A secret that cannot be used then holds up nothing but the connections that need
//! it: they are closed until it can be used.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::moves::{Watch, Watcher};
use super::resources::{Handle, Interest, Sources, Subscriber, Wanted};
use super::server::Running;
use super::subscription::Counts;
use crate::config_source::compile::Response;
use crate::stats::{Registry, Scope, SecretStats};
use crate::transport::tls::context::compile::{Change, SecretSource, Secrets};

/// The secrets that are subscribed to.
pub(super) struct SecretSubscriptions {
    secrets: Rc<Secrets>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    sources: Rc<Sources>,
    /// By their numbers.
    followed: RefCell<HashMap<usize, Followed>>,
}

/// A secret that is followed, until this is dropped.
struct Followed {
    _subscription: Handle,
    /// Reads the files again that it names.
    reading: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl SecretSubscriptions {
    pub(super) fn new(
        secrets: &Rc<Secrets>,
        registry: &Arc<Registry>,
        running: &Arc<Running>,
        sources: &Rc<Sources>,
    ) -> Self {
        Self {
            secrets: Rc::clone(secrets),
            registry: Arc::clone(registry),
            running: Arc::clone(running),
            sources: Rc::clone(sources),
            followed: RefCell::default(),
        }
    }

    /// Reads the secrets that are new, then follows them. Those that nothing uses any more are followed no
    /// longer.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn update(&self) -> io::Result<()> {
        self.secrets.collect();
        let is_used = |index: &usize| self.secrets.is_used(*index);
        let mut followed = self.followed.borrow_mut();
        followed.retain(|index, _| is_used(index));
        let sources = self.secrets.sources().into_iter().enumerate();
        let new = sources.filter(|(index, _)| is_used(index) && !followed.contains_key(index));
        for (index, source) in new.collect::<Vec<_>>() {
            followed.insert(index, self.follow(index, source)?);
        }
        if !followed.is_empty() {
            self.running.change(|changing| changing.show_secrets(self.secrets.shown()));
        }
        Ok(())
    }

    fn follow(&self, index: usize, source: SecretSource) -> io::Result<Followed> {
        let SecretSource { name, kind: _, origin } = source;
        let prefix = format!("sds.{name}.");
        let secret = Rc::new(FollowedSecret {
            index,
            stats: self.registry.scope(&prefix),
            secrets: Rc::clone(&self.secrets),
            registry: Arc::clone(&self.registry),
            running: Arc::clone(&self.running),
            watcher: self.sources.watchers().watcher()?,
            moved: Rc::new(Notify::new()),
            watches: RefCell::default(),
            name: name.clone(),
        });
        let interest = Interest {
            kind: "envoy.extensions.transport_sockets.tls.v3.Secret",
            what: format!("secret {name}"),
            wanted: Wanted::Names(BTreeSet::from([name])),
            counts: Counts::Own(self.registry.scope(&prefix)),
            prefix,
        };
        let subscription = self.sources.subscribe(interest, &origin, Rc::clone(&secret) as _)?;
        let reading = async move {
            loop {
                secret.moved.notified().await;
                secret.reload();
            }
        };
        let reading = tokio::task::spawn_local(reading).abort_handle();
        Ok(Followed { _subscription: subscription, reading })
    }
}

/// A secret, and the files that it names.
struct FollowedSecret {
    name: String,
    /// Of the secret.
    index: usize,
    stats: Arc<Scope<SecretStats>>,
    secrets: Rc<Secrets>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    /// Notified when one of the files that it names may be another one.
    moved: Rc<Notify>,
    watcher: Watcher,
    watches: RefCell<Vec<Watch>>,
}

impl Subscriber for FollowedSecret {
    /// Its files are watched even if it is rejected: they may become usable.
    fn replace(&self, response: Response) -> Result<(), String> {
        let updated = self.secrets.update(self.index, response, &self.registry);
        let files = self.secrets.files(self.index);
        let watches = files.iter().map(|target| self.watcher.watch(target, &self.moved));
        self.watches.replace(watches.collect());
        updated.map(|change| self.show(change))
    }
}

impl FollowedSecret {
    /// Reads its files again.
    fn reload(&self) {
        match self.secrets.reload(self.index, &self.registry) {
            Ok(change) => self.show(change),
            Err(why) => {
                self.stats.control().key_rotation_failed.inc();
                let name = &self.name;
                tracing::warn!(target: "config", "secret {name}: its files are rejected, nothing is changed: {why}");
            }
        }
    }

    fn show(&self, change: Change) {
        if change == Change::Replaced {
            tracing::info!(target: "config", "secret {} is updated", self.name);
        }
        self.running.change(|changing| changing.show_secrets(self.secrets.shown()));
    }
}
