//! Clients that speak HTTP/2: what one stream does to the others, attacks, drains, and ALPN.

use std::time::Duration;

use crate::support::{Act, Broken, Config, Origin, Proxy, Signal, Tls, Wire, is_oracle};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MIB: usize = 1 << 20;
/// The window of a stream that a client has not opened further.
const WINDOW: usize = 65_535;

/// `GET` or `POST`, `http://a/`: `:method` is a number of the static table.
const GET: [u8; 6] = [0x82, 0x84, 0x86, 0x41, 1, b'a'];
const POST: [u8; 6] = [0x83, 0x84, 0x86, 0x41, 1, b'a'];

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The first number of the payload: of RST_STREAM the code, of GOAWAY the last stream.
    fn number(&self) -> u32 {
        u32::from_be_bytes(*self.payload.first_chunk().unwrap())
    }

    /// Of GOAWAY.
    fn code(&self) -> u32 {
        u32::from_be_bytes(*self.payload.last_chunk().unwrap())
    }

    fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &GET)
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &POST)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

fn window_update(stream: u32, bytes: usize) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &u32::try_from(bytes).unwrap().to_be_bytes())
}

/// A client that acknowledges SETTINGS and keeps count of the connection's window for its uploads.
struct Client {
    wire: Wire,
    window: usize,
}

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        Self::on(Wire::connect(proxy.address()).unwrap())
    }

    /// A client that has begun.
    fn on(wire: Wire) -> Self {
        let mut client = Self { wire, window: WINDOW };
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        // The proxy may have closed.
        drop(self.wire.send(bytes));
    }

    /// The next frame.
    fn next(&mut self) -> Result<Frame, Broken> {
        let head = self.wire.take(9)?;
        let &[a, b, c, kind, flags, d, e, f, g] = &*head else { unreachable!("nine bytes") };
        let payload = self.wire.take(u32::from_be_bytes([0, a, b, c]) as usize)?;
        let frame = Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload };
        match (kind, frame.stream) {
            (SETTINGS, _) if flags & ACK == 0 => self.send(&self::frame(SETTINGS, ACK, 0, &[])),
            (WINDOW_UPDATE, 0) => self.window += frame.number() as usize,
            _ => {}
        }
        Ok(frame)
    }

    /// The next frame that is one of these.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap();
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads until the proxy closes.
    fn until_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.next() {
                Ok(frame) => frames.push(frame),
                Err(Broken::Closed(_) | Broken::Reset(_)) => return frames,
                Err(broken) => panic!("neither a frame nor an end: {broken:?}"),
            }
        }
    }

    /// Reads until a stream has ended.
    #[track_caller]
    fn is_answered(&mut self, stream: u32) {
        self.until(|frame| frame.stream == stream && frame.ends());
    }

    /// Sends a part of a body, as soon as the connection's window allows it.
    fn upload(&mut self, stream: u32, mut bytes: usize) {
        while bytes > 0 {
            let piece = bytes.min(16_384);
            while self.window < piece {
                self.next().expect("the window opens");
            }
            self.send(&frame(DATA, 0, stream, &vec![b'x'; piece]));
            self.window -= piece;
            bytes -= piece;
        }
    }
}

// === Streams share a connection ===

#[test]
fn a_client_that_does_not_read_one_response_gets_the_others() {
    let large = 20 * MIB;
    let origin = Origin::that_sends(large as u64);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    client.send(&[window_update(0, 1 << 30), get(1)].concat());
    let mut unread = 0;
    while unread < WINDOW {
        let frame = client.until(|frame| frame.kind == DATA);
        unread += frame.payload.len();
    }
    client.send(&[get(3), window_update(3, 1 << 30)].concat());
    let mut read = 0;
    loop {
        let frame = client.until(|frame| frame.kind == DATA);
        assert_eq!(frame.stream, 3, "stream 1 has no window");
        read += frame.payload.len();
        if frame.ends() {
            break;
        }
    }
    assert_eq!(read, large);
    // Its origin has to wait, too: little of the rest is kept in the proxy. Envoy keeps 16 MiB.
    let received = proxy.stat("cluster.service.upstream_cx_rx_bytes_total");
    assert!(is_oracle() || received < (large + 4 * MIB) as u64, "{received}");
    // It is not lost.
    client.send(&window_update(1, 1 << 30));
    while unread < large {
        let frame = client.until(|frame| frame.kind == DATA);
        assert_eq!(frame.stream, 1);
        unread += frame.payload.len();
    }
}

