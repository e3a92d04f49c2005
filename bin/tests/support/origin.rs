//! Origins, named by their misbehaviour.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wire::{Message, Wire};
use super::{Handshake, Tls, wait_for, wait_until};

/// What an origin does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Writes these bytes and waits for the next request.
    Reply(Vec<u8>),
    /// Writes these bytes and closes.
    ReplyThenClose(Vec<u8>),
    /// Writes these bytes and does nothing more until the proxy closes.
    ReplyThenStall(Vec<u8>),
    /// Writes these bytes and closes; over TLS without `close_notify`.
    ReplyThenCut(Vec<u8>),
    /// Writes these bytes and resets the connection.
    ReplyThenReset(Vec<u8>),
    /// Writes these bytes once the story calls `Origin::go_on`.
    ReplyWhenTold(Vec<u8>),
    /// Writes these bytes after a delay.
    ReplyLate(Duration, Vec<u8>),
    /// Writes the first bytes, and the second after a delay.
    ReplyInTwo(Duration, Vec<u8>, Vec<u8>),
    /// Writes the first bytes, and the second one by one with a pause before each.
    ReplyHaltingly(Vec<u8>, Duration, Vec<u8>),
    /// Writes these bytes, and then what it receives, until the proxy closes.
    ReplyThenEcho(Vec<u8>),
    /// Writes these bytes, closes its side, and reads slowly up to the end; what it saw last has the number
    /// of bytes in its first line.
    ReplyThenHearSlowly(Vec<u8>),
    /// Writes these bytes one by one.
    ReplyByteByByte(Vec<u8>),
    /// Writes these bytes as soon as it has the head, and reads nothing more.
    ReplyAtOnce(Vec<u8>),
    /// Echoes the request, as received, in the body.
    Echo,
    /// Writes a head and then this many bytes of body.
    ReplyWith(u64),
    /// Reads and discards the body, and answers with its length.
    Swallow,
    /// Reads and discards the body, and never answers.
    SwallowThenStall,
    /// Answers with chunks of one byte, until the proxy closes.
    ReplyInTinyChunks,
}

/// An HTTP/1 server that follows a script: one act per request, the last one repeated.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A port that refuses connections, reserved so that no one else gets it.
#[derive(Debug)]
pub(crate) struct Refusing {
    socket: Socket,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Message>>,
    connections: Mutex<usize>,
    handshakes: Mutex<Vec<Handshake>>,
    released: Mutex<usize>,
}

/// A plain 200 with this body.
fn ok(body: &str) -> Vec<u8> {
    reply(200, body)
}

