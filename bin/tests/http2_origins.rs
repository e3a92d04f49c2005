//! Origins that speak HTTP/2, named by their misbehaviour, and what the client and the stats show.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::{Config, Proxy, Tls, Wire, wait_until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// `:status: 200`, from the static table.
const STATUS_200: [u8; 1] = [0x88];

/// What an origin does with each request, whose stream it gets, and how many came before on any connection.
type Act = dyn Fn(&mut Frames, u32, usize) + Send + Sync;

/// The connection of an origin, or of a client, frame by frame.
struct Frames(Wire);

/// A frame that was received.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The proxy may have closed.
        drop(self.0.send(&frame));
    }

    fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, &STATUS_200);
        self.send(DATA, END_STREAM, stream, b"ok");
    }

    fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    fn go_away(&mut self, last: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    }

    /// The next frame. None: the proxy has closed.
    fn next(&mut self) -> Option<Frame> {
        let head = self.0.take(9).ok()?;
        let &[a, b, c, kind, flags, d, e, f, g] = &*head else { unreachable!("nine bytes") };
        let payload = self.0.take(u32::from_be_bytes([0, a, b, c]) as usize).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload })
    }

    /// Sends back what comes on a stream, until it ends.
    fn echo(&mut self, stream: u32) {
        while let Some(frame) = self.next() {
            if frame.kind == DATA && frame.stream == stream {
                let end = frame.flags & END_STREAM;
                self.send(DATA, end, stream, &frame.payload);
                if end != 0 {
                    return;
                }
            }
        }
    }
}

/// An origin that has these SETTINGS, and does this with each request whose head has arrived. To a client that
/// speaks HTTP/1 it says `HTTP/1`.
struct Http2Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// What has happened on all connections of an origin.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    pings: AtomicUsize,
}

impl Http2Origin {
    fn that(act: impl Fn(&mut Frames, u32, usize) + Send + Sync + 'static) -> Self {
        Self::with_settings(&[], act)
    }

    fn that_answers() -> Self {
        Self::that(|frames, stream, _| frames.answer(stream))
    }

    fn with_settings(
        settings: &[u8],
        act: impl Fn(&mut Frames, u32, usize) + Send + Sync + 'static,
    ) -> Self {
        Self::start(settings, None, act)
    }

    /// It answers, and chooses one of these protocols by ALPN.
    fn over_tls(tls: &Tls, protocols: &[&str]) -> Self {
        let tls = tls.clone().with_protocols(protocols);
        Self::start(&[], Some(tls), |frames, stream, _| frames.answer(stream))
    }

    fn start(
        settings: &[u8],
        tls: Option<Tls>,
        act: impl Fn(&mut Frames, u32, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (act, seen): (Arc<Act>, Arc<Seen>) = (Arc::new(act), Arc::default());
        let (counted, settings) = (Arc::clone(&seen), settings.to_vec());
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let wire = match &tls {
                    None => Wire::new(stream.unwrap()),
                    Some(tls) => Wire::over_tls(stream.unwrap(), tls.server()),
                };
                let (act, counted, settings) =
                    (Arc::clone(&act), Arc::clone(&counted), settings.clone());
                thread::spawn(move || serve(wire, &settings, &*act, &counted));
            }
        });
        Self { address, seen }
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    fn pings(&self) -> usize {
        self.seen.pings.load(Ordering::SeqCst)
    }

    fn config(&self) -> Config {
        self.config_with("explicit_http_config: { http2_protocol_options: {} }")
    }

    /// A cluster with these protocols.
    fn config_with(&self, protocols: &str) -> Config {
        const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        Config::to_addresses(&[self.address]).cluster(&format!(
            "typed_extension_protocol_options: {{ {OPTIONS}: \
             {{ \"@type\": type.googleapis.com/{OPTIONS}, {protocols} }} }}"
        ))
    }
}

