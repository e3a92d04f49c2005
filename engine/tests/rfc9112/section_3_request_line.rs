use corvoy_engine::http::{HeadLimits, Method};
use corvoy_engine::http1::Error;

use super::{request, request_of};

/// "request-line = method SP request-target SP HTTP-version". "Although the request-line grammar
/// rules require that each of the component elements be separated by a single SP octet, recipients
/// MAY instead parse on whitespace-delimited word boundaries": we do not.
#[test]
fn the_words_of_a_request_line_are_separated_by_one_space() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "/ HTTP/1.1",
    ] {
        let error = request(&format!("{line}\r\nHost: h\r\n\r\n")).expect_err(line);
        assert_eq!(error.status(), 400, "{line}");
    }
}

/// "The request method is case-sensitive." Envoy rejects methods that it does not know.
#[test]
fn only_known_methods_are_accepted() {
    for method in ["GET", "QUERY", "MSEARCH", "PURGE", "SOURCE", "UNSUBSCRIBE"] {
        let head = request(&format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).expect(method);
        assert_eq!(head.method_name(), method.as_bytes());
        assert_ne!(head.method, Method::Custom);
    }
    for method in ["get", "FOO", "M-SEARCH", "PRI"] {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(request(&text).err(), Some(Error::Method), "{method}");
    }
    // The preface of HTTP/2, on a connection that is not.
    assert_eq!(request("PRI * HTTP/2.0\r\n\r\n").err(), Some(Error::Method));
}

#[test]
fn any_token_is_a_method_if_configured() {
    let limits = HeadLimits { allow_custom_methods: true, ..HeadLimits::default() };
    for (method, known) in [("FOO", Method::Custom), ("get", Method::Custom), ("GET", Method::Get)]
    {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = request_of(text.as_bytes(), &limits).expect(method);
        assert_eq!((head.method_name(), head.method), (method.as_bytes(), known));
    }
    assert!(request_of(b"A:B / HTTP/1.1\r\nHost: h\r\n\r\n", &limits).is_err());
}

/// "A server that receives a request-target longer than any URI it wishes to parse MUST respond
/// with a 414 (URI Too Long) status code": in Envoy it counts towards the limit of the head: 431.
#[test]
fn a_long_target_is_within_the_limit_of_the_head() {
    let line = |len| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len));
    assert!(request(&line(8_000)).is_ok());
    let error = request(&line(61_440)).expect_err("too long");
    assert_eq!((error, error.status()), (Error::HeadTooLarge, 431));
}
