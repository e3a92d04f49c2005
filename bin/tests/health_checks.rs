//! Active health checks: which hosts get requests, and what is told about the others.

use std::time::Duration;

use crate::support::{Act, Config, Origin, Proxy, Refusing, Tls, wait_until};

/// A check every 50 ms, and how it is done; one outcome changes a host.
fn checked(config: Config, how: &str) -> Config {
    config
        .cluster(
            "health_checks: [{ timeout: 2s, interval: 0.05s, no_traffic_interval: 0.05s, \
             unhealthy_threshold: 1, healthy_threshold: 1, HOW }]"
                .replace("HOW", how)
                .as_str(),
        )
        .cluster("common_lb_config: { healthy_panic_threshold: { value: 0 } }")
}

const HTTP: &str = "http_health_check: { path: /healthz }";

fn reply(status: u16) -> Act {
    Act::Reply(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").into())
}

#[test]
fn a_host_is_checked_before_it_gets_requests() {
    let (well, ill) = (Origin::that_answers(), Origin::that_replies(503));
    let proxy = Proxy::with(checked(Config::to_addresses(&[well.address(), ill.address()]), HTTP));
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert!(ill.seen().iter().all(|it| it.start_line == "GET /healthz HTTP/1.1"));
    let check = ill.seen().remove(0);
    assert_eq!(check.header("host").as_deref(), Some("service"));
    assert_eq!(check.header("user-agent").as_deref(), Some("Envoy/HC"));
    assert_eq!(ill.connections(), 1, "the connection is kept");
    assert_eq!(proxy.stat("cluster.service.membership_healthy"), 1);
    let clusters = proxy.admin("/clusters").text();
    let line = format!("{}::health_flags::/failed_active_hc", ill.address());
    assert!(clusters.contains(&line), "{clusters}");
    proxy.stat_becomes_at_least("cluster.service.health_check.failure", 2);
    assert_eq!(proxy.stat("cluster.service.health_check.healthy"), 1);
}

#[test]
fn a_host_that_fails_later_gets_no_more_requests_until_it_is_back() {
    let statuses = [200, 200, 500, 500, 500];
    let origin = Origin::that_does(statuses.map(reply).into_iter().chain([reply(200)]));
    let how =
        "http_health_check: { path: /healthz, expected_statuses: [{ start: 200, end: 300 }] }";
    let log = std::env::temp_dir().join(format!("corvoy-health-{}.log", std::process::id()));
    let how = format!("{how}, event_log_path: {}", log.display());
    let proxy = Proxy::with(checked(Config::to(&origin), &how));
    proxy.stat_becomes_at_least("cluster.service.health_check.failure", 3);
    proxy.stat_becomes("cluster.service.membership_healthy", 1);
    wait_until("three events", || std::fs::read_to_string(&log).unwrap().lines().count() == 3);
    let events = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let kinds = events.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["cluster_name"], "service");
        assert_eq!(event["health_checker_type"], "HTTP");
        let is_kind = |name: &&String| name.ends_with("_event");
        let kind = event.as_object().unwrap().keys().find(is_kind).unwrap().clone();
        (event[&kind].clone(), kind)
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(
        kinds,
        [
            (serde_json::json!({ "first_check": true }), "add_healthy_event".to_owned()),
            (
                serde_json::json!({ "failure_type": "ACTIVE", "http_status_code": 500 }),
                "eject_unhealthy_event".to_owned()
            ),
            (serde_json::json!({ "first_check": false }), "add_healthy_event".to_owned()),
        ]
    );
}

#[test]
fn a_refused_connection_is_a_failure_of_the_network_and_tcp_needs_a_connection_only() {
    let (well, refusing) = (Origin::that_answers(), Refusing::new());
    let config = Config::to_addresses(&[well.address(), refusing.address()]);
    let proxy = Proxy::with(checked(config, "tcp_health_check: {}"));
    for _ in 0..6 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    proxy.stat_becomes_at_least("cluster.service.health_check.network_failure", 2);
    let back = refusing.comes_up();
    proxy.stat_becomes("cluster.service.membership_healthy", 2);
    drop(back);
}

