//! Both speak HTTP/2.

use super::*;

#[test]
fn streams_at_once_share_a_connection_and_are_not_mixed_up() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End), request(3, "GET", "/two", End)]),
            Expect(1, "END"),
            Expect(3, "END"),
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(3, "END"),
            Echo(Of::Stream(3)),
            Expect(1, "END"),
            Echo(Of::Stream(1)),
        ]],
        expected: |told| {
            let expected = [echoed_as_it_was(1, "/one"), echoed_as_it_was(3, "/two")];
            assert_eq!(told.client, expected.join("\n"));
        },
    });
}

#[test]
fn both_directions_flow_at_once_and_end_with_trailers() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/", More)]),
            Expect(1, "HEADERS"),
            send(&[data(1, "ping", More)]),
            Expect(1, "pong"),
            send(&[headers(1, &[("x-sum", "4")], End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "HEADERS"),
            send(&[response(1, More)]),
            Expect(1, "ping"),
            send(&[data(1, "pong", More)]),
            Expect(1, "END"),
            send(&[headers(1, &[("grpc-status", "0")], End)]),
        ]],
        expected: |told| {
            assert!(told.client.ends_with(" DATA pong HEADERS grpc-status: 0 END"));
            assert!(told.origins[0].ends_with(" DATA ping HEADERS x-sum: 4 END"));
        },
    });
}

#[test]
fn a_stream_that_either_side_resets_leaves_the_others_alone() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/one", More)]),
            Expect(1, "DATA"),
            send(&[request(3, "GET", "/two", End)]),
            Expect(3, "RST"),
            send(&[reset(1, 8), request(5, "GET", "/three", End)]),
            Expect(5, "END"),
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "HEADERS"),
            send(&[response(1, More), data(1, "some", More)]),
            Expect(3, "END"),
            send(&[response(3, More), data(3, "thing", More), reset(3, 2)]),
            Expect(1, "RST"),
            Expect(5, "END"),
            Echo(Of::Stream(5)),
        ]],
        expected: |told| {
            assert!(on(&told.client, 3).ends_with(" RST 2"));
            assert_eq!(on(&told.client, 5), on(&echoed_as_it_was(5, "/three"), 5));
            assert!(on(&told.origins[0], 1).ends_with(" RST 2"), "{}", told.origins[0]);
        },
    });
}

#[test]
fn a_stream_above_a_goaway_is_tried_again_elsewhere() {
    tell_frames(&Story {
        options: Options { route: RETRIED, ..TO_HTTP2 },
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End)]),
            Expect(1, "HEADERS"),
            send(&[request(3, "GET", "/two", End)]),
            Sleep(1000),
            Expect(1, "END"),
            Expect(3, "END"),
        ],
        origins: vec![
            vec![
                send(&[settings(&[])]),
                Expect(1, "END"),
                send(&[response(1, More)]),
                Expect(3, "END"),
                send(&[go_away(1, 0), data(1, "/one", End)]),
            ],
            vec![send(&[settings(&[])]), Expect(1, "END"), Echo(Of::Stream(1))],
        ],
        expected: |told| {
            let expected = [echoed_as_it_was(1, "/one"), echoed_as_it_was(3, "/two")];
            assert_eq!(told.client, expected.join("\n"));
        },
    });
}

#[test]
fn both_windows_are_one_byte() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[(INITIAL_WINDOW_SIZE, 1)]), request(1, "POST", "/", More)]),
            send(&[data(1, "abc", End)]),
            Expect(1, "DATA a"),
            send(&[window(1, 1)]),
            Expect(1, "DATA ab"),
            send(&[window(1, 1)]),
            Expect(1, "DATA abc"),
        ],
        origins: vec![vec![
            send(&[settings(&[(INITIAL_WINDOW_SIZE, 1)])]),
            Expect(1, "DATA a"),
            send(&[response(1, More), data(1, "a", More), window(1, 1)]),
            Expect(1, "DATA ab"),
            send(&[data(1, "b", More), window(1, 1)]),
            Expect(1, "DATA abc END"),
            send(&[data(1, "c", End)]),
        ]],
        expected: |told| {
            assert!(told.client.ends_with(" DATA abc END"), "{}", told.client);
            assert!(told.origins[0].ends_with(" DATA abc END"), "{}", told.origins[0]);
        },
    });
}

#[test]
fn an_origin_that_takes_one_stream_at_a_time_gets_two_connections() {
    let one_at_a_time = || {
        vec![
            send(&[settings(&[(MAX_CONCURRENT_STREAMS, 1)])]),
            Expect(1, "END"),
            Echo(Of::Stream(1)),
            Expect(3, "END"),
            Echo(Of::Stream(3)),
            // If the second of them comes late.
            Expect(5, "END"),
            Echo(Of::Stream(5)),
        ]
    };
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/zero", End)]),
            Expect(1, "END"),
            send(&[request(3, "GET", "/one", End), request(5, "GET", "/two", End)]),
            Expect(3, "END"),
            Expect(5, "END"),
        ],
        origins: vec![one_at_a_time(), one_at_a_time()],
        expected: |told| {
            for (stream, path) in [(1, "/zero"), (3, "/one"), (5, "/two")] {
                let expected = echoed_as_it_was(stream, path);
                assert_eq!(on(&told.client, stream), on(&expected, stream));
            }
        },
    });
}

#[test]
fn a_tunnel_goes_through_two_streams() {
    tell_frames(&Story {
        options: Options { manager: WEBSOCKET, ..TO_HTTP2 },
        client: vec![
            send(&[preface(&[]), headers(1, &EXTENDED_CONNECT, More), data(1, "early ", More)]),
            send(&[data(1, "and late", More)]),
            Expect(1, "heard"),
            send(&[data(1, "", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![
            send(&[settings(&[(8, 1)])]),
            Expect(1, "HEADERS"),
            send(&[response(1, More)]),
            Expect(1, "late"),
            send(&[data(1, "heard", More)]),
            Expect(1, "END"),
            send(&[data(1, "", End)]),
        ]],
        expected: |told| {
            assert!(on(&told.client, 1).ends_with(" DATA heard END"), "{}", told.client);
            assert!(told.origins[0].ends_with(" DATA early and late END"), "{}", told.origins[0]);
        },
    });
}

#[test]
fn a_client_of_http2_that_leaves_resets_its_streams() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/one", More), request(3, "GET", "/two", End)]),
            Expect(1, "DATA"),
            Expect(3, "DATA"),
            Close,
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "HEADERS"),
            Expect(3, "HEADERS"),
            send(&[response(1, More), data(1, "x", More), response(3, More), data(3, "x", More)]),
            Expect(1, "RST"),
            Expect(3, "RST"),
        ]],
        expected: |told| {
            for stream in [1, 3] {
                assert!(on(&told.origins[0], stream).ends_with(" RST 2"), "{}", told.origins[0]);
            }
        },
    });
}
