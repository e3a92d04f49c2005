//! Blocks of memory that connections borrow while they have something to read or write.
//!
//! An idle connection holds none. Invariant: a block in the pool is empty and of ordinary size;
//! one that had to grow (a huge head) is given back to the allocator instead.

use std::cell::{Cell, RefCell};

use crate::limits;

/// The free blocks of one shard.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    /// Lent for bodies that may be sent again.
    replay_bytes: Cell<usize>,
}

impl Buffers {
    /// An empty block that holds a head or a short body without growing.
    #[must_use]
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

    /// Takes a block back.
    #[inline]
    pub fn give(&self, block: Vec<u8>) {
        // No block is what there is most often.
        if block.capacity() > 0 {
            self.keep(block);
        }
    }

    /// An empty block of one of the two sizes, for the body of a request that may be sent again;
    /// none if the shard keeps as much of these as it may.
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

    /// Takes back such a block.
    pub fn give_from_replay(&self, block: Vec<u8>) {
        let lent = self.replay_bytes.get();
        self.replay_bytes.set(lent.saturating_sub(block.capacity()));
        self.give(block);
    }

    /// Bytes that are lent for replay.
    #[must_use]
    pub const fn replay_bytes(&self) -> usize {
        self.replay_bytes.get()
    }

    fn keep(&self, mut block: Vec<u8>) {
        block.clear();
        let (pool, pooled_max) = match block.capacity() {
            limits::BLOCK_BYTES => (&self.small, limits::POOLED_BLOCKS_MAX),
            limits::LARGE_BLOCK_BYTES => (&self.large, limits::POOLED_LARGE_BLOCKS_MAX),
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
    fn a_block_comes_back_empty() {
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
