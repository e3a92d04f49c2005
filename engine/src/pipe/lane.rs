//! One direction of a connection whose bytes are passed on as they come, until its source ends: of a
//! tunnel, or of a TCP connection.
//!
//! Invariant: nothing is received while there are bytes to send, and a lane without bytes holds no
//! block while it waits.

use super::outlet::{Framing, Outlet};
use crate::http::{BodyLength, More};
use crate::shard::budget::Budget;
use crate::shard::buffers::Buffers;

/// One direction.
#[derive(Debug)]
pub struct Lane {
    /// What was received and is not sent yet.
    pub outlet: Outlet,
    fin: Fin,
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
        Self { outlet, fin: Fin::Pending }
    }

    /// The source has ended, and the sink has been told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.fin == Fin::Sent
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
        mut push: impl FnMut(&mut Outlet) -> Result<usize, E>,
        mut pull: impl FnMut(&mut Outlet) -> Result<More, E>,
    ) -> Result<Step, E> {
        loop {
            if self.outlet.wants_sink() {
                push(&mut self.outlet)?;
                if self.outlet.wants_sink() {
                    return Ok(Step::Blocked);
                }
            } else if self.outlet.wants_source() && may_receive {
                may_receive = pull(&mut self.outlet)? == More::Likely;
            } else {
                break;
            }
            if budget.is_spent() {
                break;
            }
        }
        if self.outlet.is_done() && self.fin == Fin::Pending {
            self.fin = Fin::Sent;
            return Ok(Step::Ends);
        }
        self.outlet.give_block();
        Ok(Step::Waits)
    }
}
