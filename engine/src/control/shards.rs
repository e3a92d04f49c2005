//! The shards, seen from outside: their threads and their mailboxes.

use std::io;
use std::thread;
use std::time::Instant;

use super::server::ShardPlace;
use crate::shard::mailbox::{Mailbox, Order};
use crate::shard::neighbours::Neighbours;
use crate::shard::{self, Plan, ring};

/// All shards of the process.
#[derive(Debug)]
pub(super) struct Shards {
    neighbours: Neighbours,
    places: Vec<ShardPlace>,
}

impl Shards {
    /// Starts so many threads, each on a core of its own as far as they go round.
    pub(super) fn start(count: usize, epoch: Instant) -> io::Result<Self> {
        let choice = ring::choose()?;
        for refusal in &choice.refusals {
            tracing::warn!(target: "main", "the kernel refuses {refusal}");
        }
        tracing::info!(target: "main", "{count} shards on {}", choice.ring);
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let mailboxes = (0..count).map(|_| Mailbox::new()).collect::<io::Result<Vec<_>>>()?;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = mailboxes.into_iter().unzip();
        let neighbours = Neighbours::new(mailboxes);
        let driver = std::iter::once(choice.ring.to_string()).chain(choice.refusals);
        let driver = driver.collect::<Vec<_>>().join("; refused: ");
        let mut places = Vec::with_capacity(count);
        for (id, inbox) in inboxes.into_iter().enumerate() {
            let core = id.checked_rem(cores.len()).and_then(|place| cores.get(place)).copied();
            places.push(ShardPlace { core: core.map(|core| core.id), driver: driver.clone() });
            let neighbours = neighbours.clone();
            let plan = Plan { id, core, ring: choice.ring, inbox, epoch, neighbours };
            thread::Builder::new().name(format!("shard_{id}")).spawn(move || run(plan))?;
        }
        Ok(Self { neighbours, places })
    }

    pub(super) fn count(&self) -> usize {
        self.neighbours.count()
    }

    /// Gives every shard an order.
    pub(super) fn tell_all(&self, order: impl Fn() -> Order) {
        for shard in 0..self.count() {
            self.neighbours.tell(shard, order());
        }
    }

    /// Gives each shard an order made from its own part.
    pub(super) fn tell_each<T>(&self, parts: Vec<T>, order: impl Fn(T) -> Order) {
        for (shard, part) in parts.into_iter().enumerate() {
            self.neighbours.tell(shard, order(part));
        }
    }

    /// Client connections that are open, on all shards.
    pub(super) fn connections(&self) -> u64 {
        (0..self.count()).map(|shard| self.neighbours.connections(shard)).sum()
    }

    /// Where they run, for the admin endpoint.
    pub(super) fn places(&self) -> Vec<ShardPlace> {
        self.places.clone()
    }

    /// As the shards know each other.
    pub(super) fn neighbours(&self) -> Neighbours {
        self.neighbours.clone()
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