#[test]
fn an_origin_that_does_not_read_one_request_gets_the_others() {
    let answers = Act::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let waits = Act::ReplyAtOnce(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    let origin = Origin::that_does([waits, answers]);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    client.send(&post(1));
    client.until(|frame| frame.kind == HEADERS);
    // The window of a stream, 16 MiB, but not that of the connection.
    client.upload(1, 16 * MIB);
    for stream in [3, 5] {
        client.send(&post(stream));
        client.upload(stream, 100_000);
        client.send(&frame(DATA, END_STREAM, stream, &[]));
        client.is_answered(stream);
    }
}

#[test]
fn the_window_of_requests_that_were_reset_is_given_back() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    // In all more than the window of the connection, 24 MiB.
    for request in 0..20 {
        let stream = 2 * request + 1;
        client.send(&post(stream));
        client.upload(stream, 2 * MIB);
        client.send(&reset(stream));
    }
    proxy.stat_becomes("http.front.downstream_rq_rx_reset", 20);
    proxy.stat_becomes("http.front.downstream_rq_active", 0);
}

#[test]
fn streams_beyond_the_limit_are_refused_one_by_one() {
    let origin = Origin::that_waits_to_go_on();
    let options = "http2_protocol_options: { max_concurrent_streams: 5 }";
    let proxy = Proxy::with(Config::to(&origin).manager(options));
    let mut client = Client::connect(&proxy);
    // It cannot know the limit yet.
    let requests: Vec<_> = (0..50).map(|request| get(2 * request + 1)).collect();
    client.send(&requests.concat());
    for request in 5..50 {
        let refused = client.until(|frame| frame.kind == RST_STREAM);
        assert_eq!((refused.stream, refused.number()), (2 * request + 1, REFUSED_STREAM));
    }
    (0..5).for_each(|_| origin.go_on());
    let mut answered: Vec<_> = (0..5).map(|_| client.until(|frame| frame.ends()).stream).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 3, 5, 7, 9]);
    assert_eq!(proxy.stat("http2.stream_refused_errors"), 45);
    origin.go_on();
    client.send(&get(101));
    client.is_answered(101);
}

// === Attacks ===

#[test]
fn a_client_that_resets_its_requests_at_once_is_disconnected() {
    let origin = Origin::that_stalls();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    for request in 0..250 {
        client.send(&[get(2 * request + 1), reset(2 * request + 1)].concat());
    }
    let frames = client.until_closed();
    // Envoy says nothing.
    if !is_oracle() {
        let away: Vec<_> = frames.iter().filter(|frame| frame.kind == GOAWAY).collect();
        assert_eq!(away.iter().map(|away| away.code()).collect::<Vec<_>>(), [ENHANCE_YOUR_CALM]);
    }
    assert_eq!(proxy.stat("http.front.downstream_rq_too_many_premature_resets"), 1);
    assert_eq!(proxy.stat("http.front.downstream_cx_protocol_error"), 1);
}

#[test]
fn the_runtime_says_how_many_requests_may_be_reset() {
    let origin = Origin::that_stalls();
    let key = "{ overload.premature_reset_total_stream_count: 10 }";
    let runtime = format!("layered_runtime: {{ layers: [{{ name: a, static_layer: {key} }}] }}\n");
    let yaml = runtime + &Config::to(&origin).yaml();
    let proxy = Proxy::with(Config::verbatim(yaml));
    let mut client = Client::connect(&proxy);
    for request in 0..5 {
        client.send(&[get(2 * request + 1), reset(2 * request + 1)].concat());
    }
    client.until_closed();
    assert_eq!(proxy.stat("http.front.downstream_rq_too_many_premature_resets"), 1);
}

#[test]
fn a_client_that_cancels_every_second_download_is_left_alone() {
    let origin = Origin::that_sends(100_000);
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    for request in 0..600 {
        let stream = 2 * request + 1;
        let is_cancelled = request % 2 == 0;
        client.send(&get(stream));
        client.until(|frame| frame.kind == HEADERS && frame.stream == stream);
        match is_cancelled {
            true => client.send(&reset(stream)),
            false => {
                client.send(&window_update(stream, 100_000));
                client.is_answered(stream);
            }
        }
        client.send(&window_update(0, 100_000));
    }
    assert_eq!(proxy.stat("http.front.downstream_rq_too_many_premature_resets"), 0);
}

// === The end of a connection ===

