//! One thread, one core, one ring: everything that a request touches.
//!
//! A shard owns its listening sockets, connections, buffers, upstream pools and load balancers, and
//! writes its own block of every stat. What others want of it comes through its mailbox as errands:
//! from the control plane, and connections that other shards hand over. A request never waits for
//! either. It knows neither listeners nor clusters: they keep their part of its state on it.
//!
//! Invariant: nothing here is shared with another shard but immutable snapshots, host sets, counters
//! that only this thread writes, and the shard handles (mailboxes and a few atomics).

pub mod budget;
pub mod buffers;
#[cfg(test)]
pub(crate) mod by_hand;
pub mod clock;
pub mod drain;
pub mod future_pool;
pub mod handle;
pub mod mailbox;
pub mod quota;
pub mod reactor;
pub mod ring;
pub mod socket;
pub mod socket_option;
pub mod splice;
pub mod timers;

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use self::budget::Budget;
use self::buffers::Buffers;
use self::clock::Clock;
use self::drain::{Direction, Draining, Health, Listeners};
use self::future_pool::FuturePool;
use self::handle::{ShardHandle, ShardHandles};
use self::mailbox::{Errand, Inbox};
use self::quota::Quota;
use self::reactor::{Reactor, Ticket};
use self::ring::Ring;
use self::splice::Pipes;
use self::timers::Timers;
use crate::limits;

/// What a shard is started with.
#[derive(Debug)]
pub struct Plan {
    /// Its number, from 0; also the index of its block in every stat.
    pub id: usize,
    /// The core to pin to; `None`: not pinned.
    pub core: Option<core_affinity::CoreId>,
    /// The kernel interface to use.
    pub ring: Ring,
    /// The receiving end of its mailbox.
    pub inbox: Inbox,
    /// Time 0 of all clocks.
    pub epoch: Instant,
    /// All shards, including this one.
    pub handles: ShardHandles,
}

/// A shard, for the life of the process.
#[derive(Debug)]
pub struct Shard {
    /// Its number, from 0; also the index of its block in every stat.
    pub id: usize,
    /// The time.
    pub clock: Clock,
    /// The deadlines of its tasks.
    pub timers: Timers,
    /// Read and write buffers of connections.
    pub buffers: &'static Buffers,
    /// Pipes between sockets.
    pub pipes: &'static Pipes,
    /// Memory for the futures of exchanges.
    pub futures: FuturePool,
    /// Limits half-closed clients that wait for their origin.
    pub half_closed: Quota,
    reactor: &'static Reactor,
    /// Random numbers: request ids, back-off, balancing. Not for secrets.
    pub random: RefCell<fastrand::Rng>,
    draining: Cell<Draining>,
    health: Cell<Health>,
    /// The listeners whose sockets are closed.
    stopped: Cell<Option<Listeners>>,
    next_connection: Cell<u64>,
    /// What the parts above the shard keep on it, by type.
    kept: RefCell<Vec<(TypeId, &'static dyn Any)>>,
    /// Where a test collects the tasks, if it drives the shard.
    #[cfg(test)]
    by_hand: std::cell::OnceCell<by_hand::Spawned>,
    /// All shards.
    pub handles: ShardHandles,
    /// The handle of this shard.
    pub handle: &'static ShardHandle,
}

/// When a woken task runs.
#[derive(Clone, Copy, Debug)]
enum Schedule {
    /// As soon as it is woken: it has not used much of its budget.
    WhenWoken,
    /// After the others: it used most of its budget. It joins the queue when it is woken next.
    AfterOthers,
    /// When the reactor reaches this ticket.
    Queued(Ticket),
}

/// Runs a shard on this thread until the process ends.
///
/// # Errors
/// When the kernel refuses the ring or a file descriptor.
pub fn run(plan: Plan) -> io::Result<()> {
    if let Some(core) = plan.core
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!(target: "main", "shard {}: cannot be pinned to core {}", plan.id, core.id);
    }
    ring::block_on(plan.ring, async move {
        let shard = Shard::new(plan.id, plan.ring, plan.epoch, plan.handles)?;
        monoio::spawn(shard.reactor.run());
        monoio::spawn(shard.reactor.run());
        shard.spawn(shard.timers.run(&shard.clock));
        let inbox = plan.inbox.open()?;
        shard.spawn(inbox.run(shard));
        // Everything runs in spawned tasks: the reactor does not see this one.
        std::future::pending().await
    })?
}

/// Runs `work`; `None` if it panicked. The shard goes on.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!(target: "main", "a task panicked; its connection is closed");
    }
    outcome.ok()
}

