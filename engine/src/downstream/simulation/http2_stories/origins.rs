//! A client of HTTP/1, an origin of HTTP/2.

use super::*;

#[test]
fn requests_share_a_connection_to_an_origin_of_http2() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("0\r\n\r\n"), Send(GET_TWO), Await("0\r\n\r\n")],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "END"),
            Echo(Of::Stream(1)),
            Expect(3, "END"),
            Echo(Of::Stream(3)),
        ]],
        expected: |told| {
            assert_eq!(told.origins, [[got(1, "/one"), got(3, "/two")].join("\n")]);
        },
    });
}

#[test]
fn a_body_of_chunks_and_its_trailers_reach_an_origin_of_http2() {
    tell_frames(&Story {
        options: Options {
            manager: "http_protocol_options: { enable_trailers: true }",
            ..TO_HTTP2
        },
        client: vec![
            Send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n"),
            Send("3\r\nllo\r\n0\r\nx-sum: 5\r\n\r\n"),
            Await("x-end: 1\r\n\r\n"),
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "END"),
            send(&[response(1, More), data(1, "ok", More), headers(1, &[("x-end", "1")], End)]),
        ]],
        expected: |told| {
            assert!(told.origins[0].ends_with(" DATA hello HEADERS x-sum: 5 END"));
            assert!(told.client.ends_with("k\r\n0\r\nx-end: 1\r\n\r\n"), "{}", told.client);
        },
    });
}

#[test]
fn a_request_waits_for_the_window_of_its_origin() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![
            Send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"),
            Await("HTTP/1.1 200 OK"),
        ],
        origins: vec![vec![
            send(&[settings(&[(INITIAL_WINDOW_SIZE, 1)])]),
            Expect(1, "DATA h"),
            send(&[window(1, 1)]),
            Expect(1, "DATA he"),
            send(&[window(1, 3)]),
            Expect(1, "DATA hello END"),
            send(&[response(1, End)]),
        ]],
        expected: |told| {
            assert!(told.origins[0].contains(" DATA hello END"), "{}", told.origins[0]);
        },
    });
}

#[test]
fn an_origin_that_resets_a_request_is_a_503_and_its_connection_stays() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("remote reset"), Send(GET_TWO), Await("0\r\n\r\n")],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "END"),
            send(&[reset(1, 2)]),
            Expect(3, "END"),
            Echo(Of::Stream(3)),
        ]],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        },
    });
}

#[test]
fn an_origin_that_resets_its_response_cuts_it_off() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("h")],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "END"),
            send(&[response(1, More), data(1, "h", More), reset(1, 2)]),
        ]],
        expected: |told| {
            assert_ne!(told.end, peer::End::Open, "the client would wait for the rest");
            assert!(!told.client.ends_with("0\r\n\r\n"), "a part is taken for the whole");
        },
    });
}

#[test]
fn a_stream_that_is_refused_is_tried_again() {
    tell_frames(&Story {
        options: Options { route: RETRIED, ..TO_HTTP2 },
        client: vec![
            Send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"),
            // The back-off.
            Sleep(1000),
            Await("0\r\n\r\n"),
        ],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "HEADERS"),
            send(&[reset(1, 7)]),
            Expect(3, "END"),
            Echo(Of::Stream(3)),
        ]],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 200 OK\r\n"), "{}", told.client);
            assert!(on(&told.origins[0], 3).ends_with(" DATA hello END"));
        },
    });
}

#[test]
fn an_origin_that_goes_away_answers_first_and_the_next_request_goes_elsewhere() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("0\r\n\r\n"), Send(GET_TWO), Await("0\r\n\r\n")],
        origins: vec![
            vec![
                send(&[settings(&[])]),
                Expect(1, "END"),
                send(&[go_away(1, 0)]),
                Echo(Of::Stream(1)),
            ],
            vec![send(&[settings(&[])]), Expect(1, "END"), Echo(Of::Stream(1))],
        ],
        expected: |told| assert_eq!(told.origins, [got(1, "/one"), got(1, "/two")]),
    });
}

#[test]
fn a_client_of_http1_that_leaves_resets_its_stream() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("h\r\n"), Close],
        origins: vec![vec![
            send(&[settings(&[])]),
            Expect(1, "END"),
            send(&[response(1, More), data(1, "h", More)]),
            // It may only have ended its direction, until it does not take what follows.
            Sleep(1),
            send(&[data(1, "e", More)]),
            Sleep(1),
            send(&[data(1, "e", More)]),
            Expect(1, "RST"),
        ]],
        expected: |told| assert!(told.origins[0].ends_with(" END RST 2"), "{}", told.origins[0]),
    });
}

#[test]
fn an_origin_of_http2_that_leaves_costs_the_request() {
    tell_frames(&Story {
        options: TO_HTTP2,
        client: vec![Send(GET), Await("termination"), Send(GET_TWO), Await("0\r\n\r\n")],
        origins: vec![
            vec![send(&[settings(&[])]), Expect(1, "END"), Close],
            vec![send(&[settings(&[])]), Expect(1, "END"), Echo(Of::Stream(1))],
        ],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        },
    });
}

#[test]
fn an_upgrade_is_an_extended_connect_to_an_origin_of_http2() {
    tell_frames(&Story {
        options: Options { manager: "upgrade_configs: [{ upgrade_type: websocket }]", ..TO_HTTP2 },
        client: vec![
            Send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            HEAD_END,
            Send("from the client"),
            Await("from the origin"),
            Shutdown,
        ],
        origins: vec![vec![
            send(&[settings(&[(8, 1)])]),
            Expect(1, ":protocol: websocket"),
            send(&[response(1, More), data(1, "from the origin", More)]),
            Expect(1, "from the client"),
            send(&[data(1, "", End)]),
        ]],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
            assert!(told.client.ends_with("\r\n\r\nfrom the origin"), "{}", told.client);
            assert!(told.origins[0].contains(" DATA from the client"), "{}", told.origins[0]);
        },
    });
}
