//! The walk-through: a well-known Envoy tutorial, step by step, with its three files.
//!
//! The files are unchanged except for the addresses: ports come from the kernel and the host
//! `httpbin` is `localhost`. The origin is the built-in one, and the real httpbin if the Python
//! packages `httpbin` and `gunicorn` are in `.venv` at the root of the repository (`scripts/test`
//! installs them).

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Config, Message, Proxy, Wire, corvoy, free_address, is_oracle, wait_for, wait_until,
};

#[path = "../src/origin/mod.rs"]
mod origin;

const CURL: &str = "Host: localhost:15001\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// The tutorial's sixteen lines. Envoy 1.40 shows the last four only if `virtual_clusters` are
/// configured.
const RETRY_STATS: [&str; 16] = [
    "cluster.httpbin_service.circuit_breakers.default.rq_retry_open: 0",
    "cluster.httpbin_service.circuit_breakers.high.rq_retry_open: 0",
    "cluster.httpbin_service.retry.upstream_rq_500: 9",
    "cluster.httpbin_service.retry.upstream_rq_5xx: 9",
    "cluster.httpbin_service.retry.upstream_rq_completed: 9",
    "cluster.httpbin_service.retry_or_shadow_abandoned: 0",
    "cluster.httpbin_service.upstream_rq_retry: 9",
    "cluster.httpbin_service.upstream_rq_retry_backoff_exponential: 9",
    "cluster.httpbin_service.upstream_rq_retry_backoff_ratelimited: 0",
    "cluster.httpbin_service.upstream_rq_retry_limit_exceeded: 3",
    "cluster.httpbin_service.upstream_rq_retry_overflow: 0",
    "cluster.httpbin_service.upstream_rq_retry_success: 0",
    "vhost.httpbin_local_service.vcluster.other.upstream_rq_retry: 0",
    "vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_limit_exceeded: 0",
    "vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_overflow: 0",
    "vhost.httpbin_local_service.vcluster.other.upstream_rq_retry_success: 0",
];

#[test]
fn the_walkthrough_with_the_built_in_origin() {
    the_six_steps(&Httpbin::built_in());
}

#[test]
fn the_walkthrough_with_the_real_httpbin() {
    if let Some(origin) = Httpbin::real() {
        the_six_steps(&origin);
    }
}

#[test]
fn without_arguments_it_serves_the_demonstration() {
    if is_oracle() {
        return;
    }
    let fixed = ["127.0.0.1:8000", "127.0.0.1:15000", "127.0.0.1:15001"];
    if let Some(taken) = fixed.iter().find(|address| TcpListener::bind(address).is_err()) {
        eprintln!("SKIPPED: {taken} is in use");
        return;
    }
    let folder = TempDir::new().unwrap();
    let printed = folder.path().join("printed");
    let mut command = corvoy();
    command.stdout(std::fs::File::create(&printed).unwrap()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let printed = || std::fs::read_to_string(&printed).unwrap();
    wait_until("the demonstration to say what to try", || printed().contains("| grep retry"));
    for line in
        ["curl -X GET http://127.0.0.1:15001/headers", "curl -i http://127.0.0.1:15001/status/500"]
    {
        assert!(printed().contains(line), "{}", printed());
    }
    let mut wire = Wire::connect("127.0.0.1:15001".parse().unwrap()).unwrap();
    wire.send(format!("GET /headers HTTP/1.1\r\n{CURL}").as_bytes()).unwrap();
    let response = wire.response("GET");
    drop((process.kill(), process.wait()));
    let text = response.unwrap().text();
    for header in
        ["\"Host\": \"httpbin\"", "\"X-Request-Id\": \"", "\"X-Forwarded-Proto\": \"http\""]
    {
        assert!(text.contains(header), "{header} is not in {text}");
    }
}

#[test]
fn the_origin_can_run_alone() {
    if is_oracle() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut command = corvoy();
    command.args(["--origin", "127.0.0.1:0", "--log-path"]).arg(&log);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let address: SocketAddr = wait_for("the origin to listen", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let (_, rest) = log.split_once("built-in origin listening on ")?;
        rest.split_once(',')?.0.parse().ok()
    });
    let proxy = Proxy::with(Config::to_addresses(&[address]));
    let text = proxy.get("/headers").text();
    drop((process.kill(), process.wait()));
    assert!(text.contains("\"X-Request-Id\": \""), "{text}");
}

