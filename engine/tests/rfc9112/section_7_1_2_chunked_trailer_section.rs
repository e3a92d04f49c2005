use corvoy_engine::http1::{Error, chunked};

use super::unchunked;

fn with(trailers: &str) -> Result<(Vec<u8>, bool), Error> {
    unchunked(format!("0\r\n{trailers}\r\n").as_bytes())
}

/// "A recipient that removes the chunked coding from a message MAY selectively retain or discard
/// the received trailer fields."
#[test]
fn trailers_are_dropped() {
    for trailers in
        ["X-T: 1\r\n", "A:\r\nB: c\td\r\n", "Authorization: x\r\n", "Content-Lengths: 1\r\n"]
    {
        assert_eq!(with(trailers), Ok((Vec::new(), true)), "{trailers}");
    }
}

/// RFC 9110 §6.5.1 forbids trailers that frame or route; who sends one hopes that somebody obeys.
#[test]
fn a_trailer_that_frames_or_routes_is_refused() {
    for name in ["Content-Length", "TRANSFER-ENCODING", "host"] {
        assert_eq!(with(&format!("{name}: 5\r\n")), Err(Error::Trailer), "{name}");
    }
}

#[test]
fn a_malformed_trailer_is_refused() {
    for trailers in [
        "A b: c\r\n",
        "A : b\r\n",
        ": b\r\n",
        "A: b\u{0}\r\n",
        "A: b\n",
        "A: b\rc\r\n",
        " A: b\r\n",
    ] {
        assert_eq!(with(trailers), Err(Error::Trailer), "{trailers:?}");
    }
    assert_eq!(unchunked(b"0\r\n\n"), Err(Error::Trailer));
    assert_eq!(unchunked(b"0\r\n\rX"), Err(Error::Trailer));
}

#[test]
fn trailers_are_limited_like_a_head() {
    let error = with(&"A: b\r\n".repeat(20_000)).expect_err("too long");
    assert_eq!((error, error.status()), (Error::TrailersTooLarge, 431));
}

/// "A recipient that removes the chunked coding from a message MAY selectively retain or discard the
/// received trailer fields." What is retained is written anew, however it was split.
#[test]
fn trailers_that_are_kept_are_written_anew() {
    let coded = b"0\r\nX-Sum:  a b\t\r\nConnection: close\r\nTE: trailers\r\nx-sum:\r\n\r\n";
    for step in 1..coded.len() {
        let mut decoder = chunked::Decoder::new().keeping_trailers(9);
        for piece in coded.chunks(step) {
            decoder.decode(piece).expect("valid");
        }
        assert_eq!(decoder.take_trailers(), b"x-sum: a b\r\nx-sum: \r\n", "{step}");
    }
}

#[test]
fn more_trailers_than_a_head_may_have_are_refused() {
    let decode =
        |most| chunked::Decoder::new().keeping_trailers(most).decode(b"0\r\nA: b\r\nC: d\r\n\r\n");
    assert!(decode(2).is_ok_and(|decoded| decoded.end));
    assert_eq!(decode(1), Err(Error::TooManyFields));
}
