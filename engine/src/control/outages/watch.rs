//! One host: whether it is failing, decided from what was counted of it between two looks.

use std::fmt;

use crate::control::counted;
use crate::shard::clock::Millis;
use crate::stats::{HostStats, Scope};

/// How long the same cause of the same host is not logged again.
pub(super) const REPEAT_MS: Millis = 60_000;

/// What the shards have counted of a host so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
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
    /// It succeeded, or there was none yet.
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

/// A host, as the last look left it.
#[derive(Debug, Default)]
pub(super) struct Watched {
    seen: Seen,
    state: State,
    /// When each cause was last logged, for as long as that silences it.
    logged: Vec<(Cause, Millis)>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// Nothing failed, or it responded since.
    #[default]
    Fine,
    /// So much failed; the next look tells whether it responds.
    Suspect(u64),
    Failing(Outage),
}

/// A host that fails and does not respond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::control) struct Outage {
    /// The latest cause.
    pub(in crate::control) cause: Cause,
    /// When it was noticed.
    pub(in crate::control) since: Millis,
    /// Failures that no log line has told of yet.
    untold: u64,
    /// Whether a line was logged, so that its end is worth one.
    logged: Logged,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Logged {
    NotYet,
    Once,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// It fails, and how often since the last line.
    Failing { cause: Cause, failures: u64 },
    /// It still does, after so long.
    StillFailing { cause: Cause, failures: u64, after: Millis },
    /// It responds again, after so long.
    Back { after: Millis },
}

/// What happened between two looks.
struct News {
    failures: u64,
    /// What the failures come from, if they say it.
    cause: Option<Cause>,
    responded: bool,
}

impl Seen {
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

    fn since(&self, before: &Self) -> News {
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
        News {
            failures: connects_failed + resets + timeouts,
            cause,
            responded: self.responses != before.responses,
        }
    }
}

impl Watched {
    /// Looks at what was counted up to `now`, and tells what the log should say.
    ///
    /// A host whose last connect failed is failing once a look finds no response since the one
    /// before. Requests that break or time out must do so in two looks without a response between
    /// them: a single slow request is no outage.
    pub(super) fn look(&mut self, seen: Seen, now: Millis) -> Option<Event> {
        let news = seen.since(&self.seen);
        self.seen = seen;
        match self.state {
            State::Failing(outage) => self.go_on(outage, &news, now),
            State::Fine if news.failures == 0 => None,
            State::Fine | State::Suspect(_) if news.responded => {
                self.state = match news.failures {
                    0 => State::Fine,
                    failures => State::Suspect(failures),
                };
                None
            }
            State::Fine => self.begin(0, &news, now),
            State::Suspect(failures) => self.begin(failures, &news, now),
        }
    }

    /// The outage, if there is one.
    pub(super) fn outage(&self) -> Option<&Outage> {
        if let State::Failing(outage) = &self.state { Some(outage) } else { None }
    }

    /// Whether the next look matters even if nothing fails until then.
    pub(super) fn is_fine(&self) -> bool {
        self.state == State::Fine
    }

    /// There was no response since the last look, and failures since then or in the look before.
    fn begin(&mut self, before: u64, news: &News, now: Millis) -> Option<Event> {
        let untold = before + news.failures;
        let cause = match (self.seen.last_connect, news.cause) {
            (LastConnect::Failed(0), _) => Cause::Local,
            (LastConnect::Failed(errno), _) => Cause::Connect(errno),
            (LastConnect::Fine, Some(cause)) if before > 0 => cause,
            (LastConnect::Fine, _) => {
                self.state = State::Suspect(untold);
                return None;
            }
        };
        let mut outage = Outage { cause, since: now, untold, logged: Logged::NotYet };
        let event = self.log(&mut outage, now);
        self.state = State::Failing(outage);
        event
    }

    fn go_on(&mut self, mut outage: Outage, news: &News, now: Millis) -> Option<Event> {
        let connects = self.seen.last_connect == LastConnect::Fine;
        if news.responded && (connects || news.failures == 0) {
            self.state = State::Fine;
            let after = now.saturating_sub(outage.since);
            return (outage.logged == Logged::Once).then_some(Event::Back { after });
        }
        outage.untold += news.failures;
        outage.cause = news.cause.unwrap_or(outage.cause);
        let event = if outage.untold > 0 { self.log(&mut outage, now) } else { None };
        self.state = State::Failing(outage);
        event
    }

