//! `health_check`: answers the health checks of the load balancer in front of this proxy, or passes them
//! through and caches the answer.
//!
//! Invariant: while the operator fails the health check of the process, every health check is answered with
//! 503, and every other response says so too.

pub(super) mod compile;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Context, Flow, Wait};
use crate::flags::Flag;
use crate::head_matcher::HeaderMatcher;
use crate::http::{BodyLength, FieldName};
use crate::request::Core;
use crate::request::reply::LocalReply;
use crate::shard::clock::Millis;
use crate::shard::drain::Health;

/// The filter.
#[derive(Debug)]
pub struct HealthCheck {
    /// A request that matches all of these is a health check.
    headers: Vec<HeaderMatcher>,
    mode: Mode,
    /// The value of `x-envoy-upstream-healthchecked-cluster`: the cluster of this proxy.
    local_cluster: Box<[u8]>,
}

#[derive(Debug)]
enum Mode {
    /// The upstream host answers.
    PassThrough,
    /// The upstream host answers once per period, the proxy repeats that answer.
    Cached(Cache),
    /// The proxy answers: 200 if enough hosts of these clusters are healthy.
    Local(Box<[MinHealthy]>),
}

/// `cluster_min_healthy_percentages`
#[derive(Debug)]
struct MinHealthy {
    cluster: Box<str>,
    percent: u64,
}

/// The last answer of an upstream host, shared by all shards.
#[derive(Debug)]
struct Cache {
    /// An answer is used until the end of the period in which it came. In milliseconds, not 0.
    period: Millis,
    /// Status, [`DEGRADED`], and the number of the period, from bit [`PERIOD_SHIFT`] on; 0: no answer yet.
    answer: AtomicU64,
}

const DEGRADED: u64 = 1 << 16;
const PERIOD_SHIFT: u32 = 17;

/// What the filter remembers of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It is not a health check.
    #[default]
    Ordinary,
    /// A health check that the upstream host answers.
    Passed,
    /// A health check that the filter answers.
    Answered {
        /// Whether the answer says that the host is degraded.
        degraded: bool,
    },
}

/// The answer to a health check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Answer {
    status: u16,
    degraded: bool,
    details: &'static str,
}

impl Answer {
    const fn new(status: u16, details: &'static str) -> Self {
        Self { status, degraded: false, details }
    }
}

impl HealthCheck {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let core = &mut *cx.core;
        if *state == State::Ordinary {
            let request = &core.heads.request;
            if !self.headers.iter().all(|matcher| matcher.matches(request)) {
                return Flow::Continue;
            }
            core.record.is_health_check = true;
            let is_answered = core.shard.health() == Health::Failed
                || match &self.mode {
                    Mode::PassThrough => false,
                    Mode::Cached(cache) => cache.is_fresh(core.shard.clock.now()),
                    Mode::Local(_) => true,
                };
            *state = if is_answered { State::Answered { degraded: false } } else { State::Passed };
        }
        if *state == State::Passed {
            return Flow::Continue;
        }
        // As in Envoy, a health check with a body is answered after its end.
        let has_body = !matches!(core.body, BodyLength::None | BodyLength::Length(0));
        if has_body && !cx.held.has_ended() {
            return Flow::Wait(Wait::End);
        }
        let Answer { status, degraded, details } = self.answer(core);
        let flag = (!(200..300).contains(&status)).then_some(Flag::FailedLocalHealthCheck);
        *state = State::Answered { degraded };
        Flow::Reply(Box::new(LocalReply::new(status, "").with_details(flag, details)))
    }

    pub(super) fn response_head(&self, state: State, cx: &mut Context<'_, '_>) {
        let core = &mut *cx.core;
        let response = &mut core.heads.response;
        if state != State::Ordinary {
            if state == (State::Answered { degraded: true }) {
                response.fields.set(FieldName::XEnvoyDegraded, b"");
            }
            if let Mode::Cached(cache) = &self.mode {
                let degraded = response.fields.has(FieldName::XEnvoyDegraded);
                cache.store(response.status, degraded, core.shard.clock.now());
            }
            let name = FieldName::XEnvoyUpstreamHealthcheckedCluster;
            response.fields.set(name, &self.local_cluster);
        }
        if core.shard.health() == Health::Failed {
            response.fields.set(FieldName::XEnvoyImmediateHealthCheckFail, b"true");
        }
    }

    fn answer(&self, core: &Core<'_>) -> Answer {
        if core.shard.health() == Health::Failed {
            return Answer::new(503, "health_check_failed");
        }
        match &self.mode {
            Mode::PassThrough => Answer::new(200, "health_check_ok"),
            Mode::Cached(cache) => cache.answer(),
            Mode::Local(clusters) if clusters.is_empty() => Answer::new(200, "health_check_ok"),
            Mode::Local(clusters) => clusters
                .iter()
                .find_map(|cluster| cluster.failure(core))
                .map_or(Answer::new(200, "health_check_ok_cluster_healthy"), |details| {
                    Answer::new(503, details)
                }),
        }
    }
}

