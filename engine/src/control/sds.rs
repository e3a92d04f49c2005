//! Follows the secrets that come from files: certificates, validation contexts and ticket keys.
//!
//! All of them are read once before the first connection is accepted, and those of a new configuration
//! before it is in force. A secret that cannot be used then holds up nothing but the connections that need
//! it: they are closed until it can be used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::moves::{Watch, Watcher, Watchers};
use super::server::Running;
use super::subscription::{Counts, Subscription};
use crate::config_source::compile::Response;
use crate::stats::{Registry, Scope, SecretStats};
use crate::transport::tls::context::compile::{Change, SecretSource, Secrets};

/// The secrets that are followed.
pub(super) struct SecretFiles {
    secrets: Rc<Secrets>,
    registry: Arc<Registry>,
    running: Arc<Running>,
    watchers: Rc<Watchers>,
    /// By their numbers.
    followed: RefCell<HashMap<usize, AbortHandle>>,
}

impl SecretFiles {
    pub(super) fn new(
        secrets: &Rc<Secrets>,
        registry: &Arc<Registry>,
        running: &Arc<Running>,
        watchers: &Rc<Watchers>,
    ) -> Self {
        Self {
            secrets: Rc::clone(secrets),
            registry: Arc::clone(registry),
            running: Arc::clone(running),
            watchers: Rc::clone(watchers),
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
        followed.extract_if(|index, _| !is_used(index)).for_each(|(_, task)| task.abort());
        let sources = self.secrets.sources().into_iter().enumerate();
        let new = sources.filter(|(index, _)| is_used(index) && !followed.contains_key(index));
        for (index, source) in new.collect::<Vec<_>>() {
            followed.insert(index, self.follow(index, source, &self.watchers.watcher()?));
        }
        if !followed.is_empty() {
            self.running.change(|changing| changing.show_secrets(self.secrets.shown()));
        }
        Ok(())
    }

    fn follow(&self, index: usize, source: SecretSource, watcher: &Watcher) -> AbortHandle {
        let SecretSource { name, kind: _, file } = source;
        let prefix = format!("sds.{name}.");
        let what = format!("secret {name}");
        let mut secret = FollowedSecret {
            index,
            stats: self.registry.scope(&prefix),
            secrets: Rc::clone(&self.secrets),
            registry: Arc::clone(&self.registry),
            running: Arc::clone(&self.running),
            moved: Rc::new(Notify::new()),
            watches: Vec::new(),
            name,
        };
        let subscription =
            Subscription::new(what, file, Counts::Own(self.registry.scope(&prefix)), watcher);
        subscription.load(|response| secret.update(response, watcher));
        let watcher = watcher.clone();
        let follow = async move {
            loop {
                tokio::select! {
                    () = subscription.changed() => {
                        subscription.load(|response| secret.update(response, &watcher));
                    }
                    () = secret.moved.notified() => secret.reload(),
                }
            }
        };
        tokio::task::spawn_local(follow).abort_handle()
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
    watches: Vec<Watch>,
}

impl FollowedSecret {
    /// Takes a new version. Its files are watched even if it is rejected: they may become usable.
    fn update(&mut self, response: Response, watcher: &Watcher) -> Result<(), String> {
        let updated = self.secrets.update(self.index, response, &self.registry);
        let files = self.secrets.files(self.index);
        self.watches = files.iter().map(|target| watcher.watch(target, &self.moved)).collect();
        updated.map(|change| self.show(change))
    }

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
