use corvoy_engine::http::{BodyLength, Method};
use corvoy_engine::http1::{Error, framing};

use super::{answer, body_of, request};

/// Rule 1: "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content),
/// or 304 (Not Modified) status code is always terminated by the first empty line after the header
/// fields, regardless of the header fields present in the message".
#[test]
fn some_responses_have_no_body() {
    for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(answer(Method::Head, 200, fields), Ok(BodyLength::None), "{fields}");
        assert_eq!(answer(Method::Get, 304, fields), Ok(BodyLength::None), "{fields}");
    }
    for status in [100, 103, 204] {
        assert_eq!(answer(Method::Get, status, ""), Ok(BodyLength::None));
        assert_eq!(answer(Method::Get, status, "Content-Length: 0\r\n"), Ok(BodyLength::None));
    }
    // It must not announce one: the end would be uncertain, and Envoy also answers 502.
    assert_eq!(answer(Method::Get, 204, "Content-Length: 2\r\n"), Err(Error::BodyNotAllowed));
}

/// The fields that announce a body must be valid even without a body.
#[test]
fn an_invalid_length_is_an_error_even_without_a_body() {
    assert!(answer(Method::Head, 200, "Content-Length: x\r\n").is_err());
    assert!(
        answer(Method::Head, 200, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n").is_err()
    );
    assert!(answer(Method::Get, 304, "Content-Length: 1\r\nContent-Length: 2\r\n").is_err());
}

/// Rule 2: "Any 2xx (Successful) response to a CONNECT request implies that the connection will become a
/// tunnel immediately after the empty line that concludes the header fields."
#[test]
fn a_tunnel_is_not_a_body() {
    assert_eq!(answer(Method::Connect, 200, ""), Ok(BodyLength::None));
    assert_eq!(answer(Method::Connect, 404, "Content-Length: 2\r\n"), Ok(BodyLength::Length(2)));
    let connect = |fields: &str| {
        let text = format!("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n{fields}\r\n");
        framing::request(&request(&text).expect("a head"))
    };
    assert_eq!(connect(""), Ok(BodyLength::None));
    assert_eq!(connect("Content-Length: 0\r\n"), Ok(BodyLength::None));
    assert_eq!(connect("Content-Length: 5\r\n"), Err(Error::BodyNotAllowed));
    let chunked = connect("Transfer-Encoding: chunked\r\n");
    assert_eq!(chunked, Err(Error::TransferEncodingUnsupported));
}

/// Rule 3: "If a message is received with both a Transfer-Encoding and a Content-Length header field …
/// Such a message might indicate an attempt to perform request smuggling or response splitting and
/// ought to be handled as an error."
#[test]
fn two_lengths_are_an_error() {
    for te in ["chunked", "identity", "xchunked", "", "chunked, chunked"] {
        for fields in [
            format!("Transfer-Encoding: {te}\r\nContent-Length: 5\r\n"),
            format!("Content-Length: 5\r\nTransfer-Encoding: {te}\r\n"),
        ] {
            let error = body_of(&fields).expect_err(te);
            assert_eq!(error, Error::ContentLengthAndTransferEncoding, "{te}");
            assert_eq!(error.details(), "http1.content_length_and_chunked_not_allowed");
            assert!(answer(Method::Get, 200, &fields).is_err(), "{te}");
        }
    }
}

/// Rule 7: "If this is a request message and none of the above are true, then the message body length is
/// zero (no message body is present)."
#[test]
fn a_request_that_announces_no_body_has_none() {
    assert_eq!(body_of(""), Ok(BodyLength::None));
}

/// Rule 8: "Otherwise, this is a response message without a declared message body length, so the message
/// body length is determined by the number of octets received prior to the server closing the
/// connection."
#[test]
fn a_response_that_declares_no_length_ends_with_its_connection() {
    assert_eq!(answer(Method::Get, 200, ""), Ok(BodyLength::UntilClose));
    assert_eq!(answer(Method::Post, 500, "Connection: close\r\n"), Ok(BodyLength::UntilClose));
}
