//! File descriptors: raises the limit, and logs when they run short.
//!
//! [`limits`] computes how many clients they are enough for; the listeners enforce it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::shards::Shards;
use crate::limits;

/// How often the control plane checks whether listeners pause.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A shortage is over when no listener has paused for this long.
const CALM: Duration = Duration::from_secs(5);

/// Raises the soft limit to the hard limit, as Envoy does. Logs and returns the resulting limit.
pub(super) fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if let Err(error) = raised {
        tracing::warn!(target: "main", "file descriptors: cannot raise the limit of {limit}: {error}");
    } else if limit < limits::DESCRIPTORS_WARNING {
        tracing::warn!(
            target: "main",
            "file descriptors: at most {limit}, which is low for a proxy; {HINT}"
        );
    } else {
        tracing::info!(target: "main", "file descriptors: at most {limit}");
    }
    limit
}

const HINT: &str = "raise LimitNOFILE of the systemd unit, `ulimit -Hn`, or the container's nofile";

/// Logs when listeners pause accepting, and when they resume.
pub(super) async fn watch(shards: Arc<Shards>, limit: u64) {
    let mut pausing = Pausing { pauses: 0, since: None };
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        match pausing.update(shards.accept_pauses(), Instant::now()) {
            Some(Change::Begun) => log_pause(&shards, limit),
            Some(Change::Over { lasted }) => {
                let seconds = lasted.as_secs().max(1);
                tracing::info!(target: "main", "accepting resumed after {seconds} s");
            }
            None => {}
        }
    }
}

fn log_pause(shards: &Shards, limit: u64) {
    let clients = shards.connections();
    let most = shards.connections_max();
    match shards.accept_error() {
        None => tracing::warn!(
            target: "main",
            "accepting paused at {clients} of {most} client connections, half of {limit} file descriptors; {HINT}"
        ),
        Some(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(target: "main", "accepting paused at {clients} client connections: {error}; {HINT}");
        }
    }
}

/// Whether listeners are pausing.
#[derive(Debug)]
struct Pausing {
    /// The pauses counted by all listeners so far.
    pauses: u64,
    /// The first and the last update that found new pauses.
    since: Option<(Instant, Instant)>,
}

/// What an update detected.
#[derive(Debug, Eq, PartialEq)]
enum Change {
    Begun,
    Over { lasted: Duration },
}

impl Pausing {
    fn update(&mut self, pauses: u64, now: Instant) -> Option<Change> {
        let more = pauses > std::mem::replace(&mut self.pauses, pauses);
        match self.since {
            None if more => {
                self.since = Some((now, now));
                Some(Change::Begun)
            }
            Some((first, _)) if more => {
                self.since = Some((first, now));
                None
            }
            Some((first, last)) if now.duration_since(last) >= CALM => {
                self.since = None;
                Some(Change::Over { lasted: last.duration_since(first) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_logged_once_when_it_begins_and_once_when_it_is_over() {
        let mut pausing = Pausing { pauses: 0, since: None };
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        // The pauses counted so far, each second: the shortage comes and goes for a while.
        let pauses = [0, 0, 3, 103, 103, 103, 250, 250, 250, 250, 250, 250, 250];
        let changes_by_second: Vec<_> =
            (0..).zip(pauses).map(|(s, n)| pausing.update(n, at(s))).collect();
        let changes: Vec<_> = changes_by_second.iter().flatten().collect();
        let over = Change::Over { lasted: Duration::from_secs(4) };
        assert_eq!(changes, [&Change::Begun, &over]);
        assert_eq!(changes_by_second[2], Some(Change::Begun));
        assert_eq!(changes_by_second[11], Some(over));
    }
}
