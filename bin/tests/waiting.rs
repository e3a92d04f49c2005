//! Requests that wait for a connection to their origin.

use crate::support::{Client, Config, Origin, Proxy};

/// A limit of one connection to the origin.
fn one_connection(origin: &Origin) -> Config {
    Config::to(origin).cluster("circuit_breakers: { thresholds: [{ max_connections: 1 }] }")
}

/// A client whose request occupies the only connection.
fn occupy(proxy: &Proxy, origin: &Origin) -> Client {
    let mut client = proxy.connect();
    client.ask("/first");
    origin.has_seen(1);
    client
}

#[test]
fn a_body_received_while_its_request_waits_for_a_connection_arrives_complete() {
    let origin = Origin::that_waits_to_go_on();
    let proxy = Proxy::with(one_connection(&origin));
    let mut first = occupy(&proxy, &origin);

    let mut second = proxy.connect();
    second.send("POST /second HTTP/1.1\r\nhost: example\r\ncontent-length: 10\r\n\r\nhello");
    proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 1);
    let received = proxy.stat("http.front.downstream_cx_rx_bytes_total");
    let rest = "worldGET /third HTTP/1.1\r\nhost: example\r\n\r\n";
    second.send(rest);
    proxy.stat_becomes("http.front.downstream_cx_rx_bytes_total", received + rest.len() as u64);

    for _ in 0..3 {
        origin.go_on();
    }
    assert_eq!(first.response().text(), "ok");
    assert_eq!(second.response().text(), "ok");
    assert_eq!(second.response().text(), "ok");
    let seen = origin.seen();
    assert_eq!(seen[1].text(), "helloworld");
    assert!(seen[2].start_line.starts_with("GET /third "), "{}", seen[2]);
    second.stays_open();
}

#[test]
fn a_client_that_sends_ahead_without_limit_uses_no_cpu() {
    let origin = Origin::that_waits_to_go_on();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send("POST /1 HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n");
    proxy.stat_becomes("cluster.service.upstream_rq_active", 1);
    client.send("5\r\nhello\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nho");
    origin.has_seen(1);
    client.send("st: example\r\n\r\n");
    proxy.stays_idle();
    // Beyond its buffer the proxy leaves bytes in the kernel.
    client.send("GET /3 HTTP/1.1\r\nhost: example\r\n\r\n".repeat(2000));
    proxy.stays_idle();
    for _ in 0..3 {
        origin.go_on();
        assert_eq!(client.response().text(), "ok");
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_connection_leaves_the_queue() {
    let origin = Origin::that_waits_to_go_on();
    let proxy = Proxy::with(one_connection(&origin));
    let mut first = occupy(&proxy, &origin);
    for (cancelled, leave) in [(1, Client::reset as fn(Client)), (2, drop)] {
        let mut second = proxy.connect();
        second.ask("/second");
        proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 1);
        leave(second);
        proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 0);
        proxy.stat_becomes("cluster.service.upstream_rq_cancelled", cancelled);
    }
    origin.go_on();
    assert_eq!(first.response().text(), "ok");
    origin.go_on();
    assert_eq!(first.get("/third").text(), "ok");
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn waiting_requests_get_the_connection_in_order() {
    let origin = Origin::that_waits_to_go_on();
    let proxy = Proxy::with(one_connection(&origin));
    let mut first = occupy(&proxy, &origin);
    let mut others: Vec<Client> = Vec::new();
    for i in 1..=5 {
        let mut client = proxy.connect();
        client.ask(&format!("/{i}"));
        proxy.stat_becomes("cluster.service.upstream_rq_pending_active", i);
        others.push(client);
    }
    (0..6).for_each(|_| origin.go_on());
    assert_eq!(first.response().text(), "ok");
    for client in &mut others {
        assert_eq!(client.response().text(), "ok");
    }
    let order: Vec<String> = origin.seen().iter().map(|it| it.start_line.clone()).collect();
    let expected = ["first", "1", "2", "3", "4", "5"].map(|path| format!("GET /{path} HTTP/1.1"));
    assert_eq!(order, expected);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn requests_beyond_the_pending_limit_are_answered_immediately() {
    let origin = Origin::that_stalls();
    let limits = "thresholds: [{ max_connections: 1, max_pending_requests: 1 }]";
    let proxy =
        Proxy::with(Config::to(&origin).cluster(&format!("circuit_breakers: {{ {limits} }}")));
    let _first = occupy(&proxy, &origin);
    let mut second = proxy.connect();
    second.ask("/second");
    proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 1);
    let mut third = proxy.connect();
    let response = third.get("/third");
    assert_eq!(response.status(), 503);
    assert_eq!(response.header("x-envoy-overloaded").as_deref(), Some("true"));
    third.stays_open();
    assert_eq!(proxy.stat("cluster.service.upstream_rq_pending_overflow"), 1);
}
