//! Stats: exact, over every shard, under load.

use std::thread;

use crate::support::{Config, Origin, Proxy};

const CLIENTS: u64 = 8;
const REQUESTS_EACH: u64 = 250;

#[test]
fn after_n_requests_over_two_shards_the_counters_say_n() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = proxy.connect();
                for _ in 0..REQUESTS_EACH {
                    assert_eq!(client.get("/").status(), 200);
                }
            });
        }
        // Reading them meanwhile disturbs nobody.
        for _ in 0..20 {
            assert!(proxy.stat("cluster.service.upstream_rq_total") <= CLIENTS * REQUESTS_EACH);
        }
    });

    let total = CLIENTS * REQUESTS_EACH;
    assert_eq!(origin.seen().len() as u64, total);
    for name in [
        "http.front.downstream_rq_total",
        "http.front.downstream_rq_completed",
        "http.front.downstream_rq_2xx",
        "http.front.downstream_rq_http1_total",
        "http.front.rq_total",
        "cluster.service.upstream_rq_total",
        "cluster.service.upstream_rq_completed",
        "cluster.service.upstream_rq_200",
        "cluster.service.upstream_rq_2xx",
        "cluster.service.external.upstream_rq_200",
    ] {
        proxy.stat_becomes(name, total);
    }
    proxy.stat_becomes("http.front.downstream_cx_total", CLIENTS);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    let connections = proxy.stat("cluster.service.upstream_cx_total");
    assert_eq!(connections, origin.connections() as u64);
}

#[test]
fn bytes_are_counted_on_both_sides() {
    let origin = Origin::that_says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789");
    let proxy = Proxy::with(Config::to(&origin));
    let request = "GET / HTTP/1.1\r\nhost: example\r\n\r\n";
    let response = proxy.connect().send(request).response();
    let sent_down = response.canonical().len() as u64;
    let sent_up = origin.saw().canonical().len() as u64;
    proxy.stat_becomes("http.front.downstream_cx_rx_bytes_total", request.len() as u64);
    proxy.stat_becomes("http.front.downstream_cx_tx_bytes_total", sent_down);
    proxy.stat_becomes("cluster.service.upstream_cx_tx_bytes_total", sent_up);
    proxy.stat_becomes("cluster.service.upstream_cx_rx_bytes_total", 49);
}

#[test]
fn counters_can_be_set_back_and_gauges_stay() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.get("/");
    proxy.stat_becomes("http.front.downstream_rq_completed", 1);
    assert_eq!(proxy.admin_post("/reset_counters").text(), "OK\n");
    assert_eq!(proxy.stat("http.front.downstream_rq_total"), 0);
    assert_eq!(proxy.stat("http.front.downstream_cx_active"), 1);
    client.get("/");
    proxy.stat_becomes("http.front.downstream_rq_completed", 1);
}
