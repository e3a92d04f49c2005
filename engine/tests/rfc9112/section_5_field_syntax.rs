use corvoy_engine::http::{FieldName, HeadLimits};
use corvoy_engine::http1::Error;

use super::{get, ok, request_of};

/// "field-line = field-name ":" OWS field-value OWS"; "Each field line consists of a
/// case-insensitive field name".
#[test]
fn names_are_lower_cased_and_values_trimmed() {
    let head = get("X-FoO:\t a b \t\r\nEmpty:\r\nSpaces:   \r\nACCEPT:x\r\n").expect("accepted");
    assert_eq!(head.fields.find(b"x-foo"), Some(&b"a b"[..]));
    assert_eq!(head.fields.find(b"empty"), Some(&b""[..]));
    assert_eq!(head.fields.find(b"spaces"), Some(&b""[..]));
    assert_eq!(head.fields.get(FieldName::Accept), Some(&b"x"[..]));
}

/// §5.1: "No whitespace is allowed between the field name and colon. … A server MUST reject, with a
/// response status code of 400 (Bad Request), any received request message that contains
/// whitespace between a header field name and colon."
#[test]
fn white_space_before_the_colon_is_rejected() {
    for field in ["A : b", "A\t: b", "Content-Length : 5", "Transfer-Encoding : chunked"] {
        let error = get(&format!("{field}\r\n")).expect_err(field);
        assert_eq!((error, error.status()), (Error::FieldName, 400), "{field}");
        assert_eq!(ok(&format!("{field}\r\n")).err(), Some(Error::FieldName), "{field}");
    }
}

/// RFC 9110 §5.1: "field-name = token".
#[test]
fn a_name_is_a_token() {
    for field in [": b", "A b", "Bad[Name: v", "A\u{0}: b", "X-T\u{eb}st: v", "\u{1}: b", "A(b): c"]
    {
        assert_eq!(get(&format!("{field}\r\n")).err(), Some(Error::FieldName), "{field}");
    }
    assert_eq!(get("NoColonHere\r\n").err(), Some(Error::FieldName));
}

/// RFC 9110 §5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
#[test]
fn a_value_has_no_control_characters() {
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r')) {
        let mut text = b"GET / HTTP/1.1\r\nHost: h\r\nA: b".to_vec();
        text.extend_from_slice(&[byte, b'c', b'\r', b'\n', b'\r', b'\n']);
        let error = request_of(&text, &HeadLimits::default()).expect_err("a control");
        assert_eq!(error, Error::FieldValue, "{byte:#x}");
        assert_eq!(error.details(), "http1.invalid_characters");
    }
    assert!(get("A: b\tc\r\n").is_ok());
}

/// §5: "A server … that receives a request header field line, field value, or set of fields larger
/// than it wishes to process MUST respond with an appropriate 4xx (Client Error) status code."
#[test]
fn too_many_or_too_long_fields_are_rejected() {
    let many = |count: usize| (1..count).map(|at| format!("a{at}: b\r\n")).collect::<String>();
    assert_eq!(get(&many(100)).expect("as many as Envoy takes").fields.len(), 100);
    let error = get(&many(101)).expect_err("one more");
    assert_eq!((error, error.status()), (Error::TooManyFields, 431));
    assert_eq!(error.body(), "Request Header Fields Too Large");

    let frame = "GET / HTTP/1.1\r\nHost: h\r\na: \r\n\r\n".len();
    assert!(get(&format!("a: {}\r\n", "x".repeat(61_440 - frame))).is_ok());
    let error = get(&format!("a: {}\r\n", "x".repeat(61_441 - frame))).expect_err("one more");
    assert_eq!((error, error.details()), (Error::HeadTooLarge, "http1.headers_too_large"));
}

#[test]
fn more_fields_are_accepted_with_a_higher_limit() {
    let limits = HeadLimits { fields_max: 5000, ..HeadLimits::default() };
    let fields: String = (0..4000).map(|at| format!("a{at}: b\r\n")).collect();
    let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let head = request_of(text.as_bytes(), &limits).expect("accepted");
    assert_eq!(head.fields.find(b"a3999"), Some(&b"b"[..]));
}
