//! The ring of a shard: what is asked of the kernel, and what it says events.
//!
//! It knows nothing of sockets but their numbers. Invariant: bytes handed to [`Uring::send`] stay
//! where they are until their completion was taken; the caller keeps them.
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

/// What a completion is kind, in the two low bits of its user data.
const READABLE: u64 = 0;
const WRITABLE: u64 = 1;
const SENT: u64 = 2;
const KIND_MASK: u64 = 3;

/// A ring that puts work off for its thread does at least so much of it when it is entered.
pub(super) const COMPLETIONS_PER_ENTER: usize = 20;

/// User data of operations whose end tells nothing.
const IGNORED: u64 = u64::MAX;

/// The poll ends only when it is told to.
const IN: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const OUT: u32 = libc::POLLOUT as u32;
/// The other side will send no more, or the connection is broken.
const HANG_UP: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

impl Uring {
    pub(super) fn new(ring: Ring) -> io::Result<Self> {
        Ok(Self { ring: ring::build(ring)? })
    }

    /// Tells of every change of readability until [`Self::forget`].
    pub(super) fn watch_readable(&mut self, fd: RawFd, key: Key) {
        let poll = opcode::PollAdd::new(types::Fd(fd), IN).multi(true);
        self.push(&poll.build().user_data(user_data(key, READABLE)));
    }

    /// Tells once when the socket takes bytes.
    pub(super) fn watch_writable(&mut self, fd: RawFd, key: Key) {
        let poll = opcode::PollAdd::new(types::Fd(fd), OUT);
        self.push(&poll.build().user_data(user_data(key, WRITABLE)));
    }

    /// Sends `bytes`, as far as the connection lives. They must not move before it has completed.
    pub(super) fn send(&mut self, fd: RawFd, key: Key, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(&send.build().user_data(user_data(key, SENT)));
    }

    /// Ends everything that is under way for the socket; each operation still completes.
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

    /// Hands over what was asked for, waits for at least one event if `blocking` says so, and takes
    /// all that there are.
    pub(super) fn poll(&mut self, blocking: Blocking, events: &mut Vec<(Key, Event)>) {
        let asked = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
        let least = u32::from(blocking == Blocking::UntilEvent);
        // SAFETY: no argument is passed, and every entry was valid when it was pushed.
        let entered = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(asked, least, GET_EVENTS, None)
        };
        // Interrupted, or short of memory for a moment: what was not taken goes with the next turn.
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
            // Full: hand it over, then there is room. Completions overflow into kernel memory.
            drop(self.ring.submit());
        }
    }
}

/// Which operations of a socket are in the ring.
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
                // A poll that fails tells nothing; the receive that follows does.
                let hung_up = result < 0 || result & HANG_UP != 0;
                Event::Readable { hung_up, last }
            }
            WRITABLE => Event::Writable,
            _ => Event::Sent(usize::try_from(result).ok()),
        },
    ))
}

/// `IORING_ENTER_GETEVENTS`: work that the kernel put off for us is done now.
const GET_EVENTS: u32 = 1;
