//! `MurmurHash2` of 64 bits, as in GNU's C++ library.

const SEED: u64 = 0xc70f_6907;
const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;

/// The hash of `bytes`, with the seed that Envoy uses.
#[must_use]
pub fn murmur_hash_2(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = mix(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        hash = (hash ^ mixed).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let rest = rest.iter().rfold(0, |value, byte| (value << 8) | u64::from(*byte));
        hash = (hash ^ rest).wrapping_mul(FACTOR);
    }
    mix(mix(hash).wrapping_mul(FACTOR))
}

const fn mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

#[cfg(test)]
mod tests {
    use super::murmur_hash_2;

    /// `std::hash<std::string>` of GNU's C++ library.
    #[test]
    fn it_is_that_of_gnu() {
        for (text, hash) in [
            ("", 6_142_509_188_972_423_790),
            ("a", 4_993_892_634_952_068_459),
            ("hello world", 5_577_293_430_985_752_569),
            ("127.0.0.1:8080_0", 16_027_637_164_591_516_499),
        ] {
            assert_eq!(murmur_hash_2(text.as_bytes()), hash, "{text}");
        }
    }
}
