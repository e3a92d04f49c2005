//! The stories.

use super::peer::Act::{Await, Close, Pause, Send, Shutdown, Sleep, Vanish};
use super::peer::{Act, End};
use super::world::Options;
use super::{Over, Story, Told, tell, tell_over};

const GET: &str = "GET /one HTTP/1.1\r\nhost: a\r\n\r\n";
const GET_TWO: &str = "GET /two HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HEAD_END: Act = Await("\r\n\r\n");

/// What a client gets for [`OK`].
const GOT_OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: now\r\nserver: envoy\r\n\r\nok";
/// What an origin gets for [`GET`].
const GOT_GET: &str = "GET /one HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: http\r\n\r\n";
const GOT_GET_TWO: &str = "GET /two HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: http\r\n\r\n";

const PLAIN: Options = Options { manager: "", route: "timeout: 0s", cluster: "" };

/// The body behind the first head.
fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map(|(_, body)| body).expect("a whole head")
}

/// What is in the chunks, and what follows the last one; none: it is not there yet.
fn unchunked(mut body: &str) -> (String, Option<&str>) {
    let mut data = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        if size == 0 {
            return (data, rest.strip_prefix("\r\n"));
        }
        let Some(chunk) = rest.get(..size) else { break };
        data.push_str(chunk);
        let Some(next) = rest[size..].strip_prefix("\r\n") else { break };
        body = next;
    }
    (data, None)
}

#[test]
fn requests_follow_each_other_over_the_same_connections() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("ok"), Send(GET_TWO), Await("ok")],
        origins: vec![vec![HEAD_END, Send(OK), HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
            assert_eq!(told.end, End::Open);
            assert_eq!(told.origins, [[GOT_GET, GOT_GET_TWO].concat()]);
        },
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Send(GET_TWO), Await("ok"), Await("ok")],
        origins: vec![vec![HEAD_END, Send(OK), HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
            assert_eq!(told.origins, [[GOT_GET, GOT_GET_TWO].concat()]);
        },
    });
}

/// Bytes behind a body belong to the next request.
#[test]
fn a_body_of_known_length_ends_where_the_next_request_begins() {
    const POST: &str =
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET /two HTTP/1.1\r\n";
    tell(&Story {
        options: PLAIN,
        client: vec![Send(POST), Send("host: a\r\n\r\n"), Await("ok"), Await("ok")],
        origins: vec![vec![Await("hello"), Send(OK), HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
            let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\
                        x-forwarded-proto: http\r\n\r\nhello";
            assert_eq!(told.origins, [[post, GOT_GET_TWO].concat()]);
        },
    });
}

#[test]
fn a_chunked_body_ends_where_the_next_request_begins() {
    const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nin: vain\r\n\r\nGET /two HTTP/1.1\r\n";
    tell(&Story {
        options: PLAIN,
        client: vec![Send(POST), Send("host: a\r\n\r\n"), Await("ok"), Await("ok")],
        origins: vec![vec![Await("0\r\n\r\n"), Send(OK), HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
            let (data, next) = unchunked(body(&told.origins[0]));
            assert_eq!((&*data, next), ("hello", Some(GOT_GET_TWO)));
        },
    });
}

#[test]
fn a_chunked_response_reaches_the_client() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("0\r\n\r\n"), Send(GET_TWO), Await("ok")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n"),
            Send("3\r\nllo\r\n0\r\n\r\n"),
            HEAD_END,
            Send(OK),
        ]],
        expected: |told| {
            let (data, next) = unchunked(body(&told.client));
            assert_eq!((&*data, next), ("hello", Some(GOT_OK)));
            assert_eq!(told.origins.len(), 1);
        },
    });
}

/// Whoever cannot tell the end of a body by its framing gets it in chunks.
#[test]
fn a_response_until_close_ends_with_the_origin_and_the_client_stays() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("0\r\n\r\n"), Send(GET_TWO), Await("ok")],
        origins: vec![
            vec![HEAD_END, Send("HTTP/1.1 200 OK\r\n\r\nhello"), Close],
            vec![HEAD_END, Send(OK)],
        ],
        expected: |told| {
            let (data, next) = unchunked(body(&told.client));
            assert_eq!((&*data, next), ("hello", Some(GOT_OK)));
            assert_eq!(told.origins.len(), 2);
        },
    });
}

/// A truncated response never looks complete.
fn is_truncated(told: &Told) {
    assert_ne!(told.end, End::Open, "the client would wait for the rest");
    assert!(!told.client.ends_with("0\r\n\r\n"), "the client takes a part for the whole");
    assert_eq!(told.client.get("HTTP/1.x".len()..).and_then(|rest| rest.get(..7)), Some(" 200 OK"));
}

#[test]
fn a_response_of_known_length_that_is_cut_off_is_seen_to_be() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("he")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"),
            Close,
        ]],
        expected: is_truncated,
    });
}

