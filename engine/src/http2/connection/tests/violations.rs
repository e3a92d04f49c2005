//! Peers that violate the rules for frames. The connection ends, with a GOAWAY that says why.

use super::*;

#[test]
fn a_peer_that_sends_no_preface() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX", b"\0"] {
        let mut server = Side::server();
        server.receive(bytes);
        let error = server.error.expect("it does not speak HTTP/2");
        assert_eq!(error.code, ErrorCode::ProtocolError);
        server.connection.fail(&error);
        assert!(server.sent().is_empty(), "it would not understand it");
    }
}

#[test]
fn a_peer_that_does_not_begin_with_settings() {
    for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[]), get(1, END_STREAM)] {
        ends(&[PREFACE, &first].concat(), ErrorCode::ProtocolError);
    }
}

#[test]
fn an_origin_that_speaks_something_else() {
    let mut client = Side::client();
    // Its first bytes would be the length of a frame.
    client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_eq!(client.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
}

#[test]
fn a_peer_that_sends_frames_of_a_wrong_size() {
    for bytes in [
        frame(DATA, 0, 1, &[0; 16_385]),
        frame(200, 0, 1, &[0; 16_385]),
        frame(PRIORITY, 0, 1, &[0; 4]),
        frame(PRIORITY, 0, 1, &[0; 6]),
        frame(RST_STREAM, 0, 1, &[0; 3]),
        frame(RST_STREAM, 0, 1, &[0; 5]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(SETTINGS, ACK, 0, &[0; 6]),
        frame(PING, 0, 0, &[0; 7]),
        frame(PING, ACK, 0, &[0; 9]),
        frame(GOAWAY, 0, 0, &[0; 7]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 5]),
        frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0; 4]),
    ] {
        ends_after_begin(&bytes, ErrorCode::FrameSizeError);
    }
}

#[test]
fn a_peer_may_send_frames_as_long_as_it_was_told() {
    let options = Options { max_frame_size: 300 * 1024, ..Options::default() };
    let after = |bytes: &[u8]| {
        let mut server = Side::server_with(&options);
        server.receive(&[begun(), get(1, 0), bytes.to_vec()].concat());
        server
    };
    let server = after(&frame(DATA, END_STREAM, 1, &[0; 300 * 1024]));
    assert_eq!((server.error, &*server.events[2]), (None, "1 data 307200 true"));
    let server = after(&frame(DATA, END_STREAM, 1, &[0; 300 * 1024 + 1]));
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::FrameSizeError));
    // What has to be kept until it is complete is limited as it is in CONTINUATIONs.
    let header = &frame(HEADERS, END_HEADERS, 3, &[0; 300 * 1024])[..9];
    let cause = after(header).error.map(|error| error.cause);
    assert_eq!(cause, Some(Cause::Flood(Flood::HeaderBlock)));
}

#[test]
fn a_peer_that_sends_frames_on_a_wrong_stream() {
    for bytes in [
        frame(DATA, 0, 0, b"x"),
        frame(HEADERS, END_HEADERS, 0, &GET),
        frame(PRIORITY, 0, 0, &[0; 5]),
        frame(RST_STREAM, 0, 0, &[0; 4]),
        frame(CONTINUATION, END_HEADERS, 0, &GET),
        frame(SETTINGS, 0, 1, &[]),
        frame(PING, 0, 1, &[0; 8]),
        frame(GOAWAY, 0, 1, &[0; 8]),
        get(2, END_STREAM),
    ] {
        ends_after_begin(&bytes, ErrorCode::ProtocolError);
    }
}

#[test]
fn a_peer_that_uses_a_stream_that_nobody_has_begun() {
    for bytes in [
        frame(DATA, 0, 1, b"x"),
        frame(DATA, 0, 2, b"x"),
        rst_stream(1, 8),
        rst_stream(2, 8),
        window_update(1, 1),
        window_update(2, 1),
    ] {
        ends_after_begin(&bytes, ErrorCode::ProtocolError);
    }
}

#[test]
fn a_client_that_pushes() {
    ends_after_begin(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4]), ErrorCode::ProtocolError);
}

#[test]
fn a_peer_that_interrupts_a_header_block() {
    let begin = frame(HEADERS, 0, 1, &[0x82]);
    for next in [
        frame(PING, 0, 0, &[0; 8]),
        frame(DATA, 0, 1, b"x"),
        frame(200, 0, 1, b"unknown"),
        frame(HEADERS, END_HEADERS, 1, &GET),
        frame(CONTINUATION, END_HEADERS, 3, &GET),
    ] {
        ends_after_begin(&[begin.clone(), next].concat(), ErrorCode::ProtocolError);
    }
    let alone = frame(CONTINUATION, END_HEADERS, 1, &GET);
    ends_after_begin(&alone, ErrorCode::ProtocolError);
    ends_after_begin(&[get(1, 0), alone].concat(), ErrorCode::ProtocolError);
}

