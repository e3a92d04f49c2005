//! Internal redirects beyond what the parity cases `internal_redirects` show.

use crate::support::{Act, Config, Origin, Proxy};

const TO_HERE: &str = "HTTP/1.1 302 Found\r\nlocation: http://example/again\r\n";

fn following(origin: &Origin) -> Config {
    Config::to(origin).route("internal_redirect_policy: {}")
}

#[test]
fn a_long_body_is_sent_again_unchanged() {
    let redirect = format!("{TO_HERE}content-length: 0\r\n\r\n");
    let origin = Origin::that_does([Act::Reply(redirect.into()), Act::Echo]);
    let proxy = Proxy::with(following(&origin));
    let body: String = (0..100_000).map(|at| format!("{at:09}")).collect();
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: {}\r\n\r\n", body.len()));
    for part in body.as_bytes().chunks(70_001) {
        client.send(part);
    }
    assert_eq!(client.response().status(), 200);
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.text() == body), "a body differs");
    // The connection serves the next request.
    assert_eq!(client.get("/").status(), 200);
}

/// Only complete requests are redirected.
#[test]
fn a_redirect_before_the_end_of_the_request_is_for_the_client() {
    let redirect = format!("{TO_HERE}content-length: 0\r\n\r\n");
    let origin = Origin::that_does([Act::ReplyAtOnce(redirect.into())]);
    let proxy = Proxy::with(following(&origin));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 10\r\n\r\n01234");
    assert_eq!(client.response().status(), 302);
    assert_eq!(proxy.stat("cluster.service.upstream_internal_redirect_failed_total"), 1);
}

/// The body of the redirect goes nowhere, and what follows on the connection is not taken for it.
#[test]
fn the_body_of_a_redirect_is_not_that_of_the_next_response() {
    let redirect = format!("{TO_HERE}content-length: 1000\r\n\r\nleft over");
    let origin = Origin::that_does([Act::ReplyThenStall(redirect.into()), Act::Echo]);
    let proxy = Proxy::with(following(&origin));
    let response = proxy.get("/first");
    assert_eq!(response.status(), 200);
    assert!(response.text().starts_with("GET /again HTTP/1.1\r\n"), "{}", response.text());
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_client_that_leaves_after_a_redirect_ends_the_request() {
    let redirect = format!("{TO_HERE}content-length: 0\r\n\r\n");
    let origin = Origin::that_does([Act::Reply(redirect.into()), Act::ReplyThenStall(Vec::new())]);
    let proxy = Proxy::with(following(&origin));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(2);
    client.reset();
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
}

#[test]
fn the_timeout_after_a_redirect_is_that_of_the_new_route() {
    let redirect = format!("{TO_HERE}content-length: 0\r\n\r\n");
    let origin = Origin::that_does([Act::Reply(redirect.into()), Act::ReplyThenStall(Vec::new())]);
    let proxy = Proxy::with(following(&origin).route("timeout: 0.2s"));
    assert_eq!(proxy.get("/").status(), 504);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_timeout"), 1);
}
