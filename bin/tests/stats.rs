//! Stats: exact, over all shards, under load.

use std::thread;

use crate::support::{Act, Config, Origin, Proxy, Refusing};

const CLIENTS: u64 = 8;
const REQUESTS_EACH: u64 = 250;

#[test]
fn after_n_requests_over_two_shards_the_counters_are_n() {
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
        // Reading them meanwhile changes nothing.
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
fn counters_can_be_reset_and_gauges_stay() {
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

/// The counters after one request that ended in a given way; others are not checked.
#[track_caller]
fn counts(config: Config, proxy_does: impl FnOnce(&Proxy), expected: &[(&str, u64)]) {
    let proxy = Proxy::with(config);
    proxy_does(&proxy);
    for (name, value) in expected {
        let name = match name.split_once(' ') {
            Some((_, name)) => format!("http.front.downstream_{name}"),
            None => format!("cluster.service.upstream_{name}"),
        };
        proxy.stat_becomes(&name, *value);
    }
}

#[track_caller]
fn is_cut_off(proxy: &Proxy) {
    assert!(proxy.connect().ask("/").try_response("GET").is_err());
}

#[test]
fn a_truncated_answer_is_counted_as_an_answer_and_a_reset() {
    counts(
        Config::to(&Origin::that_closes_within_the_body()),
        is_cut_off,
        &[
            ("cx_protocol_error", 1),
            ("cx_destroy_remote_with_active_rq", 1),
            ("front rq_2xx", 1),
            ("front rq_completed", 1),
            ("front rq_rx_reset", 1),
            ("front rq_tx_reset", 1),
            ("front cx_destroy_active_rq", 0),
        ],
    );
}

#[test]
fn a_client_that_leaves_is_counted_with_its_request() {
    let origin = Origin::that_stalls();
    let leave = |proxy: &Proxy| {
        let mut client = proxy.connect();
        client.ask("/");
        origin.has_seen(1);
        client.reset();
    };
    counts(
        Config::to(&origin),
        leave,
        &[
            ("cx_destroy_local_with_active_rq", 1),
            ("rq_total", 1),
            ("front rq_rx_reset", 1),
            ("front rq_tx_reset", 0),
            ("front rq_completed", 0),
            ("front cx_destroy_active_rq", 1),
            ("front cx_destroy_remote_active_rq", 1),
            ("front rq_active", 0),
        ],
    );
}

#[test]
fn a_rejected_head_is_counted_as_a_request() {
    let refused = |proxy: &Proxy| drop(proxy.connect().send("nonsense\r\n\r\n").response());
    counts(
        Config::to(&Origin::that_answers()),
        refused,
        &[
            ("front rq_total", 1),
            ("front rq_4xx", 1),
            ("front rq_rx_reset", 1),
            ("front rq_response_before_rq_complete", 1),
            ("front cx_protocol_error", 1),
            ("front rq_active", 0),
        ],
    );
}

#[test]
fn a_connection_that_the_origin_closes_after_its_answer_has_no_active_request() {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec();
    counts(
        Config::to(&Origin::that_does([Act::ReplyThenClose(answer)])),
        |proxy| assert_eq!(proxy.get("/").text(), "ok"),
        &[("cx_close_notify", 1), ("cx_destroy_local", 1), ("cx_destroy_with_active_rq", 0)],
    );
    counts(
        Config::to(&Origin::that_answers_until_close("all")),
        |proxy| assert_eq!(proxy.get("/").text(), "all"),
        &[("cx_close_notify", 0), ("cx_destroy_remote", 1), ("cx_destroy_with_active_rq", 0)],
    );
}

#[test]
fn every_attempt_is_counted_for_its_host() {
    let charged = |config: Config| {
        let proxy = Proxy::with(config);
        proxy.get("/");
        let clusters = proxy.admin("/clusters").text();
        let value = |name: &str| -> u64 {
            let field = format!("::{name}::");
            let line = clusters.lines().find(|line| line.contains(&field)).unwrap();
            line.rsplit_once("::").unwrap().1.parse().unwrap()
        };
        ["rq_total", "rq_success", "rq_error", "rq_timeout"].map(value)
    };
    let refusing = Refusing::new();
    let refused = Config::to_addresses(&[refusing.address()]).retry("connect-failure", 2);
    assert_eq!(charged(refused), [0, 0, 3, 0]);
    let resets = Origin::that_resets();
    assert_eq!(charged(Config::to(&resets).retry("5xx", 2)), [3, 0, 3, 0]);
    let works_at_last = Origin::that_replies_in_turn(&[503, 503, 200]);
    assert_eq!(charged(Config::to(&works_at_last).retry("5xx", 2)), [3, 1, 2, 0]);
    let stalls = Origin::that_stalls();
    assert_eq!(charged(Config::to(&stalls).route("timeout: 0.2s")), [1, 0, 1, 1]);
}
