//! One direction of a connection whose bytes are passed on as they come, until its source ends: of a
//! tunnel, or of a TCP connection.
//!
//! Invariant: nothing is received while there are bytes to send, and a lane without bytes holds neither
//! a block nor a pipe while it waits.

use std::io;

use super::outlet::{Framing, Outlet};
use crate::http::{BodyLength, More};
use crate::shard::budget::Budget;
use crate::shard::buffers::Buffers;
use crate::shard::splice::{Pipe, Pipes};
use crate::transport::Transport;

/// One direction.
#[derive(Debug)]
pub struct Lane {
    /// What was received and is not sent yet, but for what is in the pipe.
    pub outlet: Outlet,
    fin: Fin,
    /// Where pipes for bulk bytes come from; `None`: they are copied.
    pipes: Option<&'static Pipes>,
    pipe: Option<Pipe>,
}

/// Whether the sink has been told that the direction has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fin {
    Pending,
    Sent,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The sink takes no more for now.
    Blocked,
    /// The source has ended and everything is sent: the caller now ends the sink's direction. Returned
    /// once.
    Ends,
    /// Everything received is sent, or the budget is spent.
    Waits,
}

impl Lane {
    /// `out` is sent first; everything behind it is framed as `framing`.
    #[must_use]
    pub fn new(framing: Framing, out: Vec<u8>, buffers: &'static Buffers) -> Self {
        let outlet = Outlet::new(BodyLength::UntilClose, framing, out, 0, buffers);
        Self { outlet, fin: Fin::Pending, pipes: None, pipe: None }
    }

    /// Lets bulk bytes pass through a pipe. Only for a lane without framing, between two transports that
    /// can splice.
    pub const fn splice(&mut self, pipes: &'static Pipes) {
        self.pipes = Some(pipes);
    }

    /// The source has ended, and the sink has been told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.fin == Fin::Sent
    }

    /// There are bytes to send.
    #[must_use]
    pub fn wants_sink(&self) -> bool {
        self.outlet.wants_sink() || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    /// There is more to receive, and nothing to send first.
    #[must_use]
    pub fn wants_source(&self) -> bool {
        !self.outlet.has_ended() && !self.wants_sink()
    }

    /// An empty pipe for bulk bytes, if they may pass through one. To be called only where there is
    /// nothing to send.
    pub(super) fn pipe(&mut self) -> Option<&mut Pipe> {
        if self.pipe.is_none() {
            self.pipe = self.pipes.and_then(Pipes::take);
            if self.pipe.is_none() {
                self.pipes = None; // it is not tried again for every receive
            }
        }
        self.pipe.as_mut()
    }

    /// Returns its memory.
    pub fn recycle(self) {
        self.outlet.recycle();
    }

    /// Sends what the transport accepts now, and returns how much that was.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, transport: &Transport) -> io::Result<usize> {
        match &mut self.pipe {
            Some(pipe) if !pipe.is_empty() => transport.splice_from(pipe),
            _ => self.outlet.send(transport, false),
        }
    }

    /// Moves bytes until it would block or the budget is spent. It is always at least one step, or the
    /// other direction could use up the budget forever.
    ///
    /// # Errors
    /// Those of `push` and `pull`.
    pub fn step<E>(
        &mut self,
        mut may_receive: bool,
        budget: &Budget,
        mut push: impl FnMut(&mut Self) -> Result<usize, E>,
        mut pull: impl FnMut(&mut Self) -> Result<More, E>,
    ) -> Result<Step, E> {
        loop {
            if self.wants_sink() {
                push(self)?;
                if self.wants_sink() {
                    return Ok(Step::Blocked);
                }
            } else if !self.outlet.has_ended() && may_receive {
                may_receive = pull(self)? == More::Likely;
            } else {
                break;
            }
            if budget.is_spent() {
                break;
            }
        }
        if self.wants_sink() {
            return Ok(Step::Waits);
        }
        if let (Some(pipe), Some(pipes)) = (self.pipe.take(), self.pipes) {
            pipes.give(pipe);
        }
        if self.outlet.has_ended() && self.fin == Fin::Pending {
            self.fin = Fin::Sent;
            return Ok(Step::Ends);
        }
        self.outlet.give_block();
        Ok(Step::Waits)
    }
}
