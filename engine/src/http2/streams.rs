//! The streams of a connection, by their numbers.

use std::collections::VecDeque;

use super::stream::{Stream, StreamId};

/// All streams that are not released.
///
/// A hash table with open addressing. Consecutive numbers hardly collide, nor do those a power of two apart. The
/// hash has no secret: a peer that computes numbers which collide makes us compare with all of its streams, at
/// most.
///
/// Invariant: there is a free place, or no place at all; no free place lies between the one that a stream
/// wants and the one that it has.
#[derive(Debug)]
pub(super) struct Streams<S> {
    /// A power of two of them.
    places: Vec<Option<(StreamId, Stream<S>)>>,
    taken: usize,
}

impl<S> Default for Streams<S> {
    fn default() -> Self {
        Self { places: Vec::new(), taken: 0 }
    }
}

impl<S> Streams<S> {
    #[inline]
    pub(super) fn get(&self, id: StreamId) -> Option<&Stream<S>> {
        self.places.get(self.find(id)?)?.as_ref().map(|(_, stream)| stream)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream<S>> {
        let at = self.find(id)?;
        self.places.get_mut(at)?.as_mut().map(|(_, stream)| stream)
    }

    /// Adds a stream that is not there.
    pub(super) fn insert(&mut self, id: StreamId, stream: Stream<S>) {
        if self.taken + 1 + self.places.len() / 8 >= self.places.len() {
            self.grow();
        }
        self.put(id, stream);
    }

    /// Removes a stream; the last one takes the memory of many with it.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream<S>> {
        let mut free = self.find(id)?;
        let (_, stream) = self.places.get_mut(free)?.take()?;
        self.taken -= 1;
        // Those behind it move up, unless they lie where they want to.
        let mut at = self.after(free);
        while let Some(Some((other, _))) = self.places.get(at) {
            let wanted = self.place_of(*other);
            if self.distance(wanted, at) >= self.distance(free, at) {
                self.places.swap(free, at);
                free = at;
            }
            at = self.after(at);
        }
        if self.places.len() > PLACES_KEPT && self.taken <= self.places.len() / 8 {
            self.shrink();
        }
        Some(stream)
    }

    #[cold]
    fn shrink(&mut self) {
        if self.taken == 0 {
            self.rest();
        } else {
            self.resize(self.places.len() / 2);
        }
    }

    /// Returns memory if there is no stream.
    pub(super) fn rest(&mut self) {
        if self.taken == 0 {
            self.places = Vec::new();
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.taken
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.places.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.places.iter().flatten().map(|(id, _)| *id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Stream<S>> {
        self.places.iter().flatten().map(|(_, stream)| stream)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stream<S>> {
        self.places.iter_mut().flatten().map(|(_, stream)| stream)
    }

    /// Where a stream is.
    #[inline]
    fn find(&self, id: StreamId) -> Option<usize> {
        let mut at = self.place_of(id);
        loop {
            match self.places.get(at) {
                Some(Some((other, _))) if *other == id => return Some(at),
                Some(Some(_)) => at = self.after(at),
                Some(None) | None => return None,
            }
        }
    }

    fn put(&mut self, id: StreamId, stream: Stream<S>) {
        let mut at = self.place_of(id);
        while let Some(Some(_)) = self.places.get(at) {
            at = self.after(at);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some((id, stream));
            self.taken += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.resize((self.places.len() * 2).max(PLACES_MIN));
    }

    fn resize(&mut self, count: usize) {
        let places = std::iter::repeat_with(|| None).take(count).collect();
        let old = std::mem::replace(&mut self.places, places);
        self.taken = 0;
        old.into_iter().flatten().for_each(|(id, stream)| self.put(id, stream));
    }

    /// The place that a stream wants: the upper bits of a product, as many as places need (Fibonacci hashing).
    #[inline]
    fn place_of(&self, id: StreamId) -> usize {
        (id.number() as usize).wrapping_mul(SPREAD) >> self.mask().leading_zeros()
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    /// How many places `to` is behind `from`.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    const fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }
}

/// 2⁶⁴ divided by the golden ratio.
const SPREAD: usize = 0x9e37_79b9_7f4a_7c15;
/// The fewest places: a client that has one request at a time needs no more.
const PLACES_MIN: usize = 2;
/// The places that a table keeps until the connection waits, however few streams there are.
const PLACES_KEPT: usize = 32;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::http2::stream::Part;

    fn stream(state: u32) -> Stream<u32> {
        Stream::new(state, Part::Head, Part::Head, None, 0)
    }

    /// In any order, the table has what a map has.
    #[test]
    fn streams_are_found_until_they_are_removed() {
        let mut random = fastrand::Rng::with_seed(7);
        for stride in [1, 2, 16, 64] {
            let (mut streams, mut model) = (Streams::default(), BTreeMap::new());
            for _ in 0..3000 {
                let number = 2 * stride * random.u32(..40) + 1;
                let id = StreamId::new(number);
                assert_eq!(streams.get(id).map(|it| it.state), model.get(&number).copied());
                if random.bool() {
                    let removed = streams.remove(id).map(|it| it.state);
                    assert_eq!(removed, model.remove(&number));
                } else if streams.get_mut(id).is_none() {
                    streams.insert(id, stream(number));
                    model.insert(number, number);
                }
                assert_eq!(streams.len(), model.len());
                assert_eq!(streams.ids().count(), model.len());
            }
            for number in model.keys() {
                assert!(streams.remove(StreamId::new(*number)).is_some());
            }
            streams.rest();
            assert_eq!(streams.capacity(), 0);
        }
    }

    /// A client that had a thousand requests at once, and goes on with one.
    #[test]
    fn memory_of_many_streams_is_returned_while_one_goes_on() {
        let mut streams = Streams::default();
        (0..1000).for_each(|at| streams.insert(StreamId::new(2 * at + 1), stream(at)));
        assert!(streams.capacity() >= 1000);
        for at in 1..1000 {
            assert!(streams.remove(StreamId::new(2 * at + 1)).is_some());
        }
        assert!(streams.capacity() <= PLACES_KEPT, "{} places", streams.capacity());
        assert_eq!(streams.get(StreamId::new(1)).map(|it| it.state), Some(0));
    }

    /// A client may leave out numbers. However many, a stream is found after a few comparisons.
    #[test]
    fn numbers_far_apart_do_not_collide() {
        for stride in (1..=24).map(|bits| 1_u32 << bits).chain([6, 258, 8190]) {
            let mut streams = Streams::default();
            (0..100).for_each(|at| streams.insert(StreamId::new(1 + at * stride), stream(at)));
            let behind = |id| streams.distance(streams.place_of(id), streams.find(id).unwrap());
            let farthest = streams.ids().map(behind).max().unwrap();
            assert!(farthest <= 16, "{farthest} places behind its own, of numbers {stride} apart");
        }
    }
}
