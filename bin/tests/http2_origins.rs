//! Origins that speak HTTP/2, named by their misbehaviour, and what the client and the stats show.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::{Config, Proxy, wait_until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: usize = 24;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// `:status: 200`, from the static table.
const STATUS_200: [u8; 1] = [0x88];

/// What an origin does with each request, whose stream it gets, and how many came before on any connection.
type Act = dyn Fn(&mut Frames, u32, usize) + Send + Sync;

/// The connection of an origin, frame by frame.
struct Frames(TcpStream);

impl Frames {
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The proxy may have closed.
        drop(self.0.write_all(&frame));
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

    /// The next frame: its type, flags and stream. None: the proxy has closed.
    fn next(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((kind, flags, u32::from_be_bytes(stream)))
    }
}

/// An origin that has these SETTINGS, and does this with each request whose head has arrived.
struct Http2Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Http2Origin {
    fn that(act: impl Fn(&mut Frames, u32, usize) + Send + Sync + 'static) -> Self {
        Self::with_settings(&[], act)
    }

    fn with_settings(
        settings: &[u8],
        act: impl Fn(&mut Frames, u32, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, settings) = (Arc::clone(&connections), settings.to_vec());
        let (act, requests): (Arc<Act>, _) = (Arc::new(act), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (act, requests) = (Arc::clone(&act), Arc::clone(&requests));
                let settings = settings.clone();
                thread::spawn(move || serve(stream.unwrap(), &settings, &*act, &requests));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn config(&self) -> Config {
        Config::to_addresses(&[self.address]).cluster(EXPLICIT)
    }
}

const EXPLICIT: &str = "typed_extension_protocol_options: \
    { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    { \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
    explicit_http_config: { http2_protocol_options: {} } } }";

fn serve(stream: TcpStream, settings: &[u8], act: &Act, requests: &AtomicUsize) {
    let mut frames = Frames(stream);
    let mut preface = [0; PREFACE];
    if frames.0.read_exact(&mut preface).is_err() {
        return;
    }
    frames.send(SETTINGS, 0, 0, settings);
    while let Some((kind, flags, stream)) = frames.next() {
        if kind == SETTINGS && flags == 0 {
            frames.send(SETTINGS, 1, 0, &[]);
        }
        if kind == HEADERS {
            act(&mut frames, stream, requests.fetch_add(1, Ordering::SeqCst));
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
    let origin = Http2Origin::that(|frames, stream, _| frames.answer(stream));
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
        drop(frames.0.shutdown(std::net::Shutdown::Both));
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
    let origin = Http2Origin::that(|frames, stream, _| frames.answer(stream));
    let proxy = Proxy::with(origin.config());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 1000000\r\n\r\nthe beginning");
    assert_eq!(client.response().status(), 200);
    wait_until("a reset", || proxy.stat("cluster.service.upstream_rq_tx_reset") == 1);
    assert_all_is_over(&proxy);
}

#[test]
fn a_connection_carries_no_more_requests_than_allowed() {
    let origin = Http2Origin::that(|frames, stream, _| frames.answer(stream));
    let proxy = Proxy::with(origin.config().cluster("max_requests_per_connection: 2"));
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_max_requests"), 2);
    assert_all_is_over(&proxy);
}
