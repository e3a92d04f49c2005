//! Lookup tables for the character classes of grammars.

/// A set of bytes.
pub(crate) struct ByteSet([bool; 256]);

/// RFC 9110 §5.6.2: `tchar`, the characters of names, methods and other tokens.
pub(crate) static TOKEN: ByteSet = ByteSet::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// RFC 3986 §3.2.2: `reg-name`, without the comma.
pub(crate) static REG_NAME: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+;=");

/// What Envoy accepts in the host of a request target.
pub(crate) static HOST: ByteSet = ByteSet::alphanumeric_and(b"-.");

impl ByteSet {
    const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut entries = set.as_mut_slice();
        let mut byte = 0_u8;
        while let [entry, rest @ ..] = entries {
            *entry = byte.is_ascii_alphanumeric();
            let mut others = others;
            while let [other, rest @ ..] = others {
                *entry |= byte == *other;
                others = rest;
            }
            byte = byte.wrapping_add(1);
            entries = rest;
        }
        Self(set)
    }

    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)) == Some(&true)
    }

    pub(crate) fn has_all(&self, text: &[u8]) -> bool {
        text.iter().all(|&byte| self.has(byte))
    }
}
