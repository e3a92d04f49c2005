//! Hostile input from public test suites, through the real binary.
//!
//! The origin receives only well-formed requests, each sent by the client that gets its answer:
//! nothing malformed or extra is forwarded, no other client is affected, nothing hangs.

mod corpus;
mod envoy;
mod exchange;
mod faults;
mod origin;
mod probe;
mod reader;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::support::{Config, Proxy, Tls};

use corpus::Case;
use exchange::{Exchange, Listener, Pace, Paths, Reading};
use origin::{Behaviour, Capture};

/// Each has its own listener and origin, so that an origin sees only one case.
const LANES: usize = 16;

/// Payloads of which the proxy accepts more than a strict reader does, each with the reason.
const LENIENT: [(&str, &str); 9] = [
    ("RFC9112-2.2-BARE-LF-HEADER", BARE_LF),
    ("RFC9112-2.2-BARE-LF-REQUEST-LINE", BARE_LF),
    ("httparse/test_request_newlines", BARE_LF),
    ("lighttpd/069", NO_HOST),
    ("llhttp/invalid/047", BARE_LF),
    ("llhttp/invalid/051", BARE_LF),
    ("llhttp/invalid/059", BARE_LF),
    ("llhttp/lenient-header-value-relaxed/068", BARE_LF),
    ("llhttp/uri/157", NO_HOST),
];
const BARE_LF: &str = "RFC 9112 §2.2 allows it; Envoy accepts it; it is not forwarded";
const NO_HOST: &str = "the target names the host, which is forwarded as Host, as in Envoy";

/// The options that Envoy's guide for edge proxies recommends, and more that reject, rewrite and
/// answer.
const EDGE: &[&str] = &[
    "use_remote_address: true",
    "normalize_path: true",
    "merge_slashes: true",
    "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT",
    "common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }",
    "strip_any_host_port: true",
    "strip_trailing_host_dot: true",
    "http_protocol_options: { accept_http_10: true, default_host_for_http_10: old }",
    "via: edge",
    "server_name: front",
    "server_header_transformation: APPEND_IF_ABSENT",
    "local_reply_config: { body_format: { json_format: { status: \"%RESPONSE_CODE%\" } } }",
];

#[test]
fn no_payload_desynchronizes_proxy_and_origin() {
    let run = Run::of(&[], Pace::AtOnce, Behaviour::Patient);
    run.is_sound("at-once");
    run.is_as_strict_as_written();
}

#[test]
fn no_payload_desynchronizes_them_byte_by_byte() {
    let run = Run::of(&[], Pace::InPieces, Behaviour::Patient);
    run.is_sound("in-pieces");
    run.is_as_strict_as_written();
}

#[test]
fn no_payload_desynchronizes_them_with_http_1_0() {
    let options = ["http_protocol_options: { accept_http_10: true }"];
    Run::of(&options, Pace::AtOnce, Behaviour::Patient).is_sound("http-1.0");
}

#[test]
fn no_payload_desynchronizes_them_at_an_edge() {
    Run::of(EDGE, Pace::AtOnce, Behaviour::Patient).is_sound("edge");
}

#[test]
fn no_payload_desynchronizes_them_at_an_edge_byte_by_byte() {
    Run::of(EDGE, Pace::InPieces, Behaviour::Patient).is_sound("edge-in-pieces");
}

#[test]
fn no_mutation_desynchronizes_them() {
    let seed = std::env::var("CORVOY_SEED").map_or(1, |seed| seed.parse().unwrap());
    for (options, name) in [(&[][..], "mutated"), (EDGE, "edge-mutated")] {
        let cases = corpus::mutated(seed, 1500);
        Run::of_cases(cases, options, Pace::AtOnce, Behaviour::Patient, None).is_sound(name);
    }
}

#[test]
fn no_mutation_desynchronizes_them_with_an_unpredictable_origin() {
    let seed = std::env::var("CORVOY_SEED").map_or(2, |seed| seed.parse().unwrap());
    let cases = corpus::mutated(seed, 1500);
    Run::of_cases(cases, &[], Pace::AtOnce, Behaviour::Unpredictable, None).is_sound("wild");
}

