//! Clients and origins that disconnect in every phase: nothing of theirs is left behind.

use std::thread;

use crate::support::{Act, Client, Config, Origin, Proxy, Wire, is_oracle};

/// The gauges that are 0 when the proxy is idle.
const GAUGES: [&str; 8] = [
    "http.front.downstream_cx_active",
    "http.front.downstream_cx_http1_active",
    "http.front.downstream_rq_active",
    "cluster.service.upstream_cx_active",
    "cluster.service.upstream_rq_active",
    "cluster.service.upstream_rq_pending_active",
    "cluster.service.circuit_breakers.default.cx_open",
    "cluster.service.circuit_breakers.default.rq_open",
];

/// Nothing is open, or counted as open.
#[track_caller]
fn nothing_is_left(proxy: &Proxy) {
    for gauge in GAUGES {
        proxy.stat_becomes(gauge, 0);
    }
    let clusters = proxy.admin("/clusters").text();
    for gauge in ["cx_active", "rq_active"] {
        let lines = clusters.lines().filter(|line| line.contains(&format!("::{gauge}::")));
        lines.for_each(|line| assert!(line.ends_with("::0"), "{line}"));
    }
}

const POST: &str = "POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 10\r\n\r\n";

/// How a client disconnects.
const WAYS: [fn(Client); 2] = [Client::reset, drop];

#[test]
fn a_client_that_leaves_within_its_head_leaves_nothing_behind() {
    for leave in WAYS {
        let origin = Origin::that_answers();
        let proxy = Proxy::with(Config::to(&origin));
        let mut client = proxy.connect();
        client.send("GET / HTT");
        proxy.stat_becomes("http.front.downstream_cx_rx_bytes_total", 9);
        leave(client);
        nothing_is_left(&proxy);
        proxy.stat_becomes("http.front.downstream_cx_destroy_remote", 1);
        assert_eq!(origin.connections(), 0);
    }
}

#[test]
fn a_client_that_leaves_within_its_body_frees_the_origin() {
    for leave in WAYS {
        let origin = Origin::that_answers();
        let proxy = Proxy::with(Config::to(&origin));
        let mut client = proxy.connect();
        client.send(POST).send("hello");
        proxy.stat_becomes("cluster.service.upstream_rq_active", 1);
        leave(client);
        nothing_is_left(&proxy);
        assert_eq!(origin.seen().len(), 0);
    }
}

#[test]
fn a_client_that_leaves_within_the_answer_frees_the_origin() {
    the_answer_is_abandoned(|| Origin::that_sends(256 << 20));
}

#[test]
fn a_client_that_leaves_while_the_answer_stalls_frees_the_origin() {
    the_answer_is_abandoned(Origin::that_stalls_after_headers);
}

/// The client leaves in every way once it has the head of the answer.
#[track_caller]
fn the_answer_is_abandoned(origin: impl Fn() -> Origin) {
    for leave in WAYS {
        let origin = origin();
        let proxy = Proxy::with(Config::to(&origin));
        let mut client = proxy.connect();
        client.get_head("/");
        leave(client);
        nothing_is_left(&proxy);
    }
}

#[test]
fn a_client_that_leaves_between_two_attempts_frees_everything() {
    let origin = Origin::that_replies(503);
    let slow = "retry_policy: { retry_on: 5xx, num_retries: 9, \
                retry_back_off: { base_interval: 60s, max_interval: 60s } }";
    for leave in WAYS {
        let proxy = Proxy::with(Config::to(&origin).route(slow).route("timeout: 0s"));
        let mut client = proxy.connect();
        client.ask("/");
        proxy.stat_becomes("cluster.service.retry.upstream_rq_503", 1);
        leave(client);
        proxy.stat_becomes("http.front.downstream_cx_active", 0);
        proxy.stat_becomes("http.front.downstream_rq_active", 0);
        proxy.stat_becomes("cluster.service.circuit_breakers.default.rq_retry_open", 0);
    }
}

#[test]
fn an_early_answer_of_an_origin_that_stops_reading_is_forwarded_and_the_connection_closed() {
    let answer = b"HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno".to_vec();
    let origin = Origin::that_does([Act::ReplyAtOnce(answer)]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 100000000\r\n\r\nhello");
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (413, "no"));
    client.is_closed();
    nothing_is_left(&proxy);
    assert_eq!(proxy.stat("http.front.downstream_rq_response_before_rq_complete"), 1);
}

