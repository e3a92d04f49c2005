//! A shard that a test drives: it decides when events are taken, which task is resumed next and how
//! much time passes. There is no thread and no executor.
//!
//! Invariant: a task is resumed as on a real shard, with a full budget and the current time, and a
//! panic ends only it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::clock::Millis;
use super::handle::ShardHandles;
use super::mailbox::Mailbox;
use super::ring::Ring;
use super::{Shard, catch_panic};

type Spawn = Pin<Box<dyn Future<Output = ()>>>;

/// A shard in the hands of a test. Like any shard it is never freed.
#[derive(Debug)]
pub(crate) struct ByHand {
    /// The shard.
    pub(crate) shard: &'static Shard,
    tasks: RefCell<Vec<Task>>,
    next: Cell<usize>,
}

/// Tasks that were spawned and not begun.
#[derive(Default)]
pub(super) struct Spawned(RefCell<Vec<Spawn>>);

impl std::fmt::Debug for Spawned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spawned").field(&self.0.borrow().len()).finish()
    }
}

impl Spawned {
    pub(super) fn add(&self, task: Spawn) {
        self.0.borrow_mut().push(task);
    }
}

struct Task {
    number: usize,
    future: Spawn,
    woken: Arc<Woken>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("number", &self.number).finish()
    }
}

#[derive(Debug)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl ByHand {
    /// A shard of its own for this thread.
    pub(crate) fn new(ring: Ring) -> Self {
        let (mailbox, _inbox) = Mailbox::new().unwrap();
        let handles = ShardHandles::new(vec![mailbox], u64::MAX);
        let shard = Shard::new(0, ring, Instant::now(), handles).unwrap();
        shard.by_hand.set(Spawned::default()).unwrap();
        Self { shard, tasks: RefCell::default(), next: Cell::new(0) }
    }

    fn admit(&self) {
        let spawned = self.shard.by_hand.get().unwrap().0.take();
        for future in spawned {
            let number = self.next.get();
            self.next.set(number + 1);
            let woken = Arc::new(Woken(AtomicBool::new(true)));
            self.tasks.borrow_mut().push(Task { number, future, woken });
        }
    }

    /// The tasks that have not ended.
    pub(crate) fn tasks(&self) -> Vec<usize> {
        self.admit();
        self.tasks.borrow().iter().map(|task| task.number).collect()
    }

    /// Those of them that were woken, or have not begun.
    pub(crate) fn woken(&self) -> Vec<usize> {
        self.admit();
        let tasks = self.tasks.borrow();
        tasks.iter().filter(|task| task.woken.0.load(Relaxed)).map(|task| task.number).collect()
    }

    /// Resumes a task, woken or not.
    pub(crate) fn resume(&self, number: usize) {
        self.admit();
        let at = |tasks: &[Task]| tasks.iter().position(|task| task.number == number).unwrap();
        let index = at(&self.tasks.borrow());
        // Taken out, because it may spawn others.
        let mut task = self.tasks.borrow_mut().remove(index);
        task.woken.0.store(false, Relaxed);
        self.shard.resume();
        let waker = Waker::from(Arc::clone(&task.woken));
        let cx = &mut Context::from_waker(&waker);
        let ended = catch_panic(|| task.future.as_mut().poll(cx)).unwrap_or(Poll::Ready(()));
        match ended {
            Poll::Ready(()) => drop(task),
            Poll::Pending => self.tasks.borrow_mut().insert(index, task),
        }
        self.admit();
    }

    /// Ends a task in the middle of whatever it does.
    pub(crate) fn give_up(&self, number: usize) {
        let index = self.tasks.borrow().iter().position(|task| task.number == number);
        let given_up = index.map(|index| self.tasks.borrow_mut().remove(index));
        drop(given_up);
    }

    /// Takes what has happened on the sockets, and wakes the tasks that wait for it.
    pub(crate) fn take_events(&self) {
        self.shard.reactor.take_events();
    }

    /// Lets this much time pass.
    pub(crate) fn pass(&self, time: Millis) {
        self.shard.clock.pass(time);
        self.shard.timers.fire(self.shard.clock.refresh());
    }
}
