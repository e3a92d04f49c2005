//! Decides whether one host is failing, from its counters at two consecutive checks.

use std::fmt;

use crate::control::counted;
use crate::shard::clock::Millis;
use crate::stats::{HostStats, Scope};

/// The same cause of the same host is logged at most once in this time.
pub(super) const REPEAT_MS: Millis = 60_000;

/// The counters of a host, over all shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    /// Connects that failed.
    pub(super) connects_failed: u64,
    /// How the last connect on any shard ended.
    pub(super) last_connect: LastConnect,
    /// Requests whose connection broke before a response began.
    pub(super) resets: u64,
    /// Requests that timed out before a response began, or while they waited for a connection.
    pub(super) timeouts: u64,
    /// Responses, whatever their status.
    pub(super) responses: u64,
}

/// How the last connect to a host ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum LastConnect {
    /// It succeeded, or there was none.
    #[default]
    Fine,
    /// It failed with this error number; 0 if the failure was local.
    Failed(i32),
}

/// Why a host is failing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) enum Cause {
    /// Connects fail with this error number.
    Connect(i32),
    /// Connects fail on this machine.
    Local,
    /// Connections break before a response begins.
    Reset,
    /// Requests time out.
    Timeout,
}

/// The state of a host at the last check.
#[derive(Debug, Default)]
pub(super) struct HostMonitor {
    counts: Counts,
    state: State,
    /// When each cause was last logged, for [`REPEAT_MS`].
    logged: Vec<(Cause, Millis)>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// Nothing failed, or it responded since.
    #[default]
    Fine,
    /// There were this many failures; the next check decides.
    Suspect(u64),
    Failing(Outage),
}

/// The outage of a host that fails and does not respond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) struct Outage {
    /// The latest cause.
    pub(in crate::control) cause: Cause,
    /// When it was detected.
    pub(in crate::control) since: Millis,
    /// Failures that were not logged yet.
    unlogged: u64,
    /// Whether it was logged; if so, its end is logged too.
    logged: Logged,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Logged {
    NotYet,
    Once,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// It is failing; `failures` since it last responded.
    Failing { cause: Cause, failures: u64 },
    /// It is still failing after this time; `failures` since the last line.
    StillFailing { cause: Cause, failures: u64, after: Millis },
    /// It responds again after this time.
    Recovered { after: Millis },
}

/// What happened between two checks.
struct Delta {
    failures: u64,
    /// The cause of the failures, if known.
    cause: Option<Cause>,
    responded: bool,
}

impl Counts {
    /// Reads the counters of all shards.
    pub(super) fn of(stats: &Scope<HostStats>) -> Self {
        let connected = stats.greatest(|host| host.connected_ms.value()).unwrap_or(0);
        let failed =
            |host: &HostStats| (host.connect_failed_ms.value(), host.connect_errno.value());
        let last_connect = match stats.greatest(failed) {
            Some((at, errno)) if at > connected => {
                LastConnect::Failed(i32::try_from(errno).unwrap_or(0))
            }
            _ => LastConnect::Fine,
        };
        let count = |field: fn(&HostStats) -> &crate::stats::Counter| stats.counter(field);
        Self {
            connects_failed: count(|host| &host.cx_connect_fail),
            last_connect,
            resets: count(|host| &host.rq_reset),
            timeouts: count(|host| &host.rq_timeout) + count(|host| &host.rq_connect_wait_timeout),
            responses: count(|host| &host.rq_success) + count(|host| &host.rq_error_response),
        }
    }

    fn since(&self, before: &Self) -> Delta {
        let connects_failed = self.connects_failed.saturating_sub(before.connects_failed);
        let resets = self.resets.saturating_sub(before.resets);
        let timeouts = self.timeouts.saturating_sub(before.timeouts);
        let cause = match self.last_connect {
            LastConnect::Failed(0) if connects_failed > 0 => Some(Cause::Local),
            LastConnect::Failed(errno) if connects_failed > 0 => Some(Cause::Connect(errno)),
            _ if timeouts > 0 && timeouts >= resets => Some(Cause::Timeout),
            _ if resets > 0 => Some(Cause::Reset),
            _ => None,
        };
        Delta {
            failures: connects_failed + resets + timeouts,
            cause,
            responded: self.responses != before.responses,
        }
    }
}

impl HostMonitor {
    /// Evaluates the counters at `now`, and returns what to log.
    ///
    /// A host whose last connect failed is failing if there was no response since the previous check.
    /// Resets and timeouts must occur in two checks without a response in between: a single slow
    /// request is not an outage.
    pub(super) fn check(&mut self, counts: Counts, now: Millis) -> Option<Event> {
        let delta = counts.since(&self.counts);
        self.counts = counts;
        match self.state {
            State::Failing(outage) => self.continue_outage(outage, &delta, now),
            State::Fine if delta.failures == 0 => None,
            State::Fine | State::Suspect(_) if delta.responded => {
                self.state = match delta.failures {
                    0 => State::Fine,
                    failures => State::Suspect(failures),
                };
                None
            }
            State::Fine => self.begin_outage(0, &delta, now),
            State::Suspect(failures) => self.begin_outage(failures, &delta, now),
        }
    }

