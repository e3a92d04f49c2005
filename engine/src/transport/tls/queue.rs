//! Bytes that wait in a block of the shard.
//!
//! Invariant: an empty queue holds no block.

use crate::limits;
use crate::shard::buffers::Buffers;

/// Bytes in a block that is taken from the shard for the first of them, and returned with the last.
#[derive(Debug, Default)]
pub(super) struct Queue {
    block: Vec<u8>,
    /// The first byte that is still here.
    front: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.front == self.block.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.block.get(self.front..).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.get_mut(self.front..).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Removes the first `n` bytes.
    pub(super) fn advance(&mut self, n: usize, buffers: &Buffers) {
        self.front = self.block.len().min(self.front + n);
        self.settle(buffers);
    }

    /// Gives the block back if nothing was added to it.
    pub(super) fn settle(&mut self, buffers: &Buffers) {
        if self.is_empty() {
            self.clear(buffers);
        }
    }

    /// Removes all bytes.
    pub(super) fn clear(&mut self, buffers: &Buffers) {
        buffers.give(self.take());
    }

    /// Takes all bytes as one block. None of them may have been removed before.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.front = 0;
        std::mem::take(&mut self.block)
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: &[u8], buffers: &Buffers) {
        self.room(bytes.len(), buffers).extend_from_slice(bytes);
    }

    /// Moves up to `most` bytes to the end of `into`, which has room for them.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, most: usize, buffers: &Buffers) -> usize {
        let bytes = self.bytes();
        let bytes = bytes.get(..most).unwrap_or(bytes);
        into.extend_from_slice(bytes);
        let read = bytes.len();
        self.advance(read, buffers);
        read
    }

    /// The block, with room for `wanted` more bytes, or for those that a standard block holds.
    pub(super) fn room(&mut self, wanted: usize, buffers: &Buffers) -> &mut Vec<u8> {
        if self.block.capacity() - self.block.len() < wanted {
            let kept = self.block.len() - self.front;
            let bulk = kept + wanted > limits::RECORD_BLOCK_BYTES;
            let mut block = if bulk { buffers.take_large() } else { buffers.take_record() };
            block.extend_from_slice(self.bytes());
            self.clear(buffers);
            self.block = block;
        }
        &mut self.block
    }

    /// Lets `write` append to the queue. It is given a slice of `room` bytes, and returns how much of it
    /// was written, or which room it needs.
    pub(super) fn append<E>(
        &mut self,
        mut room: usize,
        buffers: &Buffers,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Wants<E>>,
    ) -> Result<(), E> {
        loop {
            let block = self.room(room, buffers);
            let start = block.len();
            block.resize(start + room, 0);
            let written = write(block.get_mut(start..).unwrap_or_default());
            block.truncate(start + written.as_ref().map_or(0, |written| *written));
            match written {
                Ok(_) => return Ok(()),
                Err(Wants::Room(wanted)) => room = wanted.max(room + 1),
                Err(Wants::Failed(error)) => return Err(error),
            }
        }
    }

    /// Moves the bytes to memory of their own size: a connection that waits holds no block.
    pub(super) fn shrink(&mut self, buffers: &Buffers) {
        if self.block.capacity() >= limits::BLOCK_BYTES {
            let own = self.bytes().to_vec();
            self.clear(buffers);
            self.block = own;
        }
    }
}

/// Why nothing was written.
pub(super) enum Wants<E> {
    /// It needs this many bytes.
    Room(usize),
    Failed(E),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_holds_no_block() {
        let (mut queue, buffers) = (Queue::default(), Buffers::default());
        queue.extend(b"abc", &buffers);
        assert_eq!(queue.block.capacity(), limits::RECORD_BLOCK_BYTES);
        queue.advance(2, &buffers);
        assert_eq!(queue.bytes(), b"c");
        queue.advance(1, &buffers);
        assert_eq!((queue.is_empty(), queue.block.capacity()), (true, 0));
    }

    #[test]
    fn a_shrunk_queue_takes_no_more_than_its_bytes_and_grows_again() {
        let (mut queue, buffers) = (Queue::default(), Buffers::default());
        queue.extend(b"xxpart of a record", &buffers);
        queue.advance(2, &buffers);
        queue.shrink(&buffers);
        assert_eq!((queue.bytes(), queue.block.capacity()), (&b"part of a record"[..], 16));
        queue.extend(b", and the rest", &buffers);
        assert_eq!(queue.bytes(), b"part of a record, and the rest");
    }

    #[test]
    fn what_needs_more_room_gets_it() {
        let (mut queue, buffers) = (Queue::default(), Buffers::default());
        queue.extend(b"1", &buffers);
        let written = queue.append(0, &buffers, |out| match out {
            [a, b, ..] => {
                (*a, *b) = (b'2', b'3');
                Ok(2)
            }
            _ => Err(Wants::<()>::Room(2)),
        });
        assert_eq!((written, queue.bytes()), (Ok(()), &b"123"[..]));
    }
}