fn serve(wire: Wire, settings: &[u8], act: &Act, seen: &Seen) {
    let mut frames = Frames(wire);
    let Ok(first) = frames.0.take(PREFACE.len()) else { return };
    if first != PREFACE {
        return serve_http1(&mut frames.0);
    }
    frames.send(SETTINGS, 0, 0, settings);
    while let Some(Frame { kind, flags, stream, payload }) = frames.next() {
        match kind {
            SETTINGS if flags == 0 => frames.send(SETTINGS, ACK, 0, &[]),
            PING if flags == 0 => {
                seen.pings.fetch_add(1, Ordering::SeqCst);
                frames.send(PING, ACK, 0, &payload);
            }
            HEADERS => act(&mut frames, stream, seen.requests.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

/// Answers requests whose first bytes are taken.
fn serve_http1(wire: &mut Wire) {
    loop {
        let Ok(Some(_)) = wire.request_head() else { return };
        drop(wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nHTTP/1"));
    }
}

/// What a client of HTTP/2 gets to a GET.
fn body_over_http2(proxy: &Proxy) -> Vec<u8> {
    let mut frames = Frames(Wire::connect(proxy.address()).unwrap());
    frames.0.send(PREFACE).unwrap();
    frames.send(SETTINGS, 0, 0, &[]);
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82, 0x84, 0x86, 0x41, 1, b'a']);
    loop {
        let frame = frames.next().expect("a body");
        if frame.kind == DATA {
            return frame.payload;
        }
    }
}

/// Nothing is counted as open any more.
fn assert_all_is_over(proxy: &Proxy) {
    for gauge in ["upstream_rq_active", "upstream_rq_pending_active"] {
        wait_until(gauge, || proxy.stat(&format!("cluster.service.{gauge}")) == 0);
    }
}

#[test]
fn requests_of_many_clients_share_one_connection() {
    let origin = Http2Origin::that_answers();
    let proxy = Proxy::with(origin.config());
    for _ in 0..5 {
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http2_total"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http1_total"), 0);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_pending_total"), 1);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_allows_one_stream_gets_a_connection_for_each_request() {
    // Both requests are answered when both have arrived.
    let both = Barrier::new(2);
    let one_stream = [0, 3, 0, 0, 0, 1];
    let origin = Http2Origin::with_settings(&one_stream, move |frames, stream, request| {
        if request > 0 {
            both.wait();
        }
        frames.answer(stream);
    });
    let proxy = Proxy::with(origin.config());
    // After it the limit is known.
    assert_eq!(proxy.get("/").status(), 200);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(proxy.get("/").status(), 200));
        }
    });
    assert_eq!(origin.connections(), 2);
    assert_all_is_over(&proxy);
}

#[test]
fn a_refused_stream_is_sent_again_if_the_policy_says_so() {
    let refuses_the_first = |frames: &mut Frames, stream, request| match request {
        0 => frames.reset(stream, REFUSED_STREAM),
        _ => frames.answer(stream),
    };
    let origin = Http2Origin::that(refuses_the_first);
    let proxy = Proxy::with(origin.config().retry("refused-stream", 1));
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_retry_success"), 1);

    let origin = Http2Origin::that(refuses_the_first);
    let proxy = Proxy::with(origin.config());
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().ends_with("reset reason: remote refused stream reset"));
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_goes_away_before_answering_is_connected_again() {
    let origin = Http2Origin::that(|frames, stream, request| match request {
        0 => frames.go_away(0),
        _ => frames.answer(stream),
    });
    let proxy = Proxy::with(origin.config().retry("refused-stream", 1));
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.connections(), 2);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_close_notify"), 1);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_goes_away_still_answers_what_it_has_seen() {
    let origin = Http2Origin::that(|frames, stream, request| {
        if request == 0 {
            frames.go_away(stream);
        }
        frames.answer(stream);
    });
    let proxy = Proxy::with(origin.config());
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.connections(), 2);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_resets_the_stream_is_a_503_and_its_connection_stays() {
    let origin = Http2Origin::that(|frames, stream, request| match request {
        0 => frames.reset(stream, CANCEL),
        _ => frames.answer(stream),
    });
    let proxy = Proxy::with(origin.config());
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().ends_with("reset reason: remote reset"), "{}", answer.text());
    assert_eq!(proxy.stat("cluster.service.upstream_rq_rx_reset"), 1);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.connections(), 1);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_closes_without_an_answer_is_a_503() {
    let origin = Http2Origin::that(|frames, _, _| {
        drop(frames.0.half_close());
    });
    let proxy = Proxy::with(origin.config());
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().ends_with("reset reason: connection termination"), "{}", answer.text());
    wait_until("the connection", || proxy.stat("cluster.service.upstream_cx_active") == 0);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_destroy_remote_with_active_rq"), 1);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_never_opens_its_window_stops_the_request_and_no_other() {
    let origin = Http2Origin::that(|frames, stream, request| {
        if request > 0 {
            frames.answer(stream);
        }
    });
    let proxy = Proxy::with(origin.config().route("timeout: 0.5s"));
    let mut slow = proxy.connect();
    slow.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 65000\r\n\r\n");
    slow.send("x".repeat(65_000));
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(slow.response().status(), 504);
    assert_eq!(origin.connections(), 1);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_answers_early_gets_no_more_of_the_request() {
    let origin = Http2Origin::that_answers();
    let proxy = Proxy::with(origin.config());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 1000000\r\n\r\nthe beginning");
    assert_eq!(client.response().status(), 200);
    wait_until("a reset", || proxy.stat("cluster.service.upstream_rq_tx_reset") == 1);
    assert_all_is_over(&proxy);
}

