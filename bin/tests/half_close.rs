//! Clients that close their sending side: some still read, others are gone, and a FIN does not tell
//! which.

use std::time::Duration;

use crate::support::{Act, Broken, Client, Config, Origin, Proxy, Signal, is_oracle};

/// How long a half-closed client may wait for its origin.
fn grace(config: Config, milliseconds: u32) -> Config {
    let values = format!("{{ corvoy.http.half_close_grace_ms: {milliseconds} }}");
    let layers = format!("[{{ name: static, static_layer: {values} }}]");
    config.flags(&["--config-yaml", &format!("layered_runtime: {{ layers: {layers} }}")])
}

const MINUTE: u32 = 60_000;

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    // Envoy treats a half-close as a disconnect and drops the request.
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = proxy.connect();
    client.ask("/").half_close();
    assert_eq!(client.response().text(), "ok");
    client.is_closed();
}

#[test]
fn each_request_of_a_half_closed_client_has_its_own_grace_period() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers_late(Duration::from_millis(500));
    let proxy = Proxy::with(grace(Config::to(&origin), 1500));
    let mut client = proxy.connect();
    client.ask("/1").ask("/2").ask("/3").ask("/4").half_close();
    for _ in 0..4 {
        assert_eq!(client.response().text(), "ok");
    }
    client.is_closed();
}

#[test]
fn a_client_that_disconnects_while_waiting_makes_room_for_the_next() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let origin = Origin::that_does([Act::ReplyThenStall(Vec::new()), Act::Reply(answer)]);
    let one = "circuit_breakers: { thresholds: [{ max_requests: 1 }] }";
    let proxy = Proxy::with(Config::to(&origin).cluster(one));
    let mut client = proxy.connect();
    client.ask("/slow");
    origin.has_seen(1);
    assert_eq!(proxy.get("/").status(), 503);
    drop(client);
    proxy.stat_becomes("http.front.downstream_cx_destroy_remote_active_rq", 1);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
    assert_eq!(proxy.get("/").status(), 200);
    let stats = proxy.stats();
    for (name, count) in [
        ("http.front.downstream_rq_rx_reset", 1),
        ("http.front.downstream_rq_tx_reset", 0),
        ("http.front.downstream_cx_destroy_active_rq", 1),
        ("http.front.downstream_rq_completed", 2),
        ("http.front.downstream_rq_idle_timeout", 0),
        ("cluster.service.upstream_cx_destroy_local_with_active_rq", 1),
        ("cluster.service.upstream_rq_timeout", 0),
        ("cluster.service.upstream_rq_total", 2),
    ] {
        assert_eq!(stats[name], count, "{name}");
    }
}

#[test]
fn without_a_grace_period_a_fin_is_a_disconnect() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(grace(Config::to(&origin), 0));
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    client.half_close().is_closed();
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn the_grace_period_is_configurable() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_answers_late(Duration::from_millis(1500));
    let proxy = Proxy::with(grace(Config::to(&origin), MINUTE));
    let mut client = proxy.connect();
    client.ask("/").half_close();
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_reset_after_a_half_close_is_detected_within_the_grace_period() {
    if is_oracle() {
        return;
    }
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(grace(Config::to(&origin), MINUTE));
    let mut client = proxy.connect();
    client.ask("/").half_close();
    origin.has_seen(1);
    client.reset();
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
    proxy.stays_idle();
}

#[test]
fn an_origin_gets_no_work_of_a_crowd_that_has_left_before_it_is_served() {
    const CROWD: u64 = 50;
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(grace(Config::to(&origin), 0));
    proxy.signal(Signal::Stop);
    for _ in 0..CROWD {
        proxy.connect().ask("/");
    }
    proxy.signal(Signal::Cont);
    proxy.stat_becomes("http.front.downstream_cx_destroy_remote_active_rq", CROWD);
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn the_number_of_grace_periods_is_bounded() {
    if is_oracle() {
        return; // Envoy has no grace period.
    }
    const CROWD: u64 = 300;
    const GRACES: u64 = 256;
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(grace(Config::to(&origin), MINUTE));
    for _ in 0..CROWD {
        proxy.connect().ask("/");
    }
    proxy.stat_becomes("http.front.downstream_cx_destroy_remote_active_rq", CROWD - GRACES);
    proxy.stat_becomes("http.front.downstream_cx_active", GRACES);
    proxy.stat_becomes("cluster.service.upstream_cx_active", GRACES);
}

#[test]
fn a_long_answer_to_a_half_closed_client_continues_while_it_progresses() {
    if is_oracle() {
        return;
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n".to_vec();
    let origin = Origin::that_does([Act::ReplyHaltingly(
        answer,
        Duration::from_millis(300),
        b"download".into(),
    )]);
    let proxy = Proxy::with(grace(Config::to(&origin), 1500));
    let mut client = proxy.connect();
    client.ask("/").half_close();
    assert_eq!(client.response().text(), "download");
}

#[test]
fn a_stalled_answer_is_visibly_truncated_for_a_half_closed_client() {
    if is_oracle() {
        return; // Envoy closes immediately, without the answer.
    }
    let begun = b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec();
    let origin = Origin::that_does([Act::ReplyThenStall(begun)]);
    let http_10 = "http_protocol_options: { accept_http_10: true }";
    let proxy = Proxy::with(Config::to(&origin).manager(http_10));
    let ask = |request: &str| -> Client {
        let mut client = proxy.connect();
        client.send(request).half_close();
        client
    };
    let mut chunked = ask("GET / HTTP/1.1\r\nhost: example\r\n\r\n");
    let cut = chunked.try_response("GET");
    assert!(matches!(&cut, Err(Broken::Closed(begun)) if begun.ends_with(b"hello")), "{cut:?}");
    let mut until_close = ask("GET / HTTP/1.0\r\nhost: example\r\n\r\n");
    assert!(matches!(until_close.wire().until_close(), Err(Broken::Reset(_))));
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_cx_destroy_remote_active_rq", 2);
}