fn reply(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Said So\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

impl Origin {
    /// Follows the acts, one per request; the last is repeated.
    pub(crate) fn that_does(acts: impl IntoIterator<Item = Act>) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), None, acts)
    }

    /// The same over TLS.
    pub(crate) fn over_tls(tls: &Tls, acts: impl IntoIterator<Item = Act>) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), Some(tls), acts)
    }

    fn on(listener: TcpListener, tls: Option<&Tls>, acts: impl IntoIterator<Item = Act>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.script.lock().unwrap().extend(acts);
        let of_thread = Arc::clone(&shared);
        let tls = tls.cloned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&of_thread);
                *shared.connections.lock().unwrap() += 1;
                let stream = stream.unwrap();
                let wire = match &tls {
                    None => Wire::new(stream),
                    Some(tls) => Wire::over_tls(stream, tls.server()),
                };
                thread::spawn(move || shared.converse(wire));
            }
        });
        Self { address, shared }
    }

    /// Answers `ok` to everything.
    pub(crate) fn that_answers() -> Self {
        Self::that_says(ok("ok"))
    }

    /// Answers with this status and an empty body.
    pub(crate) fn that_replies(status: u16) -> Self {
        Self::that_says(reply(status, ""))
    }

    /// Answers with these statuses in turn; the last is repeated.
    pub(crate) fn that_replies_in_turn(statuses: &[u16]) -> Self {
        Self::that_does(statuses.iter().map(|status| Act::Reply(reply(*status, ""))))
    }

    /// Answers with these bytes.
    pub(crate) fn that_says(bytes: impl Into<Vec<u8>>) -> Self {
        Self::that_does([Act::Reply(bytes.into())])
    }

    /// Echoes the request.
    pub(crate) fn that_echoes() -> Self {
        Self::that_does([Act::Echo])
    }

    /// Reads the request and never answers.
    pub(crate) fn that_stalls() -> Self {
        Self::that_does([Act::ReplyThenStall(Vec::new())])
    }

    /// Announces ten bytes and stalls after the head.
    pub(crate) fn that_stalls_after_headers() -> Self {
        Self::that_does([Act::ReplyThenStall(
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".into(),
        )])
    }

    /// Reads the request and closes.
    pub(crate) fn that_closes_before_answering() -> Self {
        Self::that_does([Act::ReplyThenClose(Vec::new())])
    }

    /// Reads the request and resets the connection.
    pub(crate) fn that_resets() -> Self {
        Self::that_does([Act::ReplyThenReset(Vec::new())])
    }

    /// Announces ten bytes, sends five and closes.
    pub(crate) fn that_closes_within_the_body() -> Self {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec();
        Self::that_does([Act::ReplyThenClose(half)])
    }

    /// Sends a body that ends with the connection.
    pub(crate) fn that_answers_until_close(body: &str) -> Self {
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        Self::that_does([Act::ReplyThenClose(answer.into())])
    }

    /// Sends a chunk with an invalid size.
    pub(crate) fn that_sends_a_bad_chunk() -> Self {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n";
        Self::that_does([Act::ReplyThenStall(answer.into())])
    }

    /// Answers `ok` after this long.
    pub(crate) fn that_answers_late(delay: Duration) -> Self {
        Self::that_does([Act::ReplyLate(delay, ok("ok"))])
    }

    /// Answers `ok` when the story calls `go_on`.
    pub(crate) fn that_waits_to_go_on() -> Self {
        Self::that_does([Act::ReplyWhenTold(ok("ok"))])
    }

    /// Releases one answer, now or when it is due.
    pub(crate) fn go_on(&self) {
        *self.shared.released.lock().unwrap() += 1;
    }

    /// Answers with a body of this many bytes.
    pub(crate) fn that_sends(bytes: u64) -> Self {
        Self::that_does([Act::ReplyWith(bytes)])
    }

    /// Answers with the length of the request body.
    pub(crate) fn that_swallows() -> Self {
        Self::that_does([Act::Swallow])
    }

    /// Reads and discards the body, and never answers.
    pub(crate) fn that_swallows_and_stalls() -> Self {
        Self::that_does([Act::SwallowThenStall])
    }

    /// Answers this many requests with endless tiny chunks, and the others with `ok`.
    pub(crate) fn that_sends_tiny_chunks(requests: usize) -> Self {
        let acts = std::iter::repeat_n(Act::ReplyInTinyChunks, requests);
        Self::that_does(acts.chain([Act::Reply(ok("ok"))]))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests read so far.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request.
    #[track_caller]
    pub(crate) fn saw(&self) -> Message {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "the origin saw {} requests", seen.len());
        seen.into_iter().next().unwrap()
    }

    /// Waits until this many requests were read.
    #[track_caller]
    pub(crate) fn has_seen(&self, count: usize) {
        wait_until(&format!("{count} requests at the origin"), || self.seen().len() >= count);
    }

    /// What the proxy offered in the handshake of each request's connection, in the order of the requests.
    pub(crate) fn handshakes(&self) -> Vec<Handshake> {
        self.shared.handshakes.lock().unwrap().clone()
    }

    /// The server name of each request's connection.
    pub(crate) fn server_names(&self) -> Vec<String> {
        let names = self.handshakes().into_iter().map(|it| it.server_name);
        names.map(|name| name.unwrap_or_else(|| "none".to_owned())).collect()
    }

    /// The number of connections accepted.
    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Bound but not listening: connections are refused, and the port is taken.
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { socket }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// From now on, accepts connections and answers `ok` to everything.
    pub(crate) fn comes_up(self) -> Origin {
        self.socket.listen(128).unwrap();
        Origin::on(self.socket.into(), None, [Act::Reply(ok("ok"))])
    }
}