/// Only the end of the connection tells this client where the body ends.
#[test]
fn a_response_until_close_that_is_cut_off_is_seen_to_be() {
    tell(&Story {
        options: Options { manager: "http_protocol_options: { accept_http_10: true }", ..PLAIN },
        client: vec![Send("GET /one HTTP/1.0\r\nhost: a\r\n\r\n"), Await("he")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n"),
            Close,
        ]],
        expected: |told| {
            is_truncated(told);
            // Between Unix sockets there is no reset.
            if told.over == Over::TlsOfClient {
                assert_eq!(told.end, End::Truncated);
            }
        },
    });
}

#[test]
fn a_chunked_response_that_is_cut_off_is_seen_to_be() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("he")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n"),
            Close,
        ]],
        expected: is_truncated,
    });
}

/// Without `close_notify` the end of the connection is not the end of the body.
#[test]
fn a_response_until_close_is_cut_off_where_tls_is() {
    tell_over(
        Over::TlsOfOrigin,
        &Story {
            options: PLAIN,
            client: vec![Send(GET), Await("he")],
            origins: vec![vec![HEAD_END, Send("HTTP/1.1 200 OK\r\n\r\nhe"), Vanish]],
            expected: is_truncated,
        },
    );
}

#[test]
fn a_chunked_response_with_a_violation_is_cut_off() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("he")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\nzz\r\n"),
        ]],
        expected: is_truncated,
    });
}

/// The bytes behind a response are nobody's: not this client's, and not the next one's.
#[test]
fn bytes_behind_a_response_never_reach_a_client() {
    tell(&Story {
        options: PLAIN,
        // Had the second request been sent already, nobody could tell that they are not its response.
        client: vec![Send(GET), Await("ok"), Sleep(1), Send(GET_TWO), Await("ok")],
        origins: vec![
            vec![
                HEAD_END,
                Send(concat!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                    "HTTP/1.1 666 Smuggled\r\ncontent-length: 0\r\n\r\n"
                )),
            ],
            vec![HEAD_END, Send(OK)],
        ],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
        },
    });
}

/// A host closes an idle connection whenever it likes: a request that can be sent twice does not
/// notice.
#[test]
fn an_origin_that_closes_after_its_response_costs_no_request() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Await("ok"), Send(GET_TWO), Await("ok")],
        origins: vec![vec![HEAD_END, Send(OK), Close], vec![HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, [GOT_OK, GOT_OK].concat());
            assert_eq!(told.origins[1], GOT_GET_TWO);
        },
    });
}

#[test]
fn a_response_that_comes_before_the_end_of_the_request_is_delivered() {
    tell(&Story {
        options: PLAIN,
        client: vec![
            Send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello"),
            Await("ok"),
            Send("world"),
        ],
        origins: vec![vec![Await("hello"), Send(OK)]],
        expected: |told| {
            let (head, body) = GOT_OK.split_once("\r\n\r\n").expect("a head");
            assert_eq!(told.client, format!("{head}\r\nconnection: close\r\n\r\n{body}"));
            assert_eq!(told.end, End::Closed);
        },
    });
}

#[test]
fn a_response_that_may_be_retried_is_not_delivered() {
    const UNAVAILABLE: &str = "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy";
    tell(&Story {
        options: Options { route: "timeout: 0s, retry_policy: { retry_on: 5xx }", ..PLAIN },
        client: vec![
            Send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Send("5\r\nhello\r\n0\r\n\r\n"),
            // The back-off.
            Sleep(1000),
            Await("ok"),
        ],
        // The second attempt takes the same connection if all of the first response is here.
        origins: vec![
            vec![Await("0\r\n\r\n"), Send(UNAVAILABLE), Await("0\r\n\r\n"), Send(OK)],
            vec![Await("0\r\n\r\n"), Send(OK)],
        ],
        expected: |told| {
            assert_eq!(told.client, GOT_OK);
            let attempts = told.origins.concat();
            let attempts: Vec<_> = attempts.split("POST ").skip(1).collect();
            assert_eq!(attempts.len(), 2);
            for attempt in attempts {
                let (data, rest) = unchunked(body(attempt));
                assert_eq!((&*data, rest), ("hello", Some("")));
            }
        },
    });
}

#[test]
fn a_silent_origin_times_out_and_the_client_stays() {
    tell(&Story {
        options: Options { route: "timeout: 1s", ..PLAIN },
        client: vec![Send(GET), Sleep(1500), Await("timeout"), Send(GET_TWO), Await("ok")],
        origins: vec![vec![HEAD_END], vec![HEAD_END, Send(OK)]],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
            assert!(told.client.ends_with(GOT_OK));
            assert_eq!(told.end, End::Open);
        },
    });
}

