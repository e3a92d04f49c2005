//! Header blocks, and the messages in them.

use super::*;

/// A server that resets the streams of malformed messages, and no more.
fn lenient() -> Side {
    let options = Options { stream_errors: StreamErrors::EndTheStream, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&begun());
    server.sent();
    server.events.clear();
    server
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    assert!(length(name).max(length(value)) < 127);
    [&[0, length(name)], name, &[length(value)], value].concat()
}

/// HEADERS of a GET with one more field.
fn get_with(stream: u32, name: &str, value: &str) -> Vec<u8> {
    let block = [&GET[..], &literal(name, value)].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[test]
fn a_client_whose_request_is_malformed() {
    let no_path = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82, 0x86]);
    for bytes in [get_with(1, "X-a", "1"), get_with(1, "connection", "close"), no_path] {
        let mut server = Side::server_after(&[bytes.clone(), get(3, END_STREAM)].concat());
        let Some(error) = server.error else { panic!("{:?}", server.events) };
        assert_eq!(error.code, ErrorCode::ProtocolError);
        assert!(matches!(error.cause, Cause::Message(_)), "{error}");
        assert_eq!(server.connection.take_counts().rx_messaging_error, 1);

        let mut server = lenient();
        server.receive(&[bytes, get(3, END_STREAM)].concat());
        assert_eq!(server.error, None);
        assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
        assert_eq!(server.events[1], "3 / None", "the others go on");
        assert_eq!(server.connection.take_counts().rx_messaging_error, 1);
    }
}

#[test]
fn a_client_whose_trailers_do_not_end_the_stream() {
    let bytes = [get(1, 0), frame(HEADERS, END_HEADERS, 1, &[]), get(3, END_STREAM)].concat();
    let server = Side::server_after(&bytes);
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
    let mut server = lenient();
    server.receive(&bytes);
    assert_eq!(server.events, ["1 / Chunked", "1 reset: ProtocolError", "3 / None"]);
    assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
}

#[test]
fn a_client_whose_request_exceeds_a_limit() {
    let mut server = Side::server_after(&[]);
    let fields: Vec<u8> = (0..97).flat_map(|n| literal(&format!("x-{n}"), "")).collect();
    let block = [&GET[..], &fields].concat();
    server.receive(&frame(HEADERS, END_HEADERS, 1, &block));
    server.receive(&[frame(DATA, END_STREAM, 1, b"x"), get(3, END_STREAM)].concat());
    assert_eq!(server.error, None);
    assert_eq!(server.events, ["refused: too many fields", "3 / None"]);
    assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 2])]);
    let counts = server.connection.take_counts();
    assert_eq!((counts.header_overflow, counts.header_list_size_too_large), (1, 0));
}

#[test]
fn a_block_that_nobody_wants_is_decoded_all_the_same() {
    let mut server = Side::server_after(&get(1, 0));
    server.connection.reset(StreamId::new(1), ErrorCode::Cancel);
    // It adds a field to the table, which the next one refers to.
    let adds = [&[0x40, 3][..], b"x-a", &[1], b"1"].concat();
    server.receive(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &adds));
    server.receive(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &[&GET[..], &[0xbf]].concat()));
    assert_eq!(server.error, None);
    assert_eq!(server.events[1], "3 / None");
}

#[test]
fn a_block_may_come_in_many_frames() {
    for piece in 1..=GET.len() {
        let mut pieces = GET.chunks(piece).peekable();
        let mut bytes = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap());
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            bytes.extend(frame(CONTINUATION, flags, 1, piece));
        }
        if piece == GET.len() {
            bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b""));
        }
        let mut server = Side::server_after(&bytes[..bytes.len() - 1]);
        assert_eq!(server.connection.unfinished_block(), Some(StreamId::new(1)));
        drop(server.connection.rest());
        server.receive(&bytes[bytes.len() - 1..]);
        assert_eq!((server.error, &server.events[..]), (None, &["1 / None".to_owned()][..]));
        assert_eq!(server.connection.unfinished_block(), None);
    }
}

#[test]
fn a_head_has_begun_with_the_header_of_its_frame() {
    let mut server = Side::server();
    let bytes = [begun(), get(1, END_STREAM), get(3, END_STREAM)].concat();
    for (at, byte) in bytes.iter().enumerate() {
        server.receive(&[*byte]);
        // 9 bytes are the header of a frame.
        let left = bytes.len() - 1 - at;
        let unfinished = match left {
            1..=6 => Some(StreamId::new(3)),
            16..=21 => Some(StreamId::new(1)),
            _ => None,
        };
        assert_eq!(server.connection.unfinished_block(), unfinished, "{left} bytes are missing");
    }
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 5, &literal("x-sum", "7"));
    server.receive(&[&get(5, 0), &trailers[..10]].concat());
    assert_eq!(server.connection.unfinished_block(), None, "trailers are no head");
}

#[test]
fn trailers_are_counted() {
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &literal("x-sum", "7"));
    let mut server = Side::server_after(&[get(1, 0), frame(DATA, 0, 1, b"abc"), trailers].concat());
    assert_eq!(server.events, ["1 / Chunked", "1 data 3 false", "1 trailers \"x-sum: 7\\r\\n\""]);
    assert_eq!(server.connection.take_counts().trailers, 1);
    assert_eq!(server.connection.take_counts(), Counts::default());
}

#[test]
fn a_smaller_table_has_to_be_acknowledged_in_the_next_block() {
    let options = Options { hpack_table_size: 0, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, END_STREAM)].concat());
    assert_eq!(server.error, None, "it may not have read our SETTINGS yet");
    server.receive(&[frame(SETTINGS, ACK, 0, &[]), get(3, END_STREAM)].concat());
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::CompressionError));
}
