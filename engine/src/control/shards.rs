//! The shards, seen from outside: their threads and their mailboxes.

use std::io;
use std::thread;
use std::time::Instant;

use super::counted;
use crate::shard::mailbox::{Mailbox, Order};
use crate::shard::roster::{Post, Roster};
use crate::shard::{self, Plan, ring};

/// All shards of the process.
#[derive(Debug)]
pub(super) struct Shards {
    roster: Roster,
    /// What all of them run on, and what the kernel refused.
    driver: String,
    /// The core that each is pinned to.
    cores: Vec<Option<usize>>,
}

impl Shards {
    /// Starts so many threads, each on a core of its own as far as they go round.
    pub(super) fn start(count: usize, epoch: Instant) -> io::Result<Self> {
        let choice = ring::choose()?;
        for refusal in &choice.refusals {
            tracing::warn!(target: "main", "the kernel refuses {refusal}");
        }
        tracing::info!(target: "main", "{} on {}", counted(count, "shard"), choice.ring);
        let found = core_affinity::get_core_ids().unwrap_or_default();
        let mailboxes = (0..count).map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let roster = Roster::new(mailboxes);
        let driver = std::iter::once(choice.ring.to_string()).chain(choice.refusals);
        let driver = driver.collect::<Vec<_>>().join("; refused: ");
        let mut cores = Vec::with_capacity(count);
        for (id, inbox) in inboxes.into_iter().enumerate() {
            let core = id.checked_rem(found.len()).and_then(|place| found.get(place)).copied();
            cores.push(core.map(|core| core.id));
            let plan = Plan { id, core, ring: choice.ring, inbox, epoch, roster };
            thread::Builder::new().name(format!("shard_{id}")).spawn(move || run(plan))?;
        }
        Ok(Self { roster, driver, cores })
    }

    pub(super) fn count(&self) -> usize {
        self.roster.count()
    }

    /// Gives every shard an order.
    pub(super) fn tell_all(&self, order: impl Fn() -> Order) {
        self.roster.posts().for_each(|shard| shard.tell(order()));
    }

    /// Gives each shard an order made from its own part.
    pub(super) fn tell_each<T>(&self, parts: Vec<T>, order: impl Fn(T) -> Order) {
        for (shard, part) in self.roster.posts().zip(parts) {
            shard.tell(order(part));
        }
    }

    /// Client connections that are open, on all shards.
    pub(super) fn connections(&self) -> u64 {
        self.roster.posts().map(Post::connections).sum()
    }

    /// The core of each, for the admin endpoint.
    pub(super) fn places(&self) -> impl Iterator<Item = (Option<usize>, &'static Post)> {
        self.cores.iter().copied().zip(self.roster.posts())
    }

    /// What they run on.
    pub(super) fn driver(&self) -> &str {
        &self.driver
    }
}

/// A shard never ends by itself. If it does, its clients hang and its sockets swallow connections:
/// the process must not pretend to serve.
fn run(plan: Plan) {
    let id = plan.id;
    let ended = std::panic::catch_unwind(|| shard::run(plan));
    tracing::error!(target: "main", "shard {id} has ended: {ended:?}");
    std::process::exit(1);
}
