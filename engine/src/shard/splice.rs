//! Pipes through which bulk bytes move from one socket to another without being copied (splice(2)).
//!
//! Invariant: a pooled pipe is empty, and a shard has at most [`limits::pipes_max`] of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::process::{Resource, getrlimit};

use super::socket::{Received, Socket};
use crate::limits;

/// The pipes of one shard.
#[derive(Debug)]
pub struct Pipes {
    free: RefCell<Vec<Pipe>>,
    open: Cell<usize>,
    most: usize,
}

/// A pipe, and what is in it.
#[derive(Debug)]
pub struct Pipe {
    write: OwnedFd,
    read: OwnedFd,
    held: usize,
    pipes: &'static Pipes,
}

impl Pipes {
    /// As many as this process may have.
    pub(super) fn within_limits() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::at_most(limits::pipes_max(descriptors))
    }

    /// At most so many.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self { free: RefCell::default(), open: Cell::new(0), most }
    }

    /// An empty pipe; `None` if there are enough, or the system allows no more of this size.
    #[must_use]
    pub fn take(&'static self) -> Option<Pipe> {
        let free = self.free.borrow_mut().pop();
        free.or_else(|| if self.open.get() < self.most { self.new_pipe() } else { None })
    }

    fn new_pipe(&'static self) -> Option<Pipe> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&write, limits::PIPE_BYTES).ok()?;
        self.open.set(self.open.get() + 1);
        Some(Pipe { write, read, held: 0, pipes: self })
    }

    /// Takes a pipe back; it is closed if it is not empty.
    pub fn give(&self, pipe: Pipe) {
        if pipe.held == 0 {
            self.free.borrow_mut().push(pipe);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pipes.open.set(self.pipes.open.get().saturating_sub(1));
    }
}

impl Pipe {
    /// Whether there are bytes in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Socket {
    /// Moves what has arrived into `pipe`, which is empty. The socket must be non-blocking: splice(2)
    /// has no flag for that.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn splice_into(&self, pipe: &mut Pipe) -> io::Result<Received> {
        let moved = splice(self, None, &pipe.write, None, limits::PIPE_BYTES, FLAGS);
        self.budget().charge_call(moved.unwrap_or(0));
        match moved {
            Ok(0) => Ok(Received::End),
            Ok(bytes) => {
                pipe.held += bytes;
                Ok(Received::Bytes(bytes))
            }
            Err(Errno::AGAIN) => {
                self.mark_drained();
                Ok(Received::Nothing)
            }
            Err(Errno::INTR) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends as much of `pipe` as the kernel accepts now, and returns how much that was; it may be 0.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn splice_from(&self, pipe: &mut Pipe) -> io::Result<usize> {
        if self.is_posting() {
            return Ok(0);
        }
        let moved = splice(&pipe.read, None, self, None, pipe.held, FLAGS);
        self.budget().charge_call(moved.unwrap_or(0));
        match moved {
            Ok(bytes) => {
                pipe.held = pipe.held.saturating_sub(bytes);
                if pipe.held > 0 {
                    self.mark_full();
                }
                Ok(bytes)
            }
            Err(Errno::AGAIN) => {
                self.mark_full();
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);
