//! The Huffman code (RFC 7541 appendix B).
//!
//! It is canonical: the codes of one length are consecutive, in the order of their symbols, and follow those
//! of the shorter lengths. So the lengths say everything, and the tables are computed from them.
#![expect(clippy::indexing_slicing, reason = "the tables have an entry for every window and byte")]
#![expect(clippy::cast_possible_truncation, reason = "symbols and lengths fit their types")]

use super::Error;

/// By symbol: the length of its code in bits. The last one is the end of the string (EOS), which no string
/// contains.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

const LONGEST: u32 = 30;
const SHORTEST: usize = 5;
const EOS: u16 = 256;

/// A code, in the low bits, and its length.
#[derive(Clone, Copy)]
struct Code {
    bits: u32,
    len: u32,
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// The first 32-bit window after those that begin with one of them; more than any for the longest.
    end: u64,
    /// The first of them, as such a window.
    first: u64,
    /// The symbol of the first one, in `SYMBOLS`.
    symbol: usize,
}

struct Tables {
    /// By byte.
    codes: [Code; 256],
    /// In the order of the codes.
    symbols: [u16; 257],
    /// By length.
    lengths: [Length; LONGEST as usize + 1],
}

static TABLES: Tables = TABLES_COMPUTED;

const TABLES_COMPUTED: Tables = {
    let mut tables = Tables {
        codes: [Code { bits: 0, len: 0 }; 256],
        symbols: [0; 257],
        lengths: [Length { end: 0, first: 0, symbol: 0 }; LONGEST as usize + 1],
    };
    let (mut window, mut place, mut len) = (0_u64, 0, 1);
    while len <= LONGEST {
        let (first, first_place) = (window, place);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as u32 == len {
                if symbol < tables.codes.len() {
                    tables.codes[symbol] = Code { bits: (window >> (32 - len)) as u32, len };
                }
                tables.symbols[place] = symbol as u16;
                window += 1 << (32 - len);
                place += 1;
            }
            symbol += 1;
        }
        tables.lengths[len as usize] = Length { end: window, first, symbol: first_place };
        len += 1;
    }
    assert!(window == 1 << 32 && place == LENGTHS.len(), "the code is complete");
    tables
};

/// How many bits of a window are looked up at once: two of the usual symbols.
const LOOKUP_BITS: u32 = 11;

/// The symbols that a window begins with: one or two, as far as they fit into the bits looked up.
#[derive(Clone, Copy)]
struct Lookup {
    symbols: [u8; 2],
    /// 0 if the first code is longer than the bits looked up.
    count: u8,
    /// Bits of all symbols.
    bits: u8,
}

static LOOKUP: [Lookup; 1 << LOOKUP_BITS] = {
    let mut table = [Lookup { symbols: [0; 2], count: 0, bits: 0 }; 1 << LOOKUP_BITS];
    let mut place = 0;
    while place < table.len() {
        let mut entry = table[place];
        while entry.count < 2 {
            let left = LOOKUP_BITS - entry.bits as u32;
            let window =
                ((place << entry.bits) as u32 & ((1 << LOOKUP_BITS) - 1)) << (32 - LOOKUP_BITS);
            let (symbol, len) = symbol_of(&TABLES_COMPUTED, window);
            if len > left || symbol == EOS {
                break;
            }
            entry.symbols[entry.count as usize] = symbol as u8;
            entry.count += 1;
            entry.bits += len as u8;
        }
        table[place] = entry;
        place += 1;
    }
    table
};

/// The symbol that a window begins with, and the length of its code.
const fn symbol_of(tables: &Tables, window: u32) -> (u16, u32) {
    let window = window as u64;
    let mut len = SHORTEST as u32;
    while len < LONGEST && window >= tables.lengths[len as usize].end {
        len += 1;
    }
    let length = &tables.lengths[len as usize];
    let place = length.symbol + ((window - length.first) >> (32 - len)) as usize;
    (tables.symbols[place], len)
}

/// How much room a string of `len` bytes needs to be decoded.
pub(super) const fn room(len: usize) -> usize {
    // A lookup writes two bytes, even if there is only one symbol.
    len * 8 / SHORTEST + 2
}

