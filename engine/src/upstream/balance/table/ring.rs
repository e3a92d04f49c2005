//! `RING_HASH`: each host has points on a ring, in proportion to its weight, and a request goes to the host
//! of the next point (Ketama).

use std::fmt::Write as _;

use super::{Share, Sizes, short};
use crate::hash::{murmur_hash_2, xxh64};

/// The options of `RING_HASH`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// `minimum_ring_size`, default 1024.
    pub size_min: u64,
    /// `maximum_ring_size`, default 8 Mi.
    pub size_max: u64,
    /// `hash_function`
    pub hash_function: HashFunction,
}

/// Which hash places a host on a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashFunction {
    /// `XX_HASH`
    XxHash,
    /// `MURMUR_HASH_2`
    MurmurHash2,
}

/// The points of a ring: their hashes, ascending, each with its host.
#[derive(Debug)]
pub(super) struct Points(Box<[(u64, u32)]>);

impl Ring {
    /// The ring of at least one host.
    pub(super) fn build(
        self,
        shares: &[Share<'_>],
        key: impl Fn(&Share<'_>) -> String,
    ) -> (Points, Sizes) {
        //= envoy: RingHashLbConfig.minimum_ring_size
        // The least of the hosts has a whole number of points.
        let least = shares.iter().map(|share| share.weight).fold(1.0, f64::min);
        let wanted = (least * self.size_min as f64).ceil() / least;
        let scale = wanted.min(self.size_max as f64);

        let mut points = Vec::new();
        let mut sizes = Sizes { entries: whole(scale.ceil()), ..Sizes::default() };
        sizes.min_per_host = sizes.entries;
        let (mut placed, mut target) = (0.0, 0.0);
        for share in shares {
            target += scale * share.weight;
            let mut key = key(share);
            key.push('_');
            let prefix = key.len();
            let mut count = 0;
            while placed < target {
                key.truncate(prefix);
                let written = write!(key, "{count}");
                debug_assert!(written.is_ok(), "a string takes everything");
                points.push((self.hash_function.hash(key.as_bytes()), short(share.index)));
                count += 1;
                placed += 1.0;
            }
            sizes.min_per_host = sizes.min_per_host.min(count);
            sizes.max_per_host = sizes.max_per_host.max(count);
        }
        points.sort_by_key(|(hash, _)| *hash);
        (Points(points.into()), sizes)
    }
}

impl HashFunction {
    fn hash(self, bytes: &[u8]) -> u64 {
        match self {
            Self::XxHash => xxh64(bytes),
            Self::MurmurHash2 => murmur_hash_2(bytes),
        }
    }
}

impl Points {
    /// The host of the first point at or after `hash`; after the last point the ring begins again.
    pub(super) fn host(&self, hash: u64, attempt: u32) -> Option<u32> {
        let next = self.0.partition_point(|(point, _)| *point < hash);
        let place = (next + attempt as usize).checked_rem(self.0.len())?;
        self.0.get(place).map(|(_, host)| *host)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size of at most 2^23, or infinite"
)]
const fn whole(size: f64) -> u64 {
    size as u64
}
