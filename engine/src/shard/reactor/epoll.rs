//! Where io_uring is forbidden: readiness from epoll, edge by edge.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use super::{Happened, Key, Wait};

/// One epoll instance.
pub(super) struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
}

/// Events that are taken in one call.
pub(super) const EVENTS_MAX: usize = 1024;

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { fd, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Tells of every change until the descriptor is closed.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(key.into()), flags)?)
    }

    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        // It was added, and is still open.
        let _known = epoll::delete(&self.fd, fd);
    }

    pub(super) fn turn(&mut self, wait: Wait, happened: &mut Vec<(Key, Happened)>) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        // Interrupted: there is another turn.
        let timeout = (wait == Wait::No).then_some(&at_once);
        let _count = epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout);
        for event in &self.events {
            let Event { flags, data } = *event;
            let Ok(key) = Key::try_from(data.u64()) else { continue };
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if flags.contains(EventFlags::IN) || hung_up {
                happened.push((key, Happened::Readable { hung_up, over: false }));
            }
            if flags.contains(EventFlags::OUT) || hung_up {
                happened.push((key, Happened::Writable));
            }
        }
    }
}
