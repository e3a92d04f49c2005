//! Active health checks: one task per host. What is checked, and what an outcome means, is in
//! `upstream/health_check`; here are the connections and the clock.
//!
//! Invariant: a check ends within its timeout, whatever the host does.

mod connection;
mod event_log;
mod grpc;
mod http;
mod http2;
mod tcp;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::membership::{Members, Warming};
use super::outliers;
use crate::http::{HeadLimits, RequestHead, Scheme};
use crate::upstream::health_check::{
    Change, Event, Failure, FailureKind, HealthCheck, Outcome, Probe, Progress,
};
use crate::upstream::host::{HealthFlags, Host};
use connection::Endpoint;

/// Checks a host forever. Dropping it ends its checks. The cluster is `warming` until the first result.
pub(super) async fn check(
    members: Rc<Members>,
    check: Arc<HealthCheck>,
    host: Arc<Host>,
    mut warming: Option<Warming>,
) {
    let fails_itself = host.when_it_fails_itself();
    let endpoint = Endpoint::new(&members.cluster, &check, &host);
    let prober = Prober::new(&check, endpoint);
    let progress = Progress::default();
    let mut run = Run { members, check, host, progress, random: Rng::new(), prober };
    let mut due = Instant::now() + run.check.intervals.first(&mut run.random);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = fails_itself.notified() => {
                run.take_in(Outcome::Failure(FAILED_ITSELF));
                continue;
            }
        }
        run.check.stats.control().attempt.inc();
        let outcome = run.probe().await;
        let change = run.take_in(outcome);
        drop(warming.take());
        due = Instant::now() + run.pause(outcome, change);
    }
}

/// The checks of one host.
struct Run {
    members: Rc<Members>,
    check: Arc<HealthCheck>,
    host: Arc<Host>,
    progress: Progress,
    random: Rng,
    prober: Prober,
}

/// A response to ordinary traffic had `x-envoy-immediate-health-check-fail`.
const FAILED_ITSELF: Failure =
    Failure { kind: FailureKind::Passive, is_retriable: false, status: None, excludes: true };

impl Run {
    async fn probe(&mut self) -> Outcome {
        match tokio::time::timeout(self.check.timeout, self.prober.probe()).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                self.prober.disconnect();
                network_failure(FailureKind::NetworkTimeout)
            }
        }
    }

    /// Counts and logs an outcome, and publishes what it changes.
    fn take_in(&mut self, outcome: Outcome) -> Change {
        let Self { members, check, host, progress, .. } = self;
        record(check, outcome);
        let before = host.found();
        let mut flags = before;
        let (change, events) = progress.take_in(outcome, check, &mut flags);
        host.set_found(flags);
        note(members, check, host, &events);
        let fails = |flags: HealthFlags| flags.contains(HealthFlags::FAILED_ACTIVE_HC);
        if fails(before) && !fails(flags) {
            host.set_serves_since(members.now());
        }
        if change == Change::Changed {
            members.health_changed(host);
        }
        let is_healthy = matches!(outcome, Outcome::Success { .. });
        if is_healthy && !fails(flags) {
            outliers::health_check_passed(members, host);
        }
        change
    }

    /// How long to wait after an outcome.
    fn pause(&mut self, outcome: Outcome, change: Change) -> Duration {
        let is_healthy = matches!(outcome, Outcome::Success { .. });
        let stats = &self.members.cluster.stats;
        let has_traffic = stats.counter(|stats| &stats.upstream_cx_total) > 0;
        self.check.intervals.next(is_healthy, change, has_traffic, &mut self.random)
    }
}

/// The host leaves: it is no longer counted.
impl Drop for Run {
    fn drop(&mut self) {
        let (flags, stats) = (self.host.found(), self.check.stats.control());
        if !flags.contains(HealthFlags::FAILED_ACTIVE_HC) {
            stats.healthy.dec();
        }
        if flags.contains(HealthFlags::DEGRADED_ACTIVE_HC) {
            stats.degraded.dec();
        }
    }
}

