//! The request body kept for retries.
//!
//! It is kept without framing, as Envoy counts it, in blocks borrowed from the shard: nothing moves
//! when more is received, and all requests of a shard together keep at most
//! [`limits::SHARD_REPLAY_BYTES_MAX`]. It does not decide whether there is a retry.
//!
//! Invariant: the blocks are returned to the shard when this is dropped, however the request ends.

use crate::limits;
use crate::shard::buffers::Buffers;

/// The body of one request, as far as it has been received.
#[derive(Debug)]
pub(super) struct Replay {
    buffers: &'static Buffers,
    /// All full except the last.
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

/// The body exceeds what the request, or the shard, may keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LimitExceeded;

impl Replay {
    /// Keeps at most `limit` bytes.
    #[must_use]
    pub(super) const fn new(buffers: &'static Buffers, limit: usize) -> Self {
        Self { buffers, blocks: Vec::new(), bytes: 0, limit }
    }

    /// Keeps the next part of the body.
    ///
    /// # Errors
    /// If it cannot be kept. What was kept so far is then useless.
    pub(super) fn keep(&mut self, mut data: &[u8]) -> Result<(), LimitExceeded> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > self.limit {
            return Err(LimitExceeded);
        }
        while !data.is_empty() {
            let block = self.last_block().ok_or(LimitExceeded)?;
            let room = block.capacity() - block.len();
            let (fits, rest) = data.split_at(room.min(data.len()));
            block.extend_from_slice(fits);
            data = rest;
        }
        Ok(())
    }

    /// The block at an index.
    pub(super) fn block(&self, at: usize) -> Option<&[u8]> {
        self.blocks.get(at).map(Vec::as_slice)
    }

    /// Calls `each` with the blocks, in order.
    pub(super) fn each_block(&self, each: impl FnMut(&[u8])) {
        self.blocks.iter().map(Vec::as_slice).for_each(each);
    }

    /// The last block; adds one if it is full.
    fn last_block(&mut self) -> Option<&mut Vec<u8>> {
        if self.blocks.last().is_none_or(|block| block.len() == block.capacity()) {
            // Most bodies are short.
            let bytes = match self.blocks.len() {
                0 => limits::BLOCK_BYTES,
                _ => limits::LARGE_BLOCK_BYTES,
            };
            self.blocks.push(self.buffers.take_for_replay(bytes)?);
        }
        self.blocks.last_mut()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        for block in self.blocks.drain(..) {
            self.buffers.give_from_replay(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers() -> &'static Buffers {
        Box::leak(Box::default())
    }

    fn kept(replay: &Replay) -> Vec<u8> {
        (0..).map_while(|at| replay.block(at)).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_body_is_kept_unchanged_in_blocks_that_do_not_grow() {
        let mut replay = Replay::new(buffers(), limits::REPLAY_BYTES_MAX);
        let body: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        for piece in body.chunks(7_777) {
            assert_eq!(replay.keep(piece), Ok(()));
        }
        assert!(kept(&replay) == body);
        let held: usize = replay.blocks.iter().map(Vec::capacity).sum();
        assert_eq!(held, replay.buffers.replay_bytes());
        assert!(held < body.len() + limits::LARGE_BLOCK_BYTES, "{held} bytes");
    }

    #[test]
    fn a_body_beyond_its_limit_is_not_kept() {
        let mut replay = Replay::new(buffers(), 10);
        assert_eq!(replay.keep(b"0123456789"), Ok(()));
        assert_eq!(replay.keep(b""), Ok(()));
        assert_eq!(replay.keep(b"!"), Err(LimitExceeded));
        assert_eq!(Replay::new(buffers(), 0).keep(b"!"), Err(LimitExceeded));
    }

    #[test]
    fn a_shard_keeps_bodies_up_to_a_limit_and_again_when_some_are_returned() {
        let buffers = buffers();
        let megabyte = vec![b'x'; limits::REPLAY_BYTES_MAX];
        let mut replays = Vec::new();
        let refused = (0..1000).find(|_| {
            let mut replay = Replay::new(buffers, megabyte.len());
            let outcome = replay.keep(&megabyte);
            replays.push(replay);
            outcome.is_err()
        });
        let limit = limits::SHARD_REPLAY_BYTES_MAX;
        let fit = refused.expect("a limit");
        assert!((limit * 7 / 8..=limit).contains(&(fit * megabyte.len())), "{fit} bodies");
        assert!(buffers.replay_bytes() <= limit);
        replays.truncate(fit - 1);
        assert_eq!(Replay::new(buffers, megabyte.len()).keep(&megabyte), Ok(()));
        replays.clear();
        assert_eq!(buffers.replay_bytes(), 0);
    }
}
