//! The streams of a connection, by their numbers.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::stream::{Stream, StreamId};

/// All streams that are not released.
#[derive(Debug)]
pub(super) struct Streams<S> {
    map: HashMap<StreamId, Stream<S>, BuildHasherDefault<IdHasher>>,
}

impl<S> Default for Streams<S> {
    fn default() -> Self {
        Self { map: HashMap::default() }
    }
}

impl<S> Streams<S> {
    pub(super) fn get(&self, id: StreamId) -> Option<&Stream<S>> {
        self.map.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream<S>> {
        self.map.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: StreamId, stream: Stream<S>) {
        self.map.insert(id, stream);
    }

    /// Removes a stream; the last one takes the memory of many with it.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream<S>> {
        let stream = self.map.remove(&id)?;
        if self.map.is_empty() && self.map.capacity() > KEPT_MAX {
            self.map = HashMap::default();
        }
        Some(stream)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.map.capacity()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.map.keys().copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Stream<S>> {
        self.map.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stream<S>> {
        self.map.values_mut()
    }
}

/// The room for streams that an empty table keeps.
const KEPT_MAX: usize = 64;

/// Streams that are released, but of which more may come: we have reset them while the peer may not know.
///
/// RFC 9113 §5.1: "An endpoint that sends a RST_STREAM frame on a stream that is in the 'open' or
/// 'half-closed (local)' state could receive any type of frame."
#[derive(Debug, Default)]
pub(super) struct Forgotten(VecDeque<StreamId>);

/// So many are remembered, 4 KiB.
const FORGOTTEN_MAX: usize = 1024;

impl Forgotten {
    pub(super) fn add(&mut self, id: StreamId) {
        if self.0.len() >= FORGOTTEN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }

    pub(super) fn has(&self, id: StreamId) -> bool {
        self.0.contains(&id)
    }

    /// The peer has ended the stream: nothing more may come.
    pub(super) fn end(&mut self, id: StreamId) {
        if let Some(index) = self.0.iter().position(|it| *it == id) {
            self.0.swap_remove_back(index);
        }
    }
}

/// Streams that are released because all content of their response has arrived, and that their server has not
/// ended yet. Until it does, it counts them against its limit.
#[derive(Debug, Default)]
pub(super) struct Unended(VecDeque<StreamId>);

impl Unended {
    pub(super) fn add(&mut self, id: StreamId) {
        self.0.push_back(id);
    }

    pub(super) fn has(&self, id: StreamId) -> bool {
        self.0.contains(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn end(&mut self, id: StreamId) {
        self.0.retain(|it| *it != id);
    }

    /// The one that should have ended first.
    pub(super) fn oldest(&mut self) -> Option<StreamId> {
        self.0.pop_front()
    }
}

/// Multiplies: the numbers of streams are consecutive.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    // The table takes the place from the low bits, so the high ones are mixed in. A peer that chooses its
    // numbers so that they collide makes us compare with all of its streams, at most.
    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}
