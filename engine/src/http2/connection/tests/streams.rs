//! Streams: how they begin, how they end, and what peers do in between.

use super::*;

#[test]
fn a_client_whose_body_is_not_as_long_as_announced() {
    let block = [&GET[..], &[0x0f, 0x0d, 1], b"3"].concat();
    let head = frame(HEADERS, END_HEADERS, 1, &block);
    for rest in [
        frame(DATA, 0, 1, b"xxxx"),
        frame(DATA, END_STREAM, 1, b"xx"),
        frame(DATA, END_STREAM, 1, b""),
        // Trailers end a body, too.
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[]),
    ] {
        let mut server = Side::server_after(&[&*head, &rest, &get(3, END_STREAM)].concat());
        assert_eq!(server.error, None);
        assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
        assert_eq!(server.events.last().unwrap(), "3 / None", "the others go on");
        assert_eq!(server.events.len(), 3, "{:?}", server.events);
    }
    let data = [frame(DATA, 0, 1, b"xx"), frame(DATA, END_STREAM, 1, b"x")].concat();
    let server = Side::server_after(&[&*head, &data].concat());
    assert_eq!(server.events, ["1 / Length(3)", "1 data 3 true"]);
}

#[test]
fn a_stream_beyond_the_limit_is_refused_until_another_is_released() {
    let options = Options { max_concurrent_streams: 1, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, 0), get(3, END_STREAM)].concat());
    assert_eq!(server.events[1..], ["1 / Chunked"]);
    assert_eq!(server.sent_frames().last().unwrap(), &(RST_STREAM, 3, vec![0, 0, 0, 7]));
    // Reset by its client, it still has a task here.
    server.receive(&[rst_stream(1, 8), get(5, END_STREAM)].concat());
    assert_eq!(server.events[2..], ["1 reset: Cancel"]);
    assert_eq!(server.sent_frames(), [(RST_STREAM, 5, vec![0, 0, 0, 7])]);
    server.connection.release(StreamId::new(1));
    server.receive(&get(7, END_STREAM));
    assert_eq!(server.events[3..], ["7 / None"]);
    assert_eq!((server.error, server.connection.take_counts().stream_refused_errors), (None, 2));
}

#[test]
fn the_body_of_a_refused_stream_is_ignored() {
    let options = Options { max_concurrent_streams: 1, ..Options::default() };
    let mut server = Side::server_with(&options);
    let refused = [get(3, 0), frame(DATA, 0, 3, b"body"), frame(DATA, END_STREAM, 3, b"")];
    server.receive(&[begun(), get(1, 0), refused.concat()].concat());
    assert_eq!((server.error, server.connection.streams()), (None, 1));
    assert_eq!(server.events[1..], ["1 / Chunked"]);
}

#[test]
fn what_still_comes_of_a_stream_that_was_reset_is_ignored() {
    let mut server = Side::server_after(&get(1, 0));
    let id = StreamId::new(1);
    server.connection.reset(id, ErrorCode::Cancel);
    server.connection.reset(id, ErrorCode::Cancel);
    assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 8])], "once");
    server.receive(&frame(DATA, 0, 1, b"x"));
    server.connection.release(id);
    server.receive(&[frame(DATA, 0, 1, b"x"), get(1, END_STREAM), get(3, END_STREAM)].concat());
    assert_eq!((server.error, server.events.len()), (None, 2), "{:?}", server.events);
    assert_eq!(server.events[1], "3 / None");
    // Behind its end, nothing more was on its way.
    server.receive(&frame(DATA, 0, 1, b"x"));
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::StreamClosed));
}

#[test]
fn a_stream_that_is_reset_within_a_frame_ends_there() {
    let mut server = Side::server_after(&get(1, 0));
    let data = frame(DATA, 0, 1, &[b'x'; 1000]);
    let (first, rest) = data.split_at(500);
    server.receive(first);
    assert_eq!(server.events[1], "1 data 491 false");
    server.connection.reset(StreamId::new(1), ErrorCode::Cancel);
    server.connection.release(StreamId::new(1));
    server.receive(&[rest, &get(3, END_STREAM)].concat());
    assert_eq!(server.error, None);
    assert_eq!(server.events[2..], ["3 / None"]);
}

#[test]
fn a_stream_that_has_ended_on_both_sides_needs_no_reset() {
    let mut server = Side::server_after(&get(1, END_STREAM));
    server.respond(1, 200, EndStream::Yes);
    server.sent();
    assert!(server.connection.is_complete(StreamId::new(1)));
    server.connection.reset(StreamId::new(1), ErrorCode::InternalError);
    assert!(server.sent().is_empty());
    // Nor has anybody to know that its client resets it now.
    server.receive(&rst_stream(1, 8));
    assert_eq!((server.events.len(), server.error), (1, None));
}

