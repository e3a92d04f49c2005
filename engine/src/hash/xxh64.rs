//! XXH64, which Envoy uses for load balancing and to turn versions into numbers.

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];

const fn round(accumulator: u64, input: u64) -> u64 {
    let [prime1, prime2, ..] = PRIMES;
    accumulator.wrapping_add(input.wrapping_mul(prime2)).rotate_left(31).wrapping_mul(prime1)
}

/// The hash of `bytes`, with the seed 0.
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxh64_seeded(bytes, 0)
}

/// The hash of `bytes`.
#[must_use]
pub fn xxh64_seeded(bytes: &[u8], seed: u64) -> u64 {
    let [prime1, prime2, prime3, prime4, prime5] = PRIMES;
    let mut lanes = [prime1.wrapping_add(prime2), prime2, 0, prime1.wrapping_neg()]
        .map(|lane| lane.wrapping_add(seed));
    let (stripes, rest) = bytes.as_chunks::<32>();
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let mut hash = if stripes.is_empty() {
        seed.wrapping_add(prime5)
    } else {
        let [a, b, c, d] = lanes;
        let sum = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        lanes.iter().fold(sum, |hash, lane| {
            (hash ^ round(0, *lane)).wrapping_mul(prime1).wrapping_add(prime4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(prime1).wrapping_add(prime4);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        hash ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(prime1);
        hash = hash.rotate_left(23).wrapping_mul(prime2).wrapping_add(prime3);
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(prime5);
        hash = hash.rotate_left(11).wrapping_mul(prime1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(prime2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(prime3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::{xxh64, xxh64_seeded};

    /// Of the reference implementation.
    #[test]
    fn a_seed_changes_the_hash() {
        assert_eq!(xxh64_seeded(b"", 1), 0xD5AF_BA13_36A3_BE4B);
    }

    /// `sds.cert.version` of Envoy for these versions.
    #[test]
    fn versions_have_the_numbers_of_envoy() {
        for (version, number) in [
            ("", 17_241_709_254_077_376_921),
            ("v2", 17_234_765_554_138_278_603),
            ("v3", 8_889_997_608_329_791_741),
            ("v9", 7_832_730_476_746_051_721),
        ] {
            assert_eq!(xxh64(version.as_bytes()), number, "{version}");
        }
    }
}