#[test]
fn a_peer_that_pads_more_than_there_is() {
    for bytes in [
        frame(HEADERS, END_HEADERS | PADDED, 1, &[6, 0x82, 0x84, 0x86, 0x41, 1]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[]),
        [get(1, 0), frame(DATA, PADDED, 1, &[3, 0, 0])].concat(),
        [get(1, 0), frame(DATA, PADDED, 1, &[])].concat(),
    ] {
        ends_after_begin(&bytes, ErrorCode::ProtocolError);
    }
}

#[test]
fn a_peer_that_settles_what_cannot_be() {
    for (number, value, code) in [
        (2, 2, ErrorCode::ProtocolError),
        (4, 1 << 31, ErrorCode::FlowControlError),
        (5, 16_383, ErrorCode::ProtocolError),
        (5, 1 << 24, ErrorCode::ProtocolError),
        (8, 2, ErrorCode::ProtocolError),
    ] {
        ends_after_begin(&setting(number, value), code);
    }
    // RFC 8441 §3: it cannot be taken back.
    ends_after_begin(&[setting(8, 1), setting(8, 0)].concat(), ErrorCode::ProtocolError);
    let mut client = Side::client();
    client.receive(&setting(2, 1));
    assert_eq!(client.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
}

#[test]
fn a_peer_whose_stream_depends_on_itself() {
    let headers = frame(HEADERS, 0x25, 1, &[&[0, 0, 0, 1, 0][..], &GET].concat());
    ends_after_begin(&headers, ErrorCode::ProtocolError);
    ends_after_begin(&frame(PRIORITY, 0, 3, &[0x80, 0, 0, 3, 0]), ErrorCode::ProtocolError);
}

#[test]
fn a_peer_whose_header_block_cannot_be_decoded() {
    for block in [&[0xff, 0x7f][..], &[0x80], &[0x82, 0x41], &[0x3f, 0xff, 0xff, 0x7f]] {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
        ends_after_begin(&bytes, ErrorCode::CompressionError);
    }
}

#[test]
fn a_peer_that_goes_on_behind_the_end() {
    for bytes in [
        [get(1, END_STREAM), frame(DATA, 0, 1, b"x")].concat(),
        [get(1, END_STREAM), get(1, END_STREAM)].concat(),
        [get(1, 0), frame(DATA, END_STREAM, 1, b""), frame(DATA, END_STREAM, 1, b"")].concat(),
        [get(1, 0), rst_stream(1, 8), frame(DATA, 0, 1, b"x")].concat(),
        [get(1, 0), rst_stream(1, 8), get(1, END_STREAM)].concat(),
        // The numbers below the highest one are used up.
        [get(5, END_STREAM), get(3, END_STREAM)].concat(),
        [get(5, END_STREAM), frame(DATA, 0, 3, b"x")].concat(),
    ] {
        ends_after_begin(&bytes, ErrorCode::StreamClosed);
    }
}

#[test]
fn nothing_of_a_stream_follows_the_goaway_of_an_error() {
    let mut server = Side::server_after(&[get(1, 0), get(3, END_STREAM)].concat());
    server.receive(&frame(PING, 0, 0, &[0; 7]));
    server.connection.fail(&server.error.unwrap());
    server.respond(3, 200, EndStream::No);
    server.connection.reset(StreamId::new(1), ErrorCode::InternalError);
    let kinds: Vec<_> = server.sent_frames().iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [GOAWAY]);
}

#[test]
fn what_nobody_has_to_know_is_ignored() {
    let bytes = [
        frame(200, 0xff, 7, b"unknown"),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]),
        setting(99, 7),
        setting(6, 1),
        frame(SETTINGS, ACK, 0, &[]),
        frame(HEADERS, 0x2d, 1, &[&[2, 0, 0, 0, 3, 9][..], &GET, &[0, 0]].concat()),
        window_update(1, 5),
        rst_stream(1, 8),
        rst_stream(1, 8),
        window_update(1, 5),
    ];
    let side = Side::server_after(&bytes.concat());
    assert_eq!(side.error, None);
    assert_eq!(side.events, ["PeerSettings", "PeerSettings", "1 / None", "1 reset: Cancel"]);
}

/// A server that receives `bytes` behind a good begin ends the connection with `code`.
#[track_caller]
fn ends_after_begin(bytes: &[u8], code: ErrorCode) {
    ends(&[&begun(), bytes].concat(), code);
}

#[track_caller]
fn ends(bytes: &[u8], code: ErrorCode) {
    for piece in [1, bytes.len()] {
        let mut server = Side::server();
        bytes.chunks(piece).for_each(|bytes| server.receive(bytes));
        let Some(error) = server.error else { panic!("{bytes:x?}: {:?}", server.events) };
        assert_eq!(error.code, code, "{error}: {bytes:x?}");
        server.sent();
        server.connection.fail(&error);
        let frames = server.sent_frames();
        let [(GOAWAY, 0, payload)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(payload[4..], code.number().to_be_bytes());
    }
}

#[test]
fn settings_are_acknowledged_as_often_as_they_were_sent() {
    let mut server = Side::server_after(&frame(SETTINGS, ACK, 0, &[]));
    assert_eq!(server.error, None);
    server.receive(&frame(SETTINGS, ACK, 0, &[]));
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
}