#[test]
fn the_built_in_origin_answers_like_httpbin() {
    let ours = Httpbin::built_in();
    let Some(theirs) = Httpbin::real() else { return };
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\n";
    let json = "Content-Type: application/json\r\nContent-Length: 24\r\n";
    for (request, body) in [
        ("GET /headers?show_env=1 HTTP/1.1\r\nx-dup: 1\r\nx-DUP: 2\r\nx-Request-Id: 7\r\n", ""),
        ("GET /get?a=1&b=2&a=3&c&d=%20x+y&e=%C3%A9 HTTP/1.1\r\n", ""),
        ("GET /get?show_env HTTP/1.1\r\nX-Forwarded-Proto: https\r\n", ""),
        (&format!("POST /post HTTP/1.1\r\n{form}"), "a=1&b=2&a=3&c"),
        (&format!("PUT /put HTTP/1.1\r\n{json}"), "{\"x\": [1, 2.50, {\"\u{fc}\":0}"),
        (&format!("PATCH /anything/a/b HTTP/1.1\r\n{json}"), "{\"b\":[1,{\"c\":2.5}],\"a\":1}"),
        ("DELETE /delete HTTP/1.1\r\n", ""),
        ("GET /delay/0.1 HTTP/1.1\r\n", ""),
        ("GET /stream/3?x=1 HTTP/1.1\r\n", ""),
        ("GET /ip HTTP/1.1\r\n", ""),
        ("GET /status/418 HTTP/1.1\r\n", ""),
        ("GET /status/500 HTTP/1.1\r\n", ""),
        ("GET /status/nonsense HTTP/1.1\r\n", ""),
        ("GET /nowhere HTTP/1.1\r\n", ""),
        ("GET /post HTTP/1.1\r\n", ""),
    ] {
        let [ours, theirs] = [&ours, &theirs].map(|origin| {
            let mut wire = Wire::connect(origin.address).unwrap();
            wire.send(format!("{request}{CURL}{body}").as_bytes()).unwrap();
            let response = wire.response("GET").unwrap();
            (response.status(), response.header("content-type"), response.text())
        });
        if request.contains("418") {
            assert_eq!(ours.0, theirs.0, "the teapot is theirs");
        } else {
            assert_eq!(ours, theirs, "{request}");
        }
    }
}

fn the_six_steps(origin: &Httpbin) {
    let simple = proxy("simple.yaml", origin);
    let response = curl(&simple, "/headers");
    assert_eq!(response.status(), 200);
    check_headers(origin, &simple, &response, "15000");

    let timeout = proxy("simple_timeout.yaml", origin);
    check_headers(origin, &timeout, &curl(&timeout, "/headers"), "1000");

    let (response, took) = timed(&timeout, "/delay/0.5");
    assert_eq!(response.status(), 200);
    assert!(took >= Duration::from_millis(500), "{took:?}");

    times_out(&timeout, "/delay/2");
    // The timeout and the answer are due at the same time, so a tie is repeated.
    let (mut response, mut took) = timed(&timeout, "/delay/1");
    for _ in 0..5 {
        if response.status() == 504 {
            break;
        }
        assert!(took >= Duration::from_secs(1), "{took:?}: {response}");
        (response, took) = timed(&timeout, "/delay/1");
    }
    assert_eq!(response.status(), 504);

    let retry = proxy("simple_retry.yaml", origin);
    for _ in 0..3 {
        assert_eq!(curl(&retry, "/status/500").status(), 500);
    }
    retry.stat_becomes("cluster.httpbin_service.upstream_rq_total", 12);

    let stats = retry.admin("/stats").text();
    let stats: Vec<&str> = stats.lines().filter(|line| line.contains("retry")).collect();
    let expected = if is_oracle() { &RETRY_STATS[..12] } else { &RETRY_STATS[..] };
    assert_eq!(stats, expected);
}

#[track_caller]
fn times_out(proxy: &Proxy, path: &str) {
    let (response, took) = timed(proxy, path);
    assert_eq!((response.status(), response.text().as_str()), (504, "upstream request timeout"));
    let about_a_second = Duration::from_millis(990)..Duration::from_millis(1900);
    assert!(about_a_second.contains(&took), "{took:?}");
}

