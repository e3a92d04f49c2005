//! What the outcome of a check means for its host.

use super::{EventLog, HealthCheck};
use crate::upstream::host::HealthFlags;

/// The checks of one host so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Successes in a row, while it is unhealthy.
    successes: u32,
    /// Failures in a row, while it is healthy.
    failures: u32,
    has_result: bool,
}

/// The outcome of one check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The host is well.
    Success {
        /// It says that it is degraded.
        is_degraded: bool,
    },
    /// It is not.
    Failure(Failure),
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// Whether it counts as a failure of the network: `unhealthy_threshold` of them are needed.
    pub is_retriable: bool,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Whether the host asked not to be counted at all: `x-envoy-immediate-health-check-fail`.
    pub excludes: bool,
}

/// `HealthCheckFailureType`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// The host has answered, and not as expected.
    Active,
    /// A response to ordinary traffic said so.
    Passive,
    /// Connecting failed, or the connection broke.
    Network,
    /// There was no answer in time.
    NetworkTimeout,
}

/// How an outcome changes a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is what it was.
    None,
    /// It may change with the next outcomes like this one.
    Pending,
    /// It has changed.
    Changed,
}

/// What is logged of a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// `eject_unhealthy_event`
    EjectUnhealthy(Failure),
    /// `add_healthy_event`
    AddHealthy {
        /// With its first check.
        is_first: bool,
    },
    /// `successful_health_check_event`
    Success,
    /// `health_check_failure_event`
    Failure {
        /// Why.
        failure: Failure,
        /// With its first check.
        is_first: bool,
    },
    /// `degraded_healthy_host`
    Degraded,
    /// `no_longer_degraded_host`
    NoLongerDegraded,
}

impl FailureKind {
    const fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::NetworkTimeout)
    }

    /// `failure_type` in the event log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Passive => "PASSIVE",
            Self::Network => "NETWORK",
            Self::NetworkTimeout => "NETWORK_TIMEOUT",
        }
    }
}

impl Progress {
    /// Takes in the outcome of a check of a host with these flags, which are changed.
    pub fn take_in(
        &mut self,
        outcome: Outcome,
        check: &HealthCheck,
        flags: &mut HealthFlags,
    ) -> (Change, Vec<Event>) {
        let mut events = Vec::new();
        let mut change = match outcome {
            Outcome::Success { is_degraded } => {
                self.succeed(is_degraded, check, flags, &mut events)
            }
            Outcome::Failure(failure) => self.fail(failure, check, flags, &mut events),
        };
        if flags.contains(HealthFlags::PENDING_ACTIVE_HC) {
            flags.remove(HealthFlags::PENDING_ACTIVE_HC);
            change = Change::Changed;
        }
        let is_first = !std::mem::replace(&mut self.has_result, true);
        let EventLog { path: _, every_failure, every_success } = check.log;
        match outcome {
            // As in Envoy, one that changes the host is logged as that.
            Outcome::Success { .. } if every_success && change != Change::Changed => {
                events.push(Event::Success);
            }
            Outcome::Failure(failure) if is_first || every_failure => {
                events.push(Event::Failure { failure, is_first });
            }
            _ => {}
        }
        (change, events)
    }