impl Shard {
    fn new(
        id: usize,
        ring: Ring,
        epoch: Instant,
        handles: ShardHandles,
    ) -> io::Result<&'static Self> {
        let handle = handles.get(id).ok_or_else(|| io::Error::other("no handle for this shard"))?;
        let buffers: &'static Buffers = Box::leak(Box::default());
        let reactor = Reactor::start(ring, buffers)?;
        // A shard lives as long as the process: tasks borrow it without reference counting.
        let shard: &'static Self = Box::leak(Box::new(Self {
            id,
            clock: Clock::new(epoch),
            timers: Timers::new()?,
            buffers,
            pipes: Box::leak(Box::new(Pipes::within_limits())),
            futures: FuturePool::default(),
            half_closed: Quota::new(limits::HALF_CLOSED_MAX),
            reactor,
            random: RefCell::new(fastrand::Rng::new()),
            draining: Cell::new(Draining::No),
            health: Cell::new(Health::Good),
            stopped: Cell::new(None),
            next_connection: Cell::new(id as u64),
            kept: RefCell::default(),
            #[cfg(test)]
            by_hand: std::cell::OnceCell::new(),
            handles,
            handle,
        }));
        Ok(shard)
    }

    /// A number that is unique among all connections of the process, downstream and upstream.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        let id = self.next_connection.get();
        self.next_connection.set(id + self.handles.count() as u64);
        id
    }

    /// The part of the shard's state that has this type; made when it is first asked for. Searched,
    /// so never on the path of a request: who needs it there holds on to the reference.
    pub fn kept<T: 'static>(&'static self, make: impl FnOnce(&'static Self) -> T) -> &'static T {
        let id = TypeId::of::<T>();
        let known = self.kept.borrow().iter().find(|(key, _)| *key == id).map(|(_, value)| *value);
        if let Some(value) = known.and_then(|value| value.downcast_ref()) {
            return value;
        }
        // It lives as long as the shard.
        let value: &'static T = Box::leak(Box::new(make(self)));
        self.kept.borrow_mut().push((id, value));
        value
    }

    fn run_errand(&'static self, errand: Errand) {
        self.clock.refresh();
        let _done = catch_panic(|| errand(self));
    }

    /// Listening sockets of these listeners accept what is left in their queues, then close.
    /// Connections stay open.
    pub fn stop_accepting(&self, listeners: Listeners) {
        self.stopped.set(Some(listeners.and(self.stopped.get())));
        self.timers.wake_all();
    }

    /// Listeners that start from here on accept connections.
    pub fn start_accepting(&self) {
        self.stopped.set(None);
    }

    /// Begins, changes or ends a drain of connections.
    pub fn set_draining(&self, draining: Draining) {
        self.draining.set(draining);
        self.timers.wake_all();
    }

    /// What is draining.
    #[must_use]
    pub const fn draining(&self) -> Draining {
        self.draining.get()
    }

    /// Sets what health checks of the process are answered with.
    pub fn set_health(&self, health: Health) {
        self.health.set(health);
    }

    /// What health checks of the process are answered with.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health.get()
    }

    /// Whether listeners with this direction accept new connections.
    #[must_use]
    pub fn accepts(&self, direction: Direction) -> bool {
        !self.stopped.get().is_some_and(|stopped| stopped.includes(direction))
    }

    /// Spawns a task. A panic ends the task, not the shard.
    pub fn spawn(&'static self, task: impl Future<Output = ()> + 'static) {
        let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
        self.start(task);
    }

    /// Spawns a task that is dropped when it is resumed and `is_over`.
    pub fn spawn_until(
        &'static self,
        is_over: impl Fn() -> bool + Unpin + 'static,
        task: impl Future<Output = ()> + 'static,
    ) {
        let mut task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
        self.start(std::future::poll_fn(move |cx| {
            if is_over() { Poll::Ready(()) } else { task.as_mut().poll(cx) }
        }));
    }

    /// Spawns a task of a kind that begins and ends all the time, in a block of [`Self::futures`].
    pub fn spawn_pooled<F: Future<Output = ()> + 'static>(&'static self, make: impl FnOnce() -> F) {
        self.start(self.futures.place(make));
    }

    fn start(&'static self, mut task: impl Future<Output = ()> + Unpin + 'static) {
        #[cfg(test)]
        if let Some(spawned) = self.by_hand.get() {
            return spawned.add(Box::pin(task));
        }
        self.reactor.task_resumed(); // it is about to be
        let mut schedule = Schedule::WhenWoken;
        monoio::spawn(std::future::poll_fn(move |cx| {
            match schedule {
                Schedule::AfterOthers => {
                    schedule = Schedule::Queued(self.reactor.defer(cx.waker()));
                    return Poll::Pending;
                }
                Schedule::Queued(ticket) if !self.reactor.has_resumed(ticket) => {
                    return Poll::Pending;
                }
                Schedule::Queued(_) | Schedule::WhenWoken => {}
            }
            self.resume();
            let ended = catch_panic(|| Pin::new(&mut task).poll(cx)).unwrap_or(Poll::Ready(()));
            schedule = if self.budget().is_mostly_spent() {
                Schedule::AfterOthers
            } else {
                self.reactor.count_work(self.budget().used());
                Schedule::WhenWoken
            };
            ended
        }));
    }

    fn resume(&self) {
        self.clock.refresh();
        self.reactor.task_resumed();
        self.budget().refill();
    }

    /// The budget of the running task.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        self.reactor.budget()
    }

    /// Ready, unless the budget of the task is spent: then the task yields and is resumed after the
    /// others. To be polled when a wait is over.
    pub fn poll_proceed(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.budget().is_spent() {
            self.budget().charge_wait();
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
