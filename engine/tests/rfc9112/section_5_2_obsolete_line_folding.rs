use corvoy_engine::http1::Error;

use super::{get, ok};

/// "A server that receives an obs-fold in a request message that is not within a "message/http"
/// container MUST either reject the message by sending a 400 (Bad Request) … or replace each
/// received obs-fold with one or more SP octets".
#[test]
fn a_folded_line_of_a_request_is_rejected() {
    for field in
        ["A: b\r\n c", "A: b\r\n\tc", "A:\r\n b", "A: b\n c", "Transfer-Encoding:\r\n chunked"]
    {
        let error = get(&format!("{field}\r\n")).expect_err(field);
        assert_eq!((error, error.status()), (Error::FieldName, 400), "{field}");
    }
}

/// "A proxy or gateway that receives an obs-fold in a response message that is not within a
/// "message/http" container MUST either discard the message and replace it with a 502 (Bad Gateway)
/// response … or replace each received obs-fold with one or more SP octets".
#[test]
fn a_folded_line_of_a_response_is_joined() {
    let head = ok("A: b\r\n c\r\n\td\r\nB: e\r\n").expect("accepted");
    let value = head.fields.find(b"a").expect("a");
    assert_eq!(value.iter().filter(|byte| byte.is_ascii_control()).count(), 1, "the tab");
    let words: Vec<_> = value.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
    assert_eq!(words, [b"b", b"c", b"d"]);
    assert_eq!(head.fields.find(b"b"), Some(&b"e"[..]));
}

/// A folded line must not determine where the body ends.
#[test]
fn framing_fields_must_not_be_folded() {
    for field in [
        "Content-Length: 5\r\n 6",
        "Content-Length:\r\n 5",
        "Content-Length:\n\t5",
        "Content-Length: 5\r\n ",
        "Transfer-Encoding: gzip,\r\n chunked",
        "Transfer-Encoding:\r\n chunked",
    ] {
        assert!(ok(&format!("{field}\r\n")).is_err(), "{field}");
        assert!(ok(&format!("{field}\r\nA: b\r\n")).is_err(), "{field}");
    }
    assert!(ok("Content-Length: 5\r\nA: b\r\n c\r\n").is_ok());
}