    //= envoy: arch_overview/upstream/health_checking
    // The first success makes a host healthy at once.
    fn succeed(
        &mut self,
        is_degraded: bool,
        check: &HealthCheck,
        flags: &mut HealthFlags,
        events: &mut Vec<Event>,
    ) -> Change {
        self.failures = 0;
        let mut change = Change::None;
        if flags.contains(HealthFlags::FAILED_ACTIVE_HC) {
            self.successes += 1;
            if !self.has_result || self.successes >= check.healthy_threshold {
                flags.remove(HealthFlags::FAILED_ACTIVE_HC);
                flags.remove(HealthFlags::ACTIVE_HC_TIMEOUT);
                flags.remove(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
                change = Change::Changed;
                events.push(Event::AddHealthy { is_first: !self.has_result });
            } else {
                change = Change::Pending;
            }
        }
        if is_degraded != flags.contains(HealthFlags::DEGRADED_ACTIVE_HC) {
            if is_degraded {
                flags.insert(HealthFlags::DEGRADED_ACTIVE_HC);
                events.push(Event::Degraded);
            } else {
                flags.remove(HealthFlags::DEGRADED_ACTIVE_HC);
                events.push(Event::NoLongerDegraded);
            }
            if change == Change::None {
                change = Change::Changed;
            }
        }
        change
    }

    // An answer that is not as expected makes a host unhealthy at once; failures of the network and
    // retriable statuses only if there are enough of them.
    fn fail(
        &mut self,
        failure: Failure,
        check: &HealthCheck,
        flags: &mut HealthFlags,
        events: &mut Vec<Event>,
    ) -> Change {
        self.successes = 0;
        if failure.excludes {
            flags.insert(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL);
        }
        let mut change = Change::None;
        if !flags.contains(HealthFlags::FAILED_ACTIVE_HC) {
            let counts = failure.kind.is_network() || failure.is_retriable;
            self.failures += 1;
            if !counts || self.failures >= check.unhealthy_threshold {
                flags.insert(HealthFlags::FAILED_ACTIVE_HC);
                change = Change::Changed;
                events.push(Event::EjectUnhealthy(failure));
            } else {
                change = Change::Pending;
            }
        }
        let timed_out = failure.kind == FailureKind::NetworkTimeout;
        if flags.contains(HealthFlags::FAILED_ACTIVE_HC) {
            if timed_out {
                flags.insert(HealthFlags::ACTIVE_HC_TIMEOUT);
            } else {
                flags.remove(HealthFlags::ACTIVE_HC_TIMEOUT);
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    const FAILED: HealthFlags = HealthFlags::FAILED_ACTIVE_HC;
    const WELL: Outcome = Outcome::Success { is_degraded: false };
    const DEGRADED: Outcome = Outcome::Success { is_degraded: true };

    fn failure(kind: FailureKind) -> Outcome {
        let failure = Failure { kind, is_retriable: false, status: None, excludes: false };
        Outcome::Failure(failure)
    }

    /// A host that is checked; both thresholds are 2.
    struct Story {
        progress: Progress,
        flags: HealthFlags,
    }

    impl Story {
        fn of_new_host() -> Self {
            Self { progress: Progress::default(), flags: FAILED }
        }

        fn of_healthy_host() -> Self {
            let mut story = Self::of_new_host();
            story.take_in(WELL);
            story
        }

        fn take_in(&mut self, outcome: Outcome) -> (Change, Vec<Event>) {
            self.progress.take_in(outcome, &check(2, 2), &mut self.flags)
        }
    }

    #[test]
    fn the_first_success_is_enough() {
        let mut story = Story::of_new_host();
        let added = vec![Event::AddHealthy { is_first: true }];
        assert_eq!(story.take_in(WELL), (Change::Changed, added));
        assert_eq!(story.flags, HealthFlags::EMPTY);
        assert_eq!(story.take_in(WELL), (Change::None, vec![]));
    }

    #[test]
    fn a_wrong_answer_is_enough_and_a_broken_connection_is_not() {
        let mut story = Story::of_healthy_host();
        assert_eq!(story.take_in(failure(FailureKind::Network)).0, Change::Pending);
        assert_eq!(story.flags, HealthFlags::EMPTY);
        assert_eq!(story.take_in(failure(FailureKind::Network)).0, Change::Changed);
        assert_eq!(story.flags, FAILED);

        let mut story = Story::of_healthy_host();
        assert_eq!(story.take_in(failure(FailureKind::Active)).0, Change::Changed);
        assert_eq!(story.flags, FAILED);

        let mut story = Story::of_healthy_host();
        let status = Some(503);
        let kind = FailureKind::Active;
        let retriable = Failure { kind, is_retriable: true, status, excludes: false };
        assert_eq!(story.take_in(Outcome::Failure(retriable)).0, Change::Pending);
    }

    #[test]
    fn a_success_between_two_failures_starts_the_count_again() {
        let mut story = Story::of_healthy_host();
        story.take_in(failure(FailureKind::Network));
        story.take_in(WELL);
        assert_eq!(story.take_in(failure(FailureKind::Network)).0, Change::Pending);
    }

    #[test]
    fn an_unhealthy_host_needs_as_many_successes_as_configured() {
        let mut story = Story::of_healthy_host();
        story.take_in(failure(FailureKind::Active));
        assert_eq!(story.take_in(WELL), (Change::Pending, vec![]));
        let added = vec![Event::AddHealthy { is_first: false }];
        assert_eq!(story.take_in(WELL), (Change::Changed, added));
    }

    #[test]
    fn the_first_failure_is_logged_and_others_only_on_request() {
        let mut story = Story::of_new_host();
        let (change, events) = story.take_in(failure(FailureKind::Network));
        assert_eq!(change, Change::None, "it was unhealthy before");
        assert!(matches!(events[..], [Event::Failure { is_first: true, .. }]));
        assert_eq!(story.take_in(failure(FailureKind::Network)).1, []);
        let mut all = check(2, 2);
        all.log.every_failure = true;
        let outcome = failure(FailureKind::Network);
        let (_, events) = story.progress.take_in(outcome, &all, &mut story.flags);
        assert!(matches!(events[..], [Event::Failure { is_first: false, .. }]));
    }

    #[test]
    fn a_timeout_of_an_unhealthy_host_is_a_flag_of_its_own() {
        let mut story = Story::of_new_host();
        story.take_in(failure(FailureKind::NetworkTimeout));
        assert_eq!(story.flags, FAILED | HealthFlags::ACTIVE_HC_TIMEOUT);
        story.take_in(failure(FailureKind::Active));
        assert_eq!(story.flags, FAILED);
    }

    #[test]
    fn a_host_may_say_that_it_is_degraded() {
        let mut story = Story::of_healthy_host();
        assert_eq!(story.take_in(DEGRADED), (Change::Changed, vec![Event::Degraded]));
        assert_eq!(story.flags, HealthFlags::DEGRADED_ACTIVE_HC);
        assert_eq!(story.take_in(WELL), (Change::Changed, vec![Event::NoLongerDegraded]));
    }

    #[test]
    fn a_host_that_excludes_itself_is_back_with_its_health() {
        let mut story = Story::of_healthy_host();
        let kind = FailureKind::Active;
        let failure = Failure { kind, is_retriable: false, status: Some(503), excludes: true };
        story.take_in(Outcome::Failure(failure));
        assert!(story.flags.is_excluded());
        story.take_in(WELL);
        story.take_in(WELL);
        assert_eq!(story.flags, HealthFlags::EMPTY);
    }

    #[test]
    fn a_host_is_pending_until_its_first_result() {
        let mut story = Story::of_new_host();
        story.flags = FAILED | HealthFlags::PENDING_ACTIVE_HC;
        let (change, _) = story.take_in(failure(FailureKind::Active));
        assert_eq!((change, story.flags), (Change::Changed, FAILED));
    }
}