#[test]
fn a_connection_carries_no_more_requests_than_allowed() {
    let origin = Http2Origin::that_answers();
    let proxy = Proxy::with(origin.config().cluster("max_requests_per_connection: 2"));
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_max_requests"), 2);
    assert_all_is_over(&proxy);
}

const AUTO: &str = "auto_config: { http_protocol_options: {}, http2_protocol_options: {} }";

#[test]
fn an_origin_that_chooses_http2_shares_its_connection() {
    let tls = Tls::new();
    let origin = Http2Origin::over_tls(&tls, &["h2", "http/1.1"]);
    let proxy = Proxy::with(origin.config_with(AUTO).upstream_tls(&tls));
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http2_total"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http1_total"), 0);
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_that_chooses_nothing_or_http1_is_spoken_to_in_http1() {
    for protocols in [&[][..], &["http/1.1"]] {
        let tls = Tls::new();
        let origin = Http2Origin::over_tls(&tls, protocols);
        let proxy = Proxy::with(origin.config_with(AUTO).upstream_tls(&tls));
        for _ in 0..3 {
            assert_eq!(proxy.get("/").text(), "HTTP/1");
        }
        assert_eq!(origin.connections(), 1);
        assert_eq!(proxy.stat("cluster.service.upstream_cx_http1_total"), 1);
        assert_eq!(proxy.stat("cluster.service.upstream_cx_http2_total"), 0);
        assert_all_is_over(&proxy);
    }
}

#[test]
fn requests_that_wait_for_the_choice_of_http1_each_get_a_connection() {
    let tls = Tls::new();
    let origin = Http2Origin::over_tls(&tls, &["http/1.1"]);
    let proxy = Proxy::with(origin.config_with(AUTO).upstream_tls(&tls));
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| assert_eq!(proxy.get("/").text(), "HTTP/1"));
        }
    });
    assert_all_is_over(&proxy);
}

#[test]
fn an_origin_may_be_spoken_to_as_the_client_speaks() {
    let origin = Http2Origin::that_answers();
    let protocols = "use_downstream_protocol_config: \
        { http_protocol_options: {}, http2_protocol_options: {} }";
    let proxy = Proxy::with(origin.config_with(protocols));
    assert_eq!(proxy.get("/").text(), "HTTP/1");
    assert_eq!(body_over_http2(&proxy), b"ok");
    assert_eq!(proxy.get("/").text(), "HTTP/1");
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http1_total"), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_http2_total"), 1);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_origin_that_answers_pings_keeps_its_connection() {
    let origin = Http2Origin::that_answers();
    let protocols = "explicit_http_config: { http2_protocol_options: \
        { connection_keepalive: { interval: 0.1s, timeout: 5s } } }";
    let proxy = Proxy::with(origin.config_with(protocols));
    assert_eq!(proxy.get("/").status(), 200);
    wait_until("the third PING", || origin.pings() >= 3);
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.stat("cluster.service.http2.keepalive_timeout"), 0);
}

#[test]
fn a_request_beyond_all_streams_waits_until_one_ends() {
    let first_is_waited_for = Arc::new(Barrier::new(2));
    let waits = Arc::clone(&first_is_waited_for);
    let origin = Http2Origin::that(move |frames, stream, request| {
        if request == 0 {
            waits.wait();
        }
        frames.answer(stream);
    });
    let protocols =
        "explicit_http_config: { http2_protocol_options: { max_concurrent_streams: 1 } }";
    let config = origin.config_with(protocols);
    let one = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }";
    let proxy = Proxy::with(config.cluster(one));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(proxy.get("/").status(), 200));
        }
        proxy.stat_becomes("cluster.service.upstream_rq_pending_active", 1);
        assert_eq!(proxy.stat("cluster.service.upstream_rq_active"), 1);
        proxy.stat_becomes_at_least("cluster.service.upstream_cx_overflow", 1);
        first_is_waited_for.wait();
    });
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_rq_pending_overflow"), 0);
    assert_all_is_over(&proxy);
}

