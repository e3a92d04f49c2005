//! What the kernel tells a shard, for all its sockets at once.
//!
//! One turn of the ring hands over everything that the tasks have asked for, and takes everything
//! that has happened; between two turns every task that has something to do runs. A socket is
//! watched by one operation for all its life, and short messages are sent with the turn: many of
//! them for one system call. It does not read: bytes are received by direct calls, into memory that
//! belongs to whoever asks.
//!
//! Tasks are monoio's. Its own ring stays empty: docs/decisions/0004 says what that costs and gains.
//!
//! Invariant: a source's descriptor stays open, and bytes that were posted stay in place, until the
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
use self::source::Heard;
pub(super) use self::source::Source;
use self::uring::{Under, Uring};
use super::budget::Budget;
use super::buffers::Buffers;
use super::ring::Ring;
use crate::limits;

/// The place of a source among those of its shard. There are fewer than descriptors.
type Key = u32;

/// A place in the queue of the tasks that let others run first; each is given once.
pub type Place = u64;

/// What a turn brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Happened {
    /// There is something to receive; `over`: the kernel has stopped to watch.
    Readable { hung_up: bool, over: bool },
    /// There may be room to send.
    Writable,
    /// So many of the posted bytes were taken; none: the connection is broken.
    Sent(Option<usize>),
}

/// Whether a turn waits for something to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    No,
    ForOne,
}

/// The kernel's side of one shard.
pub struct Reactor {
    kernel: RefCell<Kernel>,
    sources: RefCell<Slab<Rc<Source>>>,
    happened: Cell<Vec<(Key, Happened)>>,
    /// What is to be sent with the next turn.
    posts: RefCell<Vec<Rc<Source>>>,
    /// Where posted blocks go when they were sent.
    buffers: &'static Buffers,
    /// Whether the ring sends a message as a whole, however long that takes (Linux 5.19).
    carries: bool,
    /// Counts how often tasks were resumed.
    resumed: Cell<u64>,
    /// The count when the kernel last told everything.
    asked: Cell<u64>,
    /// Turns in which the kernel told everything.
    turns: Cell<u64>,
    /// The count at the last look, and looks since the last turn.
    seen: Cell<u64>,
    rounds: Cell<u32>,
    /// What the task that runs now may still do.
    budget: Budget,
    /// Tasks that let others run first, in the order in which they are resumed.
    later: RefCell<VecDeque<Waker>>,
    /// The place of the first of them.
    next_place: Cell<Place>,
    /// What the others have done since one of these was resumed.
    work: Cell<u32>,
    /// The one of the two turning tasks that waits for the other.
    turner: Cell<Option<Waker>>,
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
            happened: Cell::default(),
            posts: RefCell::default(),
            buffers,
            carries: matches!(ring, Ring::DeferTaskrun | Ring::CoopTaskrun),
            resumed: Cell::new(0),
            asked: Cell::new(0),
            turns: Cell::new(0),
            seen: Cell::new(0),
            rounds: Cell::new(0),
            budget: Budget::default(),
            later: RefCell::default(),
            next_place: Cell::new(0),
            work: Cell::new(0),
            turner: Cell::default(),
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

    /// Turns in which the kernel told all that had happened.
    pub(super) const fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Whether the kernel has told everything a moment ago.
    pub(super) fn has_just_asked(&self) -> bool {
        self.resumed.get().wrapping_sub(self.asked.get()) <= limits::TASKS_UNASKED_MAX
    }

    /// What the task that runs now may still do.
    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Resumes a task when all others that are ready have run. A task that wakes itself would be
    /// the first to run again.
    pub fn resume_later(&self, waker: &Waker) -> Place {
        let mut later = self.later.borrow_mut();
        later.push_back(waker.clone());
        self.next_place.get() + later.len() as Place - 1
    }

    /// A task that does not let others run first has done so much.
    pub fn count_work(&self, work: u32) {
        self.work.set(self.work.get().saturating_add(work));
    }