impl Shared {
    /// Answers requests until the proxy closes, or an act closes.
    fn converse(&self, mut wire: Wire) {
        while let Ok(Some(head)) = wire.request_head() {
            if let Some(handshake) = wire.handshake() {
                self.handshakes.lock().unwrap().push(handshake);
            }
            let act = self.next_act();
            if let Act::Swallow = act {
                let length = head.header("content-length").unwrap_or_default();
                self.seen.lock().unwrap().push(head);
                let Ok(()) = wire.skip(length.parse().unwrap()) else { return };
                drop(wire.send(&ok(&length)));
                continue;
            }
            if let Act::SwallowThenStall = act {
                let length = head.header("content-length").unwrap_or_default();
                let Ok(()) = wire.skip(length.parse().unwrap()) else { return };
                return wire.waits_for_reset();
            }
            if let Act::ReplyAtOnce(bytes) = act {
                self.seen.lock().unwrap().push(head);
                drop(wire.send(&bytes));
                return wire.waits_for_reset();
            }
            let Ok(request) = wire.body(head) else { return };
            // Recorded before the answer, so a client that has its answer finds the request here.
            self.seen.lock().unwrap().push(request.clone());
            match act {
                Act::Reply(bytes) => drop(wire.send(&bytes)),
                Act::Swallow | Act::SwallowThenStall | Act::ReplyAtOnce(_) => {}
                Act::ReplyInTinyChunks => {
                    drop(wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
                    let chunks = b"1\r\nx\r\n".repeat(10_000);
                    while wire.send(&chunks).is_ok() {}
                    return;
                }
                Act::ReplyByteByByte(bytes) => {
                    bytes.iter().for_each(|byte| drop(wire.send(&[*byte])));
                }
                Act::ReplyWhenTold(bytes) => {
                    wait_for("go_on", || self.may_go_on());
                    drop(wire.send(&bytes));
                }
                Act::ReplyLate(delay, bytes) => {
                    thread::sleep(delay);
                    drop(wire.send(&bytes));
                }
                Act::ReplyInTwo(delay, first, second) => {
                    drop(wire.send(&first));
                    thread::sleep(delay);
                    drop(wire.send(&second));
                }
                Act::ReplyHaltingly(first, pause, second) => {
                    drop(wire.send(&first));
                    for byte in second {
                        thread::sleep(pause);
                        drop(wire.send(&[byte]));
                    }
                }
                Act::Echo => drop(wire.send(&ok(&request.to_string()))),
                Act::ReplyWith(count) => send_body(&mut wire, count),
                Act::ReplyThenHearSlowly(bytes) => {
                    drop(wire.send(&bytes));
                    return self.hear_slowly(wire);
                }
                last => return last_words(wire, last),
            }
        }
    }

    fn hear_slowly(&self, mut wire: Wire) {
        drop(wire.half_close());
        let mut count = 0;
        while wire.skip(64 << 10).is_ok() {
            count += 64 << 10;
            thread::sleep(Duration::from_millis(1));
        }
        let start_line = count.to_string();
        self.seen.lock().unwrap().push(Message { start_line, ..Message::default() });
    }

    fn may_go_on(&self) -> Option<()> {
        let mut released = self.released.lock().unwrap();
        *released = released.checked_sub(1)?;
        Some(())
    }

    fn next_act(&self) -> Act {
        let mut script = self.script.lock().unwrap();
        let act = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        act.expect("an origin has at least one act")
    }
}

/// What an origin does before it is done with a connection.
fn last_words(mut wire: Wire, act: Act) {
    match act {
        Act::ReplyThenEcho(bytes) => {
            drop(wire.send(&bytes));
            while let Ok(byte) = wire.take(1) {
                drop(wire.send(&byte));
            }
        }
        Act::ReplyThenCut(bytes) => {
            drop(wire.send(&bytes));
            wire.cut();
        }
        Act::ReplyThenReset(bytes) => {
            drop(wire.send(&bytes));
            wire.reset();
        }
        Act::ReplyThenStall(bytes) => {
            drop(wire.send(&bytes));
            wire.set_read_timeout(None).unwrap();
            drop(wire.until_close());
        }
        Act::ReplyThenClose(bytes) => drop(wire.send(&bytes)),
        act => panic!("the origin goes on after {act:?}"),
    }
}

fn send_body(wire: &mut Wire, count: u64) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {count}\r\n\r\n");
    let block = vec![b'x'; 256 << 10];
    let mut left = count;
    let mut sent = wire.send(head.as_bytes());
    while left > 0 && sent.is_ok() {
        let size = left.min(block.len() as u64);
        sent = wire.send(&block[..usize::try_from(size).unwrap()]);
        left -= size;
    }
}
