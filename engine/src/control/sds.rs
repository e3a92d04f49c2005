//! Follows the secrets that come from files: certificates, validation contexts and ticket keys.
//!
//! All of them are read once before the first connection is accepted. A secret that cannot be used then
//! holds up nothing but the connections that need it: they are closed until it can be used.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::moves::{Watch, Watcher};
use super::server::Running;
use super::subscription::Subscription;
use crate::config_source::compile::Response;
use crate::stats::{Registry, Scope, SecretStats};
use crate::transport::tls::context::compile::{Change, SecretSource, Secrets};

/// Reads all secrets from files, then follows them.
///
/// # Errors
/// The system has no more inotify instances.
pub(super) fn start(
    secrets: Secrets,
    registry: &Arc<Registry>,
    running: &Arc<Running>,
) -> io::Result<()> {
    let sources = secrets.sources();
    if sources.is_empty() {
        return Ok(());
    }
    let watcher = Watcher::new()?;
    let secrets = Rc::new(secrets);
    for (index, SecretSource { name, kind: _, file }) in sources.into_iter().enumerate() {
        let prefix = format!("sds.{name}.");
        let what = format!("secret {name}");
        let mut secret = FollowedSecret {
            index,
            stats: registry.scope(&prefix),
            secrets: Rc::clone(&secrets),
            registry: Arc::clone(registry),
            running: Arc::clone(running),
            moved: Rc::new(Notify::new()),
            watches: Vec::new(),
            name,
        };
        let subscription = Subscription::new(what, file, registry.scope(&prefix), &watcher);
        subscription.load(|response| secret.update(response, &watcher));
        let watcher = watcher.clone();
        drop(tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    () = subscription.changed() => {
                        subscription.load(|response| secret.update(response, &watcher));
                    }
                    () = secret.moved.notified() => secret.reload(),
                }
            }
        }));
    }
    running.change(|changing| changing.show_secrets(secrets.shown()));
    drop(tokio::task::spawn_local(watcher.run()));
    Ok(())
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
