//! Which hosts of a cluster are ejected, and for how long.
//!
//! Invariant: a host is ejected exactly while it has the flag `FAILED_OUTLIER_CHECK`.

use std::sync::Arc;

use fastrand::Rng;

use super::rates::threshold;
use super::{Kind, Monitor, OutlierDetection, Rate, Report};
use crate::shard::clock::{Millis, millis};
use crate::upstream::host::{HealthFlags, Host};

/// The hosts of a cluster, as far as they are watched.
#[derive(Debug)]
pub struct Detector {
    config: Arc<OutlierDetection>,
    hosts: Vec<Watched>,
    random: Rng,
}

#[derive(Debug)]
struct Watched {
    host: Arc<Host>,
    monitor: Arc<Monitor>,
    /// Totals at the end of the last interval: of responses, and of connections.
    seen: [Rate; 2],
    /// How many base times the next ejection takes, less one.
    backoff: u32,
    ejections: u32,
    /// The last ejection: when, and the random part of its time.
    ejected: Option<(Millis, Millis)>,
    unejected_at: Option<Millis>,
}

/// What has happened to a host.
#[derive(Debug)]
pub struct Action {
    /// The host.
    pub host: Arc<Host>,
    /// What.
    pub ejection: Ejection,
    /// The ejections of the host so far.
    pub ejections: u32,
    /// How long ago the opposite happened, in seconds; none: never.
    pub since_last_s: Option<u64>,
}

/// The kinds of [`Action`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ejection {
    /// It was detected.
    Eject {
        /// Why.
        kind: Kind,
        /// Whether it is ejected: `enforcing_*` allowed it.
        is_enforced: bool,
        /// Of a detector by rates: the rate of the host, the mean, and the threshold, in percent.
        rates: Option<(f64, f64, f64)>,
    },
    /// It is back.
    Uneject,
}

impl Ejection {
    /// Whether the host set has changed.
    #[must_use]
    pub const fn changes_health(self) -> bool {
        matches!(self, Self::Uneject | Self::Eject { is_enforced: true, .. })
    }
}

impl Detector {
    /// Of a cluster without hosts.
    #[must_use]
    pub const fn new(config: Arc<OutlierDetection>, random: Rng) -> Self {
        Self { config, hosts: Vec::new(), random }
    }

    /// The options.
    #[must_use]
    pub const fn config(&self) -> &Arc<OutlierDetection> {
        &self.config
    }

    /// Replaces the hosts. A host that stays keeps what is known about it.
    pub fn set_hosts(&mut self, hosts: impl Iterator<Item = Arc<Host>>) {
        let mut known = std::mem::take(&mut self.hosts);
        for host in hosts {
            let Some(monitor) = host.monitor() else { continue };
            let at = known.iter().position(|it| it.monitor.id() == monitor.id());
            let same = at.map(|at| known.swap_remove(at));
            let same = same.map(|it| Watched { host: Arc::clone(&host), ..it });
            let watched = same.unwrap_or_else(|| Watched {
                monitor: Arc::clone(monitor),
                host: Arc::clone(&host),
                seen: [Rate::default(); 2],
                backoff: 0,
                ejections: 0,
                ejected: None,
                unejected_at: None,
            });
            self.hosts.push(watched);
        }
        self.update_gauge();
    }

    /// Takes in a report of a shard.
    pub fn report(&mut self, report: Report, now: Millis) -> Option<Action> {
        // The host may be gone.
        let at = self.hosts.iter().position(|it| it.monitor.id() == report.id)?;
        if self.is_ejected(at) {
            return None;
        }
        let kind = report.kind;
        let stats = self.config.stats.control();
        match kind {
            Kind::Consecutive5xx => {
                stats.ejections_consecutive_5xx.inc();
                stats.ejections_detected_consecutive_5xx.inc();
            }
            Kind::ConsecutiveGatewayFailure => {
                stats.ejections_detected_consecutive_gateway_failure.inc();
            }
            _ => stats.ejections_detected_consecutive_local_origin_failure.inc(),
        }
        let action = self.eject(at, kind, None, now);
        if let Some(watched) = self.hosts.get(at) {
            watched.monitor.reset(kind);
        }
        action
    }