#[test]
fn a_request_beyond_the_circuit_breaker_is_a_503_though_there_are_streams() {
    let first_is_answered = Arc::new(Barrier::new(2));
    let waits = Arc::clone(&first_is_answered);
    let origin = Http2Origin::that(move |frames, stream, _| {
        waits.wait();
        frames.answer(stream);
    });
    let one = "circuit_breakers: { thresholds: [{ max_requests: 1, track_remaining: true }] }";
    let proxy = Proxy::with(origin.config().cluster(one));
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(proxy.get("/").status(), 200));
        proxy.stat_becomes("cluster.service.upstream_rq_active", 1);
        assert_eq!(proxy.stat("cluster.service.circuit_breakers.default.rq_open"), 1);
        assert_eq!(proxy.stat("cluster.service.circuit_breakers.default.remaining_rq"), 0);
        let answer = proxy.get("/");
        assert_eq!(
            (answer.status(), answer.header("x-envoy-overloaded").as_deref()),
            (503, Some("true"))
        );
        first_is_answered.wait();
    });
    assert_eq!(proxy.stat("cluster.service.upstream_rq_active_overflow"), 1);
    assert_eq!(proxy.stat("cluster.service.circuit_breakers.default.rq_open"), 0);
    assert_all_is_over(&proxy);
}

#[test]
fn a_websocket_passes_through_a_stream() {
    let offers = [0, 8, 0, 0, 0, 1];
    let origin = Http2Origin::with_settings(&offers, |frames, stream, _| {
        frames.send(HEADERS, END_HEADERS, stream, &STATUS_200);
        frames.echo(stream);
    });
    let config = origin.config().manager("upgrade_configs: [{ upgrade_type: websocket }]");
    let proxy = Proxy::with(config);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let head = client.wire().head().unwrap();
    assert_eq!((head.status(), head.header("upgrade").as_deref()), (101, Some("websocket")));
    for bytes in [vec![b'x'; 5], vec![b'y'; 50_000]] {
        client.send(&bytes);
        assert!(client.wire().take(bytes.len()).unwrap() == bytes);
    }
    // Its end comes back, too.
    client.half_close();
    assert_eq!(client.until_close(), b"");
    assert_all_is_over(&proxy);
}

// === Health checks ===

/// Such a check every 50 ms; one outcome changes a host.
fn checked(config: Config, how: &str) -> Config {
    config
        .cluster(&format!(
            "health_checks: [{{ timeout: 2s, interval: 0.05s, no_traffic_interval: 0.05s, \
             unhealthy_threshold: 1, healthy_threshold: 1, {how} }}]"
        ))
        .cluster("common_lb_config: { healthy_panic_threshold: { value: 0 } }")
}

fn passes_checks(proxy: &Proxy) {
    proxy.stat_becomes_at_least("cluster.service.health_check.success", 5);
    assert_eq!(proxy.stat("cluster.service.health_check.failure"), 0);
    assert_eq!(proxy.stat("cluster.service.membership_healthy"), 1);
}

#[test]
fn checks_over_http2_share_a_connection() {
    let origin = Http2Origin::that_answers();
    let how = "http_health_check: { path: /healthz, codec_client_type: HTTP2 }";
    let proxy = Proxy::with(checked(origin.config(), how));
    passes_checks(&proxy);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_check_does_not_fail_because_the_host_has_ended_the_connection_of_the_last_one() {
    let origin = Http2Origin::that(|frames, stream, _| {
        frames.answer(stream);
        frames.go_away(stream);
        drop(frames.0.half_close());
    });
    let how = "http_health_check: { path: /healthz, codec_client_type: HTTP2 }";
    let proxy = Proxy::with(checked(origin.config(), how));
    passes_checks(&proxy);
    assert!(origin.connections() >= 5);
}

/// `grpc-status: 0`, as a literal.
const GRPC_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// Answers a call with this message.
fn answer_call(frames: &mut Frames, stream: u32, message: &[u8]) {
    let content_type = b"\x88\x0f\x10\x10application/grpc";
    frames.send(HEADERS, END_HEADERS, stream, content_type);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    frames.send(DATA, 0, stream, &[&[0][..], &length, message].concat());
    frames.send(HEADERS, END_HEADERS | END_STREAM, stream, GRPC_OK);
}

#[test]
fn a_service_says_over_grpc_whether_it_serves() {
    // The second field is none that is known.
    let serving = Http2Origin::that(|frames, stream, _| {
        answer_call(frames, stream, &[0x08, 1, 0x10, 7]);
    });
    let how = "grpc_health_check: { service_name: shop }";
    let proxy = Proxy::with(checked(serving.config(), how));
    passes_checks(&proxy);
    assert_eq!(serving.connections(), 1);

    let not_serving =
        Http2Origin::that(|frames, stream, _| answer_call(frames, stream, &[0x08, 2]));
    let proxy = Proxy::with(checked(not_serving.config(), how));
    proxy.stat_becomes_at_least("cluster.service.health_check.failure", 2);
    assert_eq!(proxy.stat("cluster.service.membership_healthy"), 0);
    assert_eq!(proxy.stat("cluster.service.health_check.network_failure"), 0);
}