impl MinHealthy {
    /// Why the cluster is not healthy enough.
    fn failure(&self, core: &Core<'_>) -> Option<&'static str> {
        let Some(cluster) = core.clusters.named(&self.cluster) else {
            return Some("health_check_failed_no_cluster_found");
        };
        let stats = &cluster.cluster().stats;
        let available = stats.gauge(|stats| &stats.membership_healthy)
            + stats.gauge(|stats| &stats.membership_degraded);
        failure(stats.gauge(|stats| &stats.membership_total), available, self.percent)
    }
}

/// Why `available` of `hosts` hosts are less than `percent` percent.
const fn failure(hosts: u64, available: u64, percent: u64) -> Option<&'static str> {
    if hosts == 0 {
        return if percent == 0 { None } else { Some("health_check_failed_cluster_empty") };
    }
    if 100 * available < hosts * percent {
        return Some("health_check_failed_cluster_unhealthy");
    }
    None
}

impl Cache {
    const fn new(period: Millis) -> Self {
        Self { period, answer: AtomicU64::new(0) }
    }

    /// The number of the period, from 1 on.
    const fn period_at(&self, now: Millis) -> u64 {
        now / self.period + 1
    }

    /// Whether there is an answer from this period.
    fn is_fresh(&self, now: Millis) -> bool {
        self.answer.load(Relaxed) >> PERIOD_SHIFT == self.period_at(now)
    }

    /// The last answer.
    fn answer(&self) -> Answer {
        let packed = self.answer.load(Relaxed);
        let status = u16::try_from(packed % DEGRADED).unwrap_or(200);
        Answer { status, degraded: packed & DEGRADED != 0, details: "health_check_cached" }
    }

    fn store(&self, status: u16, degraded: bool, now: Millis) {
        let degraded = if degraded { DEGRADED } else { 0 };
        let period = self.period_at(now) << PERIOD_SHIFT;
        self.answer.store(period | degraded | u64::from(status), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_hosts_must_be_available() {
        assert_eq!(failure(0, 0, 0), None);
        assert_eq!(failure(0, 0, 1), Some("health_check_failed_cluster_empty"));
        assert_eq!(failure(4, 2, 50), None);
        assert_eq!(failure(4, 2, 51), Some("health_check_failed_cluster_unhealthy"));
    }

    #[test]
    fn an_answer_is_used_until_the_end_of_its_period() {
        let cache = Cache::new(100);
        assert!(!cache.is_fresh(0), "there is no answer yet");
        cache.store(503, true, 30);
        assert!(cache.is_fresh(50) && cache.is_fresh(99));
        let Answer { status, degraded, .. } = cache.answer();
        assert_eq!((status, degraded), (503, true));
        assert!(!cache.is_fresh(100));
        cache.store(200, false, 120);
        let Answer { status, degraded, .. } = cache.answer();
        assert_eq!((status, degraded), (200, false));
    }
}
