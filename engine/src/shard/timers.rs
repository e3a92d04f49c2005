//! The deadlines of one shard's tasks.
//!
//! A task has one [`Alarm`] and moves its deadline with a store: there is no timer object per read or
//! per request. A deadline that moves later keeps its old queue entry, which is queued again when it
//! is due; one that moves earlier adds an entry. One timerfd wakes the shard for the earliest entry;
//! an idle shard is not woken at all.
//!
//! Invariant: for every alarm with a deadline there is a queue entry at or before that deadline.
#![expect(unsafe_code, reason = "timerfd has no safe wrapper here")]

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll, Waker};

use super::clock::{Clock, Millis};
use super::socket::Socket;

/// No deadline.
const NEVER: Millis = Millis::MAX;

/// The deadline of an alarm that has expired.
const EXPIRED: Millis = 0;

/// A distant deadline is queued at most this far ahead, and again when that entry is due. So stale
/// entries do not pile up.
const LOOKAHEAD_MS: Millis = 20_000;

/// All alarms of a shard.
#[derive(Debug)]
pub struct Timers {
    queue: RefCell<BinaryHeap<Reverse<(Millis, usize)>>>,
    alarms: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    /// When the timerfd expires.
    armed: Cell<Millis>,
    timer: Socket,
}

#[derive(Debug)]
struct Slot {
    deadline: Millis,
    /// The earliest queue entry of this slot.
    queued: Millis,
    waker: Option<Waker>,
}

impl Timers {
    /// Creates the timerfd; must be called on the shard's thread.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created, and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            queue: RefCell::default(),
            alarms: RefCell::default(),
            free: RefCell::default(),
            armed: Cell::new(NEVER),
            timer: Socket::new(fd)?,
        })
    }

    /// A new alarm without a deadline.
    pub fn alarm(&'static self) -> Alarm {
        let mut alarms = self.alarms.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(alarms.len());
        if index == alarms.len() {
            alarms.push(Slot { deadline: NEVER, queued: NEVER, waker: None });
        }
        // A reused slot keeps `queued`: its entry is still in the queue.
        Alarm { timers: self, index }
    }

    /// Fires alarms forever; a task of its own.
    pub async fn run(&self, clock: &Clock) {
        loop {
            std::future::poll_fn(|cx| self.timer.poll_readable(cx)).await;
            self.timer.take_counter();
            self.armed.set(NEVER);
            self.fire(clock.refresh());
        }
    }

    /// Wakes every task that has an alarm, so that it checks the state of the shard again.
    pub fn wake_all(&self) {
        let mut alarms = self.alarms.borrow_mut();
        for waker in alarms.iter_mut().filter_map(|slot| slot.waker.take()) {
            waker.wake();
        }
    }

    /// Expires every alarm whose deadline is at or before `now`, and sets the timerfd for the next.
    pub(super) fn fire(&self, now: Millis) {
        let mut queue = self.queue.borrow_mut();
        while let Some(&Reverse((at, index))) = queue.peek() {
            if at > now {
                break;
            }
            queue.pop();
            let mut alarms = self.alarms.borrow_mut();
            let Some(slot) = alarms.get_mut(index) else { continue };
            if slot.queued != at {
                continue; // stale: replaced by an earlier entry
            }
            slot.queued = NEVER;
            if slot.deadline <= now {
                slot.deadline = EXPIRED;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            } else if slot.deadline != NEVER {
                slot.queued = slot.deadline.min(now + LOOKAHEAD_MS);
                queue.push(Reverse((slot.queued, index)));
            }
        }
        let next = queue.peek().map(|&Reverse((at, _))| at);
        drop(queue);
        if let Some(next) = next {
            self.arm(next, now);
        }
    }

    fn enqueue(&self, at: Millis, index: usize, now: Millis) {
        self.queue.borrow_mut().push(Reverse((at, index)));
        if at < self.armed.get() {
            self.arm(at, now);
        }
    }

    fn arm(&self, at: Millis, now: Millis) {
        let after = at.saturating_sub(now).max(1);
        let seconds = libc::time_t::try_from(after / 1000).unwrap_or(libc::time_t::MAX);
        let nanos = libc::c_long::try_from(after % 1000 * 1_000_000).unwrap_or(0);
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec { tv_sec: seconds, tv_nsec: nanos };
        let spec = libc::itimerspec { it_interval: zero, it_value: value };
        let fd = std::os::fd::AsFd::as_fd(&self.timer).as_raw_fd();
        // SAFETY: `spec` is valid for the call, and the old value is not requested.
        let result = unsafe { libc::timerfd_settime(fd, 0, &raw const spec, std::ptr::null_mut()) };
        debug_assert_eq!(result, 0, "the kernel accepts any valid relative time");
        self.armed.set(at);
    }
}

/// The deadline of one task.
#[derive(Debug)]
pub struct Alarm {
    timers: &'static Timers,
    index: usize,
}

impl Alarm {
    /// Sets or clears the deadline; an expired alarm is reset.
    pub fn set(&self, deadline: Option<Millis>, now: Millis) {
        let deadline = deadline.map_or(NEVER, |at| at.max(EXPIRED + 1));
        let mut alarms = self.timers.alarms.borrow_mut();
        let Some(slot) = alarms.get_mut(self.index) else { return };
        slot.deadline = deadline;
        if deadline < slot.queued {
            let at = deadline.min(now + LOOKAHEAD_MS);
            slot.queued = at;
            drop(alarms);
            self.timers.enqueue(at, self.index, now);
        }
    }

    /// Ready when the deadline has passed.
    #[inline]
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        let mut alarms = self.timers.alarms.borrow_mut();
        let Some(slot) = alarms.get_mut(self.index) else { return Poll::Pending };
        if slot.deadline == EXPIRED {
            return Poll::Ready(());
        }
        if slot.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the deadline.
    pub async fn expired(&self) {
        std::future::poll_fn(|cx| self.poll_expired(cx)).await;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut alarms = self.timers.alarms.borrow_mut();
        if let Some(slot) = alarms.get_mut(self.index) {
            slot.deadline = NEVER;
            slot.waker = None;
        }
        self.timers.free.borrow_mut().push(self.index);
    }
}
