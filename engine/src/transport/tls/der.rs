//! Reads DER, for the few structures that no library here parses: the raw algorithm identifiers of
//! certificates, OCSP responses and encrypted private keys.

/// The rest of a DER encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(&'a [u8]);

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The tag of the constructed, context-specific `[number]`.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

impl<'a> Der<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the next value: its tag and content.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of more than one byte are in none of the structures.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Takes the next value, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut rest = *self;
        let (found, content) = rest.any()?;
        (found == tag).then(|| *self = rest)?;
        Some(content)
    }

    /// Takes the next value if it has this tag.
    pub(crate) fn take_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.tag() == Some(tag) { self.take(tag) } else { None }
    }

    /// Takes the next value, a sequence.
    pub(crate) fn sequence(&mut self) -> Option<Self> {
        self.take(SEQUENCE).map(Self)
    }

    /// The content of the next value, a sequence, as it is.
    pub(crate) fn sequence_content(&mut self) -> Option<&'a [u8]> {
        self.take(SEQUENCE)
    }

    /// Takes the next value, a number that is not negative.
    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        let bytes = self.take(INTEGER)?;
        let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        let number = |sum, &byte| sum << 8 | u64::from(byte);
        (bytes.len() <= 7).then(|| bytes.iter().fold(0, number))
    }
}

#[cfg(test)]
mod tests {
    use super::{Der, INTEGER, OCTET_STRING};

    #[test]
    fn a_value_is_a_tag_a_length_and_so_many_bytes() {
        let mut der = Der::new(&[0x30, 3, 2, 1, 7, 4, 0x81, 2, 8, 9, 4, 2, 1]);
        let mut sequence = der.sequence().unwrap();
        assert_eq!((sequence.unsigned(), sequence.is_empty()), (Some(7), true));
        assert_eq!(der.take(INTEGER), None);
        assert_eq!(der.take(OCTET_STRING), Some(&[8, 9][..]));
        assert_eq!(der.any(), None, "cut off");
        assert_eq!(Der::new(&[]).any(), None);
    }
}
