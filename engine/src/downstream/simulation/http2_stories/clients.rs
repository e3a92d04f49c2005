//! A client of HTTP/2, an origin of HTTP/1.

use super::*;

#[test]
fn requests_at_once_have_connections_of_their_own_to_an_origin_of_http1() {
    let twice = || vec![HEAD_END, Echo(Of::Connection), HEAD_END, Echo(Of::Connection)];
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End), request(3, "GET", "/two", End)]),
            Expect(1, "END"),
            Expect(3, "END"),
        ],
        origins: vec![twice(), twice()],
        expected: |told| {
            assert_eq!(told.client, [echoed(1, "/one"), echoed(3, "/two")].join("\n"));
            assert_eq!(told.end, peer::End::Open);
        },
    });
}

#[test]
fn a_body_in_frames_and_its_trailers_reach_an_origin_of_http1() {
    const TRAILERS: &str = "typed_extension_protocol_options: { \
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
        explicit_http_config: { http_protocol_options: { enable_trailers: true } } } }";
    tell_frames(&Story {
        options: Options { cluster: TRAILERS, ..TO_HTTP1 },
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/", More), data(1, "he", More)]),
            send(&[data(1, "llo", More), headers(1, &[("x-sum", "5")], End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![
            Await("x-sum: 5\r\n\r\n"),
            Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"),
            Send("x-end: 1\r\n\r\n"),
        ]],
        expected: |told| {
            let expected =
                "1 HEADERS :status: 200 date: now server: envoy DATA ok HEADERS x-end: 1 END";
            assert_eq!(told.client, expected);
            assert!(told.origins[0].ends_with("\r\n0\r\nx-sum: 5\r\n\r\n"));
        },
    });
}

#[test]
fn a_request_that_its_client_resets_leaves_the_others_alone() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/one", More), data(1, "he", More)]),
            send(&[reset(1, 8), request(3, "GET", "/two", End)]),
            Expect(3, "END"),
        ],
        origins: vec![
            vec![Await("GET "), Echo(Of::Connection)],
            vec![Await("GET "), Echo(Of::Connection)],
        ],
        expected: |told| assert_eq!(told.client, echoed(3, "/two")),
    });
}

#[test]
fn a_response_that_is_cut_off_resets_its_stream_and_the_connection_stays() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End)]),
            Expect(1, "RST"),
            send(&[request(3, "GET", "/two", End)]),
            Expect(3, "END"),
        ],
        origins: vec![
            vec![HEAD_END, Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"), Close],
            vec![HEAD_END, Echo(Of::Connection)],
        ],
        expected: |told| {
            let cut = on(&told.client, 1);
            assert!(cut.ends_with("RST 2") && !cut.contains("END"), "{cut}");
            assert_eq!(on(&told.client, 3), on(&echoed(3, "/two"), 3));
        },
    });
}

/// A window of one byte, opened byte by byte.
#[test]
fn a_response_waits_for_the_window_of_its_client() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[(INITIAL_WINDOW_SIZE, 1)]), request(1, "GET", "/one", End)]),
            Expect(1, "DATA h"),
            send(&[window(1, 1)]),
            Expect(1, "DATA he"),
            send(&[window(1, 2)]),
            Expect(1, "DATA hell"),
            send(&[window(1, 1)]),
            Expect(1, "DATA hello END"),
        ],
        origins: vec![vec![HEAD_END, Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")]],
        expected: |told| assert!(told.client.ends_with(" DATA hello END")),
    });
}

/// SETTINGS open the windows of all streams.
#[test]
fn responses_wait_for_windows_that_settings_open() {
    let ok = || vec![HEAD_END, Send(OK), HEAD_END, Send(OK)];
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[
                preface(&[(INITIAL_WINDOW_SIZE, 0)]),
                request(1, "GET", "/one", End),
                request(3, "GET", "/two", End),
            ]),
            Expect(1, "HEADERS"),
            Expect(3, "HEADERS"),
            send(&[settings(&[(INITIAL_WINDOW_SIZE, 1)])]),
            Expect(1, "DATA o"),
            Expect(3, "DATA o"),
            send(&[settings(&[(INITIAL_WINDOW_SIZE, 0)]), settings(&[(INITIAL_WINDOW_SIZE, 9)])]),
            Expect(1, "END"),
            Expect(3, "END"),
        ],
        origins: vec![ok(), ok()],
        expected: |told| {
            for stream in [1, 3] {
                assert!(on(&told.client, stream).ends_with(" DATA ok END"));
            }
        },
    });
}

