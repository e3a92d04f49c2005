//! Drains while new connections arrive: connected clients get their answers, and no one is reset.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Broken, Config, Message, Origin, Proxy, Signal, Wire, free_address, is_oracle,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: example\r\n\r\n";

/// The number of drains; `CORVOY_DRAINS` sets more.
fn drains() -> usize {
    std::env::var("CORVOY_DRAINS").map_or(20, |drains| drains.parse().unwrap())
}

/// Connects again and again, with one request each, until the connection is refused.
///
/// # Panics
/// If a connection that was accepted is not answered.
fn churn_until_refused(address: SocketAddr) -> usize {
    for answered in 0.. {
        match ask_once(address) {
            Ok(Ok(response)) => assert_eq!(response.text(), "ok"),
            Ok(Err(broken)) => panic!("request {answered} was lost: {broken:?}"),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return answered,
            Err(error) => panic!("neither connected nor refused: {error}"),
        }
    }
    unreachable!("the range has no end")
}

/// Stops the clients, also when the story fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A request on a new connection.
fn ask_once(address: SocketAddr) -> io::Result<Result<Message, Broken>> {
    let mut wire = Wire::connect(address)?;
    let sent = wire.send(GET).map_err(|_| Broken::Reset(Vec::new()));
    Ok(sent.and_then(|()| wire.response("GET")))
}

#[test]
fn no_connection_is_lost_in_a_drain_with_new_connections() {
    if is_oracle() {
        return; // Envoy exits at once and takes its connections along.
    }
    let drains = drains();
    let origin = Origin::that_answers();
    let drain = || {
        let proxy = Proxy::with(Config::to(&origin).shards(2));
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..6).map(|_| scope.spawn(|| churn_until_refused(proxy.address()))).collect();
            proxy.stat_becomes_at_least("http.front.downstream_cx_total", 100);
            proxy.signal(Signal::Term);
            let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
            assert!(answered >= 100, "the churn ended early: {answered} answers");
        });
        assert_eq!(proxy.exit().code(), Some(0));
    };
    // Most of a drain is waiting.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..drains.div_ceil(4)).for_each(|_| drain()));
        }
    });
}

#[test]
fn no_connection_is_lost_or_refused_when_a_new_process_takes_over() {
    if is_oracle() {
        return; // Envoy exits at once and takes its connections along.
    }
    let origin = Origin::that_answers();
    let address = free_address();
    let port = address.port();
    let yaml = Config::to(&origin).yaml();
    let (head, listener) = yaml.split_once("- name: front").unwrap();
    let listener = listener.replacen("port_value: 0", &format!("port_value: {port}"), 1);
    let yaml = format!("{head}- name: front{listener}");
    let start = || Proxy::with(Config::verbatim(&yaml).shards(2).flags(&["--disable-hot-restart"]));
    let over = AtomicBool::new(false);
    let mut serving = start();
    thread::scope(|scope| {
        let client = || {
            let mut waits = Vec::new();
            while !over.load(Relaxed) {
                let begun = Instant::now();
                assert_eq!(ask_once(address).unwrap().unwrap().text(), "ok");
                waits.push(begun.elapsed());
            }
            waits
        };
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(client)).collect();
        let end = SetWhenDropped(&over);
        for _ in 0..drains().div_ceil(5) {
            let successor = start();
            serving.signal(Signal::Term);
            assert_eq!(serving.exit().code(), Some(0));
            serving = successor;
        }
        drop(end);
        let waits: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let late = waits.iter().filter(|wait| **wait > Duration::from_millis(900)).count();
        println!("{} answered, {late} of them after a second SYN", waits.len());
    });
}
