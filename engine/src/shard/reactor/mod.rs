//! The event loop of a shard: events for all its sockets.
//!
//! One poll of the ring submits the operations of all tasks and takes all completions; between two
//! polls every task that is ready runs. A socket is watched by one multishot poll for all its life,
//! and short messages are submitted with the poll: many of them with one system call. The reactor
//! does not receive: tasks do, by direct calls into their own buffers.
//!
//! Tasks are monoio's. Its own ring stays empty: docs/decisions/0004 says what that costs and gains.
//!
//! Invariant: the descriptor of a source stays open, and posted bytes stay in place, until the last
//! operation on them has completed.

mod epoll;
mod source;
mod uring;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;

use self::epoll::Epoll;
pub(super) use self::source::Source;
use self::source::Woke;
use self::uring::{InFlight, Uring};
use super::budget::Budget;
use super::buffers::Buffers;
use super::ring::Ring;
use crate::limits;

/// The index of a source in the slab of its shard. There are fewer than file descriptors.
type Key = u32;

/// The position of a deferred task in the queue; never reused.
pub type Ticket = u64;

/// What the kernel reports about a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    /// There is something to receive; `last`: the kernel has ended the watch.
    Readable { hung_up: bool, last: bool },
    /// There may be room to send.
    Writable,
    /// So many of the posted bytes were sent; `None`: the connection is broken.
    Sent(Option<usize>),
}

/// Whether a poll blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Blocking {
    No,
    UntilEvent,
}

/// The event loop of one shard.
pub struct Reactor {
    kernel: RefCell<Kernel>,
    sources: RefCell<Slab<Rc<Source>>>,
    events: Cell<Vec<(Key, Event)>>,
    /// Sources with bytes to send with the next poll.
    posts: RefCell<Vec<Rc<Source>>>,
    /// The pool to which posted blocks return.
    buffers: &'static Buffers,
    /// Whether the ring sends a whole message, however long that takes (Linux 5.19).
    sends_whole: bool,
    /// How often tasks were resumed.
    resumed: Cell<u64>,
    /// `resumed` at the last poll that took all pending events.
    polled_at: Cell<u64>,
    /// Polls that took all pending events.
    polls: Cell<u64>,
    /// `resumed` at the last call of `run_once`.
    seen: Cell<u64>,
    /// Calls of `run_once` since the last poll.
    rounds: Cell<u32>,
    /// The budget of the running task.
    budget: Budget,
    /// Tasks that are resumed after the others, in this order.
    deferred: RefCell<VecDeque<Waker>>,
    /// The ticket of the first of them.
    next_ticket: Cell<Ticket>,
    /// What the other tasks have used of their budgets since one of these was resumed.
    work: Cell<u32>,
    /// The one of the two tasks in [`Self::run`] that waits for the other.
    other_poller: Cell<Option<Waker>>,
}

enum Kernel {
    Uring(Box<Uring>),
    Epoll(Epoll),
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").field("sources", &self.sources.borrow().len()).finish()
    }
}

thread_local! {
    static CURRENT: Cell<Option<&'static Reactor>> = const { Cell::new(None) };
}

