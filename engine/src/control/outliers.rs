//! Outlier detection: takes in what the shards report, and computes rates at each interval. What follows is
//! decided in `upstream/outlier_detection`.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::membership::Members;
use super::outlier_log;
use crate::upstream::Cluster;
use crate::upstream::host::Host;
use crate::upstream::outlier_detection::{Action, Detector, Ejection, Monitor, Report};

/// The outlier detection of one cluster.
pub(super) struct Outliers {
    detector: RefCell<Detector>,
    sender: UnboundedSender<Report>,
    /// Until [`watch`] takes it.
    reports: RefCell<Option<UnboundedReceiver<Report>>>,
    next_id: Cell<u64>,
}

impl Outliers {
    /// None if the cluster has no outlier detection.
    pub(super) fn of(cluster: &Cluster) -> Option<Self> {
        let config = Arc::clone(cluster.outlier_detection.as_ref()?);
        let (sender, reports) = unbounded_channel();
        let detector = RefCell::new(Detector::new(config, Rng::new()));
        let reports = RefCell::new(Some(reports));
        Some(Self { detector, sender, reports, next_id: Cell::new(0) })
    }

    /// Begins to watch a host, which the shards do not know yet.
    pub(super) fn admit(&self, host: &Host) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let config = Arc::clone(self.detector.borrow().config());
        let shards = host.stats().shards();
        host.set_monitor(Monitor::new(id, config, shards, self.sender.clone()));
    }

    /// Replaces the hosts.
    pub(super) fn set_hosts(&self, hosts: impl Iterator<Item = Arc<Host>>) {
        self.detector.borrow_mut().set_hosts(hosts);
    }
}

/// Watches the hosts of a cluster as long as it exists, if it has outlier detection.
pub(super) fn watch(members: &Rc<Members>) {
    let Some(outliers) = members.outliers() else { return };
    let Some(reports) = outliers.reports.take() else { return };
    let interval = outliers.detector.borrow().config().interval;
    drop(tokio::task::spawn_local(follow(Rc::downgrade(members), reports, interval)));
}

async fn follow(
    members: Weak<Members>,
    mut reports: UnboundedReceiver<Report>,
    interval: std::time::Duration,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let report = tokio::select! {
            report = reports.recv() => report,
            _ = ticks.tick() => None,
        };
        let Some(members) = members.upgrade() else { return };
        let Some(outliers) = members.outliers() else { return };
        let now = members.now();
        let actions = match report {
            Some(report) => {
                outliers.detector.borrow_mut().report(report, now).into_iter().collect()
            }
            None => outliers.detector.borrow_mut().end_interval(now),
        };
        take_in(&members, &actions);
    }
}

/// A host has passed an active health check.
pub(super) fn health_check_passed(members: &Rc<Members>, host: &Host) {
    let Some(outliers) = members.outliers() else { return };
    let action = outliers.detector.borrow_mut().health_check_passed(host, members.now());
    take_in(members, action.as_slice());
}

/// Logs what has happened, and publishes the hosts if their health has changed.
fn take_in(members: &Rc<Members>, actions: &[Action]) {
    let cluster = &members.cluster;
    for Action { host, ejection, .. } in actions {
        let (name, address) = (&cluster.name, host.address);
        match ejection {
            Ejection::Eject { kind, is_enforced: true, .. } => {
                let kind = kind.name();
                tracing::warn!(
                    target: "upstream",
                    "cluster {name}: host {address} is ejected: {kind}"
                );
            }
            Ejection::Eject { is_enforced: false, .. } => {}
            Ejection::Uneject => {
                tracing::info!(target: "upstream", "cluster {name}: host {address} is back after its ejection");
            }
        }
    }
    let detection = cluster.outlier_detection.as_ref();
    if let Some(path) = detection.and_then(|it| it.event_log_path.as_ref()) {
        outlier_log::append(path, cluster, actions);
    }
    if actions.iter().any(|action| action.ejection.changes_health()) {
        members.publish_soon();
    }
}