    /// The outage, if there is one.
    pub(super) fn outage(&self) -> Option<&Outage> {
        if let State::Failing(outage) = &self.state { Some(outage) } else { None }
    }

    /// Whether the host needs no further check while nothing fails.
    pub(super) fn is_fine(&self) -> bool {
        self.state == State::Fine
    }

    /// There was no response since the last check, and failures since then or in the one before.
    fn begin_outage(&mut self, before: u64, delta: &Delta, now: Millis) -> Option<Event> {
        let unlogged = before + delta.failures;
        let cause = match (self.counts.last_connect, delta.cause) {
            (LastConnect::Failed(0), _) => Cause::Local,
            (LastConnect::Failed(errno), _) => Cause::Connect(errno),
            (LastConnect::Fine, Some(cause)) if before > 0 => cause,
            (LastConnect::Fine, _) => {
                self.state = State::Suspect(unlogged);
                return None;
            }
        };
        let mut outage = Outage { cause, since: now, unlogged, logged: Logged::NotYet };
        let event = self.log(&mut outage, now);
        self.state = State::Failing(outage);
        event
    }

    fn continue_outage(&mut self, mut outage: Outage, delta: &Delta, now: Millis) -> Option<Event> {
        let connects = self.counts.last_connect == LastConnect::Fine;
        if delta.responded && (connects || delta.failures == 0) {
            self.state = State::Fine;
            let after = now.saturating_sub(outage.since);
            return (outage.logged == Logged::Once).then_some(Event::Recovered { after });
        }
        outage.unlogged += delta.failures;
        outage.cause = delta.cause.unwrap_or(outage.cause);
        let event = if outage.unlogged > 0 { self.log(&mut outage, now) } else { None };
        self.state = State::Failing(outage);
        event
    }

