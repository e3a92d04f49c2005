//! The plain path takes no memory from the allocator: a small GET with the head of a browser, on a
//! client's open connection, to an origin whose connection is in the pool.
//!
//! A binary of its own, because it has an allocator of its own.

#[cfg(test)]
mod counting;
#[cfg(test)]
mod shard;

use counting::Counting;
use shard::Client;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often a plain request asks the allocator. It may only fall.
const ALLOCATIONS_PER_REQUEST: usize = 0;

/// Until pools are filled and vectors have grown.
const WARM_UP: usize = 200;

/// So many that what is done once a second does not count.
const REQUESTS: usize = 2000;

#[test]
fn a_plain_request_allocates_nothing() {
    let mut client = None;
    let taken = counting::during(|| client.insert(Client::of_a_shard()).get());
    // A connection needs memory: if that is not heard, silence means nothing below.
    assert!(taken.count > 0 && taken.to_string().contains("corvoy_engine::"), "{taken}");
    let client = client.as_mut().unwrap();
    for _ in 0..WARM_UP {
        client.get();
    }
    let taken = counting::during(|| (0..REQUESTS).for_each(|_| client.get()));
    assert_eq!(taken.count / REQUESTS, ALLOCATIONS_PER_REQUEST, "{taken}");
}
