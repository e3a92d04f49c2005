//! Decodes header blocks.

use super::field::{Field, Name};
use super::input::{Input, Scratch};
use super::static_table;
use super::table::Table;
use super::{DEFAULT_TABLE_SIZE, Error};
use crate::http::Indexing;

/// Most names are known ones, and the others are short.
const NAME_BYTES: usize = 128;

/// A value that becomes longer than this is decoded on the heap.
const VALUE_BYTES: usize = 512;

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The largest table that the peer may use, by the SETTINGS that it has acknowledged.
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(DEFAULT_TABLE_SIZE), limit: DEFAULT_TABLE_SIZE }
    }
}

impl Decoder {
    /// The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE. If it is smaller than its table, its next
    /// block must begin with a table size update.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Decodes a complete header block: `sink` gets its fields in order, to the end of the block.
    ///
    /// # Errors
    /// The block is invalid, and so is the connection from here.
    pub fn decode(&mut self, block: &[u8], mut sink: impl FnMut(Field<'_>)) -> Result<(), Error> {
        let mut input = Input(block);
        self.size_updates(&mut input)?;
        let (mut names, mut values) = (Scratch::<NAME_BYTES>::new(), Scratch::<VALUE_BYTES>::new());
        while let Some(first) = input.peek() {
            if first & 0x80 != 0 {
                let index = input.integer(7)?;
                sink(self.indexed(index)?);
                continue;
            }
            let (prefix, literal) = match first {
                0x40.. => (6, Literal::Inserted),
                0x20.. => return Err(Error::SizeUpdatePlace),
                0x10.. => (4, Literal::Passed(Indexing::Never)),
                _ => (4, Literal::Passed(Indexing::Allowed)),
            };
            let (name, text) = self.name(&mut input, prefix, &mut names)?;
            let value = input.string(&mut values)?;
            let indexing = match literal {
                Literal::Inserted => Indexing::Allowed,
                Literal::Passed(indexing) => indexing,
            };
            sink(Field::new(name, text, value, indexing));
            if literal == Literal::Inserted {
                self.table.insert(name, text, value);
            }
        }
        Ok(())
    }

    /// RFC 7541 §4.2: "This dynamic table size update MUST occur at the beginning of the first header
    /// block following the change to the dynamic table size."
    fn size_updates(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        while let Some(0x20..=0x3f) = input.peek() {
            let max = input.integer(5)?;
            if max > self.limit {
                return Err(Error::SizeUpdateTooLarge);
            }
            self.table.resize(max);
        }
        if self.table.max() > self.limit { Err(Error::SizeUpdateMissing) } else { Ok(()) }
    }

    /// The memory that the table takes for texts.
    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.table.capacity()
    }

    fn indexed(&self, index: usize) -> Result<Field<'_>, Error> {
        let (name, text, value) = match static_table::get(index) {
            Some((name, value)) => (name, name.as_str().as_bytes(), value),
            None => self.dynamic(index)?,
        };
        Ok(Field::new(name, text, value, Indexing::Allowed))
    }

    fn dynamic(&self, index: usize) -> Result<(Name, &[u8], &[u8]), Error> {
        let age = index.checked_sub(static_table::LEN + 1).ok_or(Error::Index)?;
        self.table.get(age).ok_or(Error::Index)
    }

    /// The name of a literal field: of a table, or a string.
    fn name<'s, 'a: 's>(
        &self,
        input: &mut Input<'a>,
        prefix: u32,
        scratch: &'s mut Scratch<NAME_BYTES>,
    ) -> Result<(Name, &'s [u8]), Error> {
        let index = input.integer(prefix)?;
        if index == 0 {
            let text = input.string(scratch)?;
            return Ok((Name::of(text), text));
        }
        if let Some((name, _)) = static_table::get(index) {
            return Ok((name, name.as_str().as_bytes()));
        }
        // The entry may be evicted by the field that takes its name.
        match self.dynamic(index)? {
            (Name::Other, text, _) => Ok((Name::Other, scratch.copy(text))),
            (name, ..) => Ok((name, name.as_str().as_bytes())),
        }
    }
}

/// The representations of a literal field (RFC 7541 §6.2).
#[derive(Clone, Copy, Eq, PartialEq)]
enum Literal {
    /// It is put into the table.
    Inserted,
    /// It is not.
    Passed(Indexing),
}
