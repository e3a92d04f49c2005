//! Stories of peers. `Side` is one end of a connection that writes down what happens to it.

mod blocks;
mod floods;
mod pair;
mod splits;
mod streams;
mod violations;
mod windows;

use super::*;
use crate::http::{
    EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::PREFACE;
use crate::http2::error::{Cause, ErrorCode, Flood};
use crate::http2::options::StreamErrors;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

/// The block of a request: `GET http://a/`, then the fields of a test.
const GET: [u8; 6] = [0x82, 0x84, 0x86, 0x41, 1, b'a'];

/// One end of a connection: its events as text, and what it sends.
struct Side {
    connection: Connection<()>,
    /// What it does with bodies.
    reads: Reads,
    /// The method of the requests of a client.
    method: Method,
    now_ms: u64,
    received: Vec<u8>,
    handled: usize,
    events: Vec<String>,
    /// The stream of the last event, if that was DATA without an end, and how much.
    data: Option<(StreamId, usize)>,
    error: Option<ConnectionError>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reads {
    AtOnce,
    Never,
}

const RULES: TrailerRules =
    TrailerRules { bytes_max: 1000, fields_max: 10, underscores: Underscores::Allow, kept: true };

impl Side {
    fn new(mut connection: Connection<()>) -> Self {
        connection.start();
        Self {
            connection,
            reads: Reads::AtOnce,
            method: Method::Get,
            now_ms: 0,
            received: Vec::new(),
            handled: 0,
            events: Vec::new(),
            data: None,
            error: None,
        }
    }

    fn server() -> Self {
        Self::server_with(&Options::default())
    }

    fn server_with(options: &Options) -> Self {
        Self::new(Connection::server(options))
    }

    fn client() -> Self {
        Self::new(Connection::client(&Options::default()))
    }

    /// A server whose client has begun, and has sent `bytes`.
    fn server_after(bytes: &[u8]) -> Self {
        let mut side = Self::server();
        side.receive(&begun());
        side.sent();
        side.events.clear();
        side.receive(bytes);
        side
    }

    /// A client whose server has begun, with a request on stream 1.
    fn client_with_request() -> Self {
        let mut side = Self::client();
        side.receive(&frame(SETTINGS, 0, 0, &[]));
        side.begin_request(EndStream::Yes);
        side.sent();
        side.events.clear();
        side
    }

    fn begin_request(&mut self, end: EndStream) -> StreamId {
        let id = self.connection.open(()).expect("the peer allows another");
        self.connection.send_request(id, &request("/"), end);
        id
    }

    fn respond(&mut self, number: u32, status: u16, end: EndStream) {
        let head = ResponseHead { status, ..ResponseHead::default() };
        self.connection.send_response(StreamId::new(number), &head, end);
    }

    /// What waits to be sent; it is sent.
    fn sent(&mut self) -> Vec<u8> {
        let out = self.connection.out().to_vec();
        self.connection.sent(out.len());
        out
    }

    /// As [`Self::sent`], frame by frame: kind, stream, payload.
    fn sent_frames(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut rest = &*self.sent();
        while let Some((&[a, b, c, kind, _flags, d, e, f, g], more)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            frames.push((kind, u32::from_be_bytes([d, e, f, g]), more[..length].to_vec()));
            rest = &more[length..];
        }
        frames
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.drain(..self.handled);
        self.handled = 0;
        self.received.extend_from_slice(bytes);
        while self.error.is_none() {
            let mut input = Input::new(&self.received, &mut self.handled);
            match self.connection.next(&mut input, self.now_ms) {
                Ok(None) => return,
                Ok(Some(event)) => self.take(event),
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Data { stream, data, end } = event {
            return self.take_data(stream, data.len(), end);
        }
        self.data = None;
        let text = match event {
            Event::Head(block) => match self.connection.role {
                Role::Server => self.take_request(&block),
                Role::Client => self.take_response(&block),
            },
            Event::Trailers(block) => self.take_trailers(&block),
            Event::Reset { stream, code } => Ok(format!("{} reset: {code:?}", stream.number())),
            Event::WindowOpened { stream } => Ok(format!("{} opened", stream.number())),
            other => Ok(format!("{other:?}")),
        };
        match text {
            Ok(text) => self.events.push(text),
            Err(HeadRefused::Stream(flaw)) => self.events.push(format!("refused: {flaw}")),
            Err(HeadRefused::Connection(error)) => self.error = Some(error),
        }
    }

    fn take_request(&mut self, block: &Block) -> Result<String, HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let mut head = RequestHead::default();
        let limits = HeadLimits::default();
        let limits = RequestLimits { head: &limits, underscores: Underscores::Allow };
        let body = self.connection.decode_request(block, &input, &mut head, limits)?;
        self.connection.accept(block, body, ());
        let target = String::from_utf8_lossy(head.target());
        Ok(format!("{} {target} {body:?}", block.stream().number()))
    }

    fn take_response(&mut self, block: &Block) -> Result<String, HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let mut head = ResponseHead::default();
        let limits = HeadLimits::default();
        let body =
            self.connection.decode_response(block, &input, &mut head, self.method, &limits)?;
        Ok(format!("{} {} {body:?}", block.stream().number(), head.status))
    }

    fn take_trailers(&mut self, block: &Block) -> Result<String, HeadRefused> {
        let input = Input::new(&self.received, &mut self.handled);
        let lines = self.connection.decode_trailers(block, &input, &RULES)?;
        Ok(format!("{} trailers {:?}", block.stream().number(), String::from_utf8_lossy(&lines)))
    }

    /// How DATA is split makes no difference.
    fn take_data(&mut self, stream: StreamId, bytes: usize, end: bool) {
        let before = self.data.filter(|(of, _)| *of == stream);
        if before.is_some() {
            self.events.pop();
        }
        let all = bytes + before.map_or(0, |(_, bytes)| bytes);
        self.data = (!end).then_some((stream, all));
        self.events.push(format!("{} data {all} {end}", stream.number()));
        if self.reads == Reads::AtOnce {
            self.connection.consumed(stream, bytes);
        }
    }
}

fn request(path: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_target(path.as_bytes());
    head.set_authority(b"a.test");
    head
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS of a GET.
fn get(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &GET)
}

/// HEADERS of a response with this status code of the static table.
fn response(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &[0x88])
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// What a client begins with.
fn begun() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Both sides say everything that they have to say, in pieces of so many bytes.
fn settle(one: &mut Side, other: &mut Side, piece: usize) {
    for _ in 0..100 {
        let (to_other, to_one) = (one.sent(), other.sent());
        if to_other.is_empty() && to_one.is_empty() {
            return;
        }
        to_other.chunks(piece).for_each(|bytes| other.receive(bytes));
        to_one.chunks(piece).for_each(|bytes| one.receive(bytes));
    }
    panic!("they talk without end");
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection<()>>() <= 900, "{}", size_of::<Connection<()>>());
    assert!(size_of::<Stream<()>>() <= 64, "{}", size_of::<Stream<()>>());
}
