//! Mirrors of requests beyond what the parity cases `mirrors` show: they hold nothing up, and end with the
//! request.

use std::net::SocketAddr;

use crate::support::{Act, Config, Origin, Proxy, is_oracle};

/// Mirrors to this address.
fn mirroring(origin: &Origin, mirror: SocketAddr, policy: &str) -> Config {
    Config::to(origin)
        .route(&format!("request_mirror_policies: [{{ cluster: mirror{policy} }}]"))
        .other_cluster("mirror", mirror)
}

#[test]
fn a_mirror_that_does_not_read_is_cut_off_and_the_request_is_not_held_up() {
    // Envoy stops reading from the client.
    if is_oracle() {
        return;
    }
    let origin = Origin::that_does([Act::Swallow]);
    let mirror = Origin::that_does([Act::ReplyAtOnce(Vec::new())]);
    let proxy = Proxy::with(mirroring(&origin, mirror.address(), ""));
    let body = vec![b'x'; 32 << 20];
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&body);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (200, body.len().to_string()));
    assert_eq!(proxy.stat("cluster.service.retry_or_shadow_abandoned"), 1);
    proxy.stat_becomes("cluster.mirror.upstream_rq_active", 0);
    assert_eq!(proxy.stat("cluster.mirror.upstream_cx_destroy_local_with_active_rq"), 1);
}

#[test]
fn a_long_body_arrives_whole_at_a_mirror_that_reads() {
    let (origin, mirror) = (Origin::that_echoes(), Origin::that_echoes());
    let proxy = Proxy::with(mirroring(&origin, mirror.address(), ""));
    let body: String = (0..40_000).map(|at| format!("{at:09}")).collect();
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: {}\r\n\r\n", body.len()));
    for part in body.as_bytes().chunks(7_001) {
        client.send(part);
    }
    assert_eq!(client.response().status(), 200);
    mirror.has_seen(1);
    assert!(mirror.saw().text() == body, "the copy differs");
}

#[test]
fn a_client_that_leaves_ends_the_mirror_too() {
    let (origin, mirror) = (Origin::that_stalls(), Origin::that_stalls());
    let proxy = Proxy::with(mirroring(&origin, mirror.address(), ""));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 10\r\n\r\n01234");
    proxy.stat_becomes("cluster.mirror.upstream_rq_active", 1);
    client.reset();
    proxy.stat_becomes("cluster.mirror.upstream_rq_active", 0);
    assert_eq!(mirror.seen().len(), 0, "no request is complete");
}

#[test]
fn a_mirror_goes_on_when_the_client_has_its_response() {
    let (origin, mirror) = (Origin::that_answers(), Origin::that_waits_to_go_on());
    let proxy = Proxy::with(mirroring(&origin, mirror.address(), ""));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: e\r\ncontent-length: 5\r\n\r\n01234");
    assert_eq!(client.response().status(), 200);
    client.reset();
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    assert_eq!(proxy.stat("cluster.mirror.upstream_rq_active"), 1);
    mirror.go_on();
    proxy.stat_becomes("cluster.mirror.upstream_rq_200", 1);
    assert_eq!(proxy.stat("cluster.mirror.upstream_rq_active"), 0);
}

#[test]
fn a_fraction_of_the_requests_is_mirrored() {
    let (origin, mirror) = (Origin::that_answers(), Origin::that_answers());
    let fraction = ", runtime_fraction: { default_value: { numerator: 20 } }";
    let proxy = Proxy::with(mirroring(&origin, mirror.address(), fraction));
    let mut client = proxy.connect();
    for _ in 0..1_000 {
        assert_eq!(client.get("/").status(), 200);
    }
    let mirrored = proxy.stat("http.async-client.rq_total");
    proxy.stat_becomes("cluster.mirror.upstream_rq_200", mirrored);
    // Eight standard deviations around 200.
    assert!((100..300).contains(&mirrored), "{mirrored} of 1000");
}

#[test]
fn the_headers_of_the_router_can_be_suppressed_in_the_copy_too() {
    let (origin, mirror) = (Origin::that_answers(), Origin::that_answers());
    let yaml = mirroring(&origin, mirror.address(), "").yaml();
    let router = "v3.Router, suppress_envoy_headers: true }";
    let proxy = Proxy::with(Config::verbatim(yaml.replace("v3.Router }", router)));
    assert_eq!(proxy.get("/").status(), 200);
    mirror.has_seen(1);
    assert_eq!(mirror.saw().header("x-envoy-expected-rq-timeout-ms"), None);
    assert_eq!(mirror.saw().header("x-envoy-internal").as_deref(), Some("true"));
}