#[test]
fn nothing_follows_what_has_ended() {
    let mut server = Side::server_after(&get(1, 0));
    let id = StreamId::new(1);
    assert_eq!(server.connection.send_data(id, b"no head yet", EndStream::No), 0);
    server.respond(1, 200, EndStream::Yes);
    server.sent();
    server.respond(1, 200, EndStream::Yes);
    assert_eq!(server.connection.send_data(id, b"x", EndStream::Yes), 0);
    server.connection.send_trailers(id, b"a: b\r\n");
    assert!(server.sent().is_empty());
}

#[test]
fn two_goaways_let_what_is_on_its_way_be_served() {
    let mut server = Side::server_after(&get(1, END_STREAM));
    server.connection.go_away(Last::Unlimited, ErrorCode::NoError);
    server.receive(&get(3, END_STREAM));
    server.connection.go_away(Last::Seen, ErrorCode::NoError);
    server.receive(&[get(5, 0), frame(DATA, 0, 5, b"x"), get(7, END_STREAM)].concat());
    server.connection.go_away(Last::Seen, ErrorCode::NoError);
    assert_eq!(server.error, None);
    assert_eq!(server.events, ["1 / None", "3 / None"]);
    let last = |number: u32| (GOAWAY, 0, [number.to_be_bytes(), [0; 4]].concat());
    assert_eq!(server.sent_frames(), [last(0x7fff_ffff), last(3), last(3)]);
    assert_eq!(server.connection.take_counts().goaway_sent, 1);
}

#[test]
fn a_server_that_goes_away_gets_no_more_requests() {
    let mut client = Side::client_with_request();
    let go_away = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    client.receive(&go_away(0x7fff_ffff));
    assert_eq!(client.events, ["GoAway { last: StreamId(2147483647), code: NoError }"]);
    assert!(!client.connection.may_open() && client.connection.open(()).is_none());
    client.receive(&[go_away(1), response(1, END_STREAM)].concat());
    assert_eq!(client.events[2], "1 200 None", "what it has begun, it ends");
    client.receive(&go_away(3));
    assert_eq!(client.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
}

#[test]
fn a_client_begins_no_more_streams_than_its_server_allows() {
    let mut client = Side::client();
    client.receive(&setting(3, 2));
    assert_eq!(client.connection.peer_allows_streams(), 2);
    assert!(client.connection.open(()).is_some() && client.connection.open(()).is_some());
    assert!(client.connection.open(()).is_none() && client.connection.may_open());
    client.connection.release(StreamId::new(1));
    assert_eq!(client.connection.open(()), Some(StreamId::new(5)));
}

#[test]
fn the_numbers_of_streams_are_used_up_some_day() {
    let mut client = Side::client();
    client.connection.next_number = StreamId::MAX.number();
    assert_eq!(client.connection.open(()), Some(StreamId::MAX));
    assert!(!client.connection.may_open() && client.connection.open(()).is_none());
}

#[test]
fn a_request_that_was_not_sent_needs_no_reset() {
    let mut client = Side::client_with_request();
    let id = client.connection.open(()).unwrap();
    client.connection.reset(id, ErrorCode::InternalError);
    client.connection.release(id);
    assert!(client.sent().is_empty());
}

#[test]
fn a_request_that_a_server_has_not_processed_needs_no_reset() {
    let mut client = Side::client_with_request();
    client.begin_request(EndStream::No);
    client.sent();
    client.receive(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    for number in [1, 3] {
        client.connection.reset(StreamId::new(number), ErrorCode::InternalError);
        client.connection.release(StreamId::new(number));
    }
    assert_eq!(client.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 2])]);
}