#[test]
fn a_check_by_tcp_may_want_an_answer() {
    let talks = Origin::that_says("+PONG\r\n");
    let stalls = Origin::that_stalls();
    let config = Config::to_addresses(&[talks.address(), stalls.address()]);
    // "GET / HTTP/1.1", an empty line; "PO", "NG".
    let how = "timeout: 0.2s, tcp_health_check: { send: { text: 474554202f20485454502f312e310d0a0d0a }, \
               receive: [{ text: 504f }, { text: 4e47 }] }";
    let config = checked(config, how).yaml().replace("timeout: 2s, ", "");
    let proxy = Proxy::with(Config::verbatim(config));
    proxy.stat_becomes("cluster.service.membership_healthy", 1);
    let clusters = proxy.admin("/clusters").text();
    let timed_out =
        format!("{}::health_flags::/failed_active_hc/active_hc_timeout", stalls.address());
    assert!(clusters.contains(&timed_out), "{clusters}");
}

#[test]
fn a_host_may_say_that_it_is_degraded() {
    let degraded = "HTTP/1.1 200 OK\r\nx-envoy-degraded: 1\r\ncontent-length: 0\r\n\r\n";
    let (well, degraded) = (Origin::that_answers(), Origin::that_says(degraded));
    let config = Config::to_addresses(&[well.address(), degraded.address()]);
    let proxy = Proxy::with(checked(config, HTTP));
    assert_eq!(proxy.stat("cluster.service.membership_degraded"), 1);
    assert_eq!(proxy.stat("cluster.service.health_check.degraded"), 1);
    let clusters = proxy.admin("/clusters").text();
    assert!(clusters.contains("::health_flags::/degraded_active_hc"), "{clusters}");
}

#[test]
fn checks_use_the_tls_of_the_cluster() {
    let tls = Tls::new();
    let origin = Origin::over_tls(&tls, [reply(200)]);
    let proxy = Proxy::with(checked(Config::to(&origin).upstream_tls(&tls), HTTP));
    assert_eq!(proxy.stat("cluster.service.membership_healthy"), 1);
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn a_host_that_never_answers_does_not_hold_up_the_start_beyond_its_timeout() {
    let origin = Origin::that_answers_late(Duration::from_secs(600));
    let config = checked(Config::to(&origin), HTTP).yaml().replace("timeout: 2s", "timeout: 0.3s");
    let proxy = Proxy::with(Config::verbatim(config));
    assert_eq!(proxy.get("/").status(), 503);
    proxy.stat_becomes_at_least("cluster.service.health_check.network_failure", 1);
}

#[test]
fn an_answer_may_fail_the_check_of_its_host_at_once() {
    let fails_itself =
        "HTTP/1.1 200 OK\r\nx-envoy-immediate-health-check-fail: 1\r\ncontent-length: 0\r\n\r\n";
    let first = reply(200);
    let origin = Origin::that_does([first, Act::Reply(fails_itself.into()), reply(200)]);
    let config = checked(Config::to(&origin), HTTP).yaml();
    // One check, and no other for the rest of the story.
    let config = config.replace("interval: 0.05s", "interval: 600s");
    let proxy = Proxy::with(Config::verbatim(config));
    assert_eq!(proxy.get("/").status(), 200);
    proxy.stat_becomes("cluster.service.health_check.passive_failure", 1);
    proxy.stat_becomes("cluster.service.membership_healthy", 0);
    assert_eq!(proxy.stat("cluster.service.membership_excluded"), 1);
}

#[test]
fn a_cluster_that_nobody_waits_for_does_not_hold_up_the_start() {
    let origin = Origin::that_answers_late(Duration::from_secs(600));
    let config = checked(Config::to(&origin), HTTP).cluster("wait_for_warm_on_init: false");
    let config = config.yaml().replace("timeout: 2s", "timeout: 600s");
    assert_eq!(Proxy::with(Config::verbatim(config)).get("/").status(), 503);
}

#[test]
fn checks_begin_with_the_proxy_header_of_the_cluster() {
    let proxy_protocol = |version: &str| {
        format!(
            "transport_socket: {{ name: p, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport, \
             config: {{ version: {version} }}, transport_socket: {{ name: r, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }} }} }} }}"
        )
    };
    // As little as begins a header of either version.
    let how = "tcp_health_check: { send: { text: \"70\" }, receive: [{ text: \"70\" }] }";
    for (version, begins) in
        [("V1", &b"PROXY TCP4 127.0.0.1 127.0.0.1 "[..]), ("V2", b"\r\n\r\n\0\r\nQUIT\n\x20")]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::to_addresses(&[listener.local_addr().unwrap()]);
        let config = checked(config, how).cluster(&proxy_protocol(version));
        let config = config.cluster("wait_for_warm_on_init: false");
        let _proxy = Proxy::with(config);
        let (mut connection, _) = listener.accept().unwrap();
        let mut received = vec![0; begins.len()];
        std::io::Read::read_exact(&mut connection, &mut received).unwrap();
        assert_eq!(received, begins, "{version}");
    }
}
