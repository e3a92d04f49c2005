//! The primitives of a header block (RFC 7541 §5): integers and strings.

use super::Error;
use super::huffman;

/// What is left of a header block.
#[derive(Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte, which stays.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// An integer in the low `prefix` bits of a byte and those behind it (RFC 7541 §5.1).
    #[inline]
    pub(super) fn integer(&mut self, prefix: u32) -> Result<usize, Error> {
        let (first, rest) = self.0.split_first().ok_or(Error::Truncated)?;
        self.0 = rest;
        let most = (1 << prefix) - 1;
        let value = first & most;
        if value < most { Ok(usize::from(value)) } else { self.long_integer(most) }
    }

    #[inline(never)]
    fn long_integer(&mut self, most: u8) -> Result<usize, Error> {
        let mut value = u64::from(most);
        // RFC 7541 §5.1: "excessively large integer encodings -- in value or octet length -- MUST be
        // treated as decoding errors". Five more bytes hold 32 bits.
        for shift in [0, 7, 14, 21, 28] {
            let (byte, rest) = self.0.split_first().ok_or(Error::Truncated)?;
            self.0 = rest;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let value = u32::try_from(value).map_err(|_| Error::Integer)?;
                return Ok(value as usize);
            }
        }
        Err(Error::Integer)
    }

    /// A string (RFC 7541 §5.2): of the block, or decoded into `scratch`.
    #[inline]
    pub(super) fn string<'s, const N: usize>(
        &mut self,
        scratch: &'s mut Scratch<N>,
    ) -> Result<&'s [u8], Error>
    where
        'a: 's,
    {
        let is_huffman = self.peek().is_some_and(|first| first & 0x80 != 0);
        let len = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Error::Truncated)?;
        self.0 = rest;
        if !is_huffman {
            return Ok(text);
        }
        let room = scratch.room(huffman::room(len));
        let len = huffman::decode(text, room)?;
        room.get(..len).ok_or(Error::HuffmanCode)
    }
}

/// Where a string is decoded to: on the stack, unless it is longer than most.
#[derive(Debug)]
pub(super) struct Scratch<const N: usize> {
    few: [u8; N],
    many: Vec<u8>,
}

impl<const N: usize> Scratch<N> {
    pub(super) const fn new() -> Self {
        Self { few: [0; N], many: Vec::new() }
    }

    /// A copy of `text`.
    pub(super) fn copy(&mut self, text: &[u8]) -> &[u8] {
        match self.room(text.len()).get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                room
            }
            None => &[],
        }
    }

    /// At least `len` bytes.
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        if len <= N {
            return &mut self.few;
        }
        if len > self.many.len() {
            self.many.resize(len, 0);
        }
        &mut self.many
    }
}
