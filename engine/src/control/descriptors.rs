//! File descriptors: how many there are, and what the log says when they run short.
//!
//! How many clients they are enough for is decided in [`limits`], and kept by the listeners.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::shards::Shards;
use crate::limits;

/// How often the control plane looks whether listeners pause.
const LOOK: Duration = Duration::from_secs(1);

/// Listeners that have not paused for so long accept again.
const CALM: Duration = Duration::from_secs(5);

/// Raises the soft limit to the hard one, as Envoy does, and logs the limit in force, which is returned.
pub(super) fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if let Err(error) = raised {
        tracing::warn!(target: "main", "file descriptors: the limit stays at {limit}: {error}");
    } else if limit < limits::DESCRIPTORS_WARNING {
        tracing::warn!(
            target: "main",
            "file descriptors: at most {limit}, which is few for a proxy; {HINT}"
        );
    } else {
        tracing::info!(target: "main", "file descriptors: at most {limit}");
    }
    limit
}

const HINT: &str = "raise LimitNOFILE of the systemd unit, `ulimit -Hn`, or the container's nofile";

/// Logs when listeners begin to let clients wait, and when they accept again.
pub(super) async fn watch(shards: Arc<Shards>, limit: u64) {
    let mut pausing = Pausing { pauses: 0, since: None };
    loop {
        tokio::time::sleep(LOOK).await;
        match pausing.look(shards.accept_pauses(), Instant::now()) {
            Some(Change::Begun) => log_pause(&shards, limit),
            Some(Change::Over { lasted }) => {
                let seconds = lasted.as_secs().max(1);
                tracing::info!(target: "main", "accepting again; clients had to wait for {seconds} s");
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
            "accepting pauses with {clients} of {most} client connections, half of {limit} file descriptors; {HINT}"
        ),
        Some(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(target: "main", "accepting pauses with {clients} client connections: {error}; {HINT}");
        }
    }
}

/// Whether clients have to wait.
#[derive(Debug)]
struct Pausing {
    /// Pauses of all listeners so far.
    pauses: u64,
    /// The first look that found new ones, and the last.
    since: Option<(Instant, Instant)>,
}

/// What a look found out.
#[derive(Debug, Eq, PartialEq)]
enum Change {
    Begun,
    Over { lasted: Duration },
}

impl Pausing {
    fn look(&mut self, pauses: u64, now: Instant) -> Option<Change> {
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
    fn a_shortage_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut pausing = Pausing { pauses: 0, since: None };
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        // Pauses so far, each second: it comes and goes for a while.
        let pauses = [0, 0, 3, 103, 103, 103, 250, 250, 250, 250, 250, 250, 250];
        let told: Vec<_> = (0..).zip(pauses).map(|(s, n)| pausing.look(n, at(s))).collect();
        let changes: Vec<_> = told.iter().flatten().collect();
        let over = Change::Over { lasted: Duration::from_secs(4) };
        assert_eq!(changes, [&Change::Begun, &over]);
        assert_eq!(told[2], Some(Change::Begun));
        assert_eq!(told[11], Some(over));
    }
}