/// Decodes a string into `to`, which has [`room`] for it, and returns its length.
pub(super) fn decode(text: &[u8], to: &mut [u8]) -> Result<usize, Error> {
    // The next bits of the string, from the highest, and how many there are.
    let (mut window, mut bits) = (0_u64, 0);
    let (mut rest, mut at) = (text, 0);
    while let Some((next, behind)) = rest.split_first_chunk() {
        rest = behind;
        window |= u64::from(u32::from_be_bytes(*next)) << (32 - bits);
        bits += 32;
        while bits >= 32 {
            let found = LOOKUP[(window >> (64 - LOOKUP_BITS)) as usize];
            let used = if found.count != 0 {
                put_pair(found, to, &mut at)?;
                u32::from(found.bits)
            } else {
                long_symbol(window, to, &mut at)?
            };
            window <<= used;
            bits -= used;
        }
    }
    for byte in rest {
        window |= u64::from(*byte) << (56 - bits);
        bits += 8;
    }
    loop {
        // RFC 7541 §5.2: "the most significant bits of the code corresponding to the EOS symbol" are ones.
        let padded = window | u64::MAX.checked_shr(bits).unwrap_or_default();
        let found = LOOKUP[(padded >> (64 - LOOKUP_BITS)) as usize];
        if found.count != 0 && u32::from(found.bits) <= bits {
            put_pair(found, to, &mut at)?;
            window <<= found.bits;
            bits -= u32::from(found.bits);
            continue;
        }
        let (symbol, len) = symbol_of(&TABLES, (padded >> 32) as u32);
        if len > bits {
            return if bits < 8 && padded == u64::MAX {
                Ok(at)
            } else {
                Err(Error::HuffmanPadding)
            };
        }
        put(symbol, to, &mut at)?;
        window <<= len;
        bits -= len;
    }
}

/// Puts the symbols that were looked up; there is room for both even if it is only one.
#[inline]
fn put_pair(found: Lookup, to: &mut [u8], at: &mut usize) -> Result<(), Error> {
    let place = to.get_mut(*at..).and_then(<[u8]>::first_chunk_mut).ok_or(Error::HuffmanCode)?;
    *place = found.symbols;
    *at += usize::from(found.count);
    Ok(())
}

/// Decodes a symbol whose code is longer than the bits looked up; returns the length of the code.
#[cold]
fn long_symbol(window: u64, to: &mut [u8], at: &mut usize) -> Result<u32, Error> {
    let (symbol, len) = symbol_of(&TABLES, (window >> 32) as u32);
    put(symbol, to, at)?;
    Ok(len)
}

fn put(symbol: u16, to: &mut [u8], at: &mut usize) -> Result<(), Error> {
    let symbol = u8::try_from(symbol).map_err(|_| Error::HuffmanCode)?;
    *to.get_mut(*at).ok_or(Error::HuffmanCode)? = symbol;
    *at += 1;
    Ok(())
}

/// The length of a string when it is encoded, in bytes.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: u64 = text.iter().map(|&byte| u64::from(LENGTHS[usize::from(byte)])).sum();
    usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
}

/// Encodes a string.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // The last bits of what is not yet written, and how many of them are not.
    let (mut window, mut bits) = (0_u64, 0);
    for &byte in text {
        let code = TABLES.codes[usize::from(byte)];
        window = window << code.len | u64::from(code.bits);
        bits += code.len;
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&low_half(window >> bits).to_be_bytes());
        }
    }
    // Padded with ones.
    let padded = low_half(window << (32 - bits)) | low_half(u64::from(u32::MAX) >> bits);
    let left = padded.to_be_bytes();
    out.extend_from_slice(&left[..bits.div_ceil(8) as usize]);
}

const fn low_half(window: u64) -> u32 {
    window as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Error> {
        let mut to = vec![0; room(text.len())];
        let len = decode(text, &mut to)?;
        to.truncate(len);
        Ok(to)
    }

    #[test]
    fn every_byte_is_decoded_as_encoded_in_every_place() {
        for byte in 0..=255 {
            for before in 0..40 {
                let text = [vec![b'0'; before], vec![byte], vec![b'e'; before % 7]].concat();
                let mut encoded = Vec::new();
                encode(&text, &mut encoded);
                assert_eq!(encoded.len(), encoded_len(&text));
                assert_eq!(decoded(&encoded), Ok(text));
            }
        }
    }

    #[test]
    fn the_end_of_the_string_is_not_in_it() {
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(Error::HuffmanCode));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Err(Error::HuffmanCode));
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(Error::HuffmanPadding));
        assert_eq!(decoded(&[0b0000_0000]), Err(Error::HuffmanPadding));
        assert_eq!(decoded(&[0xff]), Err(Error::HuffmanPadding));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Error::HuffmanPadding));
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }
}
