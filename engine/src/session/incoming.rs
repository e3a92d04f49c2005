//! What was received on a connection and is not handled yet.

use std::io;
use std::ops::Range;

use crate::http2::Input;
use crate::limits;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// The bytes of the peer, from the first one that is not handled. It holds no block while the connection
/// waits between two frames.
#[derive(Debug, Default)]
pub struct Incoming {
    block: Vec<u8>,
    handled: usize,
}

impl Incoming {
    /// These bytes were received before there was a session.
    #[must_use]
    pub const fn new(early: Vec<u8>) -> Self {
        Self { block: early, handled: 0 }
    }

    /// For the codec.
    pub(super) fn input(&mut self) -> Input<'_> {
        Input::new(&self.block, &mut self.handled)
    }

    /// A part of what was received.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.block.get(range).unwrap_or_default()
    }

    /// Receives once; what is handled makes room.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn receive(
        &mut self,
        transport: &Transport,
        buffers: &Buffers,
    ) -> io::Result<Received> {
        if self.handled == self.block.len() {
            self.block.clear();
        } else {
            self.block.drain(..self.handled);
        }
        self.handled = 0;
        if self.block.capacity() == 0 {
            self.block = buffers.take();
        } else if self.block.len() == self.block.capacity() {
            // A frame and its head are a little more than a block.
            self.block.reserve(limits::BLOCK_BYTES);
        }
        transport.receive(&mut self.block)
    }

    /// Returns the block, unless it holds a part of a frame.
    pub(super) fn rest(&mut self, buffers: &Buffers) {
        if self.handled == self.block.len() {
            self.handled = 0;
            buffers.give(std::mem::take(&mut self.block));
        }
    }
}
