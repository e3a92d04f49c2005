//! An origin that records every byte and answers only what a strict reader accepts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

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
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    /// The indices of its requests among all requests.
    pub(super) requests: Vec<usize>,
    /// Why the reader stopped.
    pub(super) wrong: Option<&'static str>,
}

impl Capture {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let of_thread = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&of_thread);
                thread::spawn(move || converse(stream.unwrap(), behaviour, &seen));
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
        self.seen.lock().unwrap().streams.clone()
    }
}

fn converse(mut socket: TcpStream, behaviour: Behaviour, seen: &Mutex<Seen>) {
    let place = {
        let mut seen = seen.lock().unwrap();
        seen.streams.push(Stream::default());
        seen.streams.len() - 1
    };
    // The start of the first incomplete request.
    let mut done = 0;
    let mut open = false;
    let mut over = false;
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        let mut answers = Vec::new();
        {
            let mut seen = seen.lock().unwrap();
            let Seen { requests: all, streams } = &mut *seen;
            let stream = &mut streams[place];
            stream.bytes.extend_from_slice(&buffer[..count]);
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