#[test]
fn an_attempt_that_times_out_is_made_again() {
    let route = "timeout: 0s, retry_policy: { retry_on: 5xx, per_try_timeout: 1s }";
    tell(&Story {
        options: Options { route, ..PLAIN },
        client: vec![Send(GET), Sleep(1500), Sleep(1000), Await("ok")],
        origins: vec![vec![HEAD_END], vec![HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, GOT_OK);
            assert_eq!(told.origins, [GOT_GET, GOT_GET]);
        },
    });
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Close],
        origins: vec![vec![HEAD_END, Send(OK)]],
        expected: |told| {
            assert!(told.origins.len() <= 1);
        },
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_takes_its_request_along() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhe"), Close],
        origins: vec![vec![Await("he")]],
        expected: |told| {
            let truncated = told.origins.iter().all(|origin| !origin.contains("\r\n\r\nhe\r\n"));
            assert!(truncated);
        },
    });
}

/// `printf … | nc`
#[test]
fn a_client_that_only_half_closes_gets_its_response() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Shutdown, Await("ok")],
        origins: vec![vec![HEAD_END, Send(OK)]],
        expected: |told| {
            assert_eq!((&*told.client, told.end), (GOT_OK, End::Closed));
        },
    });
}

#[test]
fn a_client_waits_for_permission_to_send_its_body() {
    tell(&Story {
        options: PLAIN,
        client: vec![
            Send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"),
            Await("100 Continue\r\n\r\n"),
            Send("hello"),
            Await("ok"),
        ],
        origins: vec![vec![Await("hello"), Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, ["HTTP/1.1 100 Continue\r\n\r\n", GOT_OK].concat());
        },
    });
}

#[test]
fn interim_responses_precede_the_final_one() {
    tell(&Story {
        options: Options { manager: "proxy_100_continue: true", ..PLAIN },
        client: vec![Send(GET), Await("ok")],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
            Send(OK),
        ]],
        expected: |told| {
            let hints = "HTTP/1.1 103 Unknown\r\nlink: </a>\r\n\r\n";
            assert_eq!(told.client, [hints, GOT_OK].concat());
        },
    });
}

const WEBSOCKET: Options =
    Options { manager: "upgrade_configs: [{ upgrade_type: websocket }]", ..PLAIN };

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_until_both_have_ended() {
    tell(&Story {
        options: WEBSOCKET,
        client: vec![
            Send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            Await("\r\n\r\n"),
            Send("GET / from the client"),
            Await("from the origin"),
            Shutdown,
        ],
        origins: vec![vec![
            HEAD_END,
            Send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"),
            Send("upgrade: websocket\r\n\r\nHTTP/1.1 from the origin"),
            Await("from the client"),
            Close,
        ]],
        expected: |told| {
            assert_eq!(body(&told.client), "HTTP/1.1 from the origin");
            assert_eq!(body(&told.origins[0]), "GET / from the client");
            assert_eq!(told.end, End::Closed);
        },
    });
}

/// What a client sends behind a CONNECT belongs to the tunnel.
#[test]
fn a_tunnel_begins_with_the_bytes_behind_its_head() {
    tell(&Story {
        options: PLAIN,
        client: vec![
            Send("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nearly "),
            Send("and late"),
            Await("heard"),
            Shutdown,
        ],
        origins: vec![vec![Await("late"), Send("heard"), Close]],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 200 OK\r\n"));
            assert_eq!(body(&told.client), "heard");
            assert_eq!(told.origins, ["early and late"]);
        },
    });
}

#[test]
fn a_request_that_is_no_http_is_refused_and_the_connection_closed() {
    tell(&Story {
        options: PLAIN,
        client: vec![Send("GET / HTTP/1.1\r\nhost : a\r\n\r\n")],
        origins: vec![],
        expected: |told| {
            assert!(told.client.starts_with("HTTP/1.1 400 Bad Request\r\n"));
            assert_eq!(told.end, End::Closed);
        },
    });
}

/// A client that reads late gets everything, and a fast origin waits for it.
#[test]
fn a_response_that_is_larger_than_all_buffers_arrives_whole() {
    const LENGTH: usize = 1 << 18;
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{}end",
        "x".repeat(LENGTH - "end".len())
    );
    tell(&Story {
        options: PLAIN,
        client: vec![Send(GET), Pause, Sleep(10), Await("end"), Send(GET_TWO), Await("ok")],
        origins: vec![vec![HEAD_END, Send(response.leak()), HEAD_END, Send(OK)]],
        expected: |told| {
            assert!(told.client.ends_with(GOT_OK));
            assert_eq!(body(&told.client).len(), LENGTH + GOT_OK.len());
        },
    });
}

#[test]
fn a_request_that_is_larger_than_all_buffers_arrives_whole() {
    const LENGTH: usize = 1 << 18;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n{}end",
        "x".repeat(LENGTH - "end".len())
    );
    tell(&Story {
        options: PLAIN,
        client: vec![Send(request.leak()), Await("ok")],
        origins: vec![vec![HEAD_END, Pause, Sleep(10), Await("end"), Send(OK)]],
        expected: |told| {
            assert_eq!(told.client, GOT_OK);
            assert_eq!(body(&told.origins[0]).len(), LENGTH);
        },
    });
}
