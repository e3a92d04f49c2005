//! Stops under new connections: what was connected is answered, and nobody is reset.

use std::io::ErrorKind;
use std::thread;

use crate::support::{Broken, Config, Origin, Proxy, Signal, Wire, is_oracle};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";

/// Drains that the story is told of; `CORVOY_DRAINS` asks for more.
fn drains() -> usize {
    std::env::var("CORVOY_DRAINS").map_or(20, |drains| drains.parse().unwrap())
}

/// Connects again and again, with one request each, until nobody listens any more.
///
/// # Panics
/// When a connection that was made is not answered.
fn churn(proxy: &Proxy) -> usize {
    for answered in 0.. {
        let mut wire = match Wire::connect(proxy.address()) {
            Ok(wire) => wire,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return answered,
            Err(error) => panic!("neither connected nor refused: {error}"),
        };
        let answer = wire.send(GET).map_err(|_| Broken::Reset(Vec::new()));
        match answer.and_then(|()| wire.response("GET")) {
            Ok(response) => assert_eq!(response.text(), "ok"),
            Err(broken) => panic!("request {answered} was lost: {broken:?}"),
        }
    }
    unreachable!("the range has no end")
}

#[test]
fn no_connection_is_lost_when_it_is_stopped_under_new_ones() {
    if is_oracle() {
        return; // Envoy exits at once and takes its connections along.
    }
    let drains = drains();
    let origin = Origin::that_answers();
    let drain = || {
        let proxy = Proxy::with(Config::to(&origin).shards(2));
        thread::scope(|scope| {
            let clients: Vec<_> = (0..6).map(|_| scope.spawn(|| churn(&proxy))).collect();
            proxy.stat_becomes_at_least("http.front.downstream_cx_total", 100);
            proxy.signal(Signal::Term);
            let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
            assert!(answered >= 100, "the churn ended early: {answered} answers");
        });
        assert_eq!(proxy.exit().code(), Some(0));
    };
    // Most of a drain is a wait.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..drains.div_ceil(4)).for_each(|_| drain()));
        }
    });
}