    /// Ends an interval: ejected hosts come back, and rates are compared.
    pub fn end_interval(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        for at in 0..self.hosts.len() {
            if self.is_ejected(at) && self.has_served_its_time(at, now) {
                actions.extend(self.uneject(at, now));
            }
        }
        let rates: Vec<[Rate; 2]> = self
            .hosts
            .iter_mut()
            .map(|it| {
                let totals = it.monitor.totals();
                let seen = std::mem::replace(&mut it.seen, totals);
                let [now_external, now_local] = it.seen;
                let [external, local] = seen;
                [now_external.since(external), now_local.since(local)]
            })
            .collect();
        self.show(&rates);
        let external = |[external, _]: &[Rate; 2]| *external;
        let local = |[_, local]: &[Rate; 2]| *local;
        let of_responses = (Kind::SuccessRate, Kind::FailurePercentage);
        let of_connections = (Kind::SuccessRateLocalOrigin, Kind::FailurePercentageLocalOrigin);
        let external: Vec<Rate> = rates.iter().map(external).collect();
        let local: Vec<Rate> = rates.iter().map(local).collect();
        self.compare(&external, of_responses, now, &mut actions);
        self.compare(&local, of_connections, now, &mut actions);
        self.shorten_next_ejections(now);
        actions
    }

    /// Shows the success rates of hosts with enough requests that are not ejected, if there are enough hosts.
    fn show(&self, rates: &[[Rate; 2]]) {
        let volume = self.config.success_rate.request_volume;
        let volume = u64::from(volume.min(self.config.failure_percentage.request_volume));
        let minimum = self.config.success_rate.minimum_hosts;
        let minimum = minimum.min(self.config.failure_percentage.minimum_hosts) as usize;
        let has_enough_hosts = self.hosts.len() >= minimum;
        for (at, (watched, rates)) in self.hosts.iter().zip(rates).enumerate() {
            let is_shown = has_enough_hosts && !self.is_ejected(at);
            let shown = |rate: Rate| rate.percent().filter(|_| is_shown && rate.requests >= volume);
            watched.monitor.show(rates.map(|rate| shown(rate).unwrap_or(-1.0)));
        }
    }

    /// A host that has been back for an interval is trusted more.
    fn shorten_next_ejections(&mut self, now: Millis) {
        let interval = millis(self.config.interval);
        for at in 0..self.hosts.len() {
            if !self.is_ejected(at)
                && let Some(watched) = self.hosts.get_mut(at)
                && watched.unejected_at.is_some_and(|at| now.saturating_sub(at) >= interval)
            {
                watched.backoff = watched.backoff.saturating_sub(1);
            }
        }
    }

    /// A host has passed an active health check.
    pub fn health_check_passed(&mut self, host: &Host, now: Millis) -> Option<Action> {
        if !self.config.health_check_unejects {
            return None;
        }
        let at = self.hosts.iter().position(|it| it.host.id() == host.id())?;
        if self.is_ejected(at) { self.uneject(at, now) } else { None }
    }

    fn is_ejected(&self, at: usize) -> bool {
        self.hosts
            .get(at)
            .is_some_and(|it| it.host.found().contains(HealthFlags::FAILED_OUTLIER_CHECK))
    }

    fn ejected(&self) -> usize {
        (0..self.hosts.len()).filter(|at| self.is_ejected(*at)).count()
    }

    fn update_gauge(&self) {
        self.config.stats.control().ejections_active.set(self.ejected() as u64);
    }

    /// The detectors by rates, over those of each host in an interval.
    fn compare(
        &mut self,
        rates: &[Rate],
        (success_rate, failure_percentage): (Kind, Kind),
        now: Millis,
        actions: &mut Vec<Action>,
    ) {
        let config = Arc::clone(&self.config);
        let stats = config.stats.control();
        let not_ejected: Vec<(usize, Rate, f64)> = rates
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.is_ejected(*at))
            .filter_map(|(at, rate)| Some((at, *rate, rate.percent()?)))
            .collect();
        let with_volume = |volume: u32| {
            let enough = not_ejected.iter().filter(|it| it.1.requests >= u64::from(volume));
            enough.map(|(at, _, percent)| (*at, *percent)).collect::<Vec<_>>()
        };

