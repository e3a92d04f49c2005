use corvoy_engine::http::TrailerRules;
use corvoy_engine::http::Underscores;
use corvoy_engine::http1::Error;
use corvoy_engine::http1::chunked::Decoder;

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

/// RFC 9110 §6.5.1 forbids trailers that would change framing or routing.
#[test]
fn a_trailer_that_would_change_framing_or_routing_is_rejected() {
    for name in ["Content-Length", "TRANSFER-ENCODING", "host"] {
        assert_eq!(with(&format!("{name}: 5\r\n")), Err(Error::Trailer), "{name}");
    }
}

#[test]
fn a_malformed_trailer_is_rejected() {
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
/// received trailer fields." Retained trailers are re-encoded, however they were split.
#[test]
fn retained_trailers_are_re_encoded() {
    let coded = b"0\r\nX-Sum:  a b\t\r\nConnection: close\r\nTE: trailers\r\nx-sum:\r\n\r\n";
    for step in 1..coded.len() {
        let mut decoder = Decoder::new().with_trailers(KEPT);
        for piece in coded.chunks(step) {
            decoder.decode(piece).expect("valid");
        }
        assert_eq!(decoder.take_trailers(), b"x-sum: a b\r\nx-sum: \r\n", "{step}");
    }
}

#[test]
fn more_trailers_than_a_head_may_have_are_rejected() {
    let decode = |fields_max| {
        let rules = TrailerRules { fields_max, ..KEPT };
        Decoder::new().with_trailers(rules).decode(b"0\r\nA: b\r\nC: d\r\n\r\n")
    };
    assert!(decode(2).is_ok_and(|decoded| decoded.end));
    assert_eq!(decode(1), Err(Error::TooManyFields));
}

/// Envoy treats the names of trailers like those of fields.
#[test]
fn a_trailer_with_an_underscore_is_rejected_or_dropped_like_a_field() {
    let decode = |underscores| {
        let mut decoder = Decoder::new().with_trailers(TrailerRules { underscores, ..KEPT });
        let decoded = decoder.decode(b"0\r\nx_a: 1\r\nb: 2\r\n\r\n");
        (decoded.map(|_| decoder.dropped_trailers()), decoder.take_trailers())
    };
    assert_eq!(decode(Underscores::Allow), (Ok(0), b"x_a: 1\r\nb: 2\r\n".to_vec()));
    assert_eq!(decode(Underscores::Drop), (Ok(1), b"b: 2\r\n".to_vec()));
    assert_eq!(decode(Underscores::Reject).0, Err(Error::Underscore));
}

const KEPT: TrailerRules =
    TrailerRules { bytes_max: 100, fields_max: 9, underscores: Underscores::Allow, kept: true };

/// Whether trailers are kept may be decided while the body is on its way: what was decoded stays decoded.
#[test]
fn rules_for_trailers_may_come_in_the_middle_of_a_chunk() {
    let body = b"f\r\n0\r\n\r\nGET / HTTP\r\n0\r\na: b\r\n\r\n";
    for split in 1..body.len() - 9 {
        let mut decoder = Decoder::new();
        let (first, rest) = body.split_at(split);
        let (mut data, mut at) = (Vec::new(), 0);
        while at < first.len() {
            let step = decoder.decode(&first[at..]).unwrap();
            data.extend_from_slice(&first[at..][step.data.clone()]);
            at += step.consumed;
        }
        decoder.set_trailer_rules(KEPT);
        at = 0;
        while at < rest.len() {
            let step = decoder.decode(&rest[at..]).unwrap();
            data.extend_from_slice(&rest[at..][step.data.clone()]);
            at += step.consumed;
        }
        assert_eq!(data, b"0\r\n\r\nGET / HTTP", "split at {split}");
        assert_eq!(decoder.take_trailers(), b"a: b\r\n");
    }
}