    /// A line for the outage, unless its cause has had one lately.
    fn log(&mut self, outage: &mut Outage, now: Millis) -> Option<Event> {
        self.logged.retain(|(_, at)| now.saturating_sub(*at) < REPEAT_MS);
        if self.logged.iter().any(|(cause, _)| *cause == outage.cause) {
            return None;
        }
        self.logged.push((outage.cause, now));
        let (cause, failures) = (outage.cause, std::mem::take(&mut outage.untold));
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
            Self::Back { after } => write!(f, "is back after {} s", after / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: LastConnect = LastConnect::Failed(libc::ECONNREFUSED);

    /// A host and what its counters say; each look comes a second after the one before.
    #[derive(Default)]
    struct Host {
        seen: Seen,
        watched: Watched,
        now: Millis,
    }

    impl Host {
        fn refuses(&mut self, connects: u64) -> &mut Self {
            self.seen.connects_failed += connects;
            self.seen.last_connect = REFUSED;
            self
        }

        fn times_out(&mut self) -> &mut Self {
            self.seen.timeouts += 1;
            self
        }

        fn connects(&mut self) -> &mut Self {
            self.seen.last_connect = LastConnect::Fine;
            self
        }

        fn responds(&mut self) -> &mut Self {
            self.seen.responses += 1;
            self
        }

        fn look(&mut self) -> Option<String> {
            self.now += 1000;
            self.watched.look(self.seen, self.now).map(|event| event.to_string())
        }

        fn is_failing(&self) -> bool {
            self.watched.outage().is_some()
        }
    }

    fn line(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_host_that_was_never_there_is_failing_at_once() {
        let mut host = Host::default();
        assert_eq!(host.look(), None);
        let told = host.refuses(37).look();
        assert_eq!(told, line("is failing: connection refused (37 failures)"));
        assert!(host.is_failing());
    }

    #[test]
    fn a_host_that_goes_down_in_traffic_is_failing_with_the_next_look_and_comes_back() {
        let mut host = Host::default();
        host.responds().look();
        assert_eq!(
            host.responds().refuses(2).look(),
            None,
            "it may have failed before it responded"
        );
        assert_eq!(host.look(), line("is failing: connection refused (2 failures)"));
        for _ in 0..5 {
            assert_eq!(host.refuses(9).look(), None, "once is enough");
        }
        assert_eq!(host.connects().responds().look(), line("is back after 6 s"));
        assert!(!host.is_failing());
        assert_eq!(host.look(), None);
    }

    #[test]
    fn a_single_failed_connect_amid_responses_is_no_outage() {
        let mut host = Host::default();
        for _ in 0..10 {
            assert_eq!(host.responds().refuses(1).look(), None);
            assert_eq!(host.connects().responds().look(), None);
        }
        assert!(!host.is_failing());
    }

    #[test]
    fn a_host_that_goes_on_failing_is_told_once_a_minute() {
        let mut host = Host::default();
        let lines: Vec<_> = (0..150).filter_map(|_| host.refuses(2).look()).collect();
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
    fn a_host_that_flaps_is_told_once_a_minute() {
        let mut host = Host::default();
        let mut lines = 0;
        for _ in 0..60 {
            lines += usize::from(host.refuses(1).look().is_some());
            lines += usize::from(host.connects().responds().look().is_some());
        }
        assert_eq!(lines, 4, "two minutes, and in each one that it fails and one that it is back");
    }

    #[test]
    fn another_cause_is_told_of_its_own() {
        let mut host = Host::default();
        host.refuses(1).look();
        host.seen.last_connect = LastConnect::Failed(libc::ETIMEDOUT);
        host.seen.connects_failed += 1;
        let told = host.look();
        assert_eq!(told, line("is still failing after 1 s: connect timeout (1 more failure)"));
        assert_eq!(host.refuses(1).look(), None);
    }

    #[test]
    fn one_slow_request_is_no_outage_and_nothing_but_slow_requests_is() {
        let mut host = Host::default();
        assert_eq!(host.times_out().look(), None);
        assert_eq!(host.look(), None);
        assert_eq!(host.responds().look(), None);
        assert_eq!(host.times_out().look(), None);
        assert_eq!(host.times_out().look(), line("is failing: requests time out (2 failures)"));
        assert_eq!(host.responds().look(), line("is back after 1 s"));
    }

    #[test]
    fn a_host_that_accepts_again_but_does_not_respond_is_not_back() {
        let mut host = Host::default();
        host.refuses(1).look();
        let told = host.connects().times_out().look();
        assert_eq!(told, line("is still failing after 1 s: requests time out (1 more failure)"));
        assert!(host.is_failing());
    }

    #[test]
    fn responses_on_old_connections_do_not_hide_that_new_ones_fail() {
        let mut host = Host::default();
        host.refuses(1).look();
        assert_eq!(host.refuses(1).responds().look(), None);
        assert!(host.is_failing());
        assert_eq!(host.responds().look(), line("is back after 2 s"), "no connect was needed");
    }

    #[test]
    fn the_last_connect_of_all_shards_counts() {
        let stats = Scope::<HostStats>::unlisted(2);
        let [zero, one] = [stats.shard(0), stats.shard(1)];
        zero.connect_failed_ms.set(10);
        zero.connect_errno.set(u64::from(libc::ECONNREFUSED.unsigned_abs()));
        assert_eq!(Seen::of(&stats).last_connect, REFUSED);
        one.connected_ms.set(11);
        assert_eq!(Seen::of(&stats).last_connect, LastConnect::Fine);
        one.connect_failed_ms.set(12);
        one.connect_errno.set(0);
        assert_eq!(Seen::of(&stats).last_connect, LastConnect::Failed(0));
        assert_eq!(Cause::Connect(libc::EACCES).to_string(), "cannot connect: Permission denied");
    }
}
