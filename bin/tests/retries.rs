//! Retries: what is retried, how often, and what the client and the stats show.

use std::net::SocketAddr;

use crate::support::{
    Act, Client, Config, Message, Origin, Proxy, Refusing, is_oracle, wait_until,
};

#[test]
fn a_500_is_retried_three_times_and_the_last_answer_is_returned() {
    let origin = Origin::that_replies(500);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    assert_eq!(proxy.get("/").status(), 500);
    assert_eq!(origin.seen().len(), 4);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_total"), 4);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry"), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry_limit_exceeded"), 1);
    assert_eq!(proxy.stat("cluster.service.retry.upstream_rq_500"), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_500"), 1);
}

#[test]
fn a_retry_that_succeeds_is_what_the_client_gets() {
    let origin = Origin::that_replies_in_turn(&[503, 502, 200]);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry_success"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry_limit_exceeded"), 0);
}

#[test]
fn a_404_is_not_retried() {
    let origin = Origin::that_replies(404);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    assert_eq!(proxy.get("/").status(), 404);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn without_a_policy_nothing_is_retried() {
    let origin = Origin::that_replies(500);
    let proxy = Proxy::with(Config::to(&origin));
    assert_eq!(proxy.get("/").status(), 500);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn the_body_is_sent_again_with_every_attempt() {
    let origin = Origin::that_replies_in_turn(&[503, 503, 200]);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.response().status(), 200);
    client.send("POST / HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("5\r\nworld\r\n0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let bodies: Vec<String> = origin.seen().iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["hello", "hello", "hello", "world"]);
}

#[test]
fn a_body_that_does_not_fit_the_buffer_is_not_retried() {
    let origin = Origin::that_replies(503);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    let mut client = proxy.connect();
    let body = vec![b'x'; 3 << 20];
    client.send(format!("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(client.response().status(), 503);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(proxy.stat("cluster.service.retry_or_shadow_abandoned"), 1);
}

#[test]
fn a_long_body_is_sent_again_unchanged() {
    let origin = Origin::that_replies_in_turn(&[503, 503, 200]);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    let body: String = (0..100_000).map(|at| format!("{at:09}")).collect();
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.seen().len(), 3);
    let as_sent = |request: &Message| request.text() == body;
    assert!(origin.seen().iter().all(as_sent), "with a length");

    let origin = Origin::that_replies_in_turn(&[503, 503, 200]);
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: e\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body.as_bytes().chunks(70_000) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.seen().len(), 3);
    assert!(origin.seen().iter().all(as_sent), "in chunks");
}

#[test]
fn body_bytes_received_during_a_backoff_are_sent_in_order() {
    let says_503 = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    let says_200 = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let origin = Origin::that_does([Act::ReplyAtOnce(says_503), Act::Reply(says_200)]);
    let policy = "{ retry_on: 5xx, num_retries: 1, retry_back_off: { base_interval: 0.2s } }";
    let proxy = Proxy::with(Config::to(&origin).route(&format!("retry_policy: {policy}")));
    let body: String = (0..40_000).map(|at| format!("{at:09}")).collect();
    let (before, after) = body.split_at(350_000);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: e\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("{:x}\r\n{before}\r\n", before.len()));
    proxy.stat_becomes("cluster.service.retry.upstream_rq_503", 1);
    client.send(format!("{:x}\r\n{after}\r\n0\r\n\r\n", after.len()));
    assert_eq!(client.response().status(), 200);
    assert!(origin.seen()[1].text() == body);
}

#[test]
fn buffered_bodies_are_bounded_per_shard_and_freed() {
    let origin = Origin::that_swallows_and_stalls();
    let thresholds = "circuit_breakers: { thresholds: [{ max_requests: 1000 }] }";
    let proxy = Proxy::with(Config::to(&origin).cluster(thresholds).retry("5xx", 1));
    let body = vec![b'x'; 1_000_000];
    let before = proxy.memory_kib();
    let clients: Vec<Client> = (0..150)
        .map(|_| {
            let mut client = proxy.connect();
            client.send("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 1000000\r\n\r\n");
            client.send(&body);
            client
        })
        .collect();
    wait_until("all bodies at the origin", || {
        proxy.stat("cluster.service.upstream_cx_tx_bytes_total") > 150 * 1_000_000
    });
    // For other requests, a shard only holds bytes in transit.
    let held = proxy.memory_kib() - before;
    assert!(held < 100 * 1024, "{held} KiB for bodies that the origin has");
    drop(clients);
    wait_until("buffered bodies to be freed", || proxy.memory_kib() < before + 40 * 1024);
    wait_until("unbuffered bodies to be counted", || {
        proxy.stat("cluster.service.retry_or_shadow_abandoned") >= 50
    });
}

#[test]
fn a_connection_that_is_reset_before_the_answer_is_retried() {
    for origin in [Origin::that_closes_before_answering(), Origin::that_resets()] {
        let proxy = Proxy::with(Config::to(&origin).retry("5xx", 2));
        let response = proxy.get("/");
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.text(),
            "upstream connect error or disconnect/reset before headers. retried and the latest \
             reset reason: connection termination"
        );
        assert_eq!(origin.seen().len(), 3);
    }
}

#[test]
fn a_host_that_refuses_connections_is_skipped_in_the_retry() {
    let refusing = Refusing::new();
    let origin = Origin::that_answers();
    let addresses: [SocketAddr; 2] = [refusing.address(), origin.address()];
    let proxy = Proxy::with(Config::to_addresses(&addresses).retry("connect-failure", 1));
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(origin.seen().len(), 4);
}

#[test]
fn an_answer_that_has_started_is_not_retried() {
    let origin = Origin::that_closes_within_the_body();
    let proxy = Proxy::with(Config::to(&origin).retry("5xx", 3));
    let answer = proxy.connect().ask("/").try_response("GET");
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_request_on_a_closing_connection_is_sent_again_in_full() {
    if is_oracle() {
        return; // Envoy answers 503.
    }
    // The connection has served one request, and closes when the second arrives.
    let answer = || Act::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into());
    let origin = Origin::that_does([answer(), Act::ReplyThenClose(Vec::new()), answer()]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "ok");
    client.send("PUT / HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "ok");
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry"), 0);
}

#[test]
fn a_retry_avoids_the_hosts_that_were_tried() {
    let origins = [Origin::that_replies(503), Origin::that_replies(200)];
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let policy = "retry_policy: { retry_on: 5xx, num_retries: 1, \
                  host_selection_retry_max_attempts: 50, retry_host_predicate: [{ \
                  name: previous_hosts, typed_config: { \"@type\": type.googleapis.com/\
                  envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }] }";
    let config = Config::to_addresses(&addresses).route(policy).cluster("lb_policy: RANDOM");
    let proxy = Proxy::with(config);
    let mut client = proxy.connect();
    for _ in 0..40 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(origins[1].seen().len(), 40);
}
