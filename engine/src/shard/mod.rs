//! One thread, one core, one ring: everything that a request touches.
//!
//! A shard owns its listening sockets, connections, buffers, upstream pools and load balancers, and
//! writes its own block of every stat. It takes orders only through its mailbox: from the control
//! plane, and connections that other shards hand over. A request never waits for either.
//!
//! Invariant: nothing here is shared with another shard but immutable snapshots, host sets, counters
//! that only this thread writes, and the shard handles (mailboxes and a few atomics).

pub mod budget;
pub mod buffers;
pub mod clock;
pub mod future_pool;
pub mod handle;
pub mod local;
pub mod mailbox;
pub mod quota;
pub mod reactor;
pub mod ring;
pub mod socket;
pub mod timers;

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use self::budget::Budget;
use self::buffers::Buffers;
use self::clock::Clock;
use self::future_pool::FuturePool;
use self::handle::{ShardHandle, ShardHandles};
use self::local::LocalSnapshot;
use self::mailbox::{Draining, Inbox, Listeners, Order};
use self::quota::Quota;
use self::reactor::{Reactor, Ticket};
use self::ring::Ring;
use self::timers::{Alarm, Timers};
use crate::downstream::{Direction, listener};
use crate::http::header_key_format::AsReceived;
use crate::http::{RequestHead, ResponseHead};
use crate::limits;
use crate::request::route::Scratch;

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
    /// Memory for the futures of exchanges.
    pub futures: FuturePool,
    /// Limits half-closed clients that wait for their origin.
    pub half_closed: Quota,
    reactor: &'static Reactor,
    /// Random numbers: request ids, back-off, balancing. Not for secrets.
    pub random: RefCell<fastrand::Rng>,
    snapshot: RefCell<Rc<LocalSnapshot>>,
    draining: Cell<Draining>,
    /// The listeners whose sockets are closed.
    stopped: Cell<Option<Listeners>>,
    next_connection: Cell<u64>,
    #[expect(clippy::vec_box, reason = "they move between tasks and this pool all the time")]
    heads: RefCell<Vec<Box<Heads>>>,
    scratch: RefCell<Scratch>,
    /// All shards.
    pub handles: ShardHandles,
    /// The handle of this shard.
    pub handle: &'static ShardHandle,
    sweep: Cell<Option<&'static Alarm>>,
    /// When idle upstream connections are checked next.
    sweep_due: Cell<clock::Millis>,
}

