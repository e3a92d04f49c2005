//! Keep-alive, pipelining and closing, on both sides of the proxy.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::{Act, Config, Origin, Proxy, is_oracle};

#[test]
fn requests_on_one_connection_share_one_connection_to_the_origin() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    client.stays_open();
    assert_eq!(origin.seen().len(), 5);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn clients_one_after_another_share_one_connection_to_the_origin() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::that_echoes();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    let requests: String =
        (0..20).map(|i| format!("GET /{i} HTTP/1.1\r\nhost: example\r\n\r\n")).collect();
    client.send(requests);
    for i in 0..20 {
        let response = client.response();
        assert!(response.text().starts_with(&format!("GET /{i} HTTP/1.1\r\n")), "{response}");
    }
    client.stays_open();
}

#[test]
fn pipelined_requests_with_bodies_stay_separate() {
    let origin = Origin::that_echoes();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send(
        "POST /a HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\nhello\
         POST /b HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         GET /c HTTP/1.1\r\nhost: example\r\n\r\n",
    );
    assert!(client.response().text().ends_with("\r\n\r\nhello"));
    assert!(client.response().text().ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    assert!(client.response().text().starts_with("GET /c "));
    client.stays_open();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    let origin = Origin::that_echoes();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    let request = "POST /slow HTTP/1.1\r\nhost: example\r\ncontent-length: 3\r\n\r\nabc";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert!(client.response().text().starts_with("POST /slow "));
    assert_eq!(origin.saw().text(), "abc");
}

#[test]
fn connection_close_closes_the_client_after_its_answer() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    client.is_closed();
    assert_eq!(origin.saw().header("connection"), None, "a hop-by-hop header went on");
}

#[test]
fn connection_close_from_the_origin_does_not_close_the_client() {
    let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let origin = Origin::that_does([Act::ReplyThenClose(closing)]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!(response.text(), "ok");
        assert_eq!(response.header("connection"), None);
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_client_that_disconnects_cancels_its_request() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    client.reset();
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
}

#[test]
fn a_reset_is_detected_however_much_the_client_has_sent_ahead() {
    // Envoy does not detect it while it does not read.
    if is_oracle() {
        return;
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    // More than the proxy reads before the answer, so it receives nothing more.
    let ahead = "GET /next HTTP/1.1\r\nhost: example\r\n\r\n".repeat(10_000);
    client.wire().set_nonblocking(true).unwrap();
    fill(client.wire(), ahead.as_bytes());
    client.reset();
    has_left(&proxy);
}

#[test]
fn a_reset_is_detected_while_the_origin_does_not_read() {
    // Envoy does not detect it while it does not read.
    if is_oracle() {
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = Proxy::with(Config::to_addresses(&[listener.local_addr().unwrap()]));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 1000000000\r\n\r\n");
    let (_host, _) = listener.accept().unwrap();
    client.wire().set_nonblocking(true).unwrap();
    fill(client.wire(), &[b'x'; 1 << 20]);
    client.reset();
    has_left(&proxy);
}

#[test]
fn a_reset_is_detected_while_the_request_waits_for_a_connection() {
    // Envoy does not detect it while it does not read.
    if is_oracle() {
        return;
    }
    let origin = Origin::that_stalls();
    let one = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }";
    let proxy = Proxy::with(Config::to(&origin).cluster(one));
    let mut first = proxy.connect();
    first.ask("/");
    origin.has_seen(1);
    let mut client = proxy.connect();
    client.ask("/waits");
    proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 1);
    client.wire().set_nonblocking(true).unwrap();
    fill(client.wire(), "GET /next HTTP/1.1\r\nhost: example\r\n\r\n".repeat(10_000).as_bytes());
    client.reset();
    proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 0);
    proxy.stays_idle();
}

#[test]
fn clients_beyond_the_descriptors_wait_and_are_served_when_others_leave() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).descriptors(64));
    assert_eq!(proxy.get("/").status(), 200);
    let mut clients: Vec<_> = (0..100).map(|_| proxy.connect()).collect();
    if !is_oracle() {
        proxy.stays_idle(); // Envoy retries all the time
    }
    let last = clients.pop();
    drop(clients);
    assert_eq!(last.unwrap().get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200);
    assert!(proxy.is_running());
}

/// Writes until the proxy reads nothing more for a while.
fn fill(mut stream: &TcpStream, block: &[u8]) {
    let mut refused = 0;
    while refused < 30 {
        match stream.write(block) {
            Ok(1..) => refused = 0,
            Ok(0) | Err(_) => {
                refused += 1;
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The disconnect is detected immediately, and everything is cleaned up.
#[track_caller]
fn has_left(proxy: &Proxy) {
    for gauge in ["cluster.service.upstream_rq_active", "cluster.service.upstream_cx_active"] {
        proxy.stat_becomes(gauge, 0);
    }
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    proxy.stays_idle();
}

#[test]
fn an_idle_connection_that_the_origin_closed_fails_no_request() {
    let closing = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let origin = Origin::that_does([Act::ReplyThenClose(closing)]);
    let proxy = Proxy::with(Config::to(&origin));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
        proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    }
}

#[test]
fn bytes_after_an_answer_never_reach_the_next_client() {
    let origin = Origin::that_says(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    );
    let proxy = Proxy::with(Config::to(&origin));
    for _ in 0..5 {
        let mut client = proxy.connect();
        assert_eq!(client.get("/").text(), "ok");
        client.stays_open();
    }
}

#[test]
fn bytes_after_a_body_never_reach_the_next_request() {
    // The body comes after its head, together with unrequested bytes.
    let origin = Origin::that_does([Act::ReplyInTwo(
        Duration::from_millis(20),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".into(),
        b"okHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".into(),
    )]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: example\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_eq!(client.response().text(), "ok");
    }
    client.stays_open();
}

const SAFE: &str = "http1_safe_max_connection_duration: true";

#[test]
fn a_connection_past_its_maximum_age_answers_once_more_in_safe_mode() {
    let origin = Origin::that_answers();
    let old = "common_http_protocol_options: { max_connection_duration: 1s }";
    let proxy = Proxy::with(Config::to(&origin).manager(old).manager(SAFE));
    let mut client = proxy.connect();
    client.get("/");
    thread::sleep(Duration::from_millis(1500));
    client.stays_open();
    assert_eq!(client.get("/").header("connection").as_deref(), Some("close"));
    client.is_closed();
    assert_eq!(proxy.stat("http.front.downstream_cx_max_duration_reached"), 1);
}

#[test]
fn an_unused_connection_past_its_maximum_age_is_closed() {
    let origin = Origin::that_answers();
    let old = "common_http_protocol_options: { max_connection_duration: 0.2s }";
    let proxy = Proxy::with(Config::to(&origin).manager(old).manager(SAFE));
    proxy.connect().is_closed();
}