/// The headers that the origin reports. httpbin hides those that proxies add unless it is asked to
/// show them; the built-in origin shows all.
fn check_headers(origin: &Httpbin, proxy: &Proxy, response: &Message, timeout_ms: &str) {
    let headers = |response: &Message| -> Value {
        let json: Value = serde_json::from_str(&response.text()).unwrap();
        json["headers"].clone()
    };
    let tutorial = serde_json::json!({
        "Accept": "*/*",
        "Host": "localhost",
        "User-Agent": "curl/8.5.0",
        "X-Envoy-Expected-Rq-Timeout-Ms": timeout_ms,
        "X-Envoy-Original-Host": "localhost:15001",
    });
    let mut all = headers(&curl(proxy, "/headers?show_env=1"));
    let shown = if origin.is_built_in() { &mut headers(response) } else { &mut all };
    let members = shown.as_object_mut().unwrap();
    assert_eq!(members.remove("X-Forwarded-Proto"), Some("http".into()));
    let id = members.remove("X-Request-Id").unwrap_or_default();
    let uuid = regex::Regex::new("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$");
    assert!(uuid.unwrap().is_match(id.as_str().unwrap_or_default()), "{id:?} is no UUID");
    assert_eq!(*shown, tutorial, "with {}", origin.name);
    if !origin.is_built_in() {
        assert_eq!(headers(response), tutorial, "with {}", origin.name);
    }
}

fn timed(proxy: &Proxy, path: &str) -> (Message, Duration) {
    let begun = Instant::now();
    (curl(proxy, path), begun.elapsed())
}

fn curl(proxy: &Proxy, path: &str) -> Message {
    proxy.connect().send(format!("GET {path} HTTP/1.1\r\n{CURL}")).response()
}

/// Starts the proxy with one of the tutorial's files, in front of this origin.
fn proxy(file: &str, origin: &Httpbin) -> Proxy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/walkthrough").join(file);
    let mut yaml = std::fs::read_to_string(path).unwrap();
    for (from, to) in [
        ("{ address: 0.0.0.0, port_value: 15000 }", "{ address: 127.0.0.1, port_value: 0 }"),
        ("{ address: 0.0.0.0, port_value: 15001 }", "{ address: 127.0.0.1, port_value: 0 }"),
        ("address: httpbin\n", "address: localhost\n"),
        ("port_value: 8000\n", &format!("port_value: {}\n", origin.address.port())),
    ] {
        assert_eq!(yaml.matches(from).count(), 1, "{from:?} in {file}");
        yaml = yaml.replace(from, to);
    }
    if is_oracle() {
        // Envoy 1.40 requires the router's type; the tutorial is older.
        let router = "- name: envoy.filters.http.router\n";
        let typed = "- name: envoy.filters.http.router\n            typed_config: { \"@type\": \
            type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }\n";
        yaml = yaml.replace(router, typed);
    }
    Proxy::with(Config::verbatim(yaml))
}

/// A running httpbin. It is killed when the story ends.
struct Httpbin {
    name: &'static str,
    address: SocketAddr,
    process: Option<(Child, TempDir)>,
}

impl Httpbin {
    /// Whether it is the built-in origin.
    const fn is_built_in(&self) -> bool {
        self.process.is_none()
    }

    /// The built-in origin.
    fn built_in() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        origin::serve(listener).unwrap();
        Self { name: "the built-in origin", address, process: None }
    }

    /// The Python package; `None`, with a message, if it is not installed.
    fn real() -> Option<Self> {
        let gunicorn = venv().join("bin/gunicorn");
        if !gunicorn.exists() {
            eprintln!("SKIPPED: no {}: scripts/test installs it", gunicorn.display());
            return None;
        }
        let folder = TempDir::new().unwrap();
        let address = free_address();
        let mut command = Command::new(gunicorn);
        command.args(["--bind", &address.to_string(), "--threads", "8", "httpbin:app"]);
        Some(Self::start("the real httpbin", command, address, folder))
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        folder: TempDir,
    ) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().unwrap();
        let httpbin = Self { name, address, process: Some((process, folder)) };
        wait_until(name, || {
            let Ok(mut wire) = Wire::connect(address) else { return false };
            wire.send(format!("GET /ip HTTP/1.1\r\n{CURL}").as_bytes()).is_ok()
                && wire.response("GET").is_ok_and(|response| response.status() == 200)
        });
        httpbin
    }
}

impl Drop for Httpbin {
    fn drop(&mut self) {
        let Some((process, _)) = &mut self.process else { return };
        // gunicorn's workers exit with it on SIGTERM, but not on SIGKILL.
        drop(Command::new("sh").arg("-c").arg(format!("kill {}", process.id())).status());
        drop(process.wait());
    }
}

fn venv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv")
}