/// The heads of one exchange, with the buffers that they were received into.
#[derive(Debug, Default)]
pub struct Heads {
    /// From the client.
    pub request: RequestHead,
    /// From the origin.
    pub response: ResponseHead,
    /// The request as received, if the case of its field names is preserved.
    pub request_as_received: AsReceived,
    /// The response as received, if the case of its field names is preserved.
    pub response_as_received: AsReceived,
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
        shard.spawn(shard.sweep_pools());
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
            futures: FuturePool::default(),
            half_closed: Quota::new(limits::HALF_CLOSED_MAX),
            reactor,
            random: RefCell::new(fastrand::Rng::new()),
            snapshot: RefCell::new(Rc::new(LocalSnapshot::default())),
            draining: Cell::new(Draining::No),
            stopped: Cell::new(None),
            next_connection: Cell::new(id as u64),
            heads: RefCell::default(),
            scratch: RefCell::default(),
            handles,
            handle,
            sweep: Cell::new(None),
            sweep_due: Cell::new(clock::Millis::MAX),
        }));
        shard.sweep.set(Some(Box::leak(Box::new(shard.timers.alarm()))));
        Ok(shard)
    }

    /// A number that is unique among all connections of the process, downstream and upstream.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        let id = self.next_connection.get();
        self.next_connection.set(id + self.handles.count() as u64);
        id
    }

    fn execute(&'static self, order: Order) {
        self.clock.refresh();
        match order {
            Order::Snapshot(snapshot) => {
                let next = LocalSnapshot::next(self, &self.snapshot.borrow(), &snapshot);
                *self.snapshot.borrow_mut() = Rc::new(next);
            }
            Order::Hosts { cluster, hosts } => {
                if let Some(cluster) = self.snapshot().cluster(cluster) {
                    cluster.replace_hosts(hosts);
                }
            }
            Order::Listen { listener, socket, address } => {
                let Some(listener) = self.snapshot().listener(listener) else { return };
                self.stopped.set(None);
                match socket::Socket::new(socket) {
                    Ok(socket) => {
                        let listening = self.handle.begin_listening();
                        self.spawn(listener::accept(self, listener, socket, address, listening));
                    }
                    Err(error) => {
                        tracing::error!(target: "main", "{address}: cannot poll the listening socket: {error}");
                    }
                }
            }
            Order::Serve { listener, accepted_socket } => {
                let _taken = catch_panic(|| listener::take_over(self, &listener, accepted_socket));
            }
            Order::StopAccepting(listeners) => {
                self.stopped.set(Some(listeners.and(self.stopped.get())));
                self.timers.wake_all();
            }
            Order::Draining(draining) => {
                self.draining.set(draining);
                self.timers.wake_all();
            }
            Order::Heartbeat => self.handle.answer_heartbeat(),
        }
    }

    /// The current configuration, for a request that begins now.
    #[must_use]
    pub fn snapshot(&self) -> Rc<LocalSnapshot> {
        Rc::clone(&self.snapshot.borrow())
    }

    /// What is draining.
    #[must_use]
    pub const fn draining(&self) -> Draining {
        self.draining.get()
    }

    /// Whether listeners with this direction accept new connections.
    #[must_use]
    pub fn accepts(&self, direction: Direction) -> bool {
        !self.stopped.get().is_some_and(|stopped| stopped.includes(direction))
    }

    /// Empty heads for an exchange.
    #[must_use]
    pub fn take_heads(&self) -> Box<Heads> {
        let heads = self.heads.borrow_mut().pop();
        heads.unwrap_or_else(|| {
            let mut heads = Box::<Heads>::default();
            heads.request.received().reserve_exact(limits::BLOCK_BYTES);
            heads.response.received().reserve_exact(limits::BLOCK_BYTES);
            heads
        })
    }

    /// Returns heads to the pool; heads that had to grow are freed.
    pub fn give_heads(&self, mut heads: Box<Heads>) {
        heads.request.clear();
        heads.response.clear();
        heads.request_as_received.clear();
        heads.response_as_received.clear();
        let bytes = heads.request.received().capacity() + heads.response.received().capacity();
        let mut pool = self.heads.borrow_mut();
        if bytes <= 4 * limits::BLOCK_BYTES && pool.len() < limits::POOLED_BLOCKS_MAX {
            pool.push(heads);
        }
    }

    /// A buffer for the values of headers that a route adds.
    pub fn scratch(&self) -> RefMut<'_, Scratch> {
        self.scratch.borrow_mut()
    }

    /// Spawns a task. A panic ends the task, not the shard.
    pub fn spawn(&'static self, task: impl Future<Output = ()> + 'static) {
        let mut task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
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
            let ended = catch_panic(|| task.as_mut().poll(cx)).unwrap_or(Poll::Ready(()));
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

    /// Schedules a check of the idle upstream connections: at `expires`, when one that has just
    /// become idle expires, but neither too soon nor too late.
    pub fn schedule_sweep(&self, expires: clock::Millis, now: clock::Millis) {
        let due = expires.clamp(now + limits::POOL_SWEEP_MIN_MS, now + limits::POOL_SWEEP_MS);
        if due < self.sweep_due.get()
            && let Some(alarm) = self.sweep.get()
        {
            self.sweep_due.set(due);
            alarm.set(Some(due), now);
        }
    }

    async fn sweep_pools(&'static self) {
        let Some(alarm) = self.sweep.get() else { return };
        loop {
            alarm.expired().await;
            let now = self.clock.refresh();
            alarm.set(None, now);
            self.sweep_due.set(clock::Millis::MAX);
            if let Some(expires) = self.snapshot().sweep(now) {
                self.schedule_sweep(expires, now);
            }
        }
    }
}
