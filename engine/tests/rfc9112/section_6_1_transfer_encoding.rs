use corvoy_engine::http::{BodyLength, HeadLimits, Method};
use corvoy_engine::http1::{Error, framing};

use super::{answer, body_of, request_of, response};

#[test]
fn chunked_is_the_only_coding_in_any_case() {
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked ", " chunked"] {
        let field = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(body_of(&field), Ok(BodyLength::Chunked), "{value}");
        assert_eq!(answer(Method::Get, 200, &field), Ok(BodyLength::Chunked), "{value}");
    }
}

/// "A server that receives a request message with a transfer coding it does not understand SHOULD
/// respond with 501 (Not Implemented)."
#[test]
fn another_coding_is_not_implemented() {
    for value in [
        "gzip",
        "gzip, chunked",
        "identity",
        "xchunked",
        "\"chunked\"",
        "chunked;a=b",
        "chunked chunked",
    ] {
        let field = format!("Transfer-Encoding: {value}\r\n");
        let error = body_of(&field).expect_err(value);
        assert_eq!((error, error.status()), (Error::TransferEncodingUnsupported, 501), "{value}");
        assert_eq!(error.details(), "http1.invalid_transfer_encoding");
        assert!(answer(Method::Get, 200, &field).is_err(), "{value}");
    }
}

/// "A sender MUST NOT apply the chunked transfer coding more than once to a message body". "If any
/// transfer coding other than chunked is applied to a request's content, the sender MUST apply
/// chunked as the final transfer coding".
#[test]
fn chunked_is_the_last_coding_and_not_repeated() {
    for value in ["chunked, gzip", "chunked, chunked", "chunked,", ", chunked", "", ","] {
        let field = format!("Transfer-Encoding: {value}\r\n");
        let error = body_of(&field).expect_err(value);
        assert_eq!((error, error.status()), (Error::TransferEncoding, 400), "{value}");
        assert!(answer(Method::Get, 200, &field).is_err(), "{value}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(body_of(twice), Err(Error::TransferEncoding));
    let other = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    assert_eq!(body_of(other), Err(Error::TransferEncoding));
}

/// A coding with a control character is not a coding.
#[test]
fn control_characters_do_not_hide_a_coding() {
    for value in ["\u{b}chunked", "\u{c}chunked", "chunked\u{0}", "\rchunked", "chunked\r"] {
        assert_eq!(
            body_of(&format!("Transfer-Encoding: {value}\r\n")),
            Err(Error::FieldValue),
            "{value:?}"
        );
    }
}

/// "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field
/// MUST treat the message as if the framing is faulty, even if a Content-Length is present, and
/// close the connection after processing the message."
#[test]
fn http_1_0_has_no_transfer_encoding() {
    let limits = HeadLimits { accept_http_10: true, ..HeadLimits::default() };
    let text = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = request_of(text, &limits).expect("a head");
    assert_eq!(framing::request(&head), Err(Error::TransferEncoding));
    let head = response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a head");
    assert_eq!(framing::response(Method::Get, &head), Err(Error::TransferEncoding));
}

/// "A server MUST NOT send a Transfer-Encoding header field in any response with a status code of
/// 1xx (Informational) or 204 (No Content)."
#[test]
fn no_coding_without_a_body() {
    for status in [100, 103, 204] {
        let outcome = answer(Method::Get, status, "Transfer-Encoding: chunked\r\n");
        assert_eq!(outcome, Err(Error::BodyNotAllowed), "{status}");
    }
}
