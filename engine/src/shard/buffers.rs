//! A pool of read and write buffers. An idle connection holds none.
//!
//! Invariant: a pooled block is empty and has one of the three standard sizes; a block that had to grow
//! (a huge head) is freed instead.

use std::cell::{Cell, RefCell};

use crate::limits;

/// The free blocks of one shard.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    record: RefCell<Vec<Vec<u8>>>,
    /// Bytes in use for bodies that may be retried.
    replay_bytes: Cell<usize>,
}

impl Buffers {
    /// An empty block, large enough for an ordinary head or a short body.
    #[must_use]
    #[inline]
    pub fn take(&self) -> Vec<u8> {
        let block = self.small.borrow_mut().pop();
        block.unwrap_or_else(|| Vec::with_capacity(limits::BLOCK_BYTES))
    }

    /// An empty block for the bulk of a body.
    #[must_use]
    pub fn take_large(&self) -> Vec<u8> {
        let block = self.large.borrow_mut().pop();
        block.unwrap_or_else(|| Vec::with_capacity(limits::LARGE_BLOCK_BYTES))
    }

    /// An empty block that has room for any TLS record.
    #[must_use]
    pub fn take_record(&self) -> Vec<u8> {
        let block = self.record.borrow_mut().pop();
        block.unwrap_or_else(|| Vec::with_capacity(limits::RECORD_BLOCK_BYTES))
    }

    /// Returns a block to the pool.
    #[inline]
    pub fn give(&self, block: Vec<u8>) {
        // Most often it is an empty `Vec`: there was no block.
        if block.capacity() > 0 {
            self.keep(block);
        }
    }

    /// An empty block of one of the two sizes, for the body of a request that may be retried; `None`
    /// if the shard has reached [`limits::SHARD_REPLAY_BYTES_MAX`].
    #[must_use]
    pub fn take_for_replay(&self, bytes: usize) -> Option<Vec<u8>> {
        let lent = self.replay_bytes.get().saturating_add(bytes);
        if lent > limits::SHARD_REPLAY_BYTES_MAX {
            return None;
        }
        let block = if bytes > limits::BLOCK_BYTES { self.take_large() } else { self.take() };
        self.replay_bytes.set(self.replay_bytes.get() + block.capacity());
        Some(block)
    }

    /// Returns a block of [`Self::take_for_replay`] to the pool.
    pub fn give_from_replay(&self, block: Vec<u8>) {
        let lent = self.replay_bytes.get();
        self.replay_bytes.set(lent.saturating_sub(block.capacity()));
        self.give(block);
    }

    /// Bytes in use for bodies that may be retried.
    #[must_use]
    pub const fn replay_bytes(&self) -> usize {
        self.replay_bytes.get()
    }

    fn keep(&self, mut block: Vec<u8>) {
        block.clear();
        let (pool, pooled_max) = match block.capacity() {
            limits::BLOCK_BYTES => (&self.small, limits::POOLED_BLOCKS_MAX),
            limits::LARGE_BLOCK_BYTES => (&self.large, limits::POOLED_LARGE_BLOCKS_MAX),
            limits::RECORD_BLOCK_BYTES => (&self.record, limits::POOLED_BLOCKS_MAX),
            _ => return,
        };
        let mut pool = pool.borrow_mut();
        if pool.len() < pooled_max {
            pool.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_block_is_empty() {
        let buffers = Buffers::default();
        let mut block = buffers.take();
        block.extend_from_slice(b"left over");
        let address = block.as_ptr();
        buffers.give(block);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty());
    }

    #[test]
    fn a_block_that_grew_is_not_kept() {
        let buffers = Buffers::default();
        let mut block = buffers.take();
        block.resize(limits::BLOCK_BYTES * 4, 0);
        buffers.give(block);
        assert_eq!(buffers.take().capacity(), limits::BLOCK_BYTES);
    }
}
