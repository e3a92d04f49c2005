//! What the kernel tells a shard, for all its sockets at once.
//!
//! One turn of the ring hands over everything that the tasks have asked for, and takes everything
//! that has events; between two turns every task that has something to do runs. A socket is
//! watched by one operation for all its life, and short messages are sent with the turn: many of
//! them for one system call. It does not read: bytes are received by direct calls, into memory that
//! belongs to whoever asks.
//!
//! Tasks are monoio's. Its own ring stays empty: docs/decisions/0004 says what that costs and gains.
//!
//! Invariant: a source's descriptor stays open, and bytes that were posted stay in ticket, until the
//! last operation that names them has completed.

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

/// The ticket of a source among those of its shard. There are fewer than descriptors.
type Key = u32;

/// A ticket in the queue of the tasks that let others run first; each is given once.
pub type Ticket = u64;

/// What a turn brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    /// There is something to receive; `last`: the kernel has stopped to watch.
    Readable { hung_up: bool, last: bool },
    /// There may be room to send.
    Writable,
    /// So many of the posted bytes were taken; none: the connection is broken.
    Sent(Option<usize>),
}

/// Whether a turn waits for something to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Blocking {
    No,
    UntilEvent,
}

/// The kernel's side of one shard.
pub struct Reactor {
    kernel: RefCell<Kernel>,
    sources: RefCell<Slab<Rc<Source>>>,
    events: Cell<Vec<(Key, Event)>>,
    /// What is to be sent with the next turn.
    posts: RefCell<Vec<Rc<Source>>>,
    /// Where posted blocks go when they were sent.
    buffers: &'static Buffers,
    /// Whether the ring sends a message as a whole, however long that takes (Linux 5.19).
    sends_whole: bool,
    /// Counts how often tasks were resumed.
    resumed: Cell<u64>,
    /// The count when the kernel last told everything.
    polled_at: Cell<u64>,
    /// Turns in which the kernel told everything.
    polls: Cell<u64>,
    /// The count at the last look, and looks since the last turn.
    seen: Cell<u64>,
    rounds: Cell<u32>,
    /// What the task that runs now may still do.
    budget: Budget,
    /// Tasks that let others run first, in the order in which they are resumed.
    later: RefCell<VecDeque<Waker>>,
    /// The ticket of the first of them.
    next_ticket: Cell<Ticket>,
    /// What the others have done since one of these was resumed.
    work: Cell<u32>,
    /// The one of the two turning tasks that waits for the other.
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
            later: RefCell::default(),
            next_ticket: Cell::new(0),
            work: Cell::new(0),
            other_poller: Cell::default(),
        }));
        CURRENT.set(Some(reactor));
        Ok(reactor)
    }

    /// The reactor of this thread.
    pub(super) fn current() -> io::Result<&'static Self> {
        CURRENT.get().ok_or_else(|| io::Error::other("this thread is no shard"))
    }

    /// A task runs: it may make others ready to run.
    pub fn task_resumed(&self) {
        self.resumed.set(self.resumed.get().wrapping_add(1));
    }

    /// Turns in which the kernel told all that had events.
    pub(super) const fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Whether the kernel has told everything a moment ago.
    pub(super) fn has_just_polled(&self) -> bool {
        self.resumed.get().wrapping_sub(self.polled_at.get()) <= limits::TASKS_SINCE_POLL_MAX
    }

    /// What the task that runs now may still do.
    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Resumes a task when all others that are ready have run. A task that wakes itself would be
    /// the first to run again.
    pub fn resume_later(&self, waker: &Waker) -> Ticket {
        let mut later = self.later.borrow_mut();
        later.push_back(waker.clone());
        self.next_ticket.get() + later.len() as Ticket - 1
    }

    /// A task that does not let others run first has done so much.
    pub fn count_work(&self, work: u32) {
        self.work.set(self.work.get().saturating_add(work));
    }

    /// Whether the task that was given this ticket has been resumed. It may be woken before.
    pub fn has_resumed(&self, ticket: Ticket) -> bool {
        ticket < self.next_ticket.get()
    }

    /// Turns for ever. There are two such tasks, which wake each other: so each runs when all that
    /// were woken before it have run.
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

    /// If no task has run since this was last asked, none is ready, and the shard may sleep.
    fn run_once(&self) {
        let resumed = self.resumed.get();
        let has_later = !self.later.borrow().is_empty();
        let idle = self.seen.replace(resumed) == resumed && !has_later;
        // Tasks that keep each other busy, or are busy themselves, do not keep the kernel waiting.
        if idle {
            self.rounds.set(0);
            while self.poll(Blocking::UntilEvent) == Woke::NoTask {}
        } else if has_later || self.rounds.get() >= ROUNDS_MAX {
            self.rounds.set(0);
            self.poll(Blocking::No);
        } else {
            self.rounds.set(self.rounds.get() + 1);
        }
        if has_later {
            self.resume_some();
        } else {
            self.work.set(0);
        }
    }

    /// Resumes one of the tasks that let others run first, behind those whom the kernel has woken; more
    /// if the others have done more than one of them may do. So these are kept waiting by one, however
    /// many there are, and together they have half of the shard's time when the others want it all.
    fn resume_some(&self) {
        let due = 1 + self.work.take() / limits::TASK_BUDGET;
        let mut later = self.later.borrow_mut();
        let due = later.len().min(due as usize);
        self.next_ticket.set(self.next_ticket.get() + due as Ticket);
        for waker in later.drain(..due) {
            waker.wake();
        }
    }

    /// Watches a descriptor.
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

    /// Nobody will ask for this source again.
    pub(super) fn remove(&self, source: &Source) {
        source.close();
        match &mut *self.kernel.borrow_mut() {
            Kernel::Uring(ring) => {
                if source.is_posting() {
                    // What is asked for first is done first; who is woken runs after this task.
                    let _woke = self.send_posts(ring);
                }
                ring.cancel(source.key(), source.in_flight());
            }
            Kernel::Epoll(epoll) => epoll.remove(source.fd().as_fd()),
        }
        self.remove_if_finished(source);
    }

    /// Tells the source's task once there is room to send.
    pub(super) fn watch_writable(&self, source: &Source) {
        if let Kernel::Uring(ring) = &mut *self.kernel.borrow_mut()
            && source.begin_writable()
        {
            ring.watch_writable(source.fd().as_raw_fd(), source.key());
        }
    }

    /// Whether short messages can go with the turn.
    pub(super) const fn sends_whole(&self) -> bool {
        self.sends_whole
    }

    /// Sends `bytes` with the next turn; the block comes back to the pool of the shard.
    pub(super) fn post(&self, source: &Rc<Source>, bytes: Vec<u8>) {
        source.begin_send(bytes);
        self.posts.borrow_mut().push(Rc::clone(source));
    }

    /// Hands over what was posted since the last turn.
    fn send_posts(&self, ring: &mut Uring) -> Woke {
        let mut posts = self.posts.borrow_mut();
        // One alone costs less directly: there is no completion to wake up for.
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
                // Whoever was woken by that has something to do.
                ring.poll(if woke == Woke::Task { Blocking::No } else { blocking }, &mut events);
                uring::COMPLETIONS_PER_ENTER
            }
            Kernel::Epoll(epoll) => {
                epoll.poll(blocking, &mut events);
                epoll::EVENTS_MAX
            }
        };
        // There was no more.
        if events.len() < events_max {
            self.polled_at.set(self.resumed.get());
            self.polls.set(self.polls.get() + 1);
        }
        for (key, what) in events.drain(..) {
            // What is closed may still complete.
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

    /// The kernel drops a watch when it cannot tell of it; who is served still wants to know.
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
            // The descriptor is closed with it.
            drop(self.sources.borrow_mut().try_remove(source.key() as usize));
        }
    }
}

/// Rounds of tasks that wake each other before the kernel is asked anyway.
const ROUNDS_MAX: u32 = 8;

#[cfg(test)]
mod tests;
