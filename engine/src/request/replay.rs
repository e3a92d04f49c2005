//! What is kept of a request's body, so that another attempt can send it again.
//!
//! The data without its framing, as Envoy counts it, in blocks that the shard lends: nothing moves
//! when more comes, and all requests of a shard together keep not more than
//! [`limits::SHARD_REPLAY_BYTES_MAX`]. It does not decide whether there is another attempt.
//!
//! Invariant: the blocks go back to the shard when this is dropped, however the request ends.

use crate::limits;
use crate::shard::buffers::Buffers;

/// The body of one request, as far as it has come.
#[derive(Debug)]
pub(super) struct Replay {
    buffers: &'static Buffers,
    /// Full but for the last.
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    most: usize,
}

/// It is more than the request, or the shard, may keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooMuch;

impl Replay {
    /// Of a body of which `most` bytes may be kept.
    #[must_use]
    pub(super) const fn new(buffers: &'static Buffers, most: usize) -> Self {
        Self { buffers, blocks: Vec::new(), bytes: 0, most }
    }

    /// Keeps the next part of the body.
    ///
    /// # Errors
    /// When it cannot be kept. Then what was kept is of no use either.
    pub(super) fn keep(&mut self, mut data: &[u8]) -> Result<(), TooMuch> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > self.most {
            return Err(TooMuch);
        }
        while !data.is_empty() {
            let block = self.last_block().ok_or(TooMuch)?;
            let room = block.capacity() - block.len();
            let (fits, rest) = data.split_at(room.min(data.len()));
            block.extend_from_slice(fits);
            data = rest;
        }
        Ok(())
    }

    /// One of the blocks, counted from 0.
    pub(super) fn block(&self, at: usize) -> Option<&[u8]> {
        self.blocks.get(at).map(Vec::as_slice)
    }

    /// A block with room.
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
    fn a_body_is_kept_as_it_came_in_blocks_that_do_not_grow() {
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
        assert_eq!(replay.keep(b"!"), Err(TooMuch));
        assert_eq!(Replay::new(buffers(), 0).keep(b"!"), Err(TooMuch));
    }

    #[test]
    fn a_shard_keeps_bodies_up_to_a_bound_and_again_when_some_are_given_back() {
        let buffers = buffers();
        let megabyte = vec![b'x'; limits::REPLAY_BYTES_MAX];
        let mut replays = Vec::new();
        let refused = (0..1000).find(|_| {
            let mut replay = Replay::new(buffers, megabyte.len());
            let outcome = replay.keep(&megabyte);
            replays.push(replay);
            outcome.is_err()
        });
        let most = limits::SHARD_REPLAY_BYTES_MAX;
        let fit = refused.expect("a bound");
        assert!((most * 7 / 8..=most).contains(&(fit * megabyte.len())), "{fit} bodies");
        assert!(buffers.replay_bytes() <= most);
        replays.truncate(fit - 1);
        assert_eq!(Replay::new(buffers, megabyte.len()).keep(&megabyte), Ok(()));
        replays.clear();
        assert_eq!(buffers.replay_bytes(), 0);
    }
}
