//! Follows a file with resources.
//!
//! It knows when the file is read, and counts what becomes of it; what the resources are is up to the
//! subscriber.
//!
//! Invariant: a file that cannot be used changes nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::moves::{Watch, Watcher};
use super::resources::Subscriber;
use crate::config_source::compile::{ReadError, Response};
use crate::config_source::{FileSource, MoveTarget, Trigger};
use crate::stats::{ClusterStats, EdsStats, Scope, SubscriptionStats};

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Subscription {
    /// What is subscribed to, for the log: `secret cert`.
    what: String,
    source: FileSource,
    counts: Counts,
    moved: Rc<Notify>,
    /// When the file is to be read next, if that is once per interval.
    due: Cell<Instant>,
    _watch: Option<Watch>,
}

impl Subscription {
    /// Follows `source` from now on.
    pub(super) fn new(what: String, source: FileSource, counts: Counts, watcher: &Watcher) -> Self {
        let moved = Rc::new(Notify::new());
        let target = match &source.trigger {
            Trigger::Moved => Some(MoveTarget::File(source.path.clone())),
            Trigger::MovedInto(directory) => Some(MoveTarget::Directory(directory.clone())),
            Trigger::Interval(_) => None,
        };
        let watch = target.map(|target| watcher.watch(&target, &moved));
        let due = Cell::new(Instant::now());
        let subscription = Self { what, source, counts, moved, due, _watch: watch };
        subscription.plan_next();
        subscription
    }

    /// Completes when the file is to be read again. A wait that is given up does not put it off.
    pub(super) async fn changed(&self) {
        match self.source.trigger {
            Trigger::Interval(_) => {
                tokio::time::sleep_until(self.due.get()).await;
                self.plan_next();
            }
            Trigger::Moved | Trigger::MovedInto(_) => self.moved.notified().await,
        }
    }

    fn plan_next(&self) {
        if let Trigger::Interval(interval) = self.source.trigger {
            self.due.set(Instant::now() + interval);
        }
    }

    /// Reads the file, and hands its resources to the subscriber, who may reject them.
    pub(super) fn load(&self, subscriber: &dyn Subscriber) {
        self.counts.attempt();
        let path = self.source.path.display();
        let taken = Response::read(&self.source.path).and_then(|response| {
            let version = response.version.clone();
            subscriber.replace(response).map_err(ReadError::Rejected).map(|()| version)
        });
        let what = &self.what;
        match taken {
            Ok(version) => self.counts.success(&version),
            Err(ReadError::Unreadable(why)) => {
                self.counts.failure();
                tracing::warn!(target: "config", "{what}: cannot read {path}, nothing is changed: {why}");
                subscriber.nothing_came();
            }
            Err(ReadError::Rejected(why)) => {
                self.counts.rejected();
                tracing::warn!(target: "config", "{what}: {path} is rejected, nothing is changed: {why}");
            }
        }
    }
}

/// The stats of a subscription.
#[derive(Debug)]
pub(super) enum Counts {
    /// They are a set of their own.
    Own(Arc<Scope<SubscriptionStats>>),
    /// They are among those of a cluster.
    OfCluster(Arc<Scope<ClusterStats>>, Arc<Scope<EdsStats>>),
}

impl Counts {
    pub(super) fn attempt(&self) {
        match self {
            Self::Own(stats) => stats.control().update_attempt.inc(),
            Self::OfCluster(stats, _) => stats.control().update_attempt.inc(),
        }
    }

    /// A version is accepted.
    pub(super) fn success(&self, version: &str) {
        let (update_success, hash, text, update_time) = match self {
            Self::Own(stats) => {
                let stats = stats.control();
                (&stats.update_success, &stats.version, &stats.version_text, &stats.update_time)
            }
            Self::OfCluster(stats, eds) => {
                let eds = eds.control();
                (&stats.control().update_success, &eds.version, &eds.version_text, &eds.update_time)
            }
        };
        update_success.inc();
        hash.set(version);
        text.set(version);
        update_time.set(unix_millis());
    }

    /// Resources of a management server were taken in this time.
    pub(super) fn took(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Own(stats) => stats.control().update_duration.record(millis),
            Self::OfCluster(_, eds) => eds.control().update_duration.record(millis),
        }
    }

    pub(super) fn failure(&self) {
        match self {
            Self::Own(stats) => stats.control().update_failure.inc(),
            Self::OfCluster(stats, _) => stats.control().update_failure.inc(),
        }
    }

    pub(super) fn rejected(&self) {
        match self {
            Self::Own(stats) => stats.control().update_rejected.inc(),
            Self::OfCluster(_, stats) => stats.control().update_rejected.inc(),
        }
    }

    pub(super) fn fetch_timeout(&self) {
        match self {
            Self::Own(stats) => stats.control().init_fetch_timeout.inc(),
            Self::OfCluster(_, stats) => stats.control().init_fetch_timeout.inc(),
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::stats::Registry;

    const INTERRUPTED: Duration = Duration::from_millis(20);

    /// The files that a secret names may change all the time: its own file must not be forgotten for that.
    #[test]
    fn an_interval_ends_however_often_its_wait_is_interrupted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let trigger = Trigger::Interval(Duration::from_millis(100));
            let source = FileSource { path: "/nowhere".into(), trigger };
            let stats = Counts::Own(Registry::new(1).scope("sds.cert."));
            let watcher = Watcher::new().unwrap();
            let subscription = Subscription::new("secret cert".to_owned(), source, stats, &watcher);
            for _ in 0..2 {
                let mut waits = 0;
                while timeout(INTERRUPTED, subscription.changed()).await.is_err() {
                    waits += 1;
                    assert!(waits < 500, "it never ends");
                }
            }
        });
    }
}
