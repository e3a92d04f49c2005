//! Upgraded connections are tunnels after the 101. The heads are tested in `parity/upgrades`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Config, Origin, Proxy, Signal, is_oracle, wait_until};

const REQUEST: &str =
    "GET /chat HTTP/1.1\r\nhost: example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

#[test]
fn bytes_go_both_ways_after_the_switch() {
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    client.send("from the client");
    assert_eq!(take(&mut host, 15), b"from the client");
    host.write_all(b"\0\r\n\r\nfrom the origin").unwrap();
    assert_eq!(client.exactly(20), b"\0\r\n\r\nfrom the origin");
    assert_eq!(proxy.stat("http.front.downstream_cx_upgrades_total"), 1);
    assert_eq!(proxy.stat("http.front.downstream_cx_upgrades_active"), 1);
    client.reset();
    proxy.stat_becomes("http.front.downstream_cx_upgrades_active", 0);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("cluster.service.upstream_rq_active", 0);
}

#[test]
fn bytes_that_the_client_sends_early_wait_for_the_switch() {
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    client.send([REQUEST, "GET /smuggled HTTP/1.1\r\n\r\n"].concat());
    let mut host = origin.accept();
    let head = take_head(&mut host);
    assert!(head.ends_with("\r\n\r\n") && !head.contains("smuggled"), "{head}");
    is_silent(&mut host);
    host.write_all(SWITCH).unwrap();
    assert_eq!(take(&mut host, 26), b"GET /smuggled HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status(), 101);
}

#[test]
fn bytes_that_the_client_sends_early_are_not_a_request_without_a_switch() {
    let origin = Origin::that_replies(403);
    let proxy = Proxy::with(allowing(Config::to(&origin)));
    let mut client = proxy.connect();
    client.send([REQUEST, "GET /smuggled HTTP/1.1\r\nhost: example\r\n\r\n"].concat());
    assert_eq!(client.response().status(), 403);
    assert_eq!(origin.seen().len(), 1);
    client.ends();
}

#[test]
fn bytes_that_the_origin_sends_with_the_switch_are_not_lost() {
    let origin = Origin::that_says([SWITCH, b"hello"].concat());
    let proxy = Proxy::with(allowing(Config::to(&origin)));
    let mut client = proxy.connect();
    client.send(REQUEST);
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.exactly(5), b"hello");
}

#[test]
fn much_goes_both_ways_at_once() {
    const MUCH: usize = 8 << 20;
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    let mut echo = host.try_clone().unwrap();
    let echoing = thread::spawn(move || std::io::copy(&mut host, &mut echo).unwrap());
    let mut sending = client.wire().try_clone().unwrap();
    let block: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
    let sent = block.clone();
    let sender = thread::spawn(move || sending.write_all(&sent).unwrap());
    assert!(client.exactly(MUCH) == block, "bytes were changed, lost or reordered");
    sender.join().unwrap();
    drop(client);
    assert_eq!(echoing.join().unwrap(), MUCH as u64);
}

#[test]
fn a_reader_that_stops_applies_backpressure() {
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let host = origin.upgrade(&mut client, "");
    let mut writer = client.wire().try_clone().unwrap();
    writer.set_nonblocking(true).unwrap();
    let block = vec![0; 1 << 20];
    let mut sent = 0;
    let mut stuck = 0;
    while stuck < 20 {
        assert!(sent < 512 << 20, "nothing holds the client back");
        match writer.write(&block) {
            Ok(count) => (sent, stuck) = (sent + count, 0),
            Err(_) => {
                stuck += 1;
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    drop(host);
}

#[test]
fn each_side_may_stop_sending_while_it_still_reads() {
    // Envoy closes both directions with the first.
    if is_oracle() {
        return;
    }
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    client.send("all").half_close();
    let mut said = Vec::new();
    host.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"all");
    host.write_all(b"and the answer").unwrap();
    drop(host);
    assert_eq!(client.until_close(), b"and the answer");

    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    host.write_all(b"all").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.until_close(), b"all");
    client.send("and the answer").half_close();
    said.clear();
    host.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"and the answer");
    proxy.stat_becomes("http.front.downstream_cx_upgrades_active", 0);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn the_tunnel_closes_when_the_origin_does() {
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    host.write_all(b"bye").unwrap();
    drop(host);
    assert_eq!(client.exactly(3), b"bye");
    client.ends();
    drop(client);
    proxy.stat_becomes("http.front.downstream_cx_active", 0);
}

#[test]
fn the_tunnel_closes_with_the_client_even_if_the_origin_does_not() {
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    client.send("bye");
    drop(client);
    let mut said = Vec::new();
    host.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"bye");
    proxy.stat_becomes("http.front.downstream_cx_upgrades_active", 0);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
    proxy.stat_becomes("http.front.downstream_cx_destroy_remote_active_rq", 1);
}

