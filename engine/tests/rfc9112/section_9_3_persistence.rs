use corvoy_engine::http::HeadLimits;

use super::{get, ok, request_of, response};

/// "If the "close" connection option is present, the connection will not persist after the current
/// response; else, if the received protocol is HTTP/1.1 (or later), the connection will persist".
#[test]
fn http_1_1_persists_by_default() {
    for (field, persists) in [
        ("", true),
        ("Connection: keep-alive\r\n", true),
        ("Connection: close\r\n", false),
        ("Connection: x, CLOSE\r\n", false),
        ("Connection: x\r\nConnection: ,close\r\n", false),
        ("Connection: closed\r\n", true),
        ("Proxy-Connection: close\r\n", false),
    ] {
        assert_eq!(get(field).expect(field).keep_alive(), persists, "{field}");
        assert_eq!(ok(field).expect(field).keep_alive(), persists, "{field}");
    }
}

/// "else, if the received protocol is HTTP/1.0, the "keep-alive" connection option is present, …
/// and the recipient wishes to honor the HTTP/1.0 "keep-alive" mechanism, the connection will
/// persist …; else, the connection will close after the current response."
#[test]
fn http_1_0_closes_by_default() {
    let limits = HeadLimits { accept_http_10: true, ..HeadLimits::default() };
    for (field, persists) in [
        ("", false),
        ("Connection: Keep-Alive\r\n", true),
        ("Connection: keep-alive, close\r\n", false),
    ] {
        let request = request_of(format!("GET / HTTP/1.0\r\n{field}\r\n").as_bytes(), &limits);
        assert_eq!(request.expect("accepted").keep_alive(), persists, "{field}");
        let response = response(&format!("HTTP/1.0 200 OK\r\n{field}\r\n"));
        assert_eq!(response.expect("accepted").keep_alive(), persists, "{field}");
    }
}

/// RFC 9110 §10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST
/// ignore that expectation."
#[test]
fn an_expectation_counts_in_http_1_1_only() {
    assert!(get("Expect: 100-Continue\r\n").expect("accepted").expects_continue());
    assert!(!get("Expect: x\r\n").expect("accepted").expects_continue());
    let limits = HeadLimits { accept_http_10: true, ..HeadLimits::default() };
    let head = request_of(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", &limits);
    assert!(!head.expect("accepted").expects_continue());
}
