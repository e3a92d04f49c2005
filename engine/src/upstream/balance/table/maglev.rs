//! `MAGLEV`: each host fills the table in an order of its own, in proportion to its weight.

use super::{Share, Sizes, short};
use crate::hash::{xxh64, xxh64_seeded};

/// The options of `MAGLEV`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Maglev {
    /// `table_size`: a prime of at most 5,000,011. Default 65,537.
    pub size: u64,
}

/// A host while the table is filled.
struct Filling {
    index: u32,
    /// Its first place.
    offset: u64,
    /// The distance between its places.
    skip: u64,
    weight: f64,
    /// How much weight the rounds must have brought before its turn.
    target: f64,
    /// How many of its places were tried.
    tried: u64,
    count: u64,
}

const FREE: u32 = u32::MAX;

impl Maglev {
    /// The table of at least one host.
    pub(super) fn build(
        self,
        shares: &[Share<'_>],
        key: impl Fn(&Share<'_>) -> String,
    ) -> (Box<[u32]>, Sizes) {
        let size = self.size.max(1);
        let mut keyed: Vec<_> = shares.iter().map(|share| (key(share), share)).collect();
        // The order decides who gets a place that several hosts want.
        keyed.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.index.cmp(&other.index)));
        let mut hosts: Vec<Filling> = keyed
            .iter()
            .map(|(key, share)| Filling {
                index: short(share.index),
                offset: xxh64(key.as_bytes()) % size,
                skip: (xxh64_seeded(key.as_bytes(), 1) % (size - 1).max(1)) + 1,
                weight: share.weight,
                target: 0.0,
                tried: 0,
                count: 0,
            })
            .collect();
        let heaviest = shares.iter().map(|share| share.weight).fold(0.0, f64::max);
        let mut entries = vec![FREE; usize::try_from(size).unwrap_or(usize::MAX)];
        fill(&mut entries, &mut hosts, heaviest);
        let counts = || hosts.iter().map(|host| host.count);
        let sizes = Sizes {
            entries: size,
            min_per_host: counts().min().unwrap_or(0),
            max_per_host: counts().max().unwrap_or(0),
        };
        (entries.into(), sizes)
    }
}

/// Gives every place to a host. The heaviest get one in each round, others in every second or third.
fn fill(entries: &mut [u32], hosts: &mut [Filling], heaviest: f64) {
    let mut free = entries.len();
    let mut round = 0.0;
    while free > 0 {
        round += 1.0;
        for host in &mut *hosts {
            if free == 0 {
                break;
            }
            if round * host.weight < host.target {
                continue;
            }
            host.target += heaviest;
            host.take_place(entries);
            free -= 1;
        }
    }
}

impl Filling {
    /// Takes the next of its places that is free. There must be one; as the size is a prime, its places are
    /// all places.
    fn take_place(&mut self, entries: &mut [u32]) {
        let size = entries.len() as u64;
        for _ in 0..size {
            let place = (self.offset + self.skip * self.tried) % size;
            self.tried += 1;
            let entry = usize::try_from(place).ok().and_then(|place| entries.get_mut(place));
            if let Some(entry) = entry.filter(|entry| **entry == FREE) {
                *entry = self.index;
                self.count += 1;
                return;
            }
        }
    }
}

/// The host of a hash.
pub(super) fn host(entries: &[u32], hash: u64, attempt: u32) -> Option<u32> {
    //= envoy: Maglev: a selection that was refused changes most bits of the hash
    let hash = if attempt == 0 { hash } else { hash ^ (!u64::from(attempt)).wrapping_add(1) };
    let place = hash.checked_rem(entries.len() as u64)?;
    entries.get(usize::try_from(place).ok()?).copied()
}
