use super::*;
use crate::http::{
    BodyLength, EndStream, FieldName, HeadLimits, Indexing, Method, RequestHead, ResponseHead,
    TrailerRules, Underscores,
};
use crate::http2::hpack::{Decoder, Encoder, Field};

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/x?y"), (":authority", "a.test")];

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for (name, value) in fields {
        encoder.other(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

fn request_with(
    fields: &[(&str, &str)],
    end: EndStream,
    limits: &HeadLimits,
    underscores: Underscores,
) -> Result<(String, BodyLength), Flaw> {
    let mut head = RequestHead::default();
    let rules = RequestRules {
        field_max: 200,
        underscores,
        extended_connect: ExtendedConnect::Allowed,
        obs_text: ObsText::Allowed,
    };
    let mut taker = RequestDecoder::new(&mut head, limits, rules);
    Decoder::default().decode(&block(fields), |field| taker.take(field)).unwrap();
    let decoded = taker.finish(end)?;
    let mut out = Vec::new();
    crate::http1::encode::request(&head, &mut out);
    Ok((String::from_utf8(out).unwrap(), decoded.body))
}

fn request(fields: &[(&str, &str)], end: EndStream) -> Result<(String, BodyLength), Flaw> {
    request_with(fields, end, &HeadLimits::default(), Underscores::Allow)
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GET.iter().chain(more).copied().collect()
}

fn without<'a>(name: &str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GET.iter().filter(|(it, _)| *it != name).chain(more).copied().collect()
}

#[test]
fn a_request_means_the_same_over_http_1() {
    let fields = with(&[("cookie", "a=1"), ("x-a", " v "), ("cookie", "b=2"), ("te", "trailers")]);
    let (text, body) = request(&fields, EndStream::Yes).unwrap();
    assert_eq!(
        text,
        "GET /x?y HTTP/1.1\r\nhost: a.test\r\nx-a: v\r\nte: trailers\r\ncookie: a=1; b=2\r\n\r\n"
    );
    assert_eq!(body, BodyLength::None);
    assert_eq!(request(&GET, EndStream::No).unwrap().1, BodyLength::Chunked);
    let length = with(&[("content-length", "005")]);
    assert_eq!(request(&length, EndStream::No).unwrap().1, BodyLength::Length(5));
}

#[test]
fn the_authority_goes_before_the_host() {
    let (text, _) = request(&with(&[("host", "b.test")]), EndStream::Yes).unwrap();
    assert_eq!(text, "GET /x?y HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let (text, _) = request(&without(":authority", &[("host", "b.test")]), EndStream::Yes).unwrap();
    assert_eq!(text, "GET /x?y HTTP/1.1\r\nhost: b.test\r\n\r\n");
}

#[test]
fn connect_has_an_authority_only() {
    let connect = [(":method", "CONNECT"), (":authority", "a.test:443")];
    let (text, body) = request(&connect, EndStream::No).unwrap();
    assert_eq!(
        (&*text, body),
        ("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n", BodyLength::None)
    );
    let with_path: Vec<_> = connect.iter().chain(&[(":path", "/")]).copied().collect();
    assert_eq!(request(&with_path, EndStream::No), Err(Flaw::Messaging));
}

#[test]
fn extended_connect_is_an_upgrade() {
    let fields: Vec<_> = [(":method", "CONNECT"), (":protocol", "websocket")]
        .into_iter()
        .chain(without(":method", &[("sec-websocket-version", "13")]))
        .collect();
    let (text, _) = request(&fields, EndStream::No).unwrap();
    assert_eq!(
        text,
        "GET /x?y HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\n\
         upgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
}

#[test]
fn malformed_requests_are_refused() {
    for (fields, flaw) in [
        (with(&[("X-a", "1")]), Flaw::Field),
        (with(&[("x a", "1")]), Flaw::Field),
        (with(&[("", "1")]), Flaw::Field),
        (with(&[("x-a", "a\r\nb: c")]), Flaw::Field),
        (with(&[("x-a", "a\0b")]), Flaw::Field),
        (with(&[("x-a", "\x7f")]), Flaw::Field),
        (with(&[("connection", "close")]), Flaw::Field),
        (with(&[("transfer-encoding", "chunked")]), Flaw::Field),
        (with(&[("upgrade", "websocket")]), Flaw::Field),
        (with(&[("te", "gzip")]), Flaw::Field),
        (with(&[(":path", "/z")]), Flaw::Field),
        (with(&[(":status", "200")]), Flaw::Field),
        (with(&[("content-length", "+0")]), Flaw::Field),
        (with(&[("content-length", "0"), ("content-length", "0")]), Flaw::Field),
        (with(&[("content-length", "1")]), Flaw::Messaging),
        (with(&[("content-length", "9223372036854775808")]), Flaw::Field),
        (with(&[("host", "a"), ("host", "a")]), Flaw::Field),
        (without(":path", &[]), Flaw::Messaging),
        (without(":scheme", &[]), Flaw::Messaging),
        (without(":method", &[]), Flaw::Messaging),
        (without(":authority", &[]), Flaw::Messaging),
        ([("x-a", "1")].into_iter().chain(GET).collect(), Flaw::Field),
        (without(":path", &[(":path", "x")]), Flaw::Field),
        (without(":path", &[(":path", "")]), Flaw::Field),
        (without(":path", &[(":path", "/a b")]), Flaw::Field),
        (without(":path", &[(":path", "/a\tHTTP/1.1")]), Flaw::Field),
        (without(":path", &[(":path", "*")]), Flaw::Field),
        (without(":path", &[(":path", "http://b/")]), Flaw::Field),
        (without(":authority", &[(":authority", "a@b")]), Flaw::Field),
        (without(":authority", &[(":authority", "")]), Flaw::Field),
        (without(":scheme", &[(":scheme", "1x!")]), Flaw::Field),
        (without(":method", &[(":method", "G T")]), Flaw::Field),
        (with(&[(":protocol", "websocket")]), Flaw::Field),
    ] {
        assert_eq!(request(&fields, EndStream::Yes), Err(flaw), "{fields:?}");
    }
}

#[test]
fn limits_count_every_field() {
    let limits = HeadLimits { fields_max: 6, bytes_max: 100, ..HeadLimits::default() };
    let check = |more: &[(&str, &str)]| {
        request_with(&with(more), EndStream::Yes, &limits, Underscores::Allow).map(drop)
    };
    assert_eq!(check(&[("a", "1"), ("cookie", "2")]), Ok(()));
    assert_eq!(check(&[("a", "1"), ("cookie", "2"), ("cookie", "3")]), Err(Flaw::TooMany));
    assert_eq!(check(&[("a", &"x".repeat(100))]), Err(Flaw::TooLarge));
    assert_eq!(check(&[("a", &"x".repeat(200))]), Err(Flaw::FieldTooLarge));
}

#[test]
fn underscores_are_dropped_or_rejected() {
    let check = |action| {
        let fields = with(&[("x_y", "1")]);
        request_with(&fields, EndStream::Yes, &HeadLimits::default(), action)
            .map(|(text, _)| text.contains("x_y"))
    };
    assert_eq!(check(Underscores::Allow), Ok(true));
    assert_eq!(check(Underscores::Drop), Ok(false));
    assert_eq!(check(Underscores::Reject), Err(Flaw::Underscore));
}

#[test]
fn responses_have_a_status_of_three_digits() {
    let check = |fields: &[(&str, &str)], method, end| {
        let mut head = ResponseHead::default();
        let mut taker = ResponseDecoder::new(&mut head, &HeadLimits::default(), ObsText::Allowed);
        Decoder::default().decode(&block(fields), |field| taker.take(field)).unwrap();
        taker.finish(method, end).map(|body| (head.status, body))
    };
    let get = |fields: &[(&str, &str)]| check(fields, Method::Get, EndStream::No);
    assert_eq!(get(&[(":status", "200")]), Ok((200, BodyLength::Chunked)));
    let length = [(":status", "999"), ("content-length", "3")];
    assert_eq!(get(&length), Ok((999, BodyLength::Length(3))));
    assert_eq!(check(&length, Method::Head, EndStream::Yes), Ok((999, BodyLength::None)));
    assert_eq!(check(&length, Method::Get, EndStream::Yes), Err(Flaw::Messaging));
    for status in ["000", "99", "1000", "abc", "", "2 0"] {
        assert_eq!(get(&[(":status", status)]), Err(Flaw::Field), "{status}");
    }
    assert_eq!(get(&[("x-a", "1")]), Err(Flaw::Messaging));
    assert_eq!(get(&[(":status", "200"), (":status", "200")]), Err(Flaw::Field));
    assert_eq!(get(&[(":status", "200"), ("connection", "close")]), Err(Flaw::Field));
}

#[test]
fn trailers_are_fields_without_pseudo_headers() {
    let rules =
        TrailerRules { bytes_max: 100, fields_max: 2, underscores: Underscores::Allow, kept: true };
    let check = |fields: &[(&str, &str)]| {
        let mut taker = TrailerDecoder::new(&rules, ObsText::Allowed);
        Decoder::default().decode(&block(fields), |field| taker.take(field)).unwrap();
        taker.finish().map(|(lines, _)| String::from_utf8(lines).unwrap())
    };
    assert_eq!(check(&[("a", "1"), ("b", " 2")]), Ok("a: 1\r\nb: 2\r\n".to_owned()));
    assert_eq!(check(&[(":path", "/")]), Err(Flaw::Field));
    for name in ["connection", "host", "content-length"] {
        assert_eq!(check(&[(name, "1")]), Err(Flaw::Field));
    }
    assert_eq!(check(&[("a", "1"), ("b", "2"), ("c", "3")]), Err(Flaw::TooMany));
    let mut out = Vec::new();
    write_trailers(&mut Encoder::default(), b"A: 1\r\nb: 2\r\n", &mut out);
    let mut taker = TrailerDecoder::new(&rules, ObsText::Allowed);
    Decoder::default().decode(&out, |field| taker.take(field)).unwrap();
    assert_eq!(taker.finish().unwrap().0, b"a: 1\r\nb: 2\r\n");
}

#[test]
fn obsolete_text_is_malformed_only_where_it_is_refused() {
    let decoded = |name: &str, obs_text| {
        let rules = RequestRules {
            field_max: 200,
            underscores: Underscores::Allow,
            extended_connect: ExtendedConnect::Refused,
            obs_text,
        };
        let (mut head, limits) = (RequestHead::default(), HeadLimits::default());
        let mut taker = RequestDecoder::new(&mut head, &limits, rules);
        let fields = without(name, &[(name, "/caf\u{e9}")]);
        Decoder::default().decode(&block(&fields), |field| taker.take(field)).unwrap();
        taker.finish(EndStream::Yes).map(drop)
    };
    for name in [":path", "x-a"] {
        assert_eq!(decoded(name, ObsText::Allowed), Ok(()));
        assert_eq!(decoded(name, ObsText::Refused), Err(Flaw::Field));
    }
}

/// The fields that no table may have when a request is forwarded.
fn forwarded_secrets(fields: &[(&str, &str, Indexing)]) -> Vec<String> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    for &(name, value, indexing) in fields {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        let field = Field { id: FieldName::of(name), name, value, indexing };
        encoder.received(&field, &mut out);
    }
    let (mut head, limits) = (RequestHead::default(), HeadLimits::default());
    let rules = RequestRules {
        field_max: 200,
        underscores: Underscores::Allow,
        extended_connect: ExtendedConnect::Refused,
        obs_text: ObsText::Allowed,
    };
    let mut taker = RequestDecoder::new(&mut head, &limits, rules);
    Decoder::default().decode(&out, |field| taker.take(field)).unwrap();
    taker.finish(EndStream::Yes).unwrap();
    head.fields.merge_set(crate::http::JOINED_IN_REQUESTS);
    let mut text = Vec::new();
    crate::http1::encode::request(&head, &mut text);
    assert!(String::from_utf8_lossy(&text).contains("\r\nx-secret: 1\r\nx-ordinary: 2"));
    out.clear();
    write_request(&mut Encoder::default(), &head, &mut out);
    let mut secrets = Vec::new();
    let take = |field: Field<'_>| {
        if field.indexing == Indexing::Never {
            secrets.push(String::from_utf8_lossy(field.name).into_owned());
        }
    };
    Decoder::default().decode(&out, take).unwrap();
    secrets
}

#[test]
fn a_secret_stays_one_for_all_who_follow() {
    use Indexing::{Allowed, Never};
    let get = GET.map(|(name, value)| (name, value, Allowed));
    let long = "a cookie that is too long to be guessed";
    let fields = [
        ("x-secret", "1", Never),
        ("x-ordinary", "2", Allowed),
        ("cookie", long, Never),
        ("cookie", long, Allowed),
        ("accept", "a", Allowed),
        ("accept", "b", Never),
    ];
    let fields: Vec<_> = get.into_iter().chain(fields).collect();
    assert_eq!(forwarded_secrets(&fields), ["x-secret", "accept", "cookie"]);
    // A line does not say what is a secret.
    let mut out = Vec::new();
    write_trailers(&mut Encoder::default(), b"x-any: 1\r\ngrpc-status: 0\r\n", &mut out);
    let mut indexing = Vec::new();
    Decoder::default().decode(&out, |field| indexing.push(field.indexing)).unwrap();
    assert_eq!(indexing, [Never, Allowed]);
}

#[test]
fn eight_bytes_are_tested_as_each_of_them_is() {
    for byte in 0..=u8::MAX {
        for place in 0..8 {
            let mut word = *b"\t ~\x80\xffa\x7e ";
            word[place] = byte;
            assert_eq!(is_text(&word), is_text_byte(byte), "{byte} at {place}");
        }
    }
}
