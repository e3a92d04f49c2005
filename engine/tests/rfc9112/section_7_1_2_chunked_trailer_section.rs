use corvoy_engine::http1::Error;

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
