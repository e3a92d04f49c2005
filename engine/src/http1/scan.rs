//! Scans sixteen bytes at once for a space, or the end of a name or text.
//!
//! The last block of fewer than sixteen bytes is not scanned: the text must be followed by
//! [`PADDING`].
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "SSE2, which every x86-64 has, loads from where a pointer says")
)]

/// What must follow the text, so that its last bytes are scanned.
pub(super) const PADDING: [u8; 16] = [0; 16];

type Block = [u8; 16];

/// The offset of the first space.
#[inline]
pub(super) fn space(bytes: &[u8]) -> Option<u32> {
    first(bytes, block::spaces)
}

/// Upper bound for the end of a name: the first colon, white space, control or non-ASCII character.
#[inline]
pub(super) fn end_of_name(bytes: &[u8]) -> Option<u32> {
    first(bytes, block::no_name)
}

/// The end of text: the first control or non-ASCII character.
#[inline]
pub(super) fn end_of_text(bytes: &[u8]) -> Option<u32> {
    first(bytes, block::no_text)
}

/// The first byte for which `marks` sets a bit; the lowest bit is for the first byte of a block.
#[inline]
fn first(bytes: &[u8], marks: impl Fn(&Block) -> u32) -> Option<u32> {
    let mut at = 0;
    for block in bytes.as_chunks().0 {
        let marked = marks(block);
        if marked != 0 {
            return Some(at + marked.trailing_zeros());
        }
        at += 16;
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod block {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    use super::Block;

    #[inline]
    pub(super) fn spaces(block: &Block) -> u32 {
        // SAFETY: every x86-64 has SSE2.
        unsafe { equal(block, b' ') }
    }

    #[inline]
    pub(super) fn no_name(block: &Block) -> u32 {
        // SAFETY: every x86-64 has SSE2.
        unsafe { outside_of_name(block) }
    }

    #[inline]
    pub(super) fn no_text(block: &Block) -> u32 {
        // SAFETY: every x86-64 has SSE2.
        unsafe { outside_of_text(block) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal(block: &Block, byte: u8) -> u32 {
        mask(_mm_cmpeq_epi8(load(block), _mm_set1_epi8(byte.cast_signed())))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn outside_of_name(block: &Block) -> u32 {
        let block = load(block);
        let invisible = _mm_cmplt_epi8(block, _mm_set1_epi8(0x21));
        let del = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x7f));
        let colon = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x3a));
        mask(_mm_or_si128(_mm_or_si128(invisible, del), colon))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn outside_of_text(block: &Block) -> u32 {
        let block = load(block);
        // As signed bytes, non-ASCII characters are negative.
        let control = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
        let del = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x7f));
        mask(_mm_or_si128(control, del))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn mask(marked: __m128i) -> u32 {
        _mm_movemask_epi8(marked).cast_unsigned()
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(block: &Block) -> __m128i {
        // SAFETY: the block has sixteen bytes, and the load needs no alignment.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod block {
    use super::Block;

    #[inline]
    pub(super) fn spaces(block: &Block) -> u32 {
        mask(block, |byte| byte == b' ')
    }

    #[inline]
    pub(super) fn no_name(block: &Block) -> u32 {
        mask(block, |byte| !byte.is_ascii_graphic() || byte == b':')
    }

    #[inline]
    pub(super) fn no_text(block: &Block) -> u32 {
        mask(block, |byte| !matches!(byte, b' '..=b'~'))
    }

    #[inline]
    fn mask(block: &Block, is_marked: impl Fn(u8) -> bool) -> u32 {
        let bits = block.iter().enumerate();
        bits.fold(0, |mask, (at, &byte)| mask | u32::from(is_marked(byte)) << at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_scan_finds_the_first_match(mut bytes in prop::collection::vec(0x1e_u8..0x82, 0..80)) {
            let space_at = bytes.iter().position(|&byte| byte == b' ');
            let name_end = bytes.iter().position(|&b| !b.is_ascii_graphic() || b == b':');
            let text_end = bytes.iter().position(|byte| !(b' '..=b'~').contains(byte));
            let len = bytes.len();
            bytes.extend_from_slice(&PADDING);
            prop_assert_eq!(space(&bytes).map(|at| at as usize), space_at);
            prop_assert_eq!(end_of_name(&bytes).map(|at| at as usize), name_end.or(Some(len)));
            prop_assert_eq!(end_of_text(&bytes).map(|at| at as usize), text_end.or(Some(len)));
        }
    }
}
