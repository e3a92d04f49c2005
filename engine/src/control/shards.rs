//! The shards, seen from outside: their threads and their mailboxes.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::server::ShardPlace;
use crate::shard::mailbox::{Mailbox, Order};
use crate::shard::{self, Live, Plan, ring};

/// All shards of the process.
#[derive(Debug)]
pub(super) struct Shards {
    handles: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    mailbox: Mailbox,
    core: Option<usize>,
    driver: String,
    live: Arc<Live>,
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
        let mut handles = Vec::with_capacity(count);
        for id in 0..count {
            let (mailbox, inbox) = Mailbox::new()?;
            let live = Arc::<Live>::default();
            let core = id.checked_rem(cores.len()).and_then(|place| cores.get(place)).copied();
            let driver = std::iter::once(choice.ring.to_string());
            let driver = driver.chain(choice.refusals.iter().cloned());
            handles.push(Handle {
                mailbox,
                core: core.map(|core| core.id),
                driver: driver.collect::<Vec<_>>().join("; refused: "),
                live: Arc::clone(&live),
            });
            let plan = Plan { id, core, ring: choice.ring, inbox, epoch, live };
            thread::Builder::new().name(format!("shard_{id}")).spawn(move || run(plan))?;
        }
        Ok(Self { handles })
    }

    pub(super) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Gives every shard an order.
    pub(super) fn tell_all(&self, order: impl Fn() -> Order) {
        for handle in &self.handles {
            handle.mailbox.send(order());
        }
    }

    /// Gives each shard an order made from its own part.
    pub(super) fn tell_each<T>(&self, parts: Vec<T>, order: impl Fn(T) -> Order) {
        for (handle, part) in self.handles.iter().zip(parts) {
            handle.mailbox.send(order(part));
        }
    }

    /// Client connections that are open, on all shards.
    pub(super) fn connections(&self) -> u64 {
        self.handles.iter().map(|handle| handle.live.connections()).sum()
    }

    /// Where they run, for the admin endpoint.
    pub(super) fn places(&self) -> Vec<ShardPlace> {
        let place = |handle: &Handle| ShardPlace {
            core: handle.core,
            driver: handle.driver.clone(),
            live: Arc::clone(&handle.live),
        };
        self.handles.iter().map(place).collect()
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
