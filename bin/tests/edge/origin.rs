//! An origin that keeps every byte it gets and answers only what a strict reader takes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::reader::{End, Mercy, Request, requests};

/// The origin, on a port of its own.
#[derive(Debug)]
pub(super) struct Capture {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// What came.
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
    /// The places of its requests among all.
    pub(super) requests: Vec<usize>,
    /// Why the reader gave up on it.
    pub(super) wrong: Option<&'static str>,
}

impl Capture {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let of_thread = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&of_thread);
                thread::spawn(move || converse(stream.unwrap(), &seen));
            }
        });
        Self { address, seen }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests from this one on.
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

fn converse(mut socket: TcpStream, seen: &Mutex<Seen>) {
    let place = {
        let mut seen = seen.lock().unwrap();
        seen.streams.push(Stream::default());
        seen.streams.len() - 1
    };
    // Where the first request that was not answered begins.
    let mut answered = 0;
    let mut open = false;
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        let mut answers = Vec::new();
        {
            let mut seen = seen.lock().unwrap();
            let Seen { requests: all, streams } = &mut *seen;
            let stream = &mut streams[place];
            stream.bytes.extend_from_slice(&buffer[..count]);
            let (new, end) = requests(&stream.bytes[answered..], Mercy::None);
            let base = answered;
            for request in new {
                if !open {
                    stream.requests.push(all.len());
                    all.push(Request::default());
                }
                let number = *stream.requests.last().unwrap();
                open = request.end.is_none();
                if let Some(end) = request.end {
                    answers.extend(answer(number, &request));
                    answered = base + end;
                }
                all[number] = request;
            }
            if let End::Wrong(why) = end {
                stream.wrong = Some(why);
                return;
            }
        }
        if socket.write_all(&answers).is_err() {
            return;
        }
    }
}

/// `x-number` tells which request is answered. A body is echoed; some methods have answers of
/// their own, as the probes ask for.
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
