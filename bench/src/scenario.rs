//! The scenarios, one line each. A scenario has a shape of configuration, a load, and the figure by
//! which the peers are compared.

use crate::peers::{Downstream, HttpFilters, Shape, Upstream};
use crate::tls::Key;

/// One thing to measure.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) shape: Shape,
    pub(crate) measure: Measure,
    /// The number of proxy threads that the cores are divided for.
    pub(crate) room: usize,
    /// The figure of the ratios.
    pub(crate) figure: &'static str,
    /// Scenarios with the same word here run their rounds alternately, because they are compared
    /// with each other and the machine changes over time.
    pub(crate) batch: &'static str,
}

impl Scenario {
    /// Counts hardly vary, and valgrind is slow.
    pub(crate) fn rounds_max(&self) -> usize {
        match self.measure {
            Measure::Instructions(_) => 2,
            _ => usize::MAX,
        }
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Our generator; each connection sends its next request after the answer.
    Closed(Ask),
    /// Another generator, to check ours.
    Foreign(Tool, Ask),
    /// Constant rate, in percent of the reference peer's peak.
    Rate { percent: u64, ask: Ask },
    /// Connections that sent one request and are idle.
    Idle { connections: usize },
    /// Connections of HTTP/2 with prior knowledge that are held open, each with this many requests that never
    /// end; with none, they sent one request and are idle.
    Held { connections: usize, streams: u32 },
    /// The time from exec to the first answer, and the memory then.
    Start,
    /// System calls per request.
    Syscalls(Ask),
    /// User-space instructions per request.
    Instructions(Ask),
}

/// A third-party generator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tool {
    Wrk,
    Oha,
    /// Of nghttp2: the only one for HTTP/2.
    H2load,
}

/// What the clients request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) page: &'static str,
    /// Length of the answer's body, including chunk framing where that is known.
    pub(crate) expect_bytes: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) body: usize,
    pub(crate) headers: usize,
    pub(crate) close: bool,
    /// Resume earlier TLS sessions.
    pub(crate) resume: bool,
    /// Requests at a time on each connection, over HTTP/2.
    pub(crate) streams: usize,
    /// The coding that the clients accept.
    pub(crate) accept_encoding: Option<&'static str>,
}

impl Ask {
    /// A small GET on 64 connections.
    pub(crate) const PLAIN: Self = Self {
        page: "/13",
        expect_bytes: Some(13),
        connections: 64,
        body: 0,
        headers: 0,
        close: false,
        resume: false,
        streams: 1,
        accept_encoding: None,
    };
}

/// Every scenario, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = vec![
        plain("start", "exec to first answer, and memory then", "start_ms", Measure::Start),
        cpu("get-1", "13 B, 1 connection", Ask { connections: 1, ..Ask::PLAIN }),
        cpu("get-1000", "13 B, 1,000 connections", Ask { connections: 1000, ..Ask::PLAIN }),
    ];
    all.extend(variants());
    all.extend([
        foreign("get-64-wrk", "13 B, 64 connections, by wrk", Tool::Wrk),
        foreign("get-64-oha", "13 B, 64 connections, by oha", Tool::Oha),
        cpu("connection-per-request", "13 B, a connection each", Ask { close: true, ..Ask::PLAIN }),
        cpu("headers-20", "13 B, 20 more request headers", Ask { headers: 20, ..Ask::PLAIN }),
        cpu("post-1k", "1 KB sent, 13 B back", Ask { body: 1 << 10, ..Ask::PLAIN }),
    ]);
    all.push(megabytes("post-1m", "1 MB sent, 13 B back", Ask { body: 1 << 20, ..Ask::PLAIN }, 16));
    for (name, about, page, bytes) in [
        ("answer-64k", "64 KB answers", "/64k", 64 << 10),
        ("answer-1m", "1 MB answers", "/1m", 1 << 20),
        ("answer-10m", "10 MB answers", "/10m", 10 << 20),
    ] {
        all.push(megabytes(name, about, Ask { page, expect_bytes: Some(bytes), ..Ask::PLAIN }, 16));
    }
    let chunked = Ask { page: "/chunked", expect_bytes: None, ..Ask::PLAIN };
    all.push(megabytes("chunked", "16 chunks of 4 KiB, a write each", chunked, 16));
    for (name, about, connections) in [
        ("idle-4000", "4,000 connections, silent after a request", 4000),
        ("idle-15000", "15,000 connections, silent after a request", 15_000),
    ] {
        all.push(plain(name, about, "pss_kib_per_connection", Measure::Idle { connections }));
    }
    all.push(plain(
        "syscalls",
        "system calls",
        "syscalls_per_request",
        Measure::Syscalls(Ask::PLAIN),
    ));
    all.extend(transports());
    all.extend(http2());
    all.extend(filters());
    let instructions = Measure::Instructions(Ask::PLAIN);
    all.push(plain("instructions", "in user space", "instructions_per_request", instructions));
    all.extend(RATES.map(|(name, about, percent)| {
        plain(name, about, "p99_us", Measure::Rate { percent, ask: Ask::PLAIN })
    }));
    all
}

