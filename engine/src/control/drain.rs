//! Drains: what the operator or a signal orders, carried out over all shards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admin::{DrainListeners, Order, ServerState};
use super::server::Running;
use super::shards::Shards;
use crate::shard::mailbox::{self, Draining, Listeners};
use crate::stats::{ListenerManagerStats, Scope};

/// What drains are done with.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    shards: Arc<Shards>,
    running: Arc<Running>,
    stats: Arc<Scope<ListenerManagerStats>>,
    /// How long one may take.
    most: Duration,
}

/// So many looks in a row must find no connection: between two of them a client that was told to
/// leave may be the only one that is left in a queue.
const QUIET_LOOKS: u32 = 3;

/// How often a drain looks whether connections are left.
const LOOK: Duration = Duration::from_millis(20);

impl Drain {
    pub(super) const fn new(
        shards: Arc<Shards>,
        running: Arc<Running>,
        stats: Arc<Scope<ListenerManagerStats>>,
        most: Duration,
    ) -> Self {
        Self { shards, running, stats, most }
    }

    /// Carries out what the admin endpoint was asked for.
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::DrainListeners(how) => self.listeners(how),
            Order::FailHealthCheck => {
                self.running.set_state(ServerState::Draining);
                self.tell(Draining::Tell(Listeners::All));
            }
            Order::PassHealthCheck => {
                self.running.set_state(ServerState::Live);
                self.tell(Draining::No);
            }
            Order::Quit | Order::ReopenLogs => {} // neither is about connections
        }
    }

    fn listeners(&self, how: DrainListeners) {
        let DrainListeners { graceful, skip_exit, inbound_only } = how;
        let listeners = if inbound_only { Listeners::Inbound } else { Listeners::All };
        if graceful || skip_exit {
            self.tell(Draining::Tell(listeners));
        }
        match (graceful, skip_exit) {
            (_, true) => {}
            (false, false) => self.stop(listeners),
            (true, false) => {
                let this = self.clone();
                drop(tokio::task::spawn_local(async move {
                    tokio::time::sleep(this.most).await;
                    this.stop(listeners);
                }));
            }
        }
    }

    /// Closes listening sockets.
    fn stop(&self, listeners: Listeners) {
        self.shards.tell_all(|| mailbox::Order::StopAccepting(listeners));
        let all = self.running.snapshot.listeners.iter();
        let stopped = all.filter(|listener| listeners.include(listener.direction)).count();
        self.stats.control().listener_stopped.add(stopped as u64);
    }

    /// Closes the listening sockets and waits until the last client has been served, at most for
    /// the drain time.
    pub(super) async fn leave(&mut self) {
        self.running.set_state(ServerState::Draining);
        self.tell(Draining::Leave);
        self.stop(Listeners::All);
        let until = Instant::now() + self.most;
        // The shards first take the connections that wait in their queues.
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            quiet = if self.shards.connections() == 0 { quiet + 1 } else { 0 };
        }
        let left = self.shards.connections();
        if left > 0 {
            tracing::warn!(target: "main", "{left} connections are cut: the drain time is over");
        }
    }

    fn tell(&self, draining: Draining) {
        self.shards.tell_all(|| mailbox::Order::Draining(draining));
    }
}
