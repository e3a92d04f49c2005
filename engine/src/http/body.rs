//! How a body ends, the rules for its trailers, and how it is handed from its source to whoever passes
//! it on.

use std::convert::Infallible;

use super::Reject;
use super::head::Underscores;

/// The length of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// This many bytes; 0 for `Content-Length: 0`.
    Length(u64),
    /// Chunks, until the last one.
    Chunked,
    /// Everything until the connection is closed. Responses only.
    UntilClose,
}

/// The number of bytes that `content-length` announces, in decimal digits; none if it is no number, or more
/// than a signed integer of 64 bits holds, with which many implementations count. Leading zeros are allowed
/// here.
pub(crate) fn content_length(text: &[u8]) -> Option<u64> {
    /// Any number with so many digits fits 64 bits.
    const DIGITS_MAX: usize = 19;
    if text.is_empty() {
        return None;
    }
    let mut digits = text;
    while digits.len() > DIGITS_MAX {
        digits = digits.strip_prefix(b"0")?;
    }
    let (mut number, mut is_number) = (0_u64, true);
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        is_number &= digit < 10;
        number = number.wrapping_mul(10).wrapping_add(digit.into());
    }
    (is_number && number <= i64::MAX as u64).then_some(number)
}

/// Whether something is the last of its message: a head without a body, the last data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndStream {
    /// Nothing of the message follows.
    Yes,
    /// More follows.
    No,
}

impl EndStream {
    /// That of the head of a message with this body.
    #[inline]
    #[must_use]
    pub const fn with(body: BodyLength) -> Self {
        match body {
            BodyLength::None | BodyLength::Length(0) => Self::Yes,
            BodyLength::Length(_) | BodyLength::Chunked | BodyLength::UntilClose => Self::No,
        }
    }
}

/// What trailers may contain, and whether they are passed on.
#[derive(Clone, Copy, Debug)]
pub struct TrailerRules {
    /// The most bytes, as received.
    pub bytes_max: usize,
    /// The most fields.
    pub fields_max: usize,
    /// What happens to a trailer with an underscore in its name.
    pub underscores: Underscores,
    /// Whether trailers are passed on.
    pub kept: bool,
}

/// What a source pours a body into. Filters that want to see a body stand here.
pub trait Intake {
    /// The most bytes to receive at once.
    fn most(&self) -> usize;
    /// A block with room for `wanted` bytes of the body, or fewer, to be received as they are; `None` if
    /// they must be written with [`Self::write`].
    fn direct(&mut self, wanted: usize) -> Option<&mut Vec<u8>>;
    /// `bytes` were appended to the block of [`Self::direct`].
    fn landed(&mut self, bytes: usize);
    /// Takes what `append` appends, at most `most` bytes. If it fails, nothing is taken.
    ///
    /// # Errors
    /// That of `append`.
    fn write<E>(
        &mut self,
        most: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E>;
    /// Takes `data`.
    #[inline(always)]
    fn data(&mut self, data: &[u8]) {
        let written: Result<(), Infallible> = self.write(data.len(), |out| {
            out.extend_from_slice(data);
            Ok(())
        });
        match written {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }
    /// The body has ended, with these trailers: field lines, or nothing.
    fn end(&mut self, trailers: Vec<u8>);
}

/// Whether another receive is worth a system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum More {
    /// The last one filled its block, or the end is next.
    Likely,
    /// There was nothing, or less than there was room for.
    Unlikely,
}

/// Why a body is incomplete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The source ended in the middle.
    Truncated,
    /// The framing is invalid.
    Malformed(Reject),
    /// Receiving from the source failed.
    Source,
    /// Sending to the sink failed.
    Sink,
    /// A filter ends the exchange with a reply of its own.
    Replaced,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_a_number_that_anybody_can_count_with() {
        for (text, length) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("05", Some(5)),
            ("0000000000000000000000005", Some(5)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("0009223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("99999999999999999999", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("0x1", None),
            ("000000000000000000000x5", None),
        ] {
            assert_eq!(content_length(text.as_bytes()), length, "{text:?}");
        }
    }
}
