//! An origin that records every byte and answers only what a strict reader accepts.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::SockRef;

use crate::support::{Session, Tls, wait_until};

use super::reader::{End, Leniency, Request, requests};

/// The origin.
#[derive(Debug)]
pub(super) struct Capture {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// When it answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behaviour {
    /// After the complete request.
    Patient,
    /// After the head, whatever follows.
    Hasty,
    /// After the head or the complete request, correctly or not, depending on the bytes of the
    /// request. Only the victim is always answered correctly.
    Unpredictable,
}

/// What was received.
#[derive(Debug, Default)]
struct Seen {
    /// In the order of their heads, over all connections.
    requests: Vec<Request>,
    streams: Vec<Stream>,
    /// By stream; `None` once the origin reads no more.
    sockets: Vec<Option<TcpStream>>,
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    peer: Option<SocketAddr>,
    pub(super) bytes: Vec<u8>,
    /// The indices of its requests among all requests.
    pub(super) requests: Vec<usize>,
    /// Why the reader stopped.
    pub(super) wrong: Option<&'static str>,
}

impl Capture {
    /// With `tls`, it speaks TLS.
    pub(super) fn new(behaviour: Behaviour, tls: Option<&Tls>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let of_thread = Arc::clone(&seen);
        let tls = tls.cloned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.unwrap(), Arc::clone(&of_thread));
                let place = seen.lock().unwrap().add(&stream);
                let session = tls.as_ref().map(Tls::server);
                thread::spawn(move || converse(stream, session, behaviour, &seen, place));
            }
        });
        Self { address, seen }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests from this index on.
    pub(super) fn since(&self, first: usize) -> Vec<Request> {
        self.seen.lock().unwrap().requests[first..].to_vec()
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    pub(super) fn streams(&self) -> Vec<Stream> {
        let mut streams = self.seen.lock().unwrap().streams.clone();
        streams.retain(|stream| !stream.bytes.is_empty());
        streams
    }

    /// Waits until everything that has arrived is recorded. Otherwise the beginning of a request
    /// whose connection was closed could be recorded after a later request of another connection.
    pub(super) fn catch_up(&self) {
        // Connections are accepted in order.
        let last = TcpStream::connect(self.address).unwrap();
        let last = last.local_addr().unwrap();
        wait_until("the origin to record what has arrived", || {
            let seen = self.seen.lock().unwrap();
            seen.streams.iter().any(|stream| stream.peer == Some(last))
                && !seen.sockets.iter().flatten().any(has_unread)
        });
    }
}

impl Seen {
    fn add(&mut self, socket: &TcpStream) -> usize {
        self.streams.push(Stream { peer: socket.peer_addr().ok(), ..Stream::default() });
        self.sockets.push(socket.try_clone().ok());
        self.streams.len() - 1
    }
}

/// Whether bytes have arrived that were not read. The reader reads and records under the lock.
fn has_unread(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    SockRef::from(socket).recv_with_flags(&mut byte, flags).is_ok_and(|count| count > 0)
}

fn converse(
    mut socket: TcpStream,
    session: Option<Session>,
    behaviour: Behaviour,
    seen: &Mutex<Seen>,
    place: usize,
) {
    answer_all(&mut socket, session, behaviour, seen, place);
    seen.lock().unwrap().sockets[place] = None;
}

fn answer_all(
    socket: &mut TcpStream,
    mut session: Option<Session>,
    behaviour: Behaviour,
    seen: &Mutex<Seen>,
    place: usize,
) {
    // The start of the first incomplete request.
    let mut done = 0;
    let mut open = false;
    let mut over = false;
    let mut buffer = vec![0; 256 << 10];
    while let Ok(1..) = socket.peek(&mut buffer[..1]) {
        let mut answers = Vec::new();
        {
            let mut seen = seen.lock().unwrap();
            let Ok(count) = socket.read(&mut buffer) else { return };
            let Seen { requests: all, streams, .. } = &mut *seen;
            let stream = &mut streams[place];
            match &mut session {
                None => stream.bytes.extend_from_slice(&buffer[..count]),
                Some(session) => {
                    let Ok(plaintext) = session.open(&buffer[..count]) else { return };
                    stream.bytes.extend(plaintext);
                }
            }
            let (new, end) = requests(&stream.bytes[done..], Leniency::None);
            let base = done;
            for request in new {
                let is_new = !open;
                if is_new {
                    stream.requests.push(all.len());
                    all.push(Request::default());
                }
                let number = *stream.requests.last().unwrap();
                open = request.end.is_none();
                let whim = if request.target == "/victim" { 0 } else { whim(&request) };
                let is_due = match behaviour {
                    Behaviour::Hasty => is_new,
                    Behaviour::Unpredictable if whim % 2 == 1 => is_new,
                    Behaviour::Patient | Behaviour::Unpredictable => !open,
                };
                if is_due {
                    answers.extend(answer(number, &request));
                    if behaviour == Behaviour::Unpredictable {
                        over |= spoil(&mut answers, whim / 2);
                    }
                }
                if let Some(end) = request.end {
                    done = base + end;
                }
                all[number] = request;
            }
            if let End::Wrong(why) = end {
                stream.wrong = Some(why);
                return;
            }
        }
        if let Some(session) = &mut session {
            let Ok(records) = session.seal(&answers) else { return };
            answers = records;
        }
        if socket.write_all(&answers).is_err() || over {
            return;
        }
    }
}

/// A number derived from the request.
fn whim(request: &Request) -> usize {
    let bytes = request.target.bytes().chain(request.method.bytes());
    bytes.fold(request.fields.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(byte))
}

/// Corrupts the response; returns whether the connection is to be closed.
fn spoil(answers: &mut Vec<u8>, whim: usize) -> bool {
    match whim % 8 {
        0 | 1 => return false,
        2 => answers.extend(b"HTTP/1.1 200 OK\r\nx-number: 0\r\ncontent-length: 4\r\n\r\nevil"),
        3 => answers.truncate(answers.len() - 1),
        4 => answers.truncate(20),
        5 => answers.splice(..0, b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2)).for_each(drop),
        6 => answers.clear(),
        _ => answers.splice(9..12, *b"0x1").for_each(drop),
    }
    whim.is_multiple_of(3) || matches!(whim % 8, 3 | 4 | 6)
}

/// `x-number` identifies the request. A body is echoed; some methods have special responses, for
/// the probes.
fn answer(number: usize, request: &Request) -> Vec<u8> {
    let (status, extra) = match request.method.as_str() {
        "OPTIONS" => ("204 No Content", "allow: GET, HEAD, POST, OPTIONS\r\n".to_owned()),
        "DELETE" => {
            ("405 Method Not Allowed", "allow: GET, POST\r\ncontent-length: 0\r\n".to_owned())
        }
        _ => {
            let length = if request.body.is_empty() { 2 } else { request.body.len() };
            ("200 OK", format!("content-type: text/plain\r\ncontent-length: {length}\r\n"))
        }
    };
    let mut answer = format!("HTTP/1.1 {status}\r\nx-number: {number}\r\n{extra}\r\n").into_bytes();
    match request.method.as_str() {
        "HEAD" | "OPTIONS" | "DELETE" => {}
        _ if request.body.is_empty() => answer.extend(b"ok"),
        _ => answer.extend(&request.body),
    }
    answer
}