#[test]
fn a_drain_tells_idle_clients_at_once_and_serves_what_is_on_its_way() {
    if is_oracle() {
        return; // Envoy closes at once.
    }
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    client.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0);
    proxy.signal(Signal::Term);
    let away = client.until(|frame| frame.kind == GOAWAY);
    assert_eq!((away.number(), away.code()), (0x7fff_ffff, 0));
    let ping = client.until(|frame| frame.kind == PING);
    // It has sent this before it has read the GOAWAY.
    client.send(&[get(1), frame(PING, ACK, 0, &ping.payload)].concat());
    let frames = client.until_closed();
    assert!(frames.iter().any(|frame| frame.stream == 1 && frame.ends()));
    let away = frames.iter().find(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!((away.number(), away.code()), (1, 0));
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn a_drain_waits_for_the_streams_of_a_client() {
    if is_oracle() {
        return; // Envoy closes at once.
    }
    let origin = Origin::that_waits_to_go_on();
    let proxy = Proxy::with(Config::to(&origin));
    let mut client = Client::connect(&proxy);
    client.send(&get(1));
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    let ping = client.until(|frame| frame.kind == PING);
    client.send(&frame(PING, ACK, 0, &ping.payload));
    let away = client.until(|frame| frame.kind == GOAWAY);
    assert_eq!((away.number(), away.code()), (1, 0));
    // What comes after that is not served.
    client.send(&get(3));
    origin.go_on();
    let frames = client.until_closed();
    assert!(frames.iter().any(|frame| frame.stream == 1 && frame.ends()));
    assert!(frames.iter().all(|frame| frame.stream != 3));
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn a_failed_health_check_drains_with_the_next_response() {
    let origin = Origin::that_answers();
    let proxy = Proxy::with(Config::to(&origin).manager("drain_timeout: 0.5s"));
    let mut client = Client::connect(&proxy);
    proxy.admin_post("/healthcheck/fail");
    // The shard may see the first request before the order.
    let mut stream = 1;
    client.send(&get(stream));
    loop {
        let frame = client.until(|frame| frame.kind == GOAWAY || frame.ends());
        if frame.kind == GOAWAY {
            assert_eq!((frame.number(), frame.code()), (0x7fff_ffff, 0));
            break;
        }
        stream += 2;
        client.send(&get(stream));
    }
    client.is_answered(stream);
    let frames = client.until_closed();
    let away = frames.iter().find(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!((away.number(), away.code()), (stream, 0));
    assert_eq!(proxy.stat("http.front.downstream_cx_drain_close"), 1);
    assert_eq!(proxy.stat("http2.goaway_sent"), 1);
}

// === ALPN ===

/// What a client gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Served {
    Http1,
    Http2,
    Nothing,
}

#[test]
fn alpn_says_what_a_connection_speaks() {
    use Served::{Http1, Http2, Nothing};
    let origin = Origin::that_answers();
    let tls = Tls::new();
    for (codec, offers, to_http1, to_http2) in [
        ("AUTO", &["h2"][..], Nothing, Http2),
        ("AUTO", &["http/1.1"], Http1, Nothing),
        ("AUTO", &["h2", "http/1.1"], Nothing, Http2),
        ("AUTO", &["foo"], Http1, Http2),
        ("AUTO", &[], Http1, Http2),
        ("HTTP1", &["h2"], Http1, Nothing),
        ("HTTP2", &["http/1.1"], Nothing, Http2),
    ] {
        let chain = tls.downstream_with_protocols(&["h2", "http/1.1"]);
        let config = Config::to(&origin).chain(&chain).manager(&format!("codec_type: {codec}"));
        let proxy = Proxy::with(config);
        let connect = || proxy.connect_tls(&tls.clone().with_offers(offers)).into_wire();
        let served = (speaks_http1(connect()), speaks_http2(connect()));
        assert_eq!(served, (to_http1, to_http2), "{codec} {offers:?}");
    }
}

fn speaks_http1(mut wire: Wire) -> Served {
    drop(wire.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    match wire.next_bytes(Duration::from_secs(5)) {
        Ok(bytes) if bytes.starts_with(b"HTTP/1.1 200") => Served::Http1,
        Err(Broken::Closed(_) | Broken::Reset(_)) => Served::Nothing,
        other => panic!("{other:?}"),
    }
}

fn speaks_http2(wire: Wire) -> Served {
    let mut client = Client::on(wire);
    client.send(&get(1));
    loop {
        match client.next() {
            Ok(frame) if frame.ends() => return Served::Http2,
            Ok(_) => {}
            Err(Broken::Closed(_) | Broken::Reset(_)) => return Served::Nothing,
            Err(broken) => panic!("{broken:?}"),
        }
    }
}
