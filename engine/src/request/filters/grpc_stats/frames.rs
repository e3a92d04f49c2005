//! The messages in a gRPC body: each has five bytes before it, a flag and its length.

/// Counts the messages of a body that comes in parts.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::request::filters) struct Frames {
    /// How many of the five bytes have come.
    head: u8,
    length: u32,
    /// How many bytes of the message are to come.
    left: u32,
}

/// The bytes before a message.
pub(in crate::request::filters) const HEAD_BYTES: usize = 5;

impl Frames {
    /// How many messages begin in this part.
    pub(in crate::request::filters) fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while let Some((&byte, rest)) = data.split_first() {
            if self.left > 0 {
                let passed = data.len().min(self.left as usize);
                self.left -= u32::try_from(passed).unwrap_or(self.left);
                data = data.get(passed..).unwrap_or_default();
                continue;
            }
            data = rest;
            if self.head == 0 {
                begun += 1;
            } else {
                self.length = self.length << 8 | u32::from(byte);
            }
            self.head += 1;
            if usize::from(self.head) == HEAD_BYTES {
                *self = Self { left: self.length, ..Self::default() };
            }
        }
        begun
    }

    /// Whether the body could end here.
    pub(in crate::request::filters) const fn is_between(&self) -> bool {
        self.head == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_has_the_same_messages() {
        let body = [&b"\0\0\0\0\x03abc"[..], b"\x01\0\0\0\0", b"\0\0\0\x01\0", &[7; 256]].concat();
        for split in 0..body.len() {
            let mut frames = Frames::default();
            let (first, second) = body.split_at(split);
            assert_eq!(frames.count(first) + frames.count(second), 3, "{split}");
            assert!(frames.is_between());
        }
    }

    #[test]
    fn a_message_that_has_begun_counts() {
        let mut frames = Frames::default();
        assert_eq!(frames.count(b"\0"), 1);
        assert!(!frames.is_between());
        assert_eq!(frames.count(b"\0\0\0\x01"), 0);
        assert!(!frames.is_between());
        assert_eq!(frames.count(b"a"), 0);
        assert!(frames.is_between());
    }
}
