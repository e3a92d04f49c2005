use corvoy_engine::http1::Error;

use super::response;

/// "The status-code element is a 3-digit integer code".
#[test]
fn a_status_has_three_digits() {
    for line in ["HTTP/1.1 20 X", "HTTP/1.1 1000 X", "HTTP/1.1 2x0 X", "HTTP/1.1 +20 X", "HTTP/1.1"]
    {
        let error = response(&format!("{line}\r\n\r\n")).expect_err(line);
        assert!(matches!(error, Error::StatusLine | Error::Version), "{line}");
    }
    // Envoy relays it.
    assert_eq!(response("HTTP/1.1 099 X\r\n\r\n").err(), Some(Error::StatusLine));
    for status in [100, 200, 600, 999] {
        let head = response(&format!("HTTP/1.1 {status} X\r\n\r\n")).expect("accepted");
        assert_eq!(head.status, status);
    }
}

/// "A client SHOULD ignore the reason-phrase content because it is not a reliable channel for
/// information". It may be absent, with its space or without.
#[test]
fn a_reason_may_be_anything_or_empty() {
    for (line, reason) in [
        ("HTTP/1.1 200", ""),
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200 Very Fine", "Very Fine"),
        ("HTTP/1.1 200 caf\u{e9}", ""),
    ] {
        let head = response(&format!("{line}\r\n\r\n")).expect(line);
        assert_eq!(head.reason(), reason.as_bytes(), "{line}");
    }
    assert_eq!(response("HTTP/1.1 200 a\u{1}b\r\n\r\n").err(), Some(Error::StatusLine));
    assert_eq!(response("HTTP/1.1 200 a\rb\r\n\r\n").err(), Some(Error::StatusLine));
}