        let rule = config.success_rate;
        let hosts = with_volume(rule.request_volume);
        if !hosts.is_empty() && hosts.len() >= rule.minimum_hosts as usize {
            let all: Vec<f64> = hosts.iter().map(|(_, percent)| *percent).collect();
            let (mean, limit) = threshold(&all, rule.stdev_factor);
            for (at, percent) in hosts.into_iter().filter(|(_, percent)| *percent < limit) {
                if success_rate == Kind::SuccessRate {
                    stats.ejections_success_rate.inc();
                    stats.ejections_detected_success_rate.inc();
                } else {
                    stats.ejections_detected_local_origin_success_rate.inc();
                }
                actions.extend(self.eject(at, success_rate, Some((percent, mean, limit)), now));
            }
        }
        let rule = config.failure_percentage;
        let hosts = with_volume(rule.request_volume);
        if !hosts.is_empty() && hosts.len() >= rule.minimum_hosts as usize {
            let limit = 100.0 - f64::from(rule.threshold);
            for (at, percent) in hosts.into_iter().filter(|(_, percent)| *percent <= limit) {
                if failure_percentage == Kind::FailurePercentage {
                    stats.ejections_detected_failure_percentage.inc();
                } else {
                    stats.ejections_detected_local_origin_failure_percentage.inc();
                }
                let rates = Some((percent, 0.0, 0.0));
                actions.extend(self.eject(at, failure_percentage, rates, now));
            }
        }
    }

    /// Ejects a host that was detected, as far as limits and `enforcing_*` allow.
    //= envoy: OutlierDetection.max_ejection_percent: the share of hosts that are ejected afterwards
    fn eject(
        &mut self,
        at: usize,
        kind: Kind,
        rates: Option<(f64, f64, f64)>,
        now: Millis,
    ) -> Option<Action> {
        let ejected = self.ejected();
        let percent = 100.0 * (ejected + 1) as f64 / self.hosts.len() as f64;
        let is_first = self.config.always_eject_one_host && ejected == 0;
        if percent > f64::from(self.config.max_ejection_percent) && !is_first {
            self.config.stats.control().ejections_overflow.inc();
            return None;
        }
        if matches!(kind, Kind::Consecutive5xx | Kind::SuccessRate) {
            // As in Envoy: also of hosts that stay because it is not enforced.
            self.config.stats.control().ejections_total.inc();
        }
        let is_enforced = self.random.u32(0..100) < self.config.enforcing.of(kind);
        let jitter_max = millis(self.config.max_ejection_time_jitter);
        let jitter = self.random.u64(0..=jitter_max);
        let (base, max) = self.times();
        let already_ejected = self.is_ejected(at);
        let watched = self.hosts.get_mut(at)?;
        let since_last_s = watched.unejected_at.map(|at| now.saturating_sub(at) / 1000);
        if is_enforced && !already_ejected {
            watched.host.change_found(|it| it.insert(HealthFlags::FAILED_OUTLIER_CHECK));
            watched.ejections += 1;
            watched.ejected = Some((now, jitter));
            if u64::from(watched.backoff) * base < max + base {
                watched.backoff += 1;
            }
            self.count_enforced(kind);
        }
        let watched = self.hosts.get(at)?;
        let (host, ejections) = (Arc::clone(&watched.host), watched.ejections);
        self.update_gauge();
        let ejection = Ejection::Eject { kind, is_enforced, rates };
        Some(Action { host, ejection, ejections, since_last_s })
    }

    fn uneject(&mut self, at: usize, now: Millis) -> Option<Action> {
        let watched = self.hosts.get_mut(at)?;
        watched.host.change_found(|it| it.remove(HealthFlags::FAILED_OUTLIER_CHECK));
        // So that a few new failures do not eject it again.
        for kind in [
            Kind::Consecutive5xx,
            Kind::ConsecutiveGatewayFailure,
            Kind::ConsecutiveLocalOriginFailure,
        ] {
            watched.monitor.reset(kind);
        }
        watched.unejected_at = Some(now);
        let since_last_s = watched.ejected.map(|(at, _)| now.saturating_sub(at) / 1000);
        let (host, ejections) = (Arc::clone(&watched.host), watched.ejections);
        self.update_gauge();
        Some(Action { host, ejection: Ejection::Uneject, ejections, since_last_s })
    }

    //= envoy: OutlierDetection.base_ejection_time
    // The time grows with each ejection, and shrinks with each interval without one.
    fn has_served_its_time(&self, at: usize, now: Millis) -> bool {
        let (base, max) = self.times();
        self.hosts.get(at).is_none_or(|it| {
            let (since, jitter) = it.ejected.unwrap_or_default();
            (base * u64::from(it.backoff)).min(max) + jitter <= now.saturating_sub(since)
        })
    }

    /// The base time of an ejection, and the longest.
    fn times(&self) -> (Millis, Millis) {
        let base = millis(self.config.base_ejection_time);
        (base, millis(self.config.max_ejection_time).max(base))
    }

    fn count_enforced(&self, kind: Kind) {
        let stats = self.config.stats.control();
        stats.ejections_enforced_total.inc();
        let of_kind = match kind {
            Kind::Consecutive5xx => &stats.ejections_enforced_consecutive_5xx,
            Kind::ConsecutiveGatewayFailure => {
                &stats.ejections_enforced_consecutive_gateway_failure
            }
            Kind::ConsecutiveLocalOriginFailure => {
                &stats.ejections_enforced_consecutive_local_origin_failure
            }
            Kind::SuccessRate => &stats.ejections_enforced_success_rate,
            Kind::SuccessRateLocalOrigin => &stats.ejections_enforced_local_origin_success_rate,
            Kind::FailurePercentage => &stats.ejections_enforced_failure_percentage,
            Kind::FailurePercentageLocalOrigin => {
                &stats.ejections_enforced_local_origin_failure_percentage
            }
        };
        of_kind.inc();
    }
}

#[cfg(test)]
#[path = "detector_tests.rs"]
pub(super) mod tests;
