//! Blocks of memory that connections borrow while they have something to read or write.
//!
//! An idle connection holds none. Invariant: a block in the pool is empty and of ordinary size;
//! one that had to grow (a huge head) is given back to the allocator instead.

use std::cell::RefCell;

use crate::limits;

/// The free blocks of one shard.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
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
