//! The shards, seen from outside: their threads and their mailboxes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{counted, ring_advice};
use crate::shard::handle::{ShardHandle, ShardHandles};
use crate::shard::mailbox::{Errand, Mailbox};
use crate::shard::{self, Plan, Shard, ring};

/// All shards of the process.
#[derive(Debug)]
pub(super) struct Shards {
    handles: ShardHandles,
    /// The driver that all of them use, and what the kernel refused.
    driver: String,
    /// The core that each is pinned to.
    cores: Vec<Option<usize>>,
    /// How often each shard was asked for a heartbeat.
    heartbeats: AtomicU64,
}

/// How often the control plane checks for heartbeats while it waits for them.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

impl Shards {
    /// Starts `count` threads, each pinned to its own core as long as there are enough. Together they
    /// accept at most `connections_max` client connections.
    pub(super) fn start(count: usize, epoch: Instant, connections_max: u64) -> io::Result<Self> {
        let choice = ring::choose()?;
        if let Some(advice) = ring_advice::of(&choice) {
            tracing::warn!(target: "main", "io_uring {advice}");
        }
        tracing::info!(target: "main", "{} on {}", counted(count, "shard"), choice.ring);
        let found = core_affinity::get_core_ids().unwrap_or_default();
        let mailboxes = (0..count).map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let handles = ShardHandles::new(mailboxes, connections_max);
        let refusals = choice.refusals.iter().map(|(ring, error)| format!("{ring}: {error}"));
        let driver = std::iter::once(choice.ring.to_string()).chain(refusals);
        let driver = driver.collect::<Vec<_>>().join("; refused: ");
        let mut cores = Vec::with_capacity(count);
        for (id, inbox) in inboxes.into_iter().enumerate() {
            let core = id.checked_rem(found.len()).and_then(|place| found.get(place)).copied();
            cores.push(core.map(|core| core.id));
            let plan = Plan { id, core, ring: choice.ring, inbox, epoch, handles };
            thread::Builder::new().name(format!("shard_{id}")).spawn(move || run(plan))?;
        }
        Ok(Self { handles, driver, cores, heartbeats: AtomicU64::new(0) })
    }

    pub(super) fn count(&self) -> usize {
        self.handles.count()
    }

    /// Sends every shard an errand.
    pub(super) fn send_to_all(&self, errand: impl Fn(&'static Shard) + Clone + Send + 'static) {
        self.handles.all().for_each(|shard| shard.send(Box::new(errand.clone())));
    }

    /// Sends each shard an errand made from its own part.
    pub(super) fn send_to_each<T>(&self, parts: Vec<T>, errand: impl Fn(T) -> Errand) {
        for (shard, part) in self.handles.all().zip(parts) {
            shard.send(errand(part));
        }
    }

    /// The number of open client connections, on all shards.
    pub(super) fn connections(&self) -> u64 {
        self.handles.all().map(ShardHandle::connections).sum()
    }

    /// The limit on client connections.
    pub(super) const fn connections_max(&self) -> u64 {
        self.handles.connections_max()
    }

    /// The number of sockets that accept connections, on all shards.
    pub(super) fn listening(&self) -> u64 {
        self.handles.all().map(ShardHandle::listening).sum()
    }

    /// How often listeners paused accepting, on all shards.
    pub(super) fn accept_pauses(&self) -> u64 {
        self.handles.all().map(ShardHandle::accept_pauses).sum()
    }

    /// The error of accept(2) that caused a pause; `None`: `connections_max` was reached.
    pub(super) fn accept_error(&self) -> Option<i32> {
        self.handles.all().find_map(ShardHandle::accept_error)
    }

    /// Asks every shard for a heartbeat. Pass the returned number to [`Self::without_heartbeat`].
    pub(super) fn ask_for_heartbeat(&self) -> u64 {
        self.send_to_all(|shard| shard.handle.answer_heartbeat());
        self.heartbeats.fetch_add(1, Relaxed) + 1
    }

    /// A shard that has answered fewer than `asked` times.
    pub(super) fn without_heartbeat(&self, asked: u64) -> Option<usize> {
        self.handles.all().find(|shard| shard.heartbeats() < asked).map(ShardHandle::id)
    }

    /// Waits until every shard has run all errands sent so far.
    pub(super) async fn caught_up(&self) {
        let asked = self.ask_for_heartbeat();
        while self.without_heartbeat(asked).is_some() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Each shard with its core, for the admin endpoint.
    pub(super) fn with_cores(&self) -> impl Iterator<Item = (Option<usize>, &'static ShardHandle)> {
        self.cores.iter().copied().zip(self.handles.all())
    }

    /// The driver that they use.
    pub(super) fn driver(&self) -> &str {
        &self.driver
    }
}

/// A shard never ends by itself. If one does, its clients hang and its sockets still accept
/// connections, so the process exits.
fn run(plan: Plan) {
    let id = plan.id;
    match std::panic::catch_unwind(|| shard::run(plan)) {
        // Another process of the same user may have used up the limit since the ring was chosen.
        Ok(Err(error)) => {
            let hint = ring_advice::hint(&error, &ring_advice::Kernel::read());
            tracing::error!(target: "main", "shard {id} cannot start: {error}{hint}");
        }
        ended => tracing::error!(target: "main", "shard {id} has ended: {ended:?}"),
    }
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards whose threads never started.
    fn stuck(count: usize) -> Shards {
        let mailboxes = (0..count).map(|_| Mailbox::new().unwrap().0).collect();
        let handles = ShardHandles::new(mailboxes, u64::MAX);
        Shards { handles, driver: String::new(), cores: Vec::new(), heartbeats: AtomicU64::new(0) }
    }

    #[test]
    fn a_stuck_shard_is_detected() {
        let shards = stuck(2);
        let asked = shards.ask_for_heartbeat();
        assert_eq!(shards.without_heartbeat(asked), Some(0));
        let handle = |id| shards.handles.get(id).unwrap();
        handle(0).answer_heartbeat();
        assert_eq!(shards.without_heartbeat(asked), Some(1));
        handle(1).answer_heartbeat();
        assert_eq!(shards.without_heartbeat(asked), None);
        // It answers late, several heartbeats at once.
        let asked = [shards.ask_for_heartbeat(), shards.ask_for_heartbeat()];
        handle(0).answer_heartbeat();
        handle(0).answer_heartbeat();
        handle(1).answer_heartbeat();
        assert_eq!(asked.map(|asked| shards.without_heartbeat(asked)), [None, Some(1)]);
    }
}
