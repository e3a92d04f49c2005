//! Route timeouts: what a client gets if the origin takes too long.

use std::time::{Duration, Instant};

use crate::support::{Act, Config, Origin, Proxy};

#[test]
fn an_origin_that_stalls_is_a_504_after_the_timeout() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0.3s"));
    let begun = Instant::now();
    let mut client = proxy.connect();
    let response = client.get("/");
    let took = begun.elapsed();
    assert_eq!(response.status(), 504);
    assert_eq!(response.text(), "upstream request timeout");
    assert!(took >= Duration::from_millis(290), "gave up after {took:?}");
    assert!(took < Duration::from_millis(1500), "gave up after {took:?}");
    client.stays_open();
    assert_eq!(origin.saw().header("x-envoy-expected-rq-timeout-ms").as_deref(), Some("300"));
    assert_eq!(proxy.stat("cluster.service.upstream_rq_timeout"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_504"), 1);
}

#[test]
fn a_connection_that_timed_out_is_not_used_again() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0.2s"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").status(), 504);
    }
    assert_eq!(origin.connections(), 2);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn an_origin_that_is_slow_but_in_time_is_answered() {
    let origin = Origin::that_answers_late(Duration::from_millis(300));
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 5s"));
    let response = proxy.get("/");
    assert_eq!(response.text(), "ok");
    let waited: u64 = response.header("x-envoy-upstream-service-time").unwrap().parse().unwrap();
    assert!((300..2000).contains(&waited), "{waited} ms");
}

#[test]
fn a_timeout_of_0_is_none() {
    let origin = Origin::that_answers_late(Duration::from_millis(300));
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0s"));
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(origin.saw().header("x-envoy-expected-rq-timeout-ms"), None);
}

#[test]
fn without_a_timeout_the_origin_gets_the_default_in_a_header() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    proxy.get("/");
    assert_eq!(origin.saw().header("x-envoy-expected-rq-timeout-ms").as_deref(), Some("15000"));
}

#[test]
fn an_answer_that_stalls_after_its_head_is_truncated() {
    let origin = Origin::that_stalls_after_headers();
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0.3s"));
    let mut client = proxy.connect();
    let broken = client.ask("/").try_response("GET").expect_err("a whole response");
    let got = String::from_utf8_lossy(broken.bytes()).into_owned();
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
    assert_eq!(proxy.stat("cluster.service.upstream_rq_timeout"), 1);
}

#[test]
fn an_origin_that_never_answers_hits_the_stream_idle_timeout() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0s, idle_timeout: 0.3s"));
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!((response.status(), response.text().as_str()), (504, "stream timeout"));
    client.stays_open();
    assert_eq!(proxy.stat("http.front.downstream_rq_idle_timeout"), 1);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn a_body_that_never_arrives_hits_the_stream_idle_timeout() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).route("idle_timeout: 0.3s"));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\nhe");
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (408, "stream timeout"));
    client.is_closed();
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

/// Retries, with this timeout per try.
fn each_try(limit: &str, num_retries: u32) -> String {
    format!(
        "retry_policy: {{ retry_on: 5xx, num_retries: {num_retries}, {limit}, \
         retry_back_off: {{ base_interval: 0.4s, max_interval: 0.4s }} }}"
    )
}

