//! The dynamic table (RFC 7541 §2.3.2, §4).
//!
//! Texts lie behind each other in one buffer, oldest first, so that an insertion is a copy and an eviction
//! moves nothing. When the buffer is full, what is left of it is moved to its front; as every field counts
//! 32 bytes more than its text, that is seldom.
//!
//! Invariant: `size` is that of the entries, and at most `max`. Nothing is allocated before the first entry.

use std::collections::VecDeque;

use super::field::Name;
use crate::http::fields::offset;

/// RFC 7541 §4.1: what a field counts beside its name and value.
pub(super) const OVERHEAD: usize = 32;

/// The smallest buffer.
const BYTES_MIN: usize = 256;

/// The size of a field in a table.
pub(super) const fn size_of(text: &[u8], value: &[u8]) -> usize {
    text.len() + value.len() + OVERHEAD
}

#[derive(Debug)]
pub(super) struct Table {
    /// Texts of entries; those before the first entry's are of evicted ones.
    bytes: Vec<u8>,
    /// The position of the first byte of `bytes`, among all bytes ever inserted; it may wrap.
    base: u32,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// How many entries were ever inserted; it may wrap.
    inserted: u32,
    size: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The position of its first byte, among all ever inserted.
    start: u32,
    /// The length of the name, which is only kept if it is not a known one.
    text_len: u32,
    value_len: u32,
    name: Name,
}

impl Entry {
    fn size(&self) -> usize {
        let text_len = match self.name {
            Name::Other => self.text_len as usize,
            known => known.as_str().len(),
        };
        text_len + self.value_len as usize + OVERHEAD
    }
}

impl Table {
    pub(super) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), base: 0, entries: VecDeque::new(), inserted: 0, size: 0, max }
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// How many entries were ever inserted, modulo 2^32.
    pub(super) const fn inserted(&self) -> u32 {
        self.inserted
    }

    /// Changes the maximum size, and evicts what exceeds it.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(0);
    }

    /// Name, text of the name and value of the entry before which `age` others were inserted since: 0 for
    /// the newest.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<(Name, &[u8], &[u8])> {
        let at = self.entries.len().checked_sub(age)?.checked_sub(1)?;
        let entry = self.entries.get(at)?;
        let start = entry.start.wrapping_sub(self.base) as usize;
        let value = start + entry.text_len as usize;
        let text = entry.name.text(self.bytes.get(start..value)?);
        Some((entry.name, text, self.bytes.get(value..value + entry.value_len as usize)?))
    }

    /// Adds a field, and evicts the oldest ones as far as needed; all, if it is larger than the table.
    pub(super) fn insert(&mut self, name: Name, text: &[u8], value: &[u8]) {
        let size = size_of(text, value);
        self.evict(size);
        if size > self.max {
            return;
        }
        let text = if name == Name::Other { text } else { &[] };
        self.make_room(text.len() + value.len());
        let start = self.base.wrapping_add(offset(self.bytes.len()));
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(value);
        let (text_len, value_len) = (offset(text.len()), offset(value.len()));
        self.entries.push_back(Entry { start, text_len, value_len, name });
        self.inserted = self.inserted.wrapping_add(1);
        self.size += size;
    }

    /// Removes the oldest entries until there is room for `more`, or none is left.
    fn evict(&mut self, more: usize) {
        while self.size + more > self.max {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.size -= oldest.size();
        }
    }

    /// Makes room for `more` bytes of text. The texts of all entries together are shorter than `max`.
    fn make_room(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return;
        }
        if needed <= self.max {
            let capacity =
                (self.bytes.capacity() * 2).max(BYTES_MIN).clamp(needed, self.max.max(needed));
            self.bytes.reserve_exact(capacity - self.bytes.len());
            return;
        }
        let oldest = self.entries.front().map(|entry| entry.start.wrapping_sub(self.base));
        let evicted = oldest.unwrap_or_else(|| offset(self.bytes.len()));
        self.bytes.drain(..evicted as usize);
        self.base = self.base.wrapping_add(evicted);
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(self.max.max(needed) - self.bytes.len());
        }
    }

    /// How many bytes of texts there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
