//! What a client sends before its upstream is connected.

use std::io;

use crate::http::{BodyLength, Intake};
use crate::limits;
use crate::pipe::inlet::Inlet;
use crate::pipe::outlet::Outlet;
use crate::shard::buffers::Buffers;
use crate::shard::socket::Received;
use crate::transport::Transport;

/// Early data.
#[derive(Debug)]
pub(super) struct Early {
    bytes: Vec<u8>,
    client: Client,
}

/// Whether the client may send more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Client {
    Open,
    /// It has closed its sending side.
    HalfClosed,
}

impl Early {
    /// These bytes have been received already.
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, client: Client::Open }
    }

    /// The number of bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether [`Self::receive`] could receive something.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.client == Client::Open && self.bytes.len() < most
    }

    /// Receives once, until `most` bytes are held. Returns how many were received; 0 also at the end.
    pub(super) fn receive(
        &mut self,
        client: &Transport,
        most: usize,
        buffers: &Buffers,
    ) -> io::Result<usize> {
        let room = most.saturating_sub(self.bytes.len());
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
        self.bytes.reserve(room.min(limits::BLOCK_BYTES));
        let received = client.receive_at_most(&mut self.bytes, room);
        if self.bytes.is_empty() {
            self.recycle(buffers);
        }
        match received? {
            Received::Bytes(bytes) => return Ok(bytes),
            Received::Nothing => {}
            Received::End => self.client = Client::HalfClosed,
        }
        Ok(0)
    }

    /// Moves everything to `to`; returns what receives the rest.
    pub(super) fn pour(&mut self, to: &mut Outlet, buffers: &Buffers) -> Inlet {
        if !self.bytes.is_empty() {
            to.data(&self.bytes);
        }
        self.recycle(buffers);
        match self.client {
            Client::Open => Inlet::new(BodyLength::UntilClose),
            Client::HalfClosed => {
                to.end(Vec::new());
                Inlet::new(BodyLength::None)
            }
        }
    }

    /// Returns the block to the pool.
    pub(super) fn recycle(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.bytes));
    }
}