#[test]
fn a_tunnel_without_its_client_does_not_delay_a_drain() {
    if is_oracle() {
        return; // Envoy exits at once.
    }
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let _host = origin.upgrade(&mut client, "");
    proxy.signal(Signal::Term);
    client.stays_open();
    drop(client);
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn the_routes_timeout_ends_with_the_switch() {
    let (proxy, origin) = tunnelling(|at| Config::to_addresses(at).route("timeout: 0.2s"));
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    thread::sleep(Duration::from_millis(500));
    client.send("still there");
    assert_eq!(take(&mut host, 11), b"still there");
}

#[test]
fn the_routes_timeout_applies_up_to_the_switch() {
    let (proxy, origin) = tunnelling(|at| Config::to_addresses(at).route("timeout: 0.2s"));
    let mut client = proxy.connect();
    client.send(REQUEST);
    let host = origin.accept();
    assert_eq!(client.response().status(), 504);
    client.ends();
    drop(host);
}

#[test]
fn an_idle_tunnel_closes_after_the_idle_timeout() {
    let (proxy, origin) = tunnelling(|at| Config::to_addresses(at).route("idle_timeout: 0.4s"));
    let mut client = proxy.connect();
    let mut host = origin.upgrade(&mut client, "");
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(200));
        client.send("x");
        assert_eq!(take(&mut host, 1), b"x");
    }
    client.ends();
    let mut rest = Vec::new();
    assert!(host.read_to_end(&mut rest).is_err() || rest.is_empty());
    proxy.stat_becomes("http.front.downstream_rq_idle_timeout", 1);
}

#[test]
fn a_body_comes_before_the_switch() {
    // Envoy forwards the body as the first bytes of the tunnel, after the 101.
    if is_oracle() {
        return;
    }
    let (proxy, origin) = tunnelling(Config::to_addresses);
    let mut client = proxy.connect();
    let host = origin.upgrade(&mut client, "content-length: 5\r\n\r\nhello");
    drop(host);
}

/// The package `websockets` is in `.venv` at the root of the repository, otherwise the test prints
/// SKIPPED.
#[test]
fn a_real_client_and_a_real_server_talk_websocket() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = || Command::new(root.join("../.venv/bin/python"));
    let mut asks = python();
    asks.args(["-c", "import websockets.asyncio.client"]).stderr(Stdio::null());
    if !asks.status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: `websockets` is not in .venv");
        return;
    }
    let script = root.join("tests/websocket/talk.py");
    let mut server =
        Killed(python().arg(&script).arg("serve").stdout(Stdio::piped()).spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let server_at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim().parse().unwrap()));
    let config = allowing(Config::to_addresses(&[server_at]));
    let proxy = Proxy::with(config.descriptors(4096));
    let talked =
        python().arg(&script).args(["talk", &proxy.address().port().to_string()]).status().unwrap();
    assert!(talked.success(), "what went wrong is above");
    assert!(proxy.stat("http.front.downstream_cx_upgrades_total") >= 1003);
    proxy.stat_becomes("http.front.downstream_cx_upgrades_active", 0);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A proxy that allows WebSocket, and an origin whose connections are plain sockets.
