//! An ordinary request causes no allocations: a small GET with the head of a browser, on an open client
//! connection, with an idle connection to the origin in the pool. Over TLS there is one for each record, over
//! HTTP/2 one for the task of each request and one for the table of streams, which an idle connection has not.
//!
//! This is a test binary of its own because it replaces the allocator.

#[cfg(test)]
mod counting;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod shard;
#[cfg(test)]
mod stream;
#[cfg(test)]
#[path = "../../src/downstream/simulation/tls.rs"]
mod tls;

use counting::Counting;
use http2::Http2Client;
use shard::Client;
use std::sync::Mutex;
use tls::Tls;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of an ordinary request. May only be lowered.
const ALLOCATIONS_PER_REQUEST: usize = 0;

/// Over TLS, with a client and an origin: one for each of the four records. May only be lowered.
const ALLOCATIONS_PER_TLS_REQUEST: usize = 4;

/// Over HTTP/2, one request at a time. May only be lowered.
const ALLOCATIONS_PER_HTTP2_REQUEST: usize = 2;

/// Over HTTP/2, sixteen requests at a time: the table of streams is theirs together. May only be lowered.
const ALLOCATIONS_PER_STREAM: usize = 1;

/// The allocations of all shards of the process are counted together.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Requests until pools are filled and vectors have grown.
const WARM_UP: usize = 200;

/// Enough that work done once a second does not matter.
const REQUESTS: usize = 2000;

#[test]
fn a_plain_request_allocates_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let mut client = None;
    let first = counting::during(|| client.insert(Client::of_a_shard(None)).get());
    // A new connection allocates: if that is not counted, a count of 0 below means nothing.
    assert!(first.count > 0 && first.to_string().contains("corvoy_engine::"), "{first}");
    let warm = warm(&mut client.unwrap());
    assert_eq!(warm.count / REQUESTS, ALLOCATIONS_PER_REQUEST, "{warm}");
}

#[test]
fn a_request_over_tls_allocates_once_a_record() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let warm = warm(&mut Client::of_a_shard(Some(&Tls::new())));
    assert!(warm.count / REQUESTS <= ALLOCATIONS_PER_TLS_REQUEST, "{warm}");
}

#[test]
fn a_request_over_http2_allocates_its_task() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    for (streams, most) in [(1, ALLOCATIONS_PER_HTTP2_REQUEST), (16, ALLOCATIONS_PER_STREAM)] {
        let mut client = Http2Client::of_a_shard();
        let rounds = REQUESTS / streams;
        (0..WARM_UP).for_each(|_| client.get(streams));
        let warm = counting::during(|| (0..rounds).for_each(|_| client.get(streams)));
        assert!(warm.count / (rounds * streams) <= most, "{streams} streams: {warm}");
    }
}

#[test]
fn bytes_relayed_by_tcp_proxy_allocate_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let warm = warm(&mut Client::of_a_relay());
    assert_eq!(warm.count / REQUESTS, ALLOCATIONS_PER_REQUEST, "{warm}");
}

fn warm(client: &mut Client) -> counting::Allocations {
    (0..WARM_UP).for_each(|_| client.get());
    counting::during(|| (0..REQUESTS).for_each(|_| client.get()))
}