#[test]
fn a_client_that_leaves_takes_all_of_its_requests_along() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[
                preface(&[]),
                request(1, "POST", "/one", More),
                data(1, "he", More),
                request(3, "GET", "/two", End),
            ]),
            Expect(3, "HEADERS"),
            Close,
        ],
        origins: vec![
            vec![HEAD_END, Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")],
            vec![HEAD_END, Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")],
        ],
        expected: |_| {},
    });
}

#[test]
fn a_client_that_half_closes_has_left() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![send(&[preface(&[]), request(1, "GET", "/one", End)]), Shutdown],
        origins: vec![vec![HEAD_END]],
        expected: |told| assert_ne!(told.end, peer::End::Open),
    });
}

#[test]
fn a_response_that_precedes_the_end_of_its_request_resets_it_without_an_error() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/", More), data(1, "he", More)]),
            Expect(1, "RST"),
            send(&[data(1, "llo", End), request(3, "GET", "/two", End)]),
            Expect(3, "END"),
        ],
        origins: vec![vec![Await("e\r\n"), Send(OK)], vec![HEAD_END, Echo(Of::Connection)]],
        expected: |told| {
            assert!(on(&told.client, 1).ends_with(" DATA ok END RST 0"), "{}", told.client);
            assert_eq!(on(&told.client, 3), on(&echoed(3, "/two"), 3));
        },
    });
}

#[test]
fn a_client_that_goes_away_gets_its_response() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End), go_away(0, 0)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![HEAD_END, Echo(Of::Connection)]],
        expected: |told| assert_eq!(told.client, echoed(1, "/one")),
    });
}

#[test]
fn a_malformed_request_ends_the_connection_and_its_other_requests() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![send(&[
            preface(&[]),
            request(1, "GET", "/one", End),
            headers(3, &[(":method", "GET"), ("X", "y")], End),
        ])],
        origins: vec![vec![HEAD_END]],
        expected: |told| {
            assert!(on(&told.client, 0).ends_with("GOAWAY 3 1"), "{}", told.client);
            // It may be reset while the connection closes.
            assert!(["", "RST 2"].contains(&on(&told.client, 1)), "{}", told.client);
            assert_eq!(told.end, peer::End::Closed);
        },
    });
}