fn tunnelling(config: impl Fn(&[SocketAddr]) -> Config) -> (Proxy, Sockets) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = Proxy::with(allowing(config(&[listener.local_addr().unwrap()])));
    (proxy, Sockets(listener))
}

fn allowing(config: Config) -> Config {
    config.manager("upgrade_configs: [{ upgrade_type: websocket }]")
}

struct Sockets(TcpListener);

impl Sockets {
    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        stream
    }

    /// Switches the client's connection; `rest` is the rest of the request.
    fn upgrade(&self, client: &mut Client, rest: &str) -> TcpStream {
        let request = REQUEST.strip_suffix("\r\n").unwrap();
        client.send(format!("{request}{}", if rest.is_empty() { "\r\n" } else { rest }));
        let mut host = self.accept();
        take_head(&mut host);
        let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert_eq!(take(&mut host, body.len()), body.as_bytes());
        host.write_all(SWITCH).unwrap();
        assert_eq!(client.response().status(), 101);
        host
    }
}

fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn take_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(take(stream, 1));
    }
    String::from_utf8(head).unwrap()
}

fn is_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "bytes came before the switch");
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
}

impl Client {
    /// The next bytes, this many.
    fn exactly(&mut self, count: usize) -> Vec<u8> {
        self.wire().take(count).unwrap()
    }

    /// The proxy closes or resets the connection without sending anything more.
    fn ends(&mut self) {
        wait_until("the end of the connection", || {
            let ended = self.wire().until_close();
            match ended {
                Ok(bytes) => bytes.is_empty(),
                Err(broken) => broken.bytes().is_empty(),
            }
        });
    }
}

// === CONNECT ===

const CONNECT: &str = "CONNECT example:443 HTTP/1.1\r\nhost: example:443\r\n\r\n";

/// A proxy that terminates tunnels, and a host whose connections are plain sockets.
fn connecting() -> (Proxy, Sockets) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = Config::to_addresses(&[listener.local_addr().unwrap()])
        .route("upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }]");
    let yaml = config.yaml().replace("{ prefix: \"/\" }", "{ connect_matcher: {} }");
    (Proxy::with(Config::verbatim(yaml)), Sockets(listener))
}

#[test]
fn a_host_gets_the_content_of_the_tunnel_and_nothing_else() {
    let (proxy, host) = connecting();
    let mut client = proxy.connect();
    client.send([CONNECT, "hello"].concat());
    let mut host = host.accept();
    assert_eq!(take(&mut host, 5), b"hello");
    assert_eq!(client.response_to("HEAD").status(), 200);
    host.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(client.exactly(3), b"\x16\x03\x01");
    assert_eq!(proxy.stat("http.front.downstream_cx_upgrades_active"), 1);
    client.reset();
    proxy.stat_becomes("http.front.downstream_cx_upgrades_active", 0);
    proxy.stat_becomes("cluster.service.upstream_cx_active", 0);
}

#[test]
fn each_side_of_a_connect_may_stop_sending_while_it_still_reads() {
    // Envoy closes both directions with the first.
    if is_oracle() {
        return;
    }
    let (proxy, host) = connecting();
    let mut client = proxy.connect();
    client.send([CONNECT, "all"].concat()).half_close();
    let mut host = host.accept();
    let mut said = Vec::new();
    host.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"all");
    host.write_all(b"and the answer").unwrap();
    drop(host);
    assert_eq!(client.response_to("HEAD").status(), 200);
    assert_eq!(client.until_close(), b"and the answer");
}

#[test]
fn every_tunnel_has_its_own_connection() {
    let (proxy, host) = connecting();
    for _ in 0..2 {
        let mut client = proxy.connect();
        client.send(CONNECT);
        assert_eq!(client.response_to("HEAD").status(), 200);
        drop(host.accept());
        assert_eq!(client.until_close(), b"");
    }
}
