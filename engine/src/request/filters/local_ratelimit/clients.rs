//! A bounded table of token buckets that all shards share, one for each client, without a lock.
//!
//! A slot has the hash of its client and the tokens of its bucket. Hashes are keyed, so nobody can choose
//! clients that share a bucket. A client has its place in one row only; if the row is full, the bucket
//! that was not used for longest makes room.
//!
//! Invariant: the table never grows. When shards race for a slot, a client may get or lose a token, or begin
//! with a full bucket again, as it does when its bucket had to make room.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::shard::clock::Millis;
use crate::token_bucket::Tokens;

/// The table.
#[derive(Debug)]
pub(super) struct Clients {
    hashes: RandomState,
    slots: Box<[Slot]>,
    /// Slots of a row.
    row: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// The hash of the client; [`FREE`], or [`CHANGING`].
    client: AtomicU64,
    tokens: Tokens,
    /// When it was used last.
    used: AtomicU64,
}

/// Nobody's slot.
const FREE: u64 = 0;

/// The slot is changing hands.
const CHANGING: u64 = 1;

/// Up to so many clients the table is one row, and exact.
const ROW_MAX: usize = 64;

/// Slots of a row of several. Such a table has twice as many slots as clients, so that a row is seldom full.
const ROW_SLOTS: usize = 32;

impl Clients {
    /// A table for so many clients, at least one.
    pub(super) fn new(clients_max: usize) -> Self {
        let clients_max = clients_max.max(1);
        let (slots, row) = if clients_max <= ROW_MAX {
            (clients_max, clients_max)
        } else {
            ((2 * clients_max).next_multiple_of(ROW_SLOTS), ROW_SLOTS)
        };
        let slots = std::iter::repeat_with(Slot::default).take(slots).collect();
        Self { hashes: RandomState::new(), slots, row }
    }

    /// The bucket of a client, a full one if it has none.
    pub(super) fn bucket(&self, client: &[u8], now: Millis) -> Option<&Tokens> {
        let hash = self.hashes.hash_one(client).max(CHANGING + 1);
        let row = self.row_of(hash);
        let slot = row.iter().find(|slot| slot.client.load(Relaxed) == hash);
        let slot = match slot {
            Some(slot) => slot,
            None => Self::take_over(row, hash)?,
        };
        // The clocks of shards differ a little, and others read it, too.
        if slot.used.load(Relaxed) < now {
            slot.used.store(now, Relaxed);
        }
        Some(&slot.tokens)
    }

    fn row_of(&self, hash: u64) -> &[Slot] {
        let rows = self.slots.len() / self.row;
        // The remainder is below the number of rows.
        let row = usize::try_from(hash % rows as u64).unwrap_or(0);
        self.slots.get(row * self.row..(row + 1) * self.row).unwrap_or_default()
    }

    /// Gives a client the slot that was not used for longest; none if another shard was faster each time.
    fn take_over(row: &[Slot], hash: u64) -> Option<&Slot> {
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            let age = |slot: &&Slot| match slot.client.load(Relaxed) {
                FREE => (0, 0),
                CHANGING => (2, 0),
                _ => (1, slot.used.load(Relaxed)),
            };
            let slot = row.iter().min_by_key(age)?;
            let owner = slot.client.load(Relaxed);
            if owner != CHANGING
                && slot.client.compare_exchange(owner, CHANGING, Relaxed, Relaxed).is_ok()
            {
                slot.tokens.fill();
                slot.client.store(hash, Relaxed);
                return Some(slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token_bucket::Rate;

    fn rate() -> Rate {
        Rate::new(1, 1, Duration::from_secs(3600))
    }

    fn take(clients: &Clients, client: &[u8], now: Millis) -> bool {
        clients.bucket(client, now).unwrap().take(1.0, &rate(), now)
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own() {
        let clients = Clients::new(2);
        assert!(take(&clients, b"a", 1) && take(&clients, b"b", 2));
        assert!(!take(&clients, b"a", 3) && !take(&clients, b"b", 4));
    }

    #[test]
    fn the_bucket_that_was_not_used_for_longest_makes_room() {
        let clients = Clients::new(2);
        assert!(take(&clients, b"a", 1) && take(&clients, b"b", 2));
        assert!(!take(&clients, b"a", 3));
        assert!(take(&clients, b"c", 4), "in the place of b");
        assert!(!take(&clients, b"a", 5), "a still has its bucket");
        assert!(take(&clients, b"b", 6), "b begins again");
    }

    #[test]
    fn a_large_table_keeps_as_many_clients_as_it_was_made_for() {
        let clients = Clients::new(10_000);
        let client = |number: u32| number.to_le_bytes();
        assert!((0..10_000).all(|number| take(&clients, &client(number), number.into())));
        let forgotten =
            (0..10_000).filter(|number| take(&clients, &client(*number), 10_000)).count();
        // A row seldom overflows; if so it forgets all its clients, asked in this order.
        assert!(forgotten < 10 * ROW_SLOTS, "{forgotten}");
    }

    #[test]
    fn shards_that_race_for_slots_neither_lose_nor_mix_up_buckets_of_clients_that_stay() {
        let clients = Clients::new(8);
        assert!(take(&clients, b"stays", 1));
        let passed = std::thread::scope(|scope| {
            let run = |shard: u8| {
                let clients = &clients;
                move || {
                    let mut passed = 0;
                    for now in 2..2000_u32 {
                        let [low, high, ..] = now.to_le_bytes();
                        clients.bucket(&[shard, low, high], now.into());
                        passed += usize::from(take(clients, b"stays", now.into()));
                    }
                    passed
                }
            };
            let threads = [scope.spawn(run(1)), scope.spawn(run(2))];
            threads.map(|thread| thread.join().unwrap()).into_iter().sum::<usize>()
        });
        // It is used all the time, so it never has to make room, but if a shard stood still meanwhile.
        assert!(passed < 200, "{passed}");
    }
}
