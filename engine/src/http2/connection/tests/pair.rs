//! Our client and our server talk to each other.

use super::*;

#[test]
fn a_connection_begins_with_the_same_bytes_as_envoys() {
    let settings =
        [&[0, 1, 0, 0, 0x10, 0][..], &[0, 8, 0, 0, 0, 0], &[0, 3, 0, 0, 4, 0], &[0, 4, 1, 0, 0, 0]]
            .concat();
    let update = window_update(0, 25_100_289);
    let expected = [frame(SETTINGS, 0, 0, &settings), update.clone()].concat();
    let mut server = Side::server();
    server.receive(&PREFACE[..23]);
    assert!(server.sent().is_empty(), "the client may not speak HTTP/2");
    server.receive(&PREFACE[23..]);
    assert_eq!(server.sent(), expected);
    let settings = [&[0, 2, 0, 0, 0, 0], &*settings].concat();
    let expected = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &settings), update].concat();
    assert_eq!(Side::client().sent(), expected);
}

#[test]
fn options_change_what_a_connection_begins_with() {
    let options = Options {
        hpack_table_size: 0,
        max_concurrent_streams: 1,
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 65_535,
        allow_connect: true,
        custom_settings: Box::new([(10, 5)]),
        ..Options::default()
    };
    let settings = [
        &[0, 10, 0, 0, 0, 5][..],
        &[0, 1, 0, 0, 0, 0],
        &[0, 8, 0, 0, 0, 1],
        &[0, 3, 0, 0, 0, 1],
        &[0, 4, 0, 0, 0xff, 0xff],
    ];
    let expected = frame(SETTINGS, 0, 0, &settings.concat());
    assert_eq!(begins_with(&options), expected);
    let options = Options { initial_connection_window_size: 200_000, ..options };
    let expected = [expected, window_update(0, 134_465)].concat();
    assert_eq!(begins_with(&options), expected);
}

/// What a server sends first.
fn begins_with(options: &Options) -> Vec<u8> {
    let mut server = Side::server_with(options);
    server.receive(PREFACE);
    server.sent()
}

#[test]
fn however_the_bytes_are_split_both_sides_see_the_same() {
    for piece in [1, 2, 3, 7, 100, 20_000, 1 << 20] {
        let (mut client, mut server) = (Side::client(), Side::server());
        talk_of_requests(&mut client, &mut server, piece);
        talk_of_responses(&mut client, &mut server, piece);
        for number in [1, 3, 5] {
            let id = StreamId::new(number);
            assert!(client.connection.release(id).is_some(), "{number}");
            assert!(server.connection.release(id).is_some(), "{number}");
        }
        assert_eq!((client.connection.streams(), server.connection.streams()), (0, 0));
        assert!(client.sent().is_empty() && server.sent().is_empty());
    }
}

fn talk_of_requests(client: &mut Side, server: &mut Side, piece: usize) {
    let mut open = |path: &str, end| {
        let id = client.connection.open(()).unwrap();
        client.connection.send_request(id, &request(path), end);
        id
    };
    open("/a", EndStream::Yes);
    let b = open("/b", EndStream::No);
    let long = format!("/{}", "c".repeat(20_000));
    let c = open(&long, EndStream::No);
    assert_eq!(client.connection.send_data(b, &[b'x'; 40_000], EndStream::No), 40_000);
    client.connection.send_trailers(b, b"t: 1\r\n");
    client.connection.send_data(c, b"", EndStream::Yes);
    settle(client, server, piece);
    assert_eq!(server.error, None);
    assert_eq!(
        server.events,
        [
            "PeerSettings",
            "1 /a None",
            "3 /b Chunked",
            &format!("5 {long} Chunked"),
            "3 data 40000 false",
            "3 trailers \"t: 1\\r\\n\"",
            "5 data 0 true",
        ],
        "in pieces of {piece}"
    );
}

fn talk_of_responses(client: &mut Side, server: &mut Side, piece: usize) {
    client.events.clear();
    server.respond(1, 200, EndStream::Yes);
    server.respond(3, 103, EndStream::No);
    server.respond(3, 404, EndStream::No);
    server.connection.send_data(StreamId::new(3), b"body", EndStream::Yes);
    server.connection.reset(StreamId::new(5), ErrorCode::Cancel);
    settle(client, server, piece);
    assert_eq!(client.error, None);
    let expected =
        ["1 200 None", "3 103 Chunked", "3 404 Chunked", "3 data 4 true", "5 reset: Cancel"];
    assert_eq!(client.events, expected, "in pieces of {piece}");
}

#[test]
fn a_head_longer_than_a_frame_is_continued() {
    let (mut client, mut server) = (Side::client(), Side::server());
    client.receive(&setting(5, 20_000));
    client.sent();
    let id = client.connection.open(()).unwrap();
    // `~` takes 13 bits in Huffman's code, so it is sent as it is.
    let long = format!("/{}", "~".repeat(50_000));
    client.connection.send_request(id, &request(&long), EndStream::Yes);
    let bytes = client.connection.out().to_vec();
    let sizes: Vec<_> =
        client.sent_frames().iter().map(|(kind, _, payload)| (*kind, payload.len())).collect();
    let [(HEADERS, 20_000), (CONTINUATION, 20_000), (CONTINUATION, 1..)] = sizes[..] else {
        panic!("{sizes:?}")
    };
    // We take no frame that is longer than we have settled.
    server.receive(&begun());
    server.receive(&bytes);
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::FrameSizeError));
}

#[test]
fn a_ping_is_answered_with_the_same_number() {
    let (mut client, mut server) = (Side::client(), Side::server());
    client.connection.ping(0x0123_4567_89ab_cdef);
    settle(&mut client, &mut server, 3);
    assert_eq!(client.events, ["PeerSettings", "PingAck(81985529216486895)"]);
}
