//! The fallback where io_uring is forbidden: edge-triggered epoll.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use super::{Blocking, Event, Key};

/// One epoll instance.
pub(super) struct Epoll {
    fd: OwnedFd,
    ready: Vec<epoll::Event>,
}

/// Events taken per call.
pub(super) const EVENTS_MAX: usize = 1024;

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { fd, ready: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Reports every change of readiness until the descriptor is closed.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(key.into()), flags)?)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        // Cannot fail: it was added and is still open.
        let _removed = epoll::delete(&self.fd, fd);
    }

    pub(super) fn poll(&mut self, blocking: Blocking, events: &mut Vec<(Key, Event)>) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.ready.clear();
        // EINTR needs no handling: the next poll returns the events.
        let timeout = (blocking == Blocking::No).then_some(&at_once);
        let _count = epoll::wait(&self.fd, spare_capacity(&mut self.ready), timeout);
        for ready in &self.ready {
            let epoll::Event { flags, data } = *ready;
            let Ok(key) = Key::try_from(data.u64()) else { continue };
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if flags.contains(EventFlags::IN) || hung_up {
                events.push((key, Event::Readable { hung_up, last: false }));
            }
            if flags.contains(EventFlags::OUT) || hung_up {
                events.push((key, Event::Writable));
            }
        }
    }
}
