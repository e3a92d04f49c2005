//! One direction of a connection: bytes received from one side and not yet sent to the other.
//!
//! Invariant: nothing is received while there are bytes to send, and a lane without bytes holds no
//! block once it waits.

use std::io;

use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    block: Vec<u8>,
    /// `block[sent..]` is not sent yet.
    sent: usize,
    end: End,
    size: Size,
}

/// How far the end of the direction has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum End {
    /// The source may still send.
    #[default]
    Open,
    /// The source has closed its side.
    Received,
    /// The sink has been told.
    Passed,
}

/// The size of the next block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Size {
    #[default]
    Small,
    /// The last block was filled.
    Large,
}

/// What a step has moved, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Moved {
    pub(super) received: usize,
    pub(super) sent: usize,
}

/// Why a lane cannot go on.
#[derive(Debug)]
pub(super) enum Fault<R> {
    /// Receiving failed.
    Source,
    /// Sending failed.
    Sink,
    /// What was received must not be passed on.
    Refused(R),
}

impl Lane {
    /// A lane that holds these bytes already.
    pub(super) fn holding(block: Vec<u8>) -> Self {
        Self { block, ..Self::default() }
    }

    /// There are bytes to send.
    pub(super) fn wants_sink(&self) -> bool {
        self.sent < self.block.len()
    }

    /// How many bytes there are to send.
    pub(super) const fn unsent(&self) -> usize {
        self.block.len().saturating_sub(self.sent)
    }

    /// There is more to receive, and nothing to send first.
    pub(super) fn wants_source(&self) -> bool {
        self.end == End::Open && !self.wants_sink()
    }

    /// The source has ended and the sink knows it.
    pub(super) fn has_ended(&self) -> bool {
        self.end == End::Passed
    }

    /// Receives ahead, without sending, until `most` bytes are held. Returns how many were received;
    /// 0 also at the end of the source.
    pub(super) fn fill(
        &mut self,
        source: &Transport,
        most: usize,
        buffers: &Buffers,
    ) -> io::Result<usize> {
        let room = most.saturating_sub(self.block.len());
        if room == 0 || self.end != End::Open {
            return Ok(0);
        }
        if self.block.capacity() == 0 {
            self.block = buffers.take();
        }
        self.block.reserve(room.min(limits::BLOCK_BYTES));
        match source.receive_at_most(&mut self.block, room)? {
            Received::Bytes(bytes) => return Ok(bytes),
            Received::Nothing => {}
            Received::End => self.end = End::Received,
        }
        if self.block.is_empty() {
            buffers.give(std::mem::take(&mut self.block));
        }
        Ok(0)
    }

    /// Whether [`Self::fill`] could receive something.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.end == End::Open && self.block.len() < most
    }

    /// Moves bytes until it would block or the budget is spent. Whatever is left of the budget, it is
    /// at least one step, or the other direction could use up the budget forever. `accept` is called
    /// with the length of what was received, before any of it is sent.
    ///
    /// # Errors
    /// When a side is broken, or `accept` refuses.
    pub(super) fn step<R>(
        &mut self,
        source: &Transport,
        sink: &Transport,
        mut may_receive: bool,
        buffers: &Buffers,
        mut accept: impl FnMut(usize) -> Result<(), R>,
    ) -> Result<Moved, Fault<R>> {
        let mut moved = Moved::default();
        loop {
            if self.wants_sink() {
                let unsent = self.block.get(self.sent..).unwrap_or_default();
                let sent = sink.send(unsent).map_err(|_| Fault::Sink)?;
                self.sent += sent;
                moved.sent += sent;
                if self.wants_sink() {
                    break; // the sink has no more room
                }
            } else if self.end == End::Open && may_receive {
                self.make_room(buffers);
                match source.receive(&mut self.block).map_err(|_| Fault::Source)? {
                    Received::Bytes(bytes) => {
                        moved.received += bytes;
                        may_receive = self.block.len() == self.block.capacity();
                        self.size = if may_receive { Size::Large } else { Size::Small };
                        accept(bytes).map_err(Fault::Refused)?;
                    }
                    Received::Nothing => may_receive = false,
                    Received::End => {
                        // As in Envoy, the end alone is something that filters decide about.
                        accept(0).map_err(Fault::Refused)?;
                        self.end = End::Received;
                    }
                }
            } else {
                break;
            }
            if source.budget().is_spent() {
                break;
            }
        }
        if !self.wants_sink() {
            if self.end == End::Received {
                sink.shutdown_write();
                self.end = End::Passed;
            }
            self.recycle(buffers);
        }
        Ok(moved)
    }

    /// Returns the block to the pool.
    pub(super) fn recycle(&mut self, buffers: &Buffers) {
        self.sent = 0;
        buffers.give(std::mem::take(&mut self.block));
    }

    /// An empty block to receive into: a large one if the last one was filled.
    fn make_room(&mut self, buffers: &Buffers) {
        self.sent = 0;
        self.block.clear();
        let wanted = match self.size {
            Size::Small => limits::BLOCK_BYTES,
            Size::Large => limits::LARGE_BLOCK_BYTES,
        };
        if self.block.capacity() < wanted {
            let block = match self.size {
                Size::Small => buffers.take(),
                Size::Large => buffers.take_large(),
            };
            buffers.give(std::mem::replace(&mut self.block, block));
        }
    }
}
