//! Follows a file with resources.
//!
//! It knows when the file is read, and counts what becomes of it; what the resources are is up to the
//! subscriber.
//!
//! Invariant: a file that cannot be used changes nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::moves::{Watch, Watcher};
use super::xxh64::xxh64;
use crate::config_source::compile::{ReadError, Response};
use crate::config_source::{FileSource, MoveTarget, Trigger};
use crate::stats::{Scope, SubscriptionStats};

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Subscription {
    /// What is subscribed to, for the log: `secret cert`.
    what: String,
    source: FileSource,
    stats: Arc<Scope<SubscriptionStats>>,
    moved: Rc<Notify>,
    _watch: Option<Watch>,
}

impl Subscription {
    /// Follows `source` from now on.
    pub(super) fn new(
        what: String,
        source: FileSource,
        stats: Arc<Scope<SubscriptionStats>>,
        watcher: &Watcher,
    ) -> Self {
        let moved = Rc::new(Notify::new());
        let target = match &source.trigger {
            Trigger::Moved => Some(MoveTarget::File(source.path.clone())),
            Trigger::MovedInto(directory) => Some(MoveTarget::Directory(directory.clone())),
            Trigger::Interval(_) => None,
        };
        let watch = target.map(|target| watcher.watch(&target, &moved));
        Self { what, source, stats, moved, _watch: watch }
    }

    /// Completes when the file is to be read again.
    pub(super) async fn changed(&self) {
        match self.source.trigger {
            Trigger::Interval(interval) => tokio::time::sleep(interval).await,
            Trigger::Moved | Trigger::MovedInto(_) => self.moved.notified().await,
        }
    }

    /// Reads the file, and hands its resources to the subscriber, who may reject them.
    pub(super) fn load(&self, subscriber: impl FnOnce(Response) -> Result<(), String>) {
        let stats = self.stats.control();
        stats.update_attempt.inc();
        let path = self.source.path.display();
        let taken = Response::read(&self.source.path).and_then(|response| {
            let version = xxh64(response.version.as_bytes());
            subscriber(response).map_err(ReadError::Rejected).map(|()| version)
        });
        let what = &self.what;
        match taken {
            Ok(version) => {
                stats.update_success.inc();
                stats.version.set(version);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                stats.update_time.set(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            }
            Err(ReadError::Unreadable(why)) => {
                stats.update_failure.inc();
                tracing::warn!(target: "config", "{what}: cannot read {path}, nothing is changed: {why}");
            }
            Err(ReadError::Rejected(why)) => {
                stats.update_rejected.inc();
                tracing::warn!(target: "config", "{what}: {path} is rejected, nothing is changed: {why}");
            }
        }
    }
}