/// Counts an outcome.
fn record(check: &HealthCheck, outcome: Outcome) {
    let stats = check.stats.control();
    match outcome {
        Outcome::Success { .. } => stats.success.inc(),
        Outcome::Failure(failure) => {
            stats.failure.inc();
            match failure.kind {
                FailureKind::Network | FailureKind::NetworkTimeout => stats.network_failure.inc(),
                FailureKind::Passive => stats.passive_failure.inc(),
                FailureKind::Active => {}
            }
        }
    }
}

/// Logs what has happened to a host, and counts it.
fn note(members: &Members, check: &HealthCheck, host: &Host, events: &[Event]) {
    let cluster = &members.cluster;
    let stats = check.stats.control();
    for event in events {
        match event {
            Event::EjectUnhealthy(failure) => {
                stats.healthy.dec();
                let (name, address, why) = (&cluster.name, host.address, failure.kind.name());
                tracing::warn!(
                    target: "upstream",
                    "cluster {name}: host {address} fails its health checks: {why}"
                );
            }
            Event::AddHealthy { .. } => {
                stats.healthy.inc();
                let (name, address) = (&cluster.name, host.address);
                tracing::info!(
                    target: "upstream",
                    "cluster {name}: host {address} passes its health checks"
                );
            }
            Event::Degraded => stats.degraded.inc(),
            Event::NoLongerDegraded => stats.degraded.dec(),
            Event::Success | Event::Failure { .. } => {}
        }
    }
    if let Some(path) = &check.log.path {
        event_log::append(path, check.probe.name(), cluster, host, events);
    }
}

/// Sends checks to one host.
enum Prober {
    Grpc(Box<grpc::Prober>),
    Http(http::Prober),
    Tcp(tcp::Prober),
}

impl Prober {
    fn new(check: &Arc<HealthCheck>, endpoint: Endpoint) -> Self {
        match &check.probe {
            Probe::Grpc(_) => Self::Grpc(Box::new(grpc::Prober::new(Arc::clone(check), endpoint))),
            Probe::Http(_) => Self::Http(http::Prober::new(Arc::clone(check), endpoint)),
            Probe::Tcp(_) => Self::Tcp(tcp::Prober::new(Arc::clone(check), endpoint)),
        }
    }

    async fn probe(&mut self) -> Outcome {
        match self {
            Self::Grpc(prober) => prober.probe().await,
            Self::Http(prober) => prober.probe().await,
            Self::Tcp(prober) => prober.probe().await,
        }
    }

    fn disconnect(&mut self) {
        match self {
            Self::Grpc(prober) => prober.disconnect(),
            Self::Http(prober) => prober.disconnect(),
            Self::Tcp(prober) => prober.disconnect(),
        }
    }
}

const fn network_failure(kind: FailureKind) -> Outcome {
    Outcome::Failure(Failure { kind, is_retriable: false, status: None, excludes: false })
}

/// A request head, from the text of HTTP/1.
fn parsed(text: Vec<u8>, scheme: Scheme) -> io::Result<RequestHead> {
    let mut head = RequestHead::default();
    *head.received() = text;
    let parsed = head.parse(&HeadLimits::default());
    let Ok(Some(end)) = parsed else { return Err(io::ErrorKind::InvalidInput.into()) };
    head.split_off(end, &mut Vec::new());
    head.scheme = Some(scheme);
    Ok(head)
}

/// Whether `text` has all parts, one after the other.
fn contains_in_order(text: &[u8], parts: &[Vec<u8>]) -> bool {
    parts
        .iter()
        .try_fold(text, |rest, part| {
            let at = memchr::memmem::find(rest, part)?;
            rest.get(at + part.len()..)
        })
        .is_some()
}

/// An answer that is not as expected.
const fn wrong_answer() -> Outcome {
    let kind = FailureKind::Active;
    Outcome::Failure(Failure { kind, is_retriable: false, status: None, excludes: false })
}