    /// Whether the task that was given this place has been resumed. It may be woken before.
    pub fn has_resumed(&self, place: Place) -> bool {
        place < self.next_place.get()
    }

    /// Turns for ever. There are two such tasks, which wake each other: so each runs when all that
    /// were woken before it have run.
    pub async fn run(&'static self) {
        poll_fn(|cx| {
            if let Some(other) = self.turner.replace(Some(cx.waker().clone())) {
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
            while self.turn(Wait::ForOne) == Heard::ByNobody {}
        } else if has_later || self.rounds.get() >= ROUNDS_MAX {
            self.rounds.set(0);
            self.turn(Wait::No);
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
        self.next_place.set(self.next_place.get() + due as Place);
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
                    let _heard = self.send_posts(ring);
                }
                ring.cancel(source.key(), source.under_way());
            }
            Kernel::Epoll(epoll) => epoll.forget(source.fd().as_fd()),
        }
        self.forget_if_over(source);
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
    pub(super) const fn carries(&self) -> bool {
        self.carries
    }

    /// Sends `bytes` with the next turn; the block comes back to the pool of the shard.
    pub(super) fn post(&self, source: &Rc<Source>, bytes: Vec<u8>) {
        source.begin_send(bytes);
        self.posts.borrow_mut().push(Rc::clone(source));
    }

    /// Hands over what was posted since the last turn.
    fn send_posts(&self, ring: &mut Uring) -> Heard {
        let mut posts = self.posts.borrow_mut();
        // One alone costs less directly: there is no completion to wake up for.
        if let [post] = &**posts
            && let Some((bytes, heard)) = post.send_now()
        {
            self.buffers.give(bytes);
            posts.clear();
            return heard;
        }
        for post in posts.drain(..) {
            post.with_posted(|bytes| ring.send(post.fd().as_raw_fd(), post.key(), bytes));
        }
        Heard::ByNobody
    }

    fn turn(&self, wait: Wait) -> Heard {
        let mut happened = self.happened.take();
        let mut heard = Heard::ByNobody;
        let told_at_once = match &mut *self.kernel.borrow_mut() {
            Kernel::Uring(ring) => {
                heard = self.send_posts(ring);
                // Whoever was woken by that has something to do.
                ring.turn(if heard == Heard::ByTask { Wait::No } else { wait }, &mut happened);
                uring::TOLD_AT_ONCE
            }
            Kernel::Epoll(epoll) => {
                epoll.turn(wait, &mut happened);
                epoll::EVENTS_MAX
            }
        };
        // There was no more.
        if happened.len() < told_at_once {
            self.asked.set(self.resumed.get());
            self.turns.set(self.turns.get() + 1);
        }
        for (key, what) in happened.drain(..) {
            // What is closed may still complete.
            let source = self.sources.borrow().get(key as usize).map(Rc::clone);
            if let Some(source) = source
                && self.tell(&source, what) == Heard::ByTask
            {
                heard = Heard::ByTask;
            }
        }
        self.happened.set(happened);
        heard
    }

    fn tell(&self, source: &Source, what: Happened) -> Heard {
        let heard = match what {
            Happened::Readable { hung_up, over } => {
                if over {
                    source.end_watch();
                    self.watch_again(source);
                }
                source.became_readable(hung_up)
            }
            Happened::Writable => source.became_writable(),
            Happened::Sent(taken) => {
                let (block, heard) = source.sent(taken);
                self.buffers.give(block);
                heard
            }
        };
        self.forget_if_over(source);
        heard
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

    fn forget_if_over(&self, source: &Source) {
        if !source.is_open() && source.under_way() == Under::default() {
            // The descriptor is closed with it.
            drop(self.sources.borrow_mut().try_remove(source.key() as usize));
        }
    }
}

/// Rounds of tasks that wake each other before the kernel is asked anyway.
const ROUNDS_MAX: u32 = 8;

#[cfg(test)]
mod tests;
