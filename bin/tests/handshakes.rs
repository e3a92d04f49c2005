//! TLS handshakes that are slow, never end, or come in large numbers, and what a handshake leaves in a
//! `key_log`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use tempfile::TempDir;

use crate::support::{Client, Config, Origin, PATIENCE, Proxy, Tls, is_oracle};

fn raw(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A hop in front of the proxy that sends what a client sends byte by byte.
fn byte_by_byte(proxy: &Proxy) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = proxy.address();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(proxy).unwrap();
        server.set_nodelay(true).unwrap();
        let (mut answers, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            drop(std::io::copy(&mut answers, &mut to_client));
            drop(to_client.shutdown(Shutdown::Write));
        });
        let mut byte = [0];
        while client.read(&mut byte).is_ok_and(|count| count == 1) {
            if server.write_all(&byte).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let slow = byte_by_byte(&proxy);
    assert_eq!(Client::connect_tls(slow, &tls).get("/").status(), 200);
}

/// How many handshakes are open at the same time.
const HANDSHAKES: usize = 10_000;

/// What each of them may cost, in KiB.
const HANDSHAKE_KIB_MAX: u64 = 8;

/// The hard limit of descriptors: nobody but root can raise it.
pub(crate) fn descriptors_max() -> u32 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One in four each: nothing was sent, the header of a record, half a ClientHello, and all of it, so that
/// the server waits for the client's answer to its own messages.
#[test]
fn thousands_of_unfinished_handshakes_take_little_memory_and_harm_nobody() {
    if is_oracle() {
        return;
    }
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    // Half of the proxy's descriptors are for clients. Ours are the same number.
    let descriptors = descriptors_max().min(40_000);
    let count = HANDSHAKES.min(usize::try_from(descriptors).unwrap() / 2 - 200);
    assert!(count >= 1_500, "a hard limit of {descriptors} file descriptors is too low");
    println!("{count} handshakes with {descriptors} file descriptors");
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).descriptors(descriptors));
    let mut patient = proxy.connect_tls(&tls);
    assert_eq!(patient.get("/").status(), 200);
    let before = proxy.memory_kib();
    let hello = tls.client_hello();
    let streams: Vec<TcpStream> = (0..count)
        .map(|i| {
            let mut stream = raw(&proxy);
            let sent = [0, 5, hello.len() / 2, hello.len()][i % 4];
            stream.write_all(&hello[..sent]).unwrap();
            if sent == hello.len() {
                stream.read_exact(&mut [0; 90]).unwrap();
            }
            if i % 1_000 == 0 {
                assert_eq!(patient.get("/").status(), 200, "with {i} handshakes");
            }
            stream
        })
        .collect();
    let open = u64::try_from(count).unwrap();
    proxy.stat_becomes("http.front.downstream_cx_ssl_active", open + 1);
    let grown = proxy.memory_kib().saturating_sub(before);
    println!("{} bytes for each", grown * 1024 / open);
    assert!(grown < HANDSHAKE_KIB_MAX * open, "{grown} KiB for {open} handshakes");
    assert_eq!(patient.get("/").status(), 200, "an old connection is served");
    assert_eq!(proxy.connect_tls(&tls).get("/").status(), 200, "a new connection is served");
    drop(streams);
    proxy.stat_becomes("http.front.downstream_cx_ssl_active", 1);
}

/// As Envoy, whose key log goes by the addresses that listener filters have found out.
#[test]
fn a_key_log_may_be_for_announced_addresses_only() {
    let (tls, origin) = (Tls::new(), Origin::that_answers());
    let folder = TempDir::new().unwrap();
    for (range, announced, is_logged) in [
        ("remote_address_range: [{ address_prefix: 192.0.2.0, prefix_len: 24 }]", true, true),
        ("remote_address_range: [{ address_prefix: 192.0.2.0, prefix_len: 24 }]", false, false),
        ("remote_address_range: [{ address_prefix: 127.0.0.1, prefix_len: 32 }]", true, false),
        ("remote_address_range: [{ address_prefix: 127.0.0.1, prefix_len: 32 }]", false, true),
        ("local_address_range: [{ address_prefix: 198.51.100.1, prefix_len: 32 }]", true, true),
        ("local_address_range: [{ address_prefix: 127.0.0.0, prefix_len: 8 }]", true, false),
    ] {
        let keys = folder.path().join("keys");
        let log = format!(
            "common_tls_context: {{ key_log: {{ path: \"{}\", {range} }}, ",
            keys.display()
        );
        let yaml = Config::to(&origin).tls(&tls).yaml();
        let filter = "listener_filters: [{ name: proxy, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, allow_requests_without_proxy_protocol: true } }]";
        let yaml = yaml
            .replace("common_tls_context: { ", &log)
            .replace("- name: front\n", &format!("- name: front\n    {filter}\n"));
        let proxy = Proxy::with(Config::verbatim(yaml));
        let mut stream = raw(&proxy);
        if announced {
            stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n").unwrap();
        }
        assert_eq!(Client::over_tls(stream, &tls).get("/").status(), 200);
        let written = fs::read_to_string(&keys).unwrap();
        assert_eq!(written.contains("SECRET"), is_logged, "{range}, announced: {announced}");
        fs::remove_file(keys).unwrap();
    }
}