/// The small GET, and features that should not make it more expensive.
fn variants() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, about, shape) in [
        ("get-64", "13 B, 64 connections", Shape::PLAIN),
        ("routes-1000", "1,000 routes to 1,000 clusters, the last one requested", many(1000, 1000)),
        ("routes-10000", "10,000 routes to one cluster, the last one requested", many(10_000, 1)),
        ("routes-100000", "100,000 routes, the last one requested", ROUTES),
        ("hosts-100000", "100,000 virtual hosts, the last one requested", HOSTS),
        ("retries", "retries configured, none needed", Shape { retries: true, ..Shape::PLAIN }),
    ] {
        all.push(Scenario { shape, batch: "variants", ..cpu(name, about, Ask::PLAIN) });
    }
    for (name, about, shape) in [
        (
            "start-routes-100000",
            "exec to first answer with 100,000 routes, and memory then",
            ROUTES,
        ),
        (
            "start-hosts-100000",
            "exec to first answer with 100,000 virtual hosts, and memory then",
            HOSTS,
        ),
    ] {
        all.push(Scenario { shape, ..plain(name, about, "pss_kib", Measure::Start) });
    }
    for (name, about, shards) in [
        ("shards-1", "one thread, client and origin where they are for two", 1),
        ("shards-2", "two threads", 2),
    ] {
        let shape = Shape { shards, ..Shape::PLAIN };
        all.push(Scenario { shape, room: 2, batch: "shards", ..cpu(name, about, Ask::PLAIN) });
    }
    all
}

/// TLS at the side of the clients, and bytes that are forwarded unseen.
fn transports() -> Vec<Scenario> {
    let close = Ask { close: true, ..Ask::PLAIN };
    let large = |page, bytes| Ask { page, expect_bytes: Some(bytes), ..Ask::PLAIN };
    let (answers_64k, answers_1m) = (large("/64k", 64 << 10), large("/1m", 1 << 20));
    let idle = Measure::Idle { connections: 4000 };
    let through = |downstream, scenario| {
        let shape = Shape { downstream, ..Shape::PLAIN };
        Scenario { shape, ..scenario }
    };
    let p256 = |scenario| through(Downstream::Https(Key::P256), scenario);
    let rsa = |scenario| through(Downstream::Https(Key::Rsa2048), scenario);
    let tcp = |scenario| through(Downstream::Tcp, scenario);
    vec![
        p256(cpu("tls-get-64", "13 B over TLS, 64 connections", Ask::PLAIN)),
        p256(cpu("tls-full-p256", "13 B, a connection and a full handshake each, P-256", close)),
        rsa(cpu(
            "tls-full-rsa2048",
            "13 B, a connection and a full handshake each, RSA-2048",
            close,
        )),
        p256(cpu(
            "tls-resumed",
            "13 B, a connection and a resumed handshake each",
            Ask { resume: true, ..close },
        )),
        p256(megabytes("tls-answer-64k", "64 KB answers over TLS", answers_64k, 16)),
        p256(megabytes("tls-answer-1m", "1 MB answers over TLS", answers_1m, 16)),
        p256(plain(
            "tls-idle-4000",
            "4,000 TLS connections, silent after a request",
            "pss_kib_per_connection",
            idle,
        )),
        tcp(megabytes("tcp-64k", "64 KB answers through TCP pass-through", answers_64k, 16)),
        tcp(megabytes("tcp-1m", "1 MB answers through TCP pass-through", answers_1m, 16)),
    ]
}

/// HTTP filters before the router.
fn filters() -> Vec<Scenario> {
    let with = |filters, scenario: Scenario| {
        let shape = Shape { filters, ..scenario.shape };
        Scenario { shape, batch: "filters", ..scenario }
    };
    let mut all = Vec::new();
    for (name, about, filters) in [
        ("filters-1", "13 B through one filter that sets a header", HttpFilters::Head(1)),
        ("filters-5", "13 B through five of them", HttpFilters::Head(5)),
        ("filters-10", "13 B through ten of them", HttpFilters::Head(10)),
        ("rbac-1000", "13 B, 1,000 policies, the last one matches", HttpFilters::Rbac(1000)),
    ] {
        all.push(with(filters, cpu(name, about, Ask::PLAIN)));
    }
    for (name, about, library, coding) in [
        ("gzip-1m", "1 MB answers, compressed by gzip", "gzip", "gzip"),
        ("brotli-1m", "1 MB answers, compressed by brotli", "brotli", "br"),
        ("zstd-1m", "1 MB answers, compressed by zstd", "zstd", "zstd"),
    ] {
        let ask = Ask { page: "/1m", expect_bytes: None, connections: 16, ..Ask::PLAIN };
        let ask = Ask { accept_encoding: Some(coding), ..ask };
        // An answer is a megabyte, so the cost of one is that of a megabyte.
        all.push(with(HttpFilters::Compressor(library), cpu(name, about, ask)));
    }
    all
}

