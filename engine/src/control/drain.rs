//! Draining all shards, on a signal or on the operator's request.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admin::{DrainListeners, Order, ServerState};
use super::counted;
use super::server::Running;
use super::shards::Shards;
use crate::shard::mailbox::{self, Draining, Listeners};
use crate::stats::{ListenerManagerStats, Scope};

/// What a drain needs.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    shards: Arc<Shards>,
    running: Arc<Running>,
    stats: Arc<Scope<ListenerManagerStats>>,
    /// The listeners whose sockets are closed.
    stopped: Rc<Cell<Option<Listeners>>>,
    /// The listeners whose clients get `connection: close` because they drain.
    told: Option<Listeners>,
    health: Health,
    /// How long one may take.
    most: Duration,
}

/// What the operator says of the process's health.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Health {
    Good,
    /// All clients get `connection: close`.
    Failed,
}

/// How often a drain looks whether connections are left.
const LOOK: Duration = Duration::from_millis(20);

impl Drain {
    pub(super) fn new(
        shards: Arc<Shards>,
        running: Arc<Running>,
        stats: Arc<Scope<ListenerManagerStats>>,
        most: Duration,
    ) -> Self {
        Self {
            shards,
            running,
            stats,
            stopped: Rc::default(),
            told: None,
            health: Health::Good,
            most,
        }
    }

    /// Carries out an order of the admin endpoint.
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::DrainListeners(how) => self.listeners(how),
            Order::FailHealthCheck => {
                self.running.set_state(ServerState::Draining);
                self.health = Health::Failed;
                self.tell_clients();
            }
            Order::PassHealthCheck => {
                self.running.set_state(ServerState::Live);
                self.health = Health::Good;
                self.tell_clients();
            }
            Order::Quit | Order::ReopenLogs => {} // neither is about connections
        }
    }

    fn listeners(&mut self, how: DrainListeners) {
        let DrainListeners { graceful, skip_exit, inbound_only } = how;
        let listeners = if inbound_only { Listeners::Inbound } else { Listeners::All };
        if graceful || skip_exit {
            self.told = Some(listeners.and(self.told));
            self.tell_clients();
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
        let before = self.stopped.get();
        self.stopped.set(Some(listeners.and(before)));
        let all = self.running.snapshot.listeners.iter();
        let stopped = all.filter(|listener| {
            let was_open = !before.is_some_and(|before| before.includes(listener.direction));
            was_open && listeners.includes(listener.direction)
        });
        self.stats.control().listener_stopped.add(stopped.count() as u64);
    }

    /// Closes the listening sockets and waits until the last client has been served, at most for
    /// the drain time.
    pub(super) async fn leave(&mut self) {
        self.running.set_state(ServerState::Draining);
        self.tell(Draining::Process);
        self.stop(Listeners::All);
        let shards = &self.shards;
        let drained = async {
            shards.caught_up().await;
            // In this order: a shard that no longer listens has counted whom it accepted.
            while shards.listening() > 0 || shards.connections() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        // What it says when the time is over stands below.
        let _in_time = tokio::time::timeout(self.most, drained).await;
        let left = self.shards.connections();
        if left > 0 {
            let left = counted(left, "connection");
            tracing::warn!(target: "main", "the drain time is over: {left} cut");
        }
    }

    /// As in Envoy, failing health checks and draining listeners are independent: ending one does not
    /// end the other.
    fn tell_clients(&self) {
        self.tell(match (self.health, self.told) {
            (Health::Failed, _) => Draining::Listeners(Listeners::All),
            (Health::Good, Some(told)) => Draining::Listeners(told),
            (Health::Good, None) => Draining::No,
        });
    }

    fn tell(&self, draining: Draining) {
        self.shards.tell_all(|| mailbox::Order::Draining(draining));
    }
}
