//! An ordinary request causes no allocations: a small GET with the head of a browser, on an open client
//! connection, with an idle connection to the origin in the pool.
//!
//! This is a test binary of its own because it replaces the allocator.

#[cfg(test)]
mod counting;
#[cfg(test)]
mod shard;

use counting::Counting;
use shard::Client;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of an ordinary request. May only be lowered.
const ALLOCATIONS_PER_REQUEST: usize = 0;

/// Requests until pools are filled and vectors have grown.
const WARM_UP: usize = 200;

/// Enough that work done once a second does not matter.
const REQUESTS: usize = 2000;

#[test]
fn a_plain_request_allocates_nothing() {
    let mut client = None;
    let first = counting::during(|| client.insert(Client::of_a_shard()).get());
    // A new connection allocates: if that is not counted, a count of 0 below means nothing.
    assert!(first.count > 0 && first.to_string().contains("corvoy_engine::"), "{first}");
    let client = client.as_mut().unwrap();
    for _ in 0..WARM_UP {
        client.get();
    }
    let warm = counting::during(|| (0..REQUESTS).for_each(|_| client.get()));
    assert_eq!(warm.count / REQUESTS, ALLOCATIONS_PER_REQUEST, "{warm}");
}
