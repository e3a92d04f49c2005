//! Sets of bytes that grammars name, to look bytes up in.

/// Bytes that may stand in one place.
pub(crate) struct ByteSet([bool; 256]);

/// RFC 9110 §5.6.2: `tchar`, of which names, methods and other tokens are.
pub(crate) static TOKEN: ByteSet = ByteSet::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// RFC 3986 §3.2.2: `reg-name`, without the comma.
pub(crate) static REG_NAME: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+;=");

/// What Envoy takes in the host of a target.
pub(crate) static HOST: ByteSet = ByteSet::alphanumeric_and(b"-.");

impl ByteSet {
    const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut places = set.as_mut_slice();
        let mut byte = 0_u8;
        while let [place, rest @ ..] = places {
            *place = byte.is_ascii_alphanumeric();
            let mut others = others;
            while let [other, rest @ ..] = others {
                *place |= byte == *other;
                others = rest;
            }
            byte = byte.wrapping_add(1);
            places = rest;
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
