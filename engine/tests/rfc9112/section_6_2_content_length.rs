use corvoy_engine::http::{BodyLength, Method};
use corvoy_engine::http1::Error;

use super::{answer, body_of};

/// RFC 9110 §8.6: "Content-Length = 1*DIGIT".
#[test]
fn a_length_is_digits() {
    for (value, length) in
        [("0", 0), ("5", 5), (" 5 ", 5), ("\t5", 5), ("9223372036854775807", i64::MAX as u64)]
    {
        let field = format!("Content-Length: {value}\r\n");
        assert_eq!(body_of(&field), Ok(BodyLength::Length(length)), "{value}");
    }
    for value in [
        "", "+5", "-1", "-0", "0x5", "0o5", "5_0", "1 0", "5,", ",5", "5.0", "abc", "5a", "\u{661}",
    ] {
        let field = format!("Content-Length: {value}\r\n");
        let error = body_of(&field).expect_err(value);
        assert_eq!((error, error.status()), (Error::ContentLength, 400), "{value}");
        assert_eq!(answer(Method::Get, 200, &field), Err(Error::ContentLength), "{value}");
    }
}

/// "a recipient MUST anticipate potentially large decimal numerals and prevent parsing errors due
/// to integer conversion overflows".
#[test]
fn a_length_beyond_63_bits_is_rejected() {
    for value in ["9223372036854775808", "18446744073709551616", "99999999999999999999999999"] {
        let field = format!("Content-Length: {value}\r\n");
        assert_eq!(body_of(&field), Err(Error::ContentLength), "{value}");
    }
}

/// A parser that reads a leading zero as octal would see another length. Origins may pad.
#[test]
fn a_padded_length_is_rejected_in_requests() {
    for value in ["005", "00", "0200"] {
        assert_eq!(body_of(&format!("Content-Length: {value}\r\n")), Err(Error::ContentLength));
    }
    assert_eq!(answer(Method::Get, 200, "Content-Length: 002\r\n"), Ok(BodyLength::Length(2)));
}

/// RFC 9110 §8.6 allows a recipient to reject a list of equal lengths, and so do we, in one line or in
/// several.
#[test]
fn a_length_is_not_repeated() {
    for value in ["5, 5", "5, 10", "5,5,5"] {
        assert_eq!(body_of(&format!("Content-Length: {value}\r\n")), Err(Error::ContentLength));
    }
    for second in ["5", "10"] {
        let fields = format!("Content-Length: 5\r\nContent-Length: {second}\r\n");
        assert_eq!(body_of(&fields), Err(Error::ContentLength));
        assert_eq!(answer(Method::Get, 200, &fields), Err(Error::ContentLength));
    }
}

/// A name with an underscore is a different name.
#[test]
fn content_length_has_a_hyphen() {
    let fields = "Content-Length: 5\r\nContent_Length: 99\r\n";
    assert_eq!(body_of(fields), Ok(BodyLength::Length(5)));
}
