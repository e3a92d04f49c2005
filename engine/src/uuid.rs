//! Random UUIDs: request ids, and `%UNIQUE_ID%`.

/// Writes a random UUID, version 4, from random bits.
//= rfc9562#section-5.4
#[inline(always)]
pub(crate) fn v4(high: u64, low: u64, text: &mut [u8; 36]) {
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let [time_mid, version] = halves(hex(high & 0xffff_ffff));
    let [variant, node] = halves(hex(low >> 32));
    put(text, 0, hex(high >> 32));
    put(text, 9, time_mid);
    put(text, 14, version);
    put(text, 19, variant);
    put(text, 24, node);
    put(text, 28, hex(low & 0xffff_ffff));
}

/// Makes a UUID one of version 4. In a request id of Envoy this also means that no trace was requested.
pub(crate) fn set_version(text: &mut [u8; 36]) {
    put(text, 14, [b'4']);
}

#[inline]
fn put<const N: usize>(text: &mut [u8; 36], at: usize, digits: [u8; N]) {
    if let Some(chunk) = text.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *chunk = digits;
    }
}

#[inline]
const fn halves([a, b, c, d, e, f, g, h]: [u8; 8]) -> [[u8; 4]; 2] {
    [[a, b, c, d], [e, f, g, h]]
}

/// The eight hexadecimal digits of a 32-bit number, computed in parallel.
#[inline]
fn hex(number: u64) -> [u8; 8] {
    // One nibble per byte, the highest first in memory.
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte whose digit is a letter.
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}
