//! Draining all shards, on a signal or on the operator's request.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admin::{DrainListeners, Order, ServerState};
use super::counted;
use super::server::Running;
use super::shards::Shards;
use crate::shard::drain::{Draining, Health, Listeners};
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
    draining: Option<Listeners>,
    health: Health,
    /// How long one may take.
    drain_time: Duration,
}

/// How often a drain checks whether connections are left.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Drain {
    pub(super) fn new(
        shards: Arc<Shards>,
        running: Arc<Running>,
        stats: Arc<Scope<ListenerManagerStats>>,
        drain_time: Duration,
    ) -> Self {
        Self {
            shards,
            running,
            stats,
            stopped: Rc::default(),
            draining: None,
            health: Health::Good,
            drain_time,
        }
    }

    /// Whether listening sockets are closed, or about to be.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Carries out an order of the admin endpoint.
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::DrainListeners(how) => self.listeners(how),
            Order::FailHealthCheck => {
                self.running.set_state(ServerState::Draining);
                self.set_health(Health::Failed);
            }
            Order::PassHealthCheck => {
                self.running.set_state(ServerState::Live);
                self.set_health(Health::Good);
            }
            Order::Quit | Order::ReopenLogs => {} // neither is about connections
        }
    }

    fn set_health(&mut self, health: Health) {
        self.health = health;
        self.shards.send_to_all(move |shard| shard.set_health(health));
        self.update_draining();
    }

    fn listeners(&mut self, how: DrainListeners) {
        let DrainListeners { graceful, skip_exit, inbound_only } = how;
        let listeners = if inbound_only { Listeners::Inbound } else { Listeners::All };
        if graceful || skip_exit {
            self.draining = Some(listeners.and(self.draining));
            self.update_draining();
        }
        match (graceful, skip_exit) {
            (_, true) => {}
            (false, false) => self.stop(listeners),
            (true, false) => {
                let this = self.clone();
                drop(tokio::task::spawn_local(async move {
                    tokio::time::sleep(this.drain_time).await;
                    this.stop(listeners);
                }));
            }
        }
    }

    /// Closes listening sockets.
    fn stop(&self, listeners: Listeners) {
        self.shards.send_to_all(move |shard| shard.stop_accepting(listeners));
        let before = self.stopped.get();
        self.stopped.set(Some(listeners.and(before)));
        let snapshot = self.running.snapshot();
        let stopped = snapshot.listeners.iter().filter(|listener| {
            let was_open = !before.is_some_and(|before| before.includes(listener.direction));
            was_open && listeners.includes(listener.direction)
        });
        self.stats.control().listener_stopped.add(stopped.count() as u64);
    }

    /// Closes the listening sockets and waits until the last client has been served, at most for
    /// the drain time.
    pub(super) async fn drain_process(&mut self) {
        self.running.set_state(ServerState::Draining);
        self.set_draining(Draining::Process);
        self.stop(Listeners::All);
        let shards = &self.shards;
        let drained = async {
            shards.caught_up().await;
            // In this order: a shard that no longer listens has counted what it accepted.
            while shards.listening() > 0 || shards.connections() > 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        // A timeout is handled below.
        let _in_time = tokio::time::timeout(self.drain_time, drained).await;
        let left = self.shards.connections();
        if left > 0 {
            let left = counted(left, "connection");
            tracing::warn!(target: "main", "drain timeout: {left} closed");
        }
    }

    /// As in Envoy, failing health checks and draining listeners are independent: ending one does not
    /// end the other.
    fn update_draining(&self) {
        self.set_draining(match (self.health, self.draining) {
            (Health::Failed, _) => Draining::Listeners(Listeners::All),
            (Health::Good, Some(draining)) => Draining::Listeners(draining),
            (Health::Good, None) => Draining::No,
        });
    }

    fn set_draining(&self, draining: Draining) {
        self.shards.send_to_all(move |shard| shard.set_draining(draining));
    }
}
