//! The io_uring of a shard: submissions and completions.
//!
//! It knows only file descriptors and keys. Invariant: bytes passed to [`Uring::send`] stay in place
//! until the completion was taken; the caller owns them.
#![expect(unsafe_code, reason = "entries of the ring carry pointers and descriptors")]

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};

use super::{Blocking, Event, Key};
use crate::shard::ring::{self, Ring};

/// One ring.
pub(super) struct Uring {
    ring: IoUring,
}

/// The operation of a completion, in the two low bits of its user data.
const READABLE: u64 = 0;
const WRITABLE: u64 = 1;
const SENT: u64 = 2;
const KIND_MASK: u64 = 3;

/// With `DEFER_TASKRUN`, one enter runs at least this much of the deferred work. Fewer completions
/// mean that there was no more.
pub(super) const COMPLETIONS_PER_ENTER: usize = 20;

/// User data of operations whose completion is ignored.
const IGNORED: u64 = u64::MAX;

const IN: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const OUT: u32 = libc::POLLOUT as u32;
/// The peer sends no more, or the connection is broken.
const HANG_UP: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

impl Uring {
    pub(super) fn new(ring: Ring) -> io::Result<Self> {
        Ok(Self { ring: ring::build(ring)? })
    }

    /// Reports every change of readability until [`Self::cancel`].
    pub(super) fn watch_readable(&mut self, fd: RawFd, key: Key) {
        let poll = opcode::PollAdd::new(types::Fd(fd), IN).multi(true);
        self.push(&poll.build().user_data(user_data(key, READABLE)));
    }

    /// Reports once when the socket is writable.
    pub(super) fn watch_writable(&mut self, fd: RawFd, key: Key) {
        let poll = opcode::PollAdd::new(types::Fd(fd), OUT);
        self.push(&poll.build().user_data(user_data(key, WRITABLE)));
    }

    /// Sends all of `bytes`, unless the connection breaks. They must not move before the completion.
    pub(super) fn send(&mut self, fd: RawFd, key: Key, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(&send.build().user_data(user_data(key, SENT)));
    }

    /// Cancels the operations `what` of a source; each of them still completes.
    pub(super) fn cancel(&mut self, key: Key, what: InFlight) {
        for (under, kind) in
            [(what.readable, READABLE), (what.writable, WRITABLE), (what.sent, SENT)]
        {
            if under {
                let cancel = opcode::AsyncCancel::new(user_data(key, kind)).build();
                self.push(&cancel.flags(Flags::SKIP_SUCCESS).user_data(IGNORED));
            }
        }
    }

    /// Submits the queued operations, waits for an event if `blocking` says so, and takes all events.
    pub(super) fn poll(&mut self, blocking: Blocking, events: &mut Vec<(Key, Event)>) {
        let queued = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        let least = u32::from(blocking == Blocking::UntilEvent);
        // SAFETY: no argument is passed, and every entry was valid when it was pushed.
        let entered = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(queued, least, GET_EVENTS, None)
        };
        // EINTR or ENOMEM: what was not submitted goes with the next poll.
        drop(entered);
        events.extend(self.ring.completion().filter_map(|entry| event_of(&entry)));
    }

    fn push(&mut self, entry: &Entry) {
        loop {
            // SAFETY: descriptors are open until their operations have completed (`Source` owns
            // them), and the bytes of a send belong to its source until then.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // Full: submit, which makes room. Completions overflow into kernel memory.
            drop(self.ring.submit());
        }
    }
}

/// Which operations of a source are in the ring.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct InFlight {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) sent: bool,
}

fn user_data(key: Key, kind: u64) -> u64 {
    u64::from(key) << 2 | kind
}

fn event_of(entry: &cqueue::Entry) -> Option<(Key, Event)> {
    let (data, result) = (entry.user_data(), entry.result());
    if data == IGNORED {
        return None;
    }
    let key = Key::try_from(data >> 2).ok()?;
    let last = !cqueue::more(entry.flags());
    Some((
        key,
        match data & KIND_MASK {
            READABLE => {
                // The error of a failed poll is of no use; the next receive returns it.
                let hung_up = result < 0 || result & HANG_UP != 0;
                Event::Readable { hung_up, last }
            }
            WRITABLE => Event::Writable,
            _ => Event::Sent(usize::try_from(result).ok()),
        },
    ))
}

/// `IORING_ENTER_GETEVENTS`: runs the deferred work now.
const GET_EVENTS: u32 = 1;