#[test]
fn every_payload_is_answered_as_in_the_record_of_envoy() {
    Run::of(&[], Pace::AtOnce, Behaviour::Patient).is_held_against_envoy("default");
}

#[test]
fn every_payload_at_an_edge_is_answered_as_in_the_record_of_envoy() {
    Run::of(EDGE, Pace::AtOnce, Behaviour::Patient).is_held_against_envoy("edge");
}

#[test]
fn no_payload_desynchronizes_them_when_answered_before_its_body() {
    Run::of(&[], Pace::InPieces, Behaviour::Hasty).is_sound("early");
}

#[test]
fn no_payload_desynchronizes_them_over_tls() {
    let run = Run::over_tls(&[], Pace::AtOnce);
    run.is_sound("tls");
    run.is_as_strict_as_written();
    run.is_held_against_envoy("default");
}

#[test]
fn no_payload_desynchronizes_them_byte_by_byte_over_tls() {
    let run = Run::over_tls(&[], Pace::InPieces);
    run.is_sound("tls-in-pieces");
    run.is_as_strict_as_written();
}

#[test]
fn no_payload_desynchronizes_them_at_an_edge_over_tls() {
    let run = Run::over_tls(EDGE, Pace::AtOnce);
    run.is_sound("tls-edge");
    run.is_held_against_envoy("edge");
}

/// A run of all payloads through one proxy.
struct Run {
    proxy: Proxy,
    origins: Vec<Capture>,
    played: Vec<(Case, Exchange, Reading)>,
}

impl Run {
    /// With options of the connection manager.
    fn of(options: &[&str], pace: Pace, behaviour: Behaviour) -> Self {
        Self::of_cases(corpus::all(), options, pace, behaviour, None)
    }

    /// The clients and the origins speak TLS.
    fn over_tls(options: &[&str], pace: Pace) -> Self {
        Self::of_cases(corpus::all(), options, pace, Behaviour::Patient, Some(&Tls::new()))
    }

    fn of_cases(
        cases: Vec<Case>,
        options: &[&str],
        pace: Pace,
        behaviour: Behaviour,
        tls: Option<&Tls>,
    ) -> Self {
        let origins: Vec<Capture> = (0..LANES).map(|_| Capture::new(behaviour, tls)).collect();
        let addresses: Vec<_> = origins.iter().map(Capture::address).collect();
        let proxy = Proxy::with(lanes(&addresses, options, tls));
        let paths = if options.is_empty() { Paths::AsTheyAre } else { Paths::Normalized };
        let played = play_all(cases, (&proxy, tls), &origins, (pace, paths, behaviour));
        Self { proxy, origins, played }
    }

    /// What Envoy rejects is rejected, and where we reject more is documented.
    #[track_caller]
    fn is_held_against_envoy(&self, options: &str) {
        let played = self.played.iter().map(|(case, exchange, _)| (case, exchange));
        envoy::compare(options, played);
    }

    /// Nothing malformed or extra was forwarded, no other client was affected, nothing hung or
    /// crashed.
    #[track_caller]
    fn is_sound(&self, name: &str) {
        let mut report = String::new();
        for (case, exchange, _) in self.played.iter().filter(|(_, it, _)| !it.findings.is_empty()) {
            report += &exchange.describe(case);
        }
        for stream in self.origins.iter().flat_map(Capture::streams) {
            if let Some(why) = stream.wrong {
                let bytes = String::from_utf8_lossy(&stream.bytes);
                let _ = writeln!(report, "malformed at the origin, {why}: {bytes:?}");
            }
        }
        let is_sent_on = |exchange: &Exchange| exchange.seen.iter().any(|r| r.target != "/canary");
        let sent_on = self.played.iter().filter(|(_, exchange, _)| is_sent_on(exchange)).count();
        eprintln!("{} payloads, {sent_on} forwarded", self.played.len());
        assert!(report.is_empty(), "{report}");
        assert!(self.proxy.is_running());
        assert!(!self.proxy.log().contains("panicked"), "a shard panicked");
        second_opinion(&self.origins, name);
    }

