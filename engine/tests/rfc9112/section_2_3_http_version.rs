use corvoy_engine::http::{HeadLimits, Version};
use corvoy_engine::http1::Error;

use super::{request, request_of, response};

/// "HTTP-version = HTTP-name "/" DIGIT "." DIGIT"; "HTTP-version is case-sensitive."
#[test]
fn an_invalid_version_is_rejected() {
    for word in ["HTTP/1", "HTTP/01.01", "HTTP/1.10", "http/1.1", "HTTPS/1.1", "HTTP/1,1", "X"] {
        let error = request(&format!("GET / {word}\r\nHost: h\r\n\r\n")).expect_err(word);
        assert_eq!(error.status(), 400, "{word}");
    }
    assert!(response("http/1.1 200 OK\r\n\r\n").is_err());
    assert!(response("ICY 200 OK\r\n\r\n").is_err());
}

/// Envoy answers 426 to a version that it does not support, including HTTP/0.9, which has none.
#[test]
fn other_versions_get_426() {
    for line in [
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/9.9",
        "GET / HTTP/0.9",
        "GET / HTTP/1.0",
        "GET /",
    ] {
        let error = request(&format!("{line}\r\nHost: h\r\n\r\n")).expect_err(line);
        assert_eq!((error, error.status()), (Error::VersionUnsupported, 426), "{line}");
        assert_eq!((error.body(), error.details()), ("Upgrade Required", "low_version"));
    }
}

#[test]
fn http_1_0_is_accepted_where_it_is_configured() {
    let limits = HeadLimits { accept_http_10: true, ..HeadLimits::default() };
    let head = request_of(b"GET / HTTP/1.0\r\n\r\n", &limits).expect("accepted");
    assert_eq!(head.version, Version::Http10);
    assert!(request_of(b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", &limits).is_err());
}

#[test]
fn an_origin_may_answer_in_http_1_0() {
    assert_eq!(response("HTTP/1.0 200 OK\r\n\r\n").expect("accepted").version, Version::Http10);
    assert!(response("HTTP/2.0 200 OK\r\n\r\n").is_err());
}
