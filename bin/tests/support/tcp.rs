//! Connections without HTTP, for stories about `tcp_proxy` and network filters.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Config, PATIENCE, Proxy};

/// A configuration that relays everything to `origin`, with these fields of `tcp_proxy` and, in front
/// of it, these network filters; both one per line.
pub(crate) fn tcp_config(origin: SocketAddr, fields: &str, filters: &str) -> String {
    let ends = format!(
        "- name: envoy.filters.network.tcp_proxy\n\
         \x20 typed_config:\n\
         \x20   \"@type\": {NETWORK}.tcp_proxy.v3.TcpProxy\n\
         \x20   stat_prefix: front\n\
         \x20   cluster: service\n{}",
        indented(fields, 4)
    );
    network_config(origin, &[filters, &ends].concat())
}

/// A configuration with these network filters.
pub(crate) fn network_config(origin: SocketAddr, filters: &str) -> String {
    let (ip, port) = (origin.ip(), origin.port());
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: front
    stat_prefix: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
{}  clusters:
  - name: service
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: service
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
",
        indented(filters, 6)
    )
}

/// The beginning of the type of a network filter.
pub(crate) const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";

fn indented(lines: &str, by: usize) -> String {
    lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A proxy with these fields of `tcp_proxy` and these filters in front of it, and the listening socket
/// of its origin.
pub(crate) fn relaying(fields: &str, filters: &str) -> (Proxy, TcpListener) {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = tcp_config(origin.local_addr().unwrap(), fields, filters);
    (Proxy::with(Config::verbatim(config)), origin)
}

/// A client of the proxy.
pub(crate) fn client(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// A client, and its connection at the origin.
pub(crate) fn connected(proxy: &Proxy, origin: &TcpListener) -> (TcpStream, TcpStream) {
    let client = client(proxy);
    let (host, _) = origin.accept().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, host)
}

/// The next bytes, exactly this many.
#[track_caller]
pub(crate) fn take(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    stream.read_exact(&mut taken).unwrap();
    taken
}

/// Everything up to the end.
#[track_caller]
pub(crate) fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the end of the stream");
    all
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The next read finds a reset.
#[track_caller]
pub(crate) fn is_reset(stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 16]);
    assert_eq!(read.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}