#[test]
fn an_early_answer_of_an_origin_that_closes_is_forwarded() {
    let answer = b"HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno".to_vec();
    let origin = Origin::that_does([Act::ReplyAtOnce(answer)]);
    let proxy = Proxy::with(Config::to(&origin));
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send("5\r\nhello\r\n");
        assert_eq!(client.response().status(), 413);
    }
    nothing_is_left(&proxy);
}

#[test]
fn a_request_and_an_answer_that_come_byte_by_byte_are_complete() {
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx: y\r\n\r\n";
    let origin = Origin::that_does([Act::ReplyByteByByte(answer.to_vec())]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    for _ in 0..2 {
        let request = "POST / HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for byte in request.bytes() {
            client.send([byte]);
        }
        assert_eq!(client.response().text(), "hello world");
    }
    assert_eq!(origin.connections(), 1);
    assert!(origin.seen().iter().all(|request| request.text() == "abcde"));
}

#[test]
fn pipelined_requests_wait_for_the_slow_first_one() {
    let mut script =
        vec![Act::ReplyWhenTold(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow".into())];
    script.push(Act::Echo);
    let origin = Origin::that_does(script);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    let request = |i: usize| format!("GET /{i} HTTP/1.1\r\nhost: example\r\n\r\n");
    client.send((0..20).map(request).collect::<String>());
    origin.has_seen(1);
    proxy.stays_idle();
    assert_eq!(origin.seen().len(), 1, "a request was begun before the one before it ended");
    origin.go_on();
    assert_eq!(client.response().text(), "slow");
    for i in 1..20 {
        assert!(client.response().text().starts_with(&format!("GET /{i} ")));
    }
    drop(client);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
}

#[test]
fn after_a_crowd_of_all_kinds_nothing_is_left() {
    if is_oracle() {
        return; // Envoy keeps its connections to the origin.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).shards(2).cluster(
        "circuit_breakers: { thresholds: [{ max_connections: 20, max_pending_requests: 500 }] }",
    ));
    let behave = |i: usize, mut client: Client| match i % 6 {
        0 => drop(client.get("/")),
        1 => drop((client.get("/"), client.ask("/"))),
        2 => drop(client.send(POST).send("hel")),
        3 => {
            client.ask("/");
            client.reset();
        }
        4 => drop(client.send("nonsense\r\n\r\n")),
        _ => {
            client.ask("/").half_close();
            assert_eq!(client.response().text(), "ok");
        }
    };
    thread::scope(|scope| {
        for turn in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                for i in 0..25 {
                    behave(turn + i, proxy.connect());
                }
            });
        }
    });
    for gauge in GAUGES.iter().filter(|gauge| **gauge != "cluster.service.upstream_cx_active") {
        proxy.stat_becomes(gauge, 0);
    }
    proxy.stat_becomes("http.front.downstream_cx_total", 200);
    let served = proxy.stats();
    let count = |name: &str| served[&format!("cluster.service.{name}")];
    assert_eq!(
        count("upstream_cx_total") - count("upstream_cx_destroy"),
        count("upstream_cx_active")
    );
    assert!(count("upstream_cx_active") <= 20);
}

#[test]
fn a_client_that_never_stops_sending_delays_no_one() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut endless = Wire::connect(proxy.address()).unwrap();
    endless.send(b"nonsense\r\n\r\n").unwrap();
    let sender = thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        while endless.send(&block).is_ok() {}
    });
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    sender.join().unwrap();
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
}

#[test]
fn a_client_that_floods_after_its_error_response_is_not_read_for_long() {
    let proxy = Proxy::with(Config::to_addresses(&[]));
    let mut client = proxy.connect();
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    let block = vec![b'x'; 1 << 20];
    while client.wire().send(&block).is_ok() {}
    proxy.stat_becomes("http.front.downstream_cx_delayed_close_timeout", 1);
    let received = proxy.stat("http.front.downstream_cx_rx_bytes_total");
    assert!(received <= 2 << 20, "{received} bytes");
}

#[test]
fn an_early_answer_has_connection_close() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let origin = Origin::that_does([Act::ReplyAtOnce(answer)]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send(POST).send("hello");
    let response = client.response();
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert_eq!(response.header("x-envoy-upstream-service-time"), None);
    client.is_closed();
}
