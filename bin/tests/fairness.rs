//! Connections that keep a shard busy do not delay the others.

use std::time::{Duration, Instant};

use crate::support::{Client, Config, Origin, Proxy};

/// The number of busy connections.
const BUSY: usize = 30;

/// The median duration of the other requests. It is far below a second, even on a busy machine and
/// without optimisation; each busy connection could otherwise occupy the shard without limit.
#[track_caller]
fn is_served(mut bystander: Client) {
    let mut took: Vec<Duration> = (0..15)
        .map(|_| {
            let asked = Instant::now();
            assert_eq!(bystander.get("/").text(), "ok");
            asked.elapsed()
        })
        .collect();
    took.sort_unstable();
    assert!(took[7] < Duration::from_secs(1), "a bystander waits: {took:?}");
}

/// Repeats something on another thread.
fn forever(mut client: Client, does: impl Fn(&mut Client) -> bool + Send + 'static) {
    std::thread::spawn(move || while does(&mut client) {});
}

#[test]
fn answers_in_tiny_chunks_do_not_delay_others() {
    let origin = Origin::that_sends_tiny_chunks(BUSY);
    let proxy = Proxy::with(Config::to(&origin).shards(1));
    for at in 1..=BUSY {
        let mut client = proxy.connect();
        client.ask("/");
        origin.has_seen(at);
        forever(client, |client| client.wire().skip(50_000).is_ok());
    }
    is_served(proxy.connect());
}

#[test]
fn pipelined_requests_do_not_delay_others() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).manager("merge_slashes: true").shards(1));
    let slashes = "/".repeat(50_000);
    for _ in 0..BUSY {
        let request = format!("GET {slashes} HTTP/1.1\r\nhost: example\r\n\r\n");
        forever(proxy.connect(), move |client| {
            client.wire().send(request.as_bytes()).is_ok() && client.try_response("GET").is_ok()
        });
    }
    is_served(proxy.connect());
}