    /// Every Must holds, and the tables list where we are laxer than a strict reader or a Should.
    #[track_caller]
    fn is_as_strict_as_written(&self) {
        let mut report = String::new();
        for (case, exchange, _) in &self.played {
            if let Some(failure) = probe::judge(case, exchange) {
                let _ = writeln!(report, "{} {failure}\n{}", case.id, exchange.describe(case));
            }
        }
        assert!(report.is_empty(), "{report}");
        let lenient = self.played.iter().filter(|(.., reading)| *reading == Reading::Lenient);
        let lenient: Vec<&str> = lenient.map(|(case, ..)| case.id.as_str()).collect();
        let known: Vec<&str> = LENIENT.iter().map(|(id, _)| *id).collect();
        assert_eq!(lenient, known, "what is taken leniently is in the table, with its reason");
    }
}

fn play_all(
    cases: Vec<Case>,
    (proxy, tls): (&Proxy, Option<&Tls>),
    origins: &[Capture],
    (pace, paths, behaviour): (Pace, Paths, Behaviour),
) -> Vec<(Case, Exchange, Reading)> {
    let queue: Mutex<VecDeque<Case>> = Mutex::new(cases.into());
    let played = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (origin, address) in origins.iter().zip(proxy.addresses()) {
            let (queue, played) = (&queue, &played);
            scope.spawn(move || {
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else { return };
                    let listener = Listener { address, tls };
                    let mut exchange = Exchange::play(&case, pace, listener, origin);
                    let reading = exchange.judge(paths, behaviour);
                    played.lock().unwrap().push((case, exchange, reading));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap();
    played.sort_by(|(one, ..), (other, ..)| one.id.cmp(&other.id));
    played
}

/// A listener and a cluster for each origin, and options of the connection managers.
/// With `tls`, clients and origins speak TLS.
fn lanes(origins: &[SocketAddr], options: &[&str], tls: Option<&Tls>) -> Config {
    let (downstream, upstream) = tls.map(|tls| (tls.downstream(), tls.upstream())).unzip();
    let (downstream, upstream) = (downstream.unwrap_or_default(), upstream.unwrap_or_default());
    let options = options.join("\n          ");
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for (lane, origin) in origins.iter().enumerate() {
        let port = origin.port();
        let _ = write!(
            listeners,
            r#"
  - name: "{lane:02}"
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - {downstream}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          {options}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: everything
              domains: ["*"]
              routes:
              - match: {{ safe_regex: {{ regex: ".*" }} }}
                route: {{ cluster: "{lane}" }}"#
        );
        let _ = write!(
            clusters,
            r#"
  - name: "{lane}"
    type: STATIC
    connect_timeout: 5s
    {upstream}
    load_assignment:
      cluster_name: "{lane}"
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}"#
        );
    }
    Config::verbatim(format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}\n\
         static_resources:\n  listeners:{listeners}\n  clusters:{clusters}\n"
    ))
}

/// What the origins received, parsed again by two other parsers: h11 and llhttp.
fn second_opinion(origins: &[Capture], name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join(".venv/bin/python");
    let has_parsers = Command::new(&python).args(["-c", "import h11, httptools"]).output();
    if !has_parsers.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: the second opinion: h11 and httptools are not in .venv (scripts/setup)"
        );
        return;
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("edge-{name}.jsonl"));
    fs::write(&file, streams_as_json(origins)).unwrap();
    let script = root.join("bin/tests/edge/second_opinion.py");
    let output = Command::new(&python).arg(script).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{}", said.trim_end());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A line for each connection: its bytes, and the result of our reader. A character is a byte.
fn streams_as_json(origins: &[Capture]) -> String {
    let latin1 = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    let mut lines = String::new();
    for origin in origins {
        let all = origin.since(0);
        for stream in origin.streams() {
            let requests: Vec<_> = stream.requests.iter().map(|&place| &all[place]).collect();
            let requests = requests.iter().map(|request| {
                serde_json::json!({
                    "method": request.method,
                    "target": request.target,
                    "fields": request.fields,
                    "body": latin1(&request.body),
                    "whole": request.end.is_some(),
                })
            });
            let requests: Vec<_> = requests.collect();
            let line = serde_json::json!({ "bytes": latin1(&stream.bytes), "requests": requests });
            let _ = writeln!(lines, "{line}");
        }
    }
    lines
}