#[test]
fn an_origin_that_sends_a_body_before_its_head() {
    let mut client = Side::client_with_request();
    client.begin_request(EndStream::Yes);
    client.sent();
    client.receive(&[frame(DATA, 0, 1, b"x"), response(3, END_STREAM)].concat());
    assert_eq!(client.events, ["1 reset: ProtocolError", "3 200 None"]);
    assert_eq!(client.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
}

#[test]
fn an_origin_whose_trailers_do_not_end_the_stream() {
    let mut client = Side::client_with_request();
    client.begin_request(EndStream::Yes);
    client.sent();
    let trailers = frame(HEADERS, END_HEADERS, 1, &[]);
    client.receive(&[response(1, 0), trailers, response(3, END_STREAM)].concat());
    assert_eq!(client.events, ["1 200 Chunked", "1 reset: ProtocolError", "3 200 None"]);
}

#[test]
fn an_origin_that_sends_a_body_where_there_is_none() {
    for (method, status) in [(Method::Head, 0x88), (Method::Get, 0x89), (Method::Get, 0x8b)] {
        let head = frame(HEADERS, END_HEADERS, 1, &[status]);
        let mut client = Side::client_with_request();
        client.method = method;
        client.receive(&[head.clone(), frame(DATA, 0, 1, b"x")].concat());
        assert_eq!(client.events[1], "1 reset: ProtocolError");
        let mut client = Side::client_with_request();
        client.method = method;
        client.receive(&[head, frame(DATA, END_STREAM, 1, b"")].concat());
        assert_eq!(client.events[1], "1 data 0 true", "an empty one is none");
    }
}

#[test]
fn an_origin_whose_body_is_not_as_long_as_announced() {
    let head = frame(HEADERS, END_HEADERS, 1, &[0x88, 0x0f, 0x0d, 1, b'3']);
    for data in [&b"xx"[..], b"xxxx"] {
        let mut client = Side::client_with_request();
        client.receive(&[head.clone(), frame(DATA, END_STREAM, 1, data)].concat());
        assert_eq!(client.events, ["1 200 Length(3)", "1 reset: ProtocolError"]);
        // It is told, though it has said all it had to say.
        assert_eq!(client.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
    }
}

#[test]
fn an_origin_whose_response_is_complete_may_end_it_later() {
    let head = frame(HEADERS, END_HEADERS, 1, &[0x88, 0x0f, 0x0d, 1, b'2']);
    let ends = [frame(DATA, END_STREAM, 1, b""), get(1, END_STREAM), rst_stream(1, 0)];
    for end in ends {
        let mut client = Side::client_with_request();
        let id = StreamId::new(1);
        client.receive(&[head.clone(), frame(DATA, 0, 1, b"o")].concat());
        assert!(!client.connection.is_complete(id));
        client.receive(&frame(DATA, 0, 1, b"k"));
        assert!(client.connection.is_complete(id));
        client.connection.release(id);
        client.receive(&end);
        assert_eq!((client.error, client.sent_frames()), (None, vec![]), "no reset");
        // Behind its end there is nothing.
        client.receive(&frame(DATA, END_STREAM, 1, b""));
        assert_eq!(client.error.map(|error| error.code), Some(ErrorCode::StreamClosed));
    }
}

#[test]
fn an_origin_that_never_ends_its_complete_responses() {
    let mut client = Side::client();
    client.receive(&setting(3, 2));
    let head = [0x88, 0x0f, 0x0d, 1, b'0'];
    let respond = |client: &mut Side, number| {
        let id = client.begin_request(EndStream::Yes);
        assert_eq!(id.number(), number);
        client.receive(&frame(HEADERS, END_HEADERS, number, &head));
        client.connection.release(id);
    };
    let resets = |client: &mut Side| -> Vec<u32> {
        let frames = client.sent_frames().into_iter();
        frames.filter(|(kind, ..)| *kind == RST_STREAM).map(|(_, number, _)| number).collect()
    };
    client.sent();
    respond(&mut client, 1);
    respond(&mut client, 3);
    assert!(resets(&mut client).is_empty());
    // It allows two, and still counts those.
    respond(&mut client, 5);
    assert_eq!(resets(&mut client), [1]);
    // Some day it may notice.
    client.receive(&[frame(DATA, END_STREAM, 1, b""), frame(DATA, END_STREAM, 3, b"")].concat());
    respond(&mut client, 7);
    assert!(resets(&mut client).is_empty());
    assert_eq!(client.error, None);
}

#[test]
fn an_origin_that_opens_a_tunnel_and_announces_its_length() {
    let head = frame(HEADERS, END_HEADERS, 1, &[0x88, 0x0f, 0x0d, 1, b'2']);
    let mut client = Side::client_with_request();
    client.method = Method::Connect;
    client.receive(&[head, frame(DATA, 0, 1, b"bytes"), frame(DATA, END_STREAM, 1, b"")].concat());
    assert_eq!(client.events, ["1 200 Chunked", "1 data 5 true"]);
    // A refusal has a body as any other response.
    let refused = frame(HEADERS, END_HEADERS, 1, &[0x8c, 0x0f, 0x0d, 1, b'2']);
    let mut client = Side::client_with_request();
    client.method = Method::Connect;
    client.receive(&[refused, frame(DATA, END_STREAM, 1, b"bytes")].concat());
    assert_eq!(client.events, ["1 400 Length(2)", "1 reset: ProtocolError"]);
}

#[test]
fn an_origin_that_begins_streams_itself() {
    for bytes in [
        frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
        response(2, END_STREAM),
        response(3, END_STREAM),
    ] {
        let mut client = Side::client_with_request();
        client.receive(&bytes);
        assert_eq!(client.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
    }
}

#[test]
fn an_interim_response_that_is_the_last() {
    let mut client = Side::client_with_request();
    let early_hints = [&[0x08, 3][..], b"103"].concat();
    client.receive(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &early_hints));
    assert_eq!(client.events, ["refused: violation of the messaging rules"]);
    assert_eq!(client.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
}

#[test]
fn a_table_that_had_many_streams_gives_their_memory_back() {
    let mut server = Side::server_after(&[]);
    for number in (1..2000).step_by(2) {
        server.receive(&get(number, END_STREAM));
    }
    assert_eq!(server.connection.streams(), 1000);
    for id in server.connection.ids().collect::<Vec<_>>() {
        server.connection.release(id);
    }
    assert!(server.connection.streams.capacity() < 64);
}
