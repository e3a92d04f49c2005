//! A part of a body on its way through filters.

use crate::http::{Fields, Intake};
use crate::limits;

/// Some bytes of a body, without framing, and perhaps its end.
#[derive(Debug, Default)]
pub(in crate::request) struct Piece {
    pub(super) data: Vec<u8>,
    /// That the body ends with this piece, with these trailers: field lines, or nothing.
    pub(super) end: Option<Vec<u8>>,
}

impl Piece {
    pub(in crate::request) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it has neither bytes nor an end.
    pub(super) const fn is_empty(&self) -> bool {
        self.data.is_empty() && self.end.is_none()
    }

    /// Adds bytes.
    pub(super) fn take_data(&mut self, mut data: Vec<u8>) {
        if self.data.is_empty() {
            self.data = data;
        } else {
            self.data.append(&mut data);
        }
    }

    /// Adds all of `other`, which is empty afterwards.
    pub(super) fn take_all(&mut self, other: &mut Self) {
        if self.data.is_empty() {
            std::mem::swap(&mut self.data, &mut other.data);
        } else {
            self.data.append(&mut other.data);
        }
        if other.end.is_some() {
            self.end = other.end.take();
        }
    }

    /// Hands it on; afterwards it is empty and has its memory still, unless that is a large body's.
    pub(in crate::request) fn pour(&mut self, to: &mut impl Intake) {
        if !self.data.is_empty() {
            to.data(&self.data);
            self.data.clear();
            if self.data.capacity() > 2 * limits::BLOCK_BYTES {
                self.data = Vec::new();
            }
        }
        if let Some(trailers) = self.end.take() {
            to.end(trailers);
        }
    }

    /// Without content, and without memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Intake for Piece {
    fn most(&self) -> usize {
        limits::BLOCK_BYTES
    }

    fn direct(&mut self, wanted: usize) -> Option<&mut Vec<u8>> {
        if self.data.len() == self.data.capacity() {
            self.data.reserve(wanted.clamp(1, limits::BLOCK_BYTES));
        }
        Some(&mut self.data)
    }

    fn landed(&mut self, _bytes: usize) {}

    fn write<E>(
        &mut self,
        _most: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.data.len();
        append(&mut self.data).inspect_err(|_| self.data.truncate(start))
    }

    fn end(&mut self, trailers: Vec<u8>) {
        self.end = Some(trailers);
    }
}

/// A body whose bytes go on as they are; only its end is kept.
#[derive(Debug)]
pub(super) struct Ending<'t, T> {
    pub(super) to: &'t mut T,
    /// The trailers, if the body has ended.
    pub(super) trailers: Option<Vec<u8>>,
}

impl<T: Intake> Intake for Ending<'_, T> {
    fn most(&self) -> usize {
        self.to.most()
    }

    fn direct(&mut self, wanted: usize) -> Option<&mut Vec<u8>> {
        self.to.direct(wanted)
    }

    fn landed(&mut self, bytes: usize) {
        self.to.landed(bytes);
    }

    fn write<E>(
        &mut self,
        most: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.to.write(most, append)
    }

    fn end(&mut self, trailers: Vec<u8>) {
        self.trailers = Some(trailers);
    }
}

/// Changes trailers, given as field lines, unless there are none.
pub(super) fn change_trailers(lines: &mut Vec<u8>, change: impl FnOnce(&mut Fields)) {
    if !lines.is_empty() {
        let mut fields = Fields::of_lines(lines);
        change(&mut fields);
        lines_of(&fields, lines);
    }
}

/// Fields as field lines.
pub(super) fn lines_of(fields: &Fields, lines: &mut Vec<u8>) {
    lines.clear();
    for (_, name, value) in fields.iter() {
        lines.extend_from_slice(name);
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value);
        lines.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_can_be_changed_and_are_field_lines_again() {
        let mut fields = Fields::of_lines(b"a: 1\r\nb: x:y\r\n");
        fields.remove_other(b"a");
        fields.append_other(b"c", b"3");
        let mut lines = b"old".to_vec();
        lines_of(&fields, &mut lines);
        assert_eq!(lines, b"b: x:y\r\nc: 3\r\n");
    }

    #[test]
    fn what_is_handed_on_is_gone() {
        let (mut piece, mut next) = (Piece::default(), Piece::default());
        piece.data(b"abc");
        piece.end(b"t: 1\r\n".to_vec());
        piece.pour(&mut next);
        assert_eq!((&*next.data, next.end.as_deref()), (&b"abc"[..], Some(&b"t: 1\r\n"[..])));
        piece.pour(&mut next);
        assert_eq!(next.data, b"abc");
    }
}