/// HTTP/2 at the side of the clients, of the origin, or both.
fn http2() -> Vec<Scenario> {
    let by_h2load = |downstream, name, about, ask| {
        let measure = Measure::Foreign(Tool::H2load, ask);
        let shape = Shape { downstream, ..Shape::PLAIN };
        Scenario { shape, ..plain(name, about, "cpu_us_per_request", measure) }
    };
    let crowded = Ask { connections: 16, streams: 16, ..Ask::PLAIN };
    let (h2, h2c) = (Downstream::H2(Key::P256), Downstream::H2c);
    let about = "13 B, 64 connections of HTTP/1 to an HTTP/2 origin";
    let to_h2c = cpu("get-64-to-h2c", about, Ask::PLAIN);
    let about = "gRPC, 64 B sent and 13 B back, 16 connections × 16 streams to an HTTP/2 origin";
    let grpc = by_h2load(h2c, "grpc-unary", about, Ask { body: 64, ..crowded });
    let upstream = Upstream::H2c;
    vec![
        by_h2load(
            h2,
            "h2-tls-16x16",
            "13 B, HTTP/2 over TLS, 16 connections × 16 streams",
            crowded,
        ),
        by_h2load(h2c, "h2c-16x16", "13 B, HTTP/2, 16 connections × 16 streams", crowded),
        by_h2load(h2c, "h2c-64x1", "13 B, HTTP/2, 64 connections × 1 stream", Ask::PLAIN),
        Scenario { shape: Shape { upstream, ..to_h2c.shape }, ..to_h2c },
        Scenario { shape: Shape { upstream, ..grpc.shape }, ..grpc },
        held("h2c-idle-4000", "4,000 connections of HTTP/2, silent after a request", 4000, 0),
        held("h2c-streams", "16 connections of HTTP/2 × 64 requests without an end", 16, 64),
    ]
}

/// The scenarios that check in a few minutes that everything works.
pub(crate) const QUICK: [&str; 12] = [
    "start",
    "get-64",
    "connection-per-request",
    "answer-64k",
    "idle-4000",
    "routes-1000",
    "tls-get-64",
    "tls-full-p256",
    "tcp-1m",
    "syscalls",
    "instructions",
    "rate-70",
];

/// The scenario whose peak is the base of the rates.
pub(crate) const PEAK: &str = "get-64";

const RATES: [(&str, &str, u64); 6] = [
    ("rate-10", "constant rate, 10 % of the reference peak", 10),
    ("rate-30", "constant rate, 30 % of the reference peak", 30),
    ("rate-50", "constant rate, 50 % of the reference peak", 50),
    ("rate-70", "constant rate, 70 % of the reference peak", 70),
    ("rate-85", "constant rate, 85 % of the reference peak", 85),
    ("rate-100", "constant rate, 100 % of the reference peak", 100),
];

fn held(name: &'static str, about: &'static str, connections: usize, streams: u32) -> Scenario {
    let measure = Measure::Held { connections, streams };
    let shape = Shape { downstream: Downstream::H2c, ..Shape::PLAIN };
    let figure = if streams == 0 { "pss_kib_per_connection" } else { "pss_kib_per_stream" };
    Scenario { shape, ..plain(name, about, figure, measure) }
}

fn plain(
    name: &'static str,
    about: &'static str,
    figure: &'static str,
    measure: Measure,
) -> Scenario {
    Scenario { name, about, shape: Shape::PLAIN, measure, room: 1, figure, batch: name }
}

fn cpu(name: &'static str, about: &'static str, ask: Ask) -> Scenario {
    plain(name, about, "cpu_us_per_request", Measure::Closed(ask))
}

fn foreign(name: &'static str, about: &'static str, tool: Tool) -> Scenario {
    plain(name, about, "cpu_us_per_request", Measure::Foreign(tool, Ask::PLAIN))
}

fn megabytes(name: &'static str, about: &'static str, ask: Ask, connections: usize) -> Scenario {
    plain(name, about, "cpu_us_per_mb", Measure::Closed(Ask { connections, ..ask }))
}

const ROUTES: Shape = Shape { routes: 100_000, ..Shape::PLAIN };
const HOSTS: Shape = Shape { hosts: 100_000, ..Shape::PLAIN };

fn many(routes: usize, clusters: usize) -> Shape {
    Shape { routes, clusters, ..Shape::PLAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_short_list_names_real_ones() {
        let all = all();
        for (index, scenario) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other.name != scenario.name));
        }
        for name in QUICK {
            assert!(all.iter().any(|scenario| scenario.name == name), "{name}");
        }
    }

    #[test]
    fn the_peak_is_measured_before_the_rates_that_need_it() {
        let all = all();
        let peak = all.iter().position(|scenario| scenario.name == PEAK).unwrap();
        let rate = all.iter().position(|s| matches!(s.measure, Measure::Rate { .. })).unwrap();
        assert!(peak < rate);
    }
}