#[test]
fn an_attempt_that_takes_too_long_is_retried_and_the_last_one_is_a_504() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin).route(&each_try("per_try_timeout: 0.2s", 2)));
    let response = proxy.get("/");
    assert_eq!((response.status(), response.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(origin.seen().len(), 3);
    for (name, count) in [
        ("upstream_rq_per_try_timeout", 3),
        ("upstream_rq_timeout", 0),
        ("upstream_rq_retry", 2),
        ("upstream_rq_retry_limit_exceeded", 1),
        ("upstream_rq_504", 1),
        ("upstream_rq_active", 0),
    ] {
        proxy.stat_becomes(&format!("cluster.service.{name}"), count);
    }
}

#[test]
fn a_per_try_timeout_ends_with_its_attempt() {
    // The backoff before the second attempt may be longer than the timeout per try.
    for _ in 0..4 {
        let origin = Origin::that_replies_in_turn(&[503, 503, 503, 200]);
        let proxy = Proxy::with(Config::to(&origin).route(&each_try("per_try_timeout: 0.1s", 3)));
        assert_eq!(proxy.get("/").status(), 200);
        assert_eq!(proxy.stat("cluster.service.upstream_rq_per_try_timeout"), 0);
    }
}

#[test]
fn a_per_try_timeout_does_not_truncate_an_answer_that_has_started() {
    let origin = Origin::that_does([Act::ReplyInTwo(
        Duration::from_millis(500),
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".into(),
        b"world".into(),
    )]);
    let proxy = Proxy::with(Config::to(&origin).route(&each_try("per_try_timeout: 0.2s", 1)));
    assert_eq!(proxy.get("/").text(), "helloworld");
}

#[test]
fn a_per_try_timeout_starts_when_the_request_is_complete() {
    for limit in ["per_try_timeout: 0.2s", "per_try_idle_timeout: 0.2s"] {
        let origin = Origin::that_answers();
        let proxy = Proxy::with(Config::to(&origin).route(&each_try(limit, 0)));
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\nhe");
        proxy.stat_becomes("cluster.service.upstream_rq_active", 1);
        proxy.stays_idle();
        client.send("llo");
        assert_eq!(client.response().status(), 200, "{limit}");
    }
}

#[test]
fn an_attempt_that_is_idle_for_too_long_is_retried() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let origin = Origin::that_does([Act::ReplyThenStall(Vec::new()), Act::Reply(answer)]);
    let proxy = Proxy::with(Config::to(&origin).route(&each_try("per_try_idle_timeout: 0.2s", 1)));
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(proxy.stat("cluster.service.upstream_rq_per_try_idle_timeout"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry_success"), 1);
}

#[test]
fn an_attempt_whose_answer_becomes_idle_is_truncated() {
    let origin = Origin::that_stalls_after_headers();
    let proxy = Proxy::with(Config::to(&origin).route(&each_try("per_try_idle_timeout: 0.2s", 1)));
    let broken = proxy.connect().ask("/").try_response("GET").expect_err("a whole response");
    assert!(broken.bytes().starts_with(b"HTTP/1.1 200 OK\r\n"), "{broken:?}");
    assert_eq!(proxy.stat("cluster.service.upstream_rq_per_try_idle_timeout"), 1);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_request_has_the_same_start_time_everywhere() {
    let origin = Origin::that_answers_late(Duration::from_millis(20));
    let began = r#"[{ header: { key: x-began, value: "%START_TIME(%s.%6f)%" } }]"#;
    let yaml = Config::to(&origin).yaml().replace(
        "virtual_hosts:",
        &format!("request_headers_to_add: {began}\n            response_headers_to_add: {began}\n            virtual_hosts:"),
    );
    let proxy = Proxy::with(Config::verbatim(yaml));
    let answer = proxy.connect().get("/");
    assert!(answer.header("x-began").is_some());
    assert_eq!(answer.header("x-began"), origin.saw().header("x-began"));
}

#[test]
fn a_request_that_is_being_answered_does_not_time_out() {
    let origin = Origin::that_does([Act::ReplyAtOnce(
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".into(),
    )]);
    let proxy = Proxy::with(Config::to(&origin).manager("request_timeout: 0.2s"));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\nhe");
    assert_eq!(client.wire().response_to_head().unwrap().status(), 200);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(proxy.stat("http.front.downstream_rq_timeout"), 0);
    assert_eq!(proxy.stat("http.front.downstream_rq_active"), 1);
}

#[test]
fn an_origin_that_becomes_idle_after_an_early_answer_is_dropped() {
    let origin = Origin::that_does([Act::ReplyAtOnce(
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".into(),
    )]);
    let policy = "retry_policy: { retry_on: 5xx, per_try_idle_timeout: 0.2s }";
    let proxy = Proxy::with(Config::to(&origin).route("timeout: 0s").route(policy));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 4\r\n\r\nhe");
    assert_eq!(client.wire().response_to_head().unwrap().status(), 200);
    client.send("re");
    proxy.stat_becomes("cluster.service.upstream_rq_per_try_idle_timeout", 1);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
}
