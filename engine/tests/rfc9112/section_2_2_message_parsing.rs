use corvoy_engine::http::{HeadLimits, RequestHead};
use corvoy_engine::http1::Error;

use super::{get, ok, request, request_of, response};

/// "a recipient MAY recognize a single LF as a line terminator and ignore any preceding CR."
#[test]
fn a_line_of_a_head_may_end_in_lf() {
    let head = request("GET / HTTP/1.1\nHost: h\nA: b\n\n").expect("accepted, as by Envoy");
    assert_eq!(head.fields.find(b"a"), Some(&b"b"[..]));
    assert!(response("HTTP/1.1 200 OK\nA: b\n\n").is_ok());
}

/// "A sender MUST NOT generate a bare CR (a CR character not immediately followed by LF) within any
/// protocol elements other than the content. A recipient of such a bare CR MUST consider that
/// element to be invalid or replace each bare CR with SP"
#[test]
fn a_bare_cr_is_invalid() {
    assert_eq!(get("A: b\rc\r\n").err(), Some(Error::FieldValue));
    assert_eq!(get("A: b\r\r\n").err(), Some(Error::FieldValue));
    assert_eq!(get("A\r: b\r\n").err(), Some(Error::FieldName));
    assert_eq!(ok("A: b\rc\r\n").err(), Some(Error::FieldValue));
    assert!(request("GET / HTTP/1.1\rHost: h\r\n\r\n").is_err());
    assert!(request("GET /\r HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
    assert!(request("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
}

/// "In the interest of robustness, a server that is expecting to receive and parse a request-line
/// SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
#[test]
fn empty_lines_before_a_request_are_ignored() {
    for before in ["\r\n", "\n", "\r\n\r\n", "\n\r\n\n"] {
        let head = request(&format!("{before}GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(head.expect("accepted").target(), b"/");
    }
    assert_eq!(response("\r\nHTTP/1.1 200 OK\r\n\r\n").err(), Some(Error::StatusLine));
}

/// "A recipient that receives whitespace between the start-line and the first header field MUST
/// either reject the message as invalid or consume each whitespace-preceded line without further
/// processing of it"
#[test]
fn white_space_before_the_first_field_is_rejected() {
    for space in [" ", "\t", " \r\n"] {
        let text = format!("GET / HTTP/1.1\r\n{space}Host: h\r\n\r\n");
        assert_eq!(request(&text).err(), Some(Error::FieldName), "{space:?}");
    }
    assert_eq!(ok(" A: b\r\n").err(), Some(Error::FieldName));
}

/// "When a server listening only for HTTP request messages, or processing what appears from the
/// start-line to be an HTTP request message, receives a sequence of octets that does not match the
/// HTTP-message grammar aside from the robustness exceptions listed above, the server SHOULD
/// respond with a 400 (Bad Request) response and close the connection."
#[test]
fn garbage_is_refused_at_its_first_bytes() {
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\x00", b"{\"a\":1}", b"\x80", b"PRI ", b"FOO /"]
    {
        let mut head = RequestHead::default();
        head.received().extend_from_slice(garbage);
        let error = head.parse(&HeadLimits::default()).expect_err("refused before a line end");
        assert_eq!((error.status(), error.body()), (400, "Bad Request"), "{garbage:?}");
    }
}

/// "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a
/// superset of US-ASCII".
#[test]
fn a_value_is_octets() {
    let head = request_of(
        b"GET / HTTP/1.1\r\nHost: h\r\nA: caf\xe9\r\nB: \xff\xfe\r\n\r\n",
        &HeadLimits::default(),
    )
    .expect("accepted");
    assert_eq!(head.fields.find(b"a"), Some(&b"caf\xe9"[..]));
}
