use super::*;
use crate::http::{
    EndStream, HeadLimits, Method, RequestHead, ResponseHead, TrailerRules, Underscores,
};
use crate::http2::PREFACE;
use crate::http2::error::{Cause, Flood};

/// A peer in a test: its events as text, and what it sends.
struct Side {
    connection: Connection<()>,
    received: Vec<u8>,
    handled: usize,
    events: Vec<String>,
    error: Option<ConnectionError>,
}

const RULES: TrailerRules =
    TrailerRules { bytes_max: 1000, fields_max: 10, underscores: Underscores::Allow, kept: true };

impl Side {
    fn new(connection: Connection<()>) -> Self {
        Self { connection, received: Vec::new(), handled: 0, events: Vec::new(), error: None }
    }

    fn server() -> Self {
        Self::server_with(&Options::default())
    }

    fn server_with(options: &Options) -> Self {
        let mut side = Self::new(Connection::server(options));
        side.connection.start();
        side
    }

    fn client() -> Self {
        let mut side = Self::new(Connection::client(&Options::default()));
        side.connection.start();
        side
    }

    fn sent(&mut self) -> Vec<u8> {
        let out = self.connection.out().to_vec();
        self.connection.sent(out.len());
        out
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.drain(..self.handled);
        self.handled = 0;
        self.received.extend_from_slice(bytes);
        while self.error.is_none() {
            let mut input = Input::new(&self.received, &mut self.handled);
            match self.connection.next(&mut input, 0) {
                Ok(None) => return,
                Ok(Some(event)) => self.take(event),
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let mut handled = self.handled;
        let input = Input::new(&self.received, &mut handled);
        let text = match event {
            Event::Head(block) if self.connection.role == Role::Server => {
                let mut head = RequestHead::default();
                let limits = HeadLimits::default();
                let limits = RequestLimits { head: &limits, underscores: Underscores::Allow };
                let decoded = self.connection.decode_request(&block, &input, &mut head, limits);
                let target = String::from_utf8_lossy(head.target()).into_owned();
                match decoded {
                    Ok(body) => {
                        self.connection.accept(&block, body, ());
                        format!("{} {target} {body:?}", block.stream().number())
                    }
                    Err(HeadRefused::Stream(flaw)) => format!("refused: {flaw}"),
                    Err(HeadRefused::Connection(error)) => return self.error = Some(error),
                }
            }
            Event::Head(block) => {
                let mut head = ResponseHead::default();
                let limits = HeadLimits::default();
                let length = self.connection.decode_response(
                    &block,
                    &input,
                    &mut head,
                    Method::Get,
                    &limits,
                );
                format!("{} {} {length:?}", block.stream().number(), head.status)
            }
            Event::Trailers(block) => {
                match self.connection.decode_trailers(&block, &input, &RULES) {
                    Ok(lines) => {
                        format!("trailers {:?}", lines.map(|l| String::from_utf8(l).unwrap()))
                    }
                    Err(HeadRefused::Stream(flaw)) => format!("refused: {flaw}"),
                    Err(HeadRefused::Connection(error)) => return self.error = Some(error),
                }
            }
            Event::Data { stream, data, end } => {
                let text = String::from_utf8_lossy(&self.received[data.clone()]).into_owned();
                self.connection.consumed(stream, data.len());
                format!("{} data {} {end}", stream.number(), text.len())
            }
            other => format!("{other:?}"),
        };
        self.events.push(text);
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
    frame(1, flags | flag_end_headers(), stream, &[0x82, 0x84, 0x86, 0x41, 1, b'a'])
}

const fn flag_end_headers() -> u8 {
    4
}

fn begun() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// Both sides say everything that they have to say.
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
fn a_connection_begins_with_the_same_bytes_as_envoys() {
    let settings =
        [&[0, 1, 0, 0, 0x10, 0][..], &[0, 8, 0, 0, 0, 0], &[0, 3, 0, 0, 4, 0], &[0, 4, 1, 0, 0, 0]];
    let update = frame(8, 0, 0, &25_100_289_u32.to_be_bytes());
    let expected = [frame(4, 0, 0, &settings.concat()), update.clone()].concat();
    assert_eq!(Side::server().sent(), expected);
    let settings = [settings[0], settings[1], &[0, 2, 0, 0, 0, 0], settings[2], settings[3]];
    let expected = [PREFACE.to_vec(), frame(4, 0, 0, &settings.concat()), update].concat();
    assert_eq!(Side::client().sent(), expected);
}

#[test]
fn however_the_bytes_are_split_both_sides_see_the_same() {
    for piece in [1, 2, 3, 7, 100, 20_000, 1 << 20] {
        let (mut client, mut server) = (Side::client(), Side::server());
        let ids: Vec<_> = (0..3).map(|_| client.connection.open(()).unwrap()).collect();
        client.connection.send_request(ids[0], &request("/a"), EndStream::Yes);
        client.connection.send_request(ids[1], &request("/b"), EndStream::No);
        client.connection.send_request(
            ids[2],
            &request(&format!("/{}", "c".repeat(20_000))),
            EndStream::No,
        );
        assert_eq!(client.connection.send_data(ids[1], &[b'x'; 40_000], EndStream::No), 40_000);
        client.connection.send_trailers(ids[1], b"t: 1\r\n");
        client.connection.send_data(ids[2], b"", EndStream::Yes);
        settle(&mut client, &mut server, piece);
        assert_eq!(server.error, None);
        assert_eq!(
            server
                .events
                .iter()
                .map(|text| text.chars().take(40).collect::<String>())
                .collect::<Vec<_>>(),
            [
                "WindowOpened { stream: None }".to_owned(),
                "WindowOpened { stream: None }".to_owned(),
                "1 /a None".to_owned(),
                "3 /b Chunked".to_owned(),
                format!("5 /{}", "c".repeat(37)),
                "3 data 16384 false".to_owned(),
                "3 data 16384 false".to_owned(),
                "3 data 7232 false".to_owned(),
                "trailers Some(\"t: 1\\r\\n\")".to_owned(),
                "5 data 0 true".to_owned(),
            ],
            "in pieces of {piece}"
        );
        let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
        server.connection.send_response(ids[0], &head, EndStream::Yes);
        head.status = 103;
        server.connection.send_response(ids[1], &head, EndStream::No);
        head.status = 404;
        server.connection.send_response(ids[1], &head, EndStream::No);
        server.connection.send_data(ids[1], b"body", EndStream::Yes);
        server.connection.reset(ids[2], ErrorCode::Cancel);
        client.events.clear();
        settle(&mut client, &mut server, piece);
        assert_eq!(client.error, None);
        assert_eq!(
            client.events,
            [
                "1 200 Ok(None)",
                "3 103 Ok(Chunked)",
                "3 404 Ok(Chunked)",
                "3 data 4 true",
                "Reset { stream: StreamId(5), code: Cancel }"
            ]
        );
        for id in ids {
            assert!(
                client.connection.release(id).is_some() && server.connection.release(id).is_some()
            );
        }
        assert_eq!((client.connection.streams(), server.connection.streams()), (0, 0));
    }
}

#[test]
fn a_body_larger_than_all_windows_arrives() {
    let options = Options {
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 65_535,
        ..Options::default()
    };
    let (mut client, mut server) = (Side::client(), Side::server_with(&options));
    let id = client.connection.open(()).unwrap();
    client.connection.send_request(id, &request("/"), EndStream::No);
    settle(&mut client, &mut server, 1 << 20);
    let body = vec![b'x'; 1_000_000];
    let mut sent = 0;
    while sent < body.len() {
        let taken = client.connection.send_data(id, &body[sent..], EndStream::Yes);
        assert!(taken > 0, "the window opens again");
        sent += taken;
        settle(&mut client, &mut server, 1 << 20);
    }
    let received: usize = server
        .events
        .iter()
        .filter_map(|event| event.strip_prefix("1 data ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(received, body.len());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn who_violates_the_protocol_loses_the_connection() {
    use ErrorCode::{
        CompressionError, FlowControlError, FrameSizeError, ProtocolError, StreamClosed,
    };
    let headers = |flags, block: &[u8]| frame(1, flags, 1, block);
    for (what, bytes, code) in [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".to_vec(), ProtocolError),
        ("no SETTINGS", [PREFACE, &frame(6, 0, 0, &[0; 8])].concat(), ProtocolError),
        ("an acknowledgement first", [PREFACE, &frame(4, 1, 0, &[])].concat(), ProtocolError),
        ("DATA on stream 0", [begun(), frame(0, 0, 0, b"x")].concat(), ProtocolError),
        ("DATA on an idle stream", [begun(), frame(0, 0, 1, b"x")].concat(), ProtocolError),
        ("HEADERS on an even stream", [begun(), get(2, 1)].concat(), ProtocolError),
        ("CONTINUATION alone", [begun(), frame(9, 4, 1, b"")].concat(), ProtocolError),
        (
            "PING in a header block",
            [begun(), headers(0, b"\x82"), frame(6, 0, 0, &[0; 8])].concat(),
            ProtocolError,
        ),
        (
            "CONTINUATION of another",
            [begun(), headers(0, b"\x82"), frame(9, 4, 3, b"")].concat(),
            ProtocolError,
        ),
        ("too much padding", [begun(), frame(1, 4 | 8, 1, &[9, 0x82])].concat(), ProtocolError),
        ("a long frame", [begun(), frame(0, 0, 1, &[0; 16_385])].concat(), FrameSizeError),
        ("a short PING", [begun(), frame(6, 0, 0, &[0; 7])].concat(), FrameSizeError),
        ("a short RST_STREAM", [begun(), frame(3, 0, 1, &[0; 3])].concat(), FrameSizeError),
        (
            "RST_STREAM on an idle stream",
            [begun(), frame(3, 0, 1, &[0; 4])].concat(),
            ProtocolError,
        ),
        ("a short WINDOW_UPDATE", [begun(), frame(8, 0, 0, &[0; 3])].concat(), FrameSizeError),
        ("WINDOW_UPDATE of 0", [begun(), frame(8, 0, 0, &[0; 4])].concat(), ProtocolError),
        (
            "a window that overflows",
            [begun(), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            FlowControlError,
        ),
        ("SETTINGS of 5 bytes", [begun(), frame(4, 0, 0, &[0; 5])].concat(), FrameSizeError),
        ("SETTINGS on a stream", [begun(), frame(4, 0, 1, &[])].concat(), ProtocolError),
        ("push of 2", [begun(), frame(4, 0, 0, &[0, 2, 0, 0, 0, 2])].concat(), ProtocolError),
        (
            "a window of 2^31",
            [begun(), frame(4, 0, 0, &[0, 4, 0x80, 0, 0, 0])].concat(),
            FlowControlError,
        ),
        (
            "frames of 100 bytes",
            [begun(), frame(4, 0, 0, &[0, 5, 0, 0, 0, 100])].concat(),
            ProtocolError,
        ),
        ("PUSH_PROMISE", [begun(), frame(5, 4, 1, &[0; 4])].concat(), ProtocolError),
        ("a bad index", [begun(), headers(5, &[0xff, 0x7f])].concat(), CompressionError),
        (
            "a stream that depends on itself",
            [begun(), frame(1, 0x25, 1, &[0, 0, 0, 1, 0, 0x82])].concat(),
            ProtocolError,
        ),
        ("DATA behind the end", [begun(), get(1, 1), frame(0, 0, 1, b"x")].concat(), StreamClosed),
        ("HEADERS behind the end", [begun(), get(1, 1), get(1, 1)].concat(), StreamClosed),
        ("trailers without an end", [begun(), get(1, 0), get(1, 0)].concat(), ProtocolError),
        ("no path", [begun(), headers(5, &[0x82, 0x86])].concat(), ProtocolError),
    ] {
        for piece in [1, bytes.len()] {
            let mut server = Side::server();
            bytes.chunks(piece).for_each(|bytes| server.receive(bytes));
            let error = server.error.unwrap_or_else(|| panic!("{what}: {:?}", server.events));
            assert_eq!(error.code, code, "{what}: {error}");
            server.sent();
            server.connection.fail(&error);
            assert_eq!(server.sent()[3], 7, "GOAWAY: {what}");
        }
    }
}

#[test]
fn a_content_length_that_is_not_that_of_the_body_resets_the_stream() {
    let block = [&[0x82, 0x84, 0x86, 0x41, 1, b'a', 0x0f, 0x0d, 1][..], b"3"].concat();
    for data in [b"xxxx".to_vec(), b"xx".to_vec()] {
        let mut server = Side::server();
        server
            .receive(&[begun(), frame(1, 4, 1, &block), frame(0, 1, 1, &data), get(3, 1)].concat());
        assert_eq!(server.error, None);
        assert_eq!(server.events[2], "Reset { stream: StreamId(1), code: ProtocolError }");
        assert_eq!(server.events[3], "3 / None", "the others go on");
    }
}

#[test]
fn a_stream_beyond_the_limit_is_refused_until_another_is_released() {
    let options = Options { max_concurrent_streams: 1, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, 0), get(3, 1)].concat());
    assert_eq!(server.events[1..], ["1 / Chunked", "refused: too many fields"]);
    // Reset by its client, it still has a task here.
    server.receive(&[frame(3, 0, 1, &[0, 0, 0, 8]), get(5, 1)].concat());
    assert_eq!(server.events[4], "refused: too many fields");
    server.connection.release(StreamId::new(1));
    server.receive(&get(7, 1));
    assert_eq!(server.events[5], "7 / None");
    assert_eq!(server.error, None);
}

#[test]
fn what_still_comes_of_a_stream_that_was_reset_is_ignored() {
    let mut server = Side::server();
    server.receive(&[begun(), get(1, 0)].concat());
    let id = StreamId::new(1);
    server.connection.reset(id, ErrorCode::NoError);
    server.receive(&frame(0, 0, 1, b"x"));
    server.connection.release(id);
    server.receive(&[frame(0, 0, 1, b"x"), get(1, 1), get(3, 1)].concat());
    assert_eq!(server.error, None);
    assert_eq!(server.events.last().unwrap(), "3 / None");
}

#[test]
fn floods_end_the_connection() {
    let ping = frame(6, 0, 0, &[0; 8]);
    let empty = frame(0, 0, 1, b"");
    let resets: Vec<u8> = (0..1001)
        .flat_map(|n| [get(2 * n + 1, 0), frame(3, 0, 2 * n + 1, &[0; 4])].concat())
        .collect();
    for (bytes, flood) in [
        (ping.repeat(1001), Flood::OutboundControl),
        ([get(1, 0), empty.repeat(2)].concat(), Flood::InboundEmpty),
        (frame(2, 0, 1, &[0; 5]).repeat(101), Flood::InboundPriority),
        (
            [get(1, 0), frame(8, 0, 1, &[0, 0, 0, 1]).repeat(20)].concat(),
            Flood::InboundWindowUpdate,
        ),
        (
            [frame(1, 0, 1, b"\x82"), frame(9, 0, 1, &[0; 16_384]).repeat(100)].concat(),
            Flood::HeaderBlock,
        ),
    ] {
        let mut server = Side::server();
        server.receive(&[begun(), bytes].concat());
        assert_eq!(server.error.map(|error| error.cause), Some(Cause::Flood(flood)));
    }
    let mut server = Side::server();
    server.receive(&begun());
    for piece in resets.chunks(29 * 100) {
        server.receive(piece);
        server.sent();
        for id in server.connection.ids().collect::<Vec<_>>() {
            server.connection.release(id);
        }
    }
    assert_eq!(server.error.map(|error| error.cause), Some(Cause::Flood(Flood::Resets)));
}

#[test]
fn two_goaways_let_what_is_on_its_way_be_served() {
    let mut server = Side::server();
    server.receive(&[begun(), get(1, 1)].concat());
    server.sent();
    server.connection.go_away(Last::Unlimited, ErrorCode::NoError);
    server.receive(&get(3, 1));
    server.connection.go_away(Last::Seen, ErrorCode::NoError);
    server.receive(&get(5, 1));
    assert_eq!(server.error, None);
    assert_eq!(server.events[1..], ["1 / None", "3 / None", "trailers None"]);
    let max = 0x7fff_ffff_u32.to_be_bytes();
    let expected =
        [frame(7, 0, 0, &[&max[..], &[0; 4]].concat()), frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])];
    assert_eq!(server.sent(), expected.concat());
    assert_eq!(server.connection.take_counts().goaway_sent, 1);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection<()>>() <= 900, "{}", size_of::<Connection<()>>());
}