#[test]
fn a_stream_beyond_the_limit_is_refused() {
    tell_frames(&Story {
        options: Options {
            manager: "http2_protocol_options: { max_concurrent_streams: 1 }",
            ..TO_HTTP1
        },
        client: vec![
            send(&[preface(&[]), request(1, "POST", "/one", More), request(3, "GET", "/two", End)]),
            Expect(3, "RST"),
            send(&[data(1, "x", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![Await("0\r\n\r\n"), Send(OK)]],
        expected: |told| {
            assert_eq!(on(&told.client, 3), "RST 7");
            assert!(on(&told.client, 1).ends_with("DATA ok END"));
        },
    });
}

#[test]
fn a_silent_origin_costs_a_stream_and_not_the_connection() {
    tell_frames(&Story {
        options: Options { route: "timeout: 1s", ..TO_HTTP1 },
        client: vec![
            send(&[preface(&[]), request(1, "GET", "/one", End)]),
            Sleep(1500),
            Expect(1, "END"),
            send(&[request(3, "GET", "/two", End)]),
            Expect(3, "END"),
        ],
        origins: vec![vec![HEAD_END], vec![HEAD_END, Echo(Of::Connection)]],
        expected: |told| {
            assert!(on(&told.client, 1).starts_with("HEADERS :status: 504 "));
            assert_eq!(on(&told.client, 3), on(&echoed(3, "/two"), 3));
        },
    });
}

#[test]
fn a_client_that_sends_anything_has_more_time_to_answer_a_ping() {
    tell_frames(&Story {
        options: Options {
            manager: "http2_protocol_options: { connection_keepalive: { interval: 1s, timeout: 1s } }",
            ..TO_HTTP1
        },
        client: vec![
            send(&[preface(&[])]),
            // The PING is sent now, at the latest, and would have to be answered at 2.2 s.
            Sleep(1200),
            Sleep(600),
            send(&[window(0, 1)]),
            Sleep(600),
            send(&[request(1, "GET", "/one", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![HEAD_END, Echo(Of::Connection)]],
        expected: |told| assert_eq!(on(&told.client, 1), on(&echoed(1, "/one"), 1)),
    });
}

#[test]
fn a_client_that_does_not_complete_its_head_is_disconnected() {
    let whole = request(1, "GET", "/one", End);
    tell_frames(&Story {
        options: Options { manager: "request_headers_timeout: 1s", ..TO_HTTP1 },
        client: vec![
            send(&[preface(&[]), whole[..12].to_vec()]),
            Sleep(600),
            send(&[whole[12..20].to_vec()]),
            Sleep(600),
        ],
        origins: vec![],
        expected: |told| {
            assert!(on(&told.client, 0).contains("GOAWAY"), "{}", told.client);
            assert_eq!(told.end, peer::End::Closed);
        },
    });
}

#[test]
fn a_client_of_http2_waits_for_permission_to_send_its_body() {
    let put = [
        (":method", "PUT"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
        ("expect", "100-continue"),
    ];
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), headers(1, &put, More)]),
            Expect(1, ":status: 100"),
            send(&[data(1, "hello", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![Await("0\r\n\r\n"), Send(OK)]],
        expected: |told| {
            assert!(told.client.starts_with("1 HEADERS :status: 100 HEADERS :status: 200 "));
        },
    });
}

const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "a:1")];

#[test]
fn a_stream_may_be_a_tunnel() {
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[preface(&[]), headers(1, &CONNECT, More), data(1, "early ", More)]),
            send(&[data(1, "and late", More)]),
            Expect(1, "heard"),
            send(&[data(1, "", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![Await("late"), Send("heard"), Close]],
        expected: |told| {
            assert!(on(&told.client, 1).starts_with("HEADERS :status: 200 "));
            assert!(on(&told.client, 1).contains(" DATA heard END"));
            assert_eq!(told.origins, ["early and late"]);
        },
    });
}

#[test]
fn an_extended_connect_is_an_upgrade_of_the_origin() {
    tell_frames(&Story {
        options: Options { manager: WEBSOCKET, ..TO_HTTP1 },
        client: vec![
            send(&[preface(&[]), headers(1, &EXTENDED_CONNECT, More)]),
            Expect(1, "HEADERS"),
            send(&[data(1, "from the client", More)]),
            Expect(1, "from the origin"),
            send(&[data(1, "", End)]),
            Expect(1, "END"),
        ],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"),
            Send("upgrade: websocket\r\n\r\nfrom the origin"),
            Await("from the client"),
            Close,
        ]],
        expected: |told| {
            assert!(on(&told.client, 1).starts_with("HEADERS :status: 200 "), "{}", told.client);
            assert!(on(&told.client, 1).contains(" DATA from the origin END"));
        },
    });
}

/// Windows and buffers are smaller than the body, in both directions.
#[test]
fn bodies_larger_than_all_windows_arrive_whole_at_both_ends() {
    const LENGTH: usize = 1 << 18;
    let frame = "x".repeat(16_000);
    let frames = vec![data(1, &frame, More); 16].concat();
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{}", "y".repeat(LENGTH));
    tell_frames(&Story {
        options: TO_HTTP1,
        client: vec![
            send(&[
                preface(&[(INITIAL_WINDOW_SIZE, 1 << 20)]),
                window(0, 1 << 20),
                request(1, "POST", "/", More),
                frames,
                data(1, "end", End),
            ]),
            Pause,
            Sleep(10),
            Expect(1, "END"),
        ],
        origins: vec![vec![HEAD_END, Pause, Sleep(10), Await("0\r\n\r\n"), Send(answer.leak())]],
        expected: |told| {
            let data = on(&told.client, 1).split(" DATA ").nth(1).expect("a body");
            assert_eq!(data.len(), LENGTH + " END".len());
            assert!(told.origins[0].ends_with("0\r\n\r\n"));
        },
    });
}