    /// What to log about the outage, unless its cause was logged recently.
    fn log(&mut self, outage: &mut Outage, now: Millis) -> Option<Event> {
        self.logged.retain(|(_, at)| now.saturating_sub(*at) < REPEAT_MS);
        if self.logged.iter().any(|(cause, _)| *cause == outage.cause) {
            return None;
        }
        self.logged.push((outage.cause, now));
        let (cause, failures) = (outage.cause, std::mem::take(&mut outage.unlogged));
        Some(match std::mem::replace(&mut outage.logged, Logged::Once) {
            Logged::NotYet => Event::Failing { cause, failures },
            Logged::Once => {
                let after = now.saturating_sub(outage.since);
                Event::StillFailing { cause, failures, after }
            }
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Connect(libc::ECONNREFUSED) => f.write_str("connection refused"),
            Self::Connect(libc::EHOSTUNREACH) => f.write_str("no route to host"),
            Self::Connect(libc::ENETUNREACH) => f.write_str("network unreachable"),
            Self::Connect(libc::ETIMEDOUT) => f.write_str("connect timeout"),
            Self::Connect(errno) => {
                let error = std::io::Error::from_raw_os_error(errno).to_string();
                let words = error.split(" (os error").next().unwrap_or(&error);
                write!(f, "cannot connect: {words}")
            }
            Self::Local => f.write_str("cannot connect: out of local ports, descriptors or memory"),
            Self::Reset => f.write_str("connections break before a response"),
            Self::Timeout => f.write_str("requests time out"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Failing { cause, failures } => {
                write!(f, "is failing: {cause} ({})", counted(failures, "failure"))
            }
            Self::StillFailing { cause, failures, after } => {
                let (seconds, more) = (after / 1000, counted(failures, "more failure"));
                write!(f, "is still failing after {seconds} s: {cause} ({more})")
            }
            Self::Recovered { after } => write!(f, "is back after {} s", after / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: LastConnect = LastConnect::Failed(libc::ECONNREFUSED);

    /// A host and its counters; it is checked once a second.
    #[derive(Default)]
    struct Host {
        counts: Counts,
        monitor: HostMonitor,
        now: Millis,
    }

    impl Host {
        fn refuses(&mut self, connects: u64) -> &mut Self {
            self.counts.connects_failed += connects;
            self.counts.last_connect = REFUSED;
            self
        }

        fn times_out(&mut self) -> &mut Self {
            self.counts.timeouts += 1;
            self
        }

        fn connects(&mut self) -> &mut Self {
            self.counts.last_connect = LastConnect::Fine;
            self
        }

        fn responds(&mut self) -> &mut Self {
            self.counts.responses += 1;
            self
        }

        fn check(&mut self) -> Option<String> {
            self.now += 1000;
            self.monitor.check(self.counts, self.now).map(|event| event.to_string())
        }

        fn is_failing(&self) -> bool {
            self.monitor.outage().is_some()
        }
    }

    fn line(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_host_that_never_accepted_is_failing_at_the_first_check() {
        let mut host = Host::default();
        assert_eq!(host.check(), None);
        let logged = host.refuses(37).check();
        assert_eq!(logged, line("is failing: connection refused (37 failures)"));
        assert!(host.is_failing());
    }

    #[test]
    fn a_host_that_goes_down_under_traffic_is_failing_at_the_next_check_and_recovers() {
        let mut host = Host::default();
        host.responds().check();
        assert_eq!(
            host.responds().refuses(2).check(),
            None,
            "it may have failed before it responded"
        );
        assert_eq!(host.check(), line("is failing: connection refused (2 failures)"));
        for _ in 0..5 {
            assert_eq!(host.refuses(9).check(), None, "once is enough");
        }
        assert_eq!(host.connects().responds().check(), line("is back after 6 s"));
        assert!(!host.is_failing());
        assert_eq!(host.check(), None);
    }

    #[test]
    fn a_single_failed_connect_among_responses_is_not_an_outage() {
        let mut host = Host::default();
        for _ in 0..10 {
            assert_eq!(host.responds().refuses(1).check(), None);
            assert_eq!(host.connects().responds().check(), None);
        }
        assert!(!host.is_failing());
    }

    #[test]
    fn a_host_that_keeps_failing_is_logged_once_a_minute() {
        let mut host = Host::default();
        let lines: Vec<_> = (0..150).filter_map(|_| host.refuses(2).check()).collect();
        assert_eq!(
            lines,
            [
                "is failing: connection refused (2 failures)",
                "is still failing after 60 s: connection refused (120 more failures)",
                "is still failing after 120 s: connection refused (120 more failures)",
            ]
        );
    }

    #[test]
    fn a_flapping_host_is_logged_once_a_minute() {
        let mut host = Host::default();
        let mut lines = 0;
        for _ in 0..60 {
            lines += usize::from(host.refuses(1).check().is_some());
            lines += usize::from(host.connects().responds().check().is_some());
        }
        assert_eq!(lines, 4, "two minutes, and in each one that it fails and one that it is back");
    }

    #[test]
    fn another_cause_is_logged_separately() {
        let mut host = Host::default();
        host.refuses(1).check();
        host.counts.last_connect = LastConnect::Failed(libc::ETIMEDOUT);
        host.counts.connects_failed += 1;
        let logged = host.check();
        assert_eq!(logged, line("is still failing after 1 s: connect timeout (1 more failure)"));
        assert_eq!(host.refuses(1).check(), None);
    }

    #[test]
    fn one_slow_request_is_not_an_outage_but_slow_requests_only_are() {
        let mut host = Host::default();
        assert_eq!(host.times_out().check(), None);
        assert_eq!(host.check(), None);
        assert_eq!(host.responds().check(), None);
        assert_eq!(host.times_out().check(), None);
        assert_eq!(host.times_out().check(), line("is failing: requests time out (2 failures)"));
        assert_eq!(host.responds().check(), line("is back after 1 s"));
    }

    #[test]
    fn a_host_that_accepts_again_but_does_not_respond_has_not_recovered() {
        let mut host = Host::default();
        host.refuses(1).check();
        let logged = host.connects().times_out().check();
        assert_eq!(logged, line("is still failing after 1 s: requests time out (1 more failure)"));
        assert!(host.is_failing());
    }

    #[test]
    fn responses_on_old_connections_do_not_hide_that_new_ones_fail() {
        let mut host = Host::default();
        host.refuses(1).check();
        assert_eq!(host.refuses(1).responds().check(), None);
        assert!(host.is_failing());
        assert_eq!(host.responds().check(), line("is back after 2 s"), "no connect was needed");
    }

    #[test]
    fn the_last_connect_of_all_shards_counts() {
        let stats = Scope::<HostStats>::unlisted(2);
        let [zero, one] = [stats.shard(0), stats.shard(1)];
        zero.connect_failed_ms.set(10);
        zero.connect_errno.set(u64::from(libc::ECONNREFUSED.unsigned_abs()));
        assert_eq!(Counts::of(&stats).last_connect, REFUSED);
        one.connected_ms.set(11);
        assert_eq!(Counts::of(&stats).last_connect, LastConnect::Fine);
        one.connect_failed_ms.set(12);
        one.connect_errno.set(0);
        assert_eq!(Counts::of(&stats).last_connect, LastConnect::Failed(0));
        assert_eq!(Cause::Connect(libc::EACCES).to_string(), "cannot connect: Permission denied");
    }
}