impl Reactor {
    /// The reactor of this thread, for the life of the process.
    ///
    /// # Errors
    /// When the kernel refuses the ring.
    pub fn start(ring: Ring, buffers: &'static Buffers) -> io::Result<&'static Self> {
        let kernel = match ring {
            Ring::Epoll => Kernel::Epoll(Epoll::new()?),
            ring => Kernel::Uring(Box::new(Uring::new(ring)?)),
        };
        let reactor: &'static Self = Box::leak(Box::new(Self {
            kernel: RefCell::new(kernel),
            sources: RefCell::default(),
            events: Cell::default(),
            posts: RefCell::default(),
            buffers,
            sends_whole: matches!(ring, Ring::DeferTaskrun | Ring::CoopTaskrun),
            resumed: Cell::new(0),
            polled_at: Cell::new(0),
            polls: Cell::new(0),
            seen: Cell::new(0),
            rounds: Cell::new(0),
            budget: Budget::default(),
            deferred: RefCell::default(),
            next_ticket: Cell::new(0),
            work: Cell::new(0),
            other_poller: Cell::default(),
        }));
        CURRENT.set(Some(reactor));
        Ok(reactor)
    }

    /// The reactor of this thread.
    pub(super) fn current() -> io::Result<&'static Self> {
        CURRENT.get().ok_or_else(|| io::Error::other("not on the thread of a shard"))
    }

    /// Counts that a task runs. It may wake others.
    pub fn task_resumed(&self) {
        self.resumed.set(self.resumed.get().wrapping_add(1));
    }

    /// Polls that took all pending events.
    pub(super) const fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Whether a recent poll took all pending events.
    pub(super) fn has_just_polled(&self) -> bool {
        self.resumed.get().wrapping_sub(self.polled_at.get()) <= limits::TASKS_SINCE_POLL_MAX
    }

    /// The blocks of the shard.
    pub(super) const fn buffers(&self) -> &'static Buffers {
        self.buffers
    }

    /// The budget of the running task.
    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Resumes a task after all others that are ready. A task that wakes itself would run again
    /// before them.
    pub fn defer(&self, waker: &Waker) -> Ticket {
        let mut deferred = self.deferred.borrow_mut();
        deferred.push_back(waker.clone());
        self.next_ticket.get() + deferred.len() as Ticket - 1
    }

    /// Counts what a task that was not deferred has used of its budget.
    pub fn count_work(&self, work: u32) {
        self.work.set(self.work.get().saturating_add(work));
    }

    /// Whether the task with this ticket has been resumed. It may be woken earlier.
    pub fn has_resumed(&self, ticket: Ticket) -> bool {
        ticket < self.next_ticket.get()
    }

    /// Runs the event loop forever. Two tasks do this and wake each other: so each runs after all
    /// tasks that were woken before it.
    pub async fn run(&'static self) {
        poll_fn(|cx| {
            if let Some(other) = self.other_poller.replace(Some(cx.waker().clone())) {
                self.run_once();
                other.wake();
            }
            Poll::Pending
        })
        .await
    }

    /// One iteration. If no task has run since the previous one, none is ready, and the poll may block.
    fn run_once(&self) {
        let resumed = self.resumed.get();
        let has_deferred = !self.deferred.borrow().is_empty();
        let idle = self.seen.replace(resumed) == resumed && !has_deferred;
        // Tasks that keep each other or themselves busy do not delay the poll for long.
        if idle {
            self.rounds.set(0);
            while self.poll(Blocking::UntilEvent) == Woke::NoTask {}
        } else if has_deferred || self.rounds.get() >= ROUNDS_MAX {
            self.rounds.set(0);
            self.poll(Blocking::No);
        } else {
            self.rounds.set(self.rounds.get() + 1);
        }
        if has_deferred {
            self.resume_deferred();
        } else {
            self.work.set(0);
        }
    }

    /// Resumes one deferred task, after those that the poll has woken; more if the others have used
    /// more than one budget. So the others wait for only one deferred task, however many there are, and
    /// the deferred tasks together get half of the shard's time when the others are busy too.
    fn resume_deferred(&self) {
        let due = 1 + self.work.take() / limits::TASK_BUDGET;
        let mut deferred = self.deferred.borrow_mut();
        let due = deferred.len().min(due as usize);
        self.next_ticket.set(self.next_ticket.get() + due as Ticket);
        for waker in deferred.drain(..due) {
            waker.wake();
        }
    }

    /// Takes all events, for a test that drives the shard.
    #[cfg(test)]
    pub(super) fn take_events(&self) {
        self.task_resumed();
        let _woke = self.poll(Blocking::No);
    }

    /// Adds a descriptor and watches it.
    pub(super) fn add(&self, fd: OwnedFd) -> io::Result<Rc<Source>> {
        let mut sources = self.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let key = Key::try_from(entry.key()).map_err(io::Error::other)?;
        let source = Rc::new(Source::new(fd, key));
        match &mut *self.kernel.borrow_mut() {
            Kernel::Uring(ring) => {
                ring.watch_readable(source.fd().as_raw_fd(), source.key());
                source.begin_watch();
            }
            Kernel::Epoll(epoll) => epoll.watch(source.fd().as_fd(), source.key())?,
        }
        entry.insert(Rc::clone(&source));
        Ok(source)
    }

    /// Removes a source when its owner drops it. It is closed when its last operation has completed.
    pub(super) fn remove(&self, source: &Source) {
        source.close();
        match &mut *self.kernel.borrow_mut() {
            Kernel::Uring(ring) => {
                if source.is_posting() {
                    // Submitted before the cancellation; a woken task runs after this one.
                    let _woke = self.send_posts(ring);
                }
                ring.cancel(source.key(), source.in_flight());
            }
            Kernel::Epoll(epoll) => epoll.remove(source.fd().as_fd()),
        }
        self.remove_if_finished(source);
    }

    /// Wakes the task of the source when there is room to send.
    pub(super) fn watch_writable(&self, source: &Source) {
        if let Kernel::Uring(ring) = &mut *self.kernel.borrow_mut()
            && source.begin_writable()
        {
            ring.watch_writable(source.fd().as_raw_fd(), source.key());
        }
    }

    /// Whether short messages can be sent through the ring.
    pub(super) const fn sends_whole(&self) -> bool {
        self.sends_whole
    }

    /// Sends `bytes` with the next poll; the block is returned to the pool of the shard.
    pub(super) fn post(&self, source: &Rc<Source>, bytes: Vec<u8>) {
        source.begin_send(bytes);
        self.posts.borrow_mut().push(Rc::clone(source));
    }

    /// Submits what was posted since the last poll.
    fn send_posts(&self, ring: &mut Uring) -> Woke {
        let mut posts = self.posts.borrow_mut();
        // A single message is cheaper to send directly: there is no completion to wake up for.
        if let [post] = &**posts
            && let Some((bytes, woke)) = post.send_now()
        {
            self.buffers.give(bytes);
            posts.clear();
            return woke;
        }
        for post in posts.drain(..) {
            post.with_posted(|bytes| ring.send(post.fd().as_raw_fd(), post.key(), bytes));
        }
        Woke::NoTask
    }

    fn poll(&self, blocking: Blocking) -> Woke {
        let mut events = self.events.take();
        let mut woke = Woke::NoTask;
        let events_max = match &mut *self.kernel.borrow_mut() {
            Kernel::Uring(ring) => {
                woke = self.send_posts(ring);
                // Do not block if that woke a task.
                ring.poll(if woke == Woke::Task { Blocking::No } else { blocking }, &mut events);
                uring::COMPLETIONS_PER_ENTER
            }
            Kernel::Epoll(epoll) => {
                epoll.poll(blocking, &mut events);
                epoll::EVENTS_MAX
            }
        };
        // These were all pending events.
        if events.len() < events_max {
            self.polled_at.set(self.resumed.get());
            self.polls.set(self.polls.get() + 1);
        }
        for (key, what) in events.drain(..) {
            // A removed source may still have completions.
            let source = self.sources.borrow().get(key as usize).map(Rc::clone);
            if let Some(source) = source
                && self.dispatch(&source, what) == Woke::Task
            {
                woke = Woke::Task;
            }
        }
        self.events.set(events);
        woke
    }

    fn dispatch(&self, source: &Source, what: Event) -> Woke {
        let woke = match what {
            Event::Readable { hung_up, last } => {
                if last {
                    source.end_watch();
                    self.watch_again(source);
                }
                source.became_readable(hung_up)
            }
            Event::Writable => source.became_writable(),
            Event::Sent(taken) => {
                let (block, woke) = source.sent(taken);
                self.buffers.give(block);
                woke
            }
        };
        self.remove_if_finished(source);
        woke
    }

    /// Renews a watch that the kernel has ended, as it does when it cannot post a completion.
    fn watch_again(&self, source: &Source) {
        if let Kernel::Uring(ring) = &mut *self.kernel.borrow_mut()
            && source.is_open()
        {
            ring.watch_readable(source.fd().as_raw_fd(), source.key());
            source.begin_watch();
        }
    }

    fn remove_if_finished(&self, source: &Source) {
        if !source.is_open() && source.in_flight() == InFlight::default() {
            // This closes the descriptor.
            drop(self.sources.borrow_mut().try_remove(source.key() as usize));
        }
    }
}

/// Iterations without a poll while tasks wake each other.
const ROUNDS_MAX: u32 = 8;

#[cfg(test)]
mod tests;
