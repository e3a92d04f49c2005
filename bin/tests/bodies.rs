//! Bodies in both directions, with every kind of framing, and the memory that they use.

use crate::support::{Act, Config, Origin, Proxy};

const POST: &str = "POST / HTTP/1.1\r\nhost: example\r\n";

#[test]
fn a_body_with_a_length_arrives_with_that_length() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send(format!("{POST}content-length: 5\r\n\r\nhello"));
    assert_eq!(client.response().status(), 200);
    let request = origin.saw();
    assert_eq!(request.text(), "hello");
    assert_eq!(request.header("content-length").as_deref(), Some("5"));
    assert_eq!(request.header("transfer-encoding"), None);
}

#[test]
fn a_chunked_body_arrives_chunked_without_its_extensions_and_trailers() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send(format!("{POST}transfer-encoding: chunked\r\n\r\n"));
    client.send("5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let request = origin.saw();
    assert_eq!(request.text(), "hello world");
    assert_eq!(request.header("transfer-encoding").as_deref(), Some("chunked"));
    client.stays_open();
}

#[test]
fn a_post_without_a_body_has_content_length_0() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    proxy.connect().send(format!("{POST}\r\n")).response();
    assert_eq!(origin.saw().header("content-length").as_deref(), Some("0"));
}

#[test]
fn a_chunked_answer_stays_chunked() {
    let origin = Origin::that_says(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!(response.text(), "hello world");
        assert_eq!(response.header("transfer-encoding").as_deref(), Some("chunked"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_that_ends_with_the_connection_becomes_chunked() {
    let origin = Origin::that_answers_until_close("all of it");
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!(response.text(), "all of it");
        assert_eq!(response.header("transfer-encoding").as_deref(), Some("chunked"));
    }
    client.stays_open();
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    let origin = Origin::that_does([
        reply("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        reply("HTTP/1.1 204 No Content\r\n\r\n"),
        reply("HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n"),
        reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: example\r\n\r\n");
    let head = client.response_to("HEAD");
    assert_eq!(head.header("content-length").as_deref(), Some("1000"));
    assert_eq!(client.get("/").status(), 204);
    assert_eq!(client.get("/").status(), 304);
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_expects_100_gets_it() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.send(format!("{POST}content-length: 5\r\nexpect: 100-continue\r\n\r\n"));
    let interim = client.wire().skip("HTTP/1.1 100 Continue\r\n\r\n".len() as u64);
    assert!(interim.is_ok(), "{interim:?}");
    client.send("hello");
    assert_eq!(client.response().status(), 200);
    let request = origin.saw();
    assert_eq!(request.text(), "hello");
    assert_eq!(request.header("expect"), None);
}

#[test]
fn interim_answers_of_the_origin_are_not_the_final_answer() {
    let origin = Origin::that_says(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn a_truncated_answer_is_truncated_for_the_client() {
    for origin in [Origin::that_closes_within_the_body(), Origin::that_sends_a_bad_chunk()] {
        let proxy = Proxy::with(Config::to(&origin));
        let mut client = proxy.connect();
        let broken = client.ask("/").try_response("GET").expect_err("a whole response");
        let got = String::from_utf8_lossy(broken.bytes()).into_owned();
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
        assert!(!got.ends_with("0\r\n\r\n"), "a chunked body was ended that had no end");
    }
}

#[test]
fn a_large_download_takes_no_memory() {
    let origin = Origin::that_sends(LARGE);
    let proxy = Proxy::with(Config::to(&origin));
    assert_eq!(proxy.connect().get_head("/").header("content-length"), Some(LARGE.to_string()));
    let before = proxy.memory_kib();
    let mut client = proxy.connect();
    let head = client.get_head("/");
    assert_eq!(head.header("content-length"), Some(LARGE.to_string()));
    client.wire().skip(LARGE).unwrap();
    client.stays_open();
    grew_little(&proxy, before);
}

#[test]
fn a_large_upload_takes_no_memory() {
    let origin = Origin::that_swallows();
    let proxy = Proxy::with(Config::to(&origin));
    let before = proxy.memory_kib();
    let mut client = proxy.connect();
    client.send(format!("{POST}content-length: {LARGE}\r\n\r\n"));
    let block = vec![b'x'; 1 << 20];
    for _ in 0..LARGE / block.len() as u64 {
        client.send(&block);
    }
    assert_eq!(client.response().text(), LARGE.to_string());
    grew_little(&proxy, before);
}

#[test]
fn a_client_that_does_not_read_stops_the_origin_not_the_proxy() {
    let origin = Origin::that_sends(LARGE);
    let proxy = Proxy::with(Config::to(&origin));
    let mut slow = proxy.connect();
    slow.get_head("/");
    let before = proxy.memory_kib();
    // Others are served while the slow client blocks its answer.
    for _ in 0..20 {
        proxy.connect().get_head("/");
    }
    let received = proxy.stat("cluster.service.upstream_cx_rx_bytes_total");
    assert!(received < LARGE, "the proxy took {received} bytes for clients that do not read");
    grew_little(&proxy, before);
}

/// Larger than the buffers of proxy and kernel together.
const LARGE: u64 = 256 << 20;

/// Less than this much growth means that no body was buffered whole.
#[track_caller]
fn grew_little(proxy: &Proxy, before: u64) {
    let after = proxy.memory_kib();
    assert!(after < before + (48 << 10), "memory grew from {before} KiB to {after} KiB");
}

fn reply(text: &str) -> Act {
    Act::Reply(text.as_bytes().to_vec())
}

#[test]
fn bodies_pass_intact_through_the_smallest_buffers() {
    let origin = Origin::that_echoes();
    let tiny = "per_connection_buffer_limit_bytes: 1024";
    let yaml = Config::to(&origin).cluster(tiny).yaml();
    let yaml = yaml.replace("  - name: front\n", &format!("  - name: front\n    {tiny}\n"));
    let proxy = Proxy::with(Config::verbatim(yaml));
    let mut client = proxy.connect();
    let body = "0123456789abcdef".repeat(10_000);
    client.send(format!("{POST}content-length: {}\r\n\r\n{body}", body.len()));
    assert!(client.response().text().ends_with(&format!("\r\n\r\n{body}")));
    client.send(format!("{POST}transfer-encoding: chunked\r\n\r\n"));
    client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert!(client.response().text().ends_with(&format!("{body}\r\n0\r\n\r\n")));
    assert_eq!(origin.seen()[1].text(), body);
}
