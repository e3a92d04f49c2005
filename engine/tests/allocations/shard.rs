//! A shard in this process, with a client and an origin.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use corvoy_config::{Problems, Source};
use corvoy_engine::address::Address;
use corvoy_engine::compile;
use corvoy_engine::control::sockets;
use corvoy_engine::downstream::listener;
use corvoy_engine::downstream::socket_settings::SocketSettings;
use corvoy_engine::shard::handle::ShardHandles;
use corvoy_engine::shard::mailbox::Mailbox;
use corvoy_engine::shard::{self, Plan, ring};
use corvoy_engine::stats::Registry;
use corvoy_engine::upstream::clusters::Clusters;
use corvoy_engine::upstream::discovery::Discovery;

use crate::counting;
use crate::stream::Stream;
use crate::tls::Tls;

/// A connection to a shard that runs as long as the test.
pub(crate) struct Client {
    stream: Stream,
}

impl Client {
    /// A client of a shard that serves HTTP.
    pub(crate) fn of_a_shard(tls: Option<&Tls>) -> Self {
        Self::of(include_str!("plain.yaml"), tls)
    }

    /// A client of a shard that relays TCP.
    pub(crate) fn of_a_relay() -> Self {
        Self::of(include_str!("tcp.yaml"), None)
    }

    fn of(yaml: &str, tls: Option<&Tls>) -> Self {
        let registry = Registry::new(1);
        let snapshot = compiled(yaml, origin(tls), tls, &registry).snapshot;
        let (mailbox, inbox) = Mailbox::new().unwrap();
        let ring = ring::choose().unwrap().ring;
        let handles = ShardHandles::new(vec![mailbox], u64::MAX);
        let plan = Plan { id: 0, core: None, ring, inbox, epoch: Instant::now(), handles };
        let shard = handles.get(0).unwrap();
        thread::spawn(move || {
            counting::watch_this_thread();
            shard::run(plan).unwrap();
        });
        let installed = Arc::clone(&snapshot);
        shard.send(Box::new(move |shard| installed.install(shard, |_| None)));
        for (cluster, compiled) in snapshot.clusters.iter().enumerate() {
            let Discovery::Static(hosts) = &compiled.discovery else { panic!("not static") };
            let hosts = Arc::clone(hosts);
            shard.send(Box::new(move |shard| {
                Clusters::of(shard).current().get(cluster).unwrap().replace_hosts(hosts);
            }));
        }
        let anywhere = Address::from((Ipv4Addr::LOCALHOST, 0));
        let settings = SocketSettings::default();
        let (address, mut sockets) = sockets::listen(anywhere, &settings, 1, 128).unwrap();
        let Address::Ip(bound) = address else { panic!("not TCP") };
        let socket = sockets.remove(0);
        let listener = Arc::clone(&snapshot.listeners[0]);
        shard.send(Box::new(move |shard| listener::listen(shard, 0, &listener, socket, address)));
        let stream = connect(bound);
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::client(tls.client(), stream),
        };
        Self { stream }
    }

    /// Its connection.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// A small GET and its answer.
    pub(crate) fn get(&mut self) {
        self.stream.write_all(REQUEST).unwrap();
        let answer = until_blank_line_and(&mut self.stream, BODY.len()).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(BODY));
    }
}

fn compiled(
    yaml: &str,
    origin: SocketAddr,
    tls: Option<&Tls>,
    registry: &Registry,
) -> compile::Compiled {
    let yaml = yaml
        .replace("ORIGIN_PORT", &origin.port().to_string())
        .replace("UPSTREAM_TRANSPORT_SOCKET", &tls.map_or(String::new(), Tls::upstream))
        .replace("TRANSPORT_SOCKET", &tls.map_or_else(|| "name: plain".into(), Tls::downstream));
    let mut problems = Problems::default();
    let loaded = corvoy_config::load(&Source::new().merge_yaml("plain.yaml", yaml), &mut problems);
    let bootstrap = loaded.unwrap_or_else(|| panic!("{problems:?}")).bootstrap;
    let compiled = compile::bootstrap(&bootstrap, registry, &mut problems);
    compiled.unwrap_or_else(|| panic!("{problems:?}"))
}

fn origin(tls: Option<&Tls>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls.cloned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut stream = match &tls {
                None => Stream::Plain(stream),
                Some(tls) => Stream::server(tls.origin(), stream),
            };
            thread::spawn(move || {
                while until_blank_line_and(&mut stream, 0).is_some() {
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Reads a head and this many bytes of a body; none if the connection is closed.
fn until_blank_line_and(stream: &mut Stream, body: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let received = match stream.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            received => received.ok().filter(|&received| received > 0)?,
        };
        bytes.extend_from_slice(&chunk[..received]);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|at| bytes.len() >= at + 4 + body) {
            return Some(bytes);
        }
    }
}

const REQUEST: &[u8] = b"GET /some/path?and=query HTTP/1.1\r\nHost: example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\n\
    Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef\r\n\
    Connection: keep-alive\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n\
    Cache-Control: no-store\r\nContent-Length: 13\r\n\r\nHello, World!";
const BODY: &[u8] = b"Hello, World!";
