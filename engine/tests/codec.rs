//! Properties of the codec: the result does not depend on how bytes are split, what is forwarded means
//! what was received, and warm buffers cause no allocations.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corvoy_engine::http::{BodyLength, FieldName, HeadLimits, Method, RequestHead, ResponseHead};
use corvoy_engine::http1::{self, encode, framing};
use corvoy_engine::request::headers::{self, Finish};
use corvoy_engine::request::manager::normalize;
use corvoy_engine::request::manager::{ConnectionManager, Peer};
use corvoy_engine::shard::clock::date_line;
use proptest::prelude::*;

/// The strict reader of the end-to-end tests. It shares no code with the codec.
#[cfg(test)]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../../bin/tests/edge/reader.rs"]
mod reader;

#[path = "../fuzz/src/unchunked.rs"]
mod unchunked;

use reader::{End, Leniency};
use unchunked::unchunked;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_head_is_the_same_however_it_is_split(
        text in message(request_line()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let limits = HeadLimits { bytes_max: 300, fields_max: 6, ..HeadLimits::default() };
        let mut at_once = RequestHead::default();
        at_once.received().extend_from_slice(&text);
        let whole = at_once.parse(&limits);

        let mut in_pieces = RequestHead::default();
        let mut split = Ok(None);
        for piece in pieces(&text, &cuts) {
            in_pieces.received().extend_from_slice(piece);
            split = in_pieces.parse(&limits);
            if split != Ok(None) {
                break;
            }
        }
        if split == Ok(None) && whole.is_err() {
            // It is parsed again only when more arrives.
            in_pieces.received().extend_from_slice(b"\r\n\r\n");
            split = in_pieces.parse(&limits);
        }
        prop_assert_eq!(split, whole);
        if whole.is_ok_and(|used| used.is_some()) {
            prop_assert_eq!(encoded(&in_pieces), encoded(&at_once));
        }
    }

    #[test]
    fn a_response_head_is_the_same_however_it_is_split(
        text in message(status_line()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let limits = HeadLimits { bytes_max: 300, fields_max: 6, ..HeadLimits::default() };
        let parse = |pieces: Vec<&[u8]>| {
            let mut head = ResponseHead::default();
            let mut outcome = Ok(None);
            for piece in pieces.into_iter().chain([&b"\r\n\r\n"[..]]) {
                head.received().extend_from_slice(piece);
                outcome = head.parse(&limits);
                if outcome != Ok(None) {
                    break;
                }
            }
            let mut out = Vec::new();
            if outcome.is_ok_and(|used| used.is_some()) {
                encode::response(&head, &mut out);
            }
            (outcome, out)
        };
        prop_assert_eq!(parse(pieces(&text, &cuts)), parse(vec![&text]));
    }

    #[test]
    fn chunks_are_the_same_however_they_are_split(
        coded in chunked_body(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = unchunked(&[&coded]);
        prop_assert_eq!(unchunked(&pieces(&coded, &cuts)), whole.clone());
        let bytes: Vec<&[u8]> = coded.chunks(1).collect();
        prop_assert_eq!(unchunked(&bytes), whole);
    }

    /// A body that we accept is also valid for a reader that follows RFC 9112 strictly.
    #[test]
    fn chunks_mean_the_same_to_a_strict_reader(coded in chunked_body()) {
        if let Ok((data, Some(used))) = unchunked(&[&coded]) {
            const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
            let (read, _) = reader::requests(&[HEAD, &coded].concat(), Leniency::None);
            prop_assert_eq!(read[0].end, Some(HEAD.len() + used));
            prop_assert_eq!(&read[0].body, &data);
        }
    }

    /// A request that we forward is one clean request for a reader that follows RFC 9112 strictly, with
    /// the same meaning.
    #[test]
    fn a_forwarded_request_means_the_same_to_a_strict_reader(text in message(request_line())) {
        let mut head = RequestHead::default();
        head.received().extend_from_slice(&text);
        let Ok(Some(used)) = head.parse(&HeadLimits::default()) else { return Ok(()) };
        head.split_off(used, &mut Vec::new());
        let Ok(length) = framing::request(&head) else { return Ok(()) };
        let outcome = normalize::request(&mut head, &ConnectionManager::default(), &peer(), &mut || 7);
        let normalize::Outcome::Continue(facts) = outcome else { return Ok(()) };
        // An upgrade is forwarded, with its two fields, only where a route allows it.
        prop_assume!(!facts.upgrade);
        framing::announce_request(&mut head, length);
        let out = encoded(&head);

        // A body of that length, so that the message is complete.
        let body: &[u8] = match length {
            BodyLength::Length(length @ ..=64) => &[b'x'; 64][..usize::try_from(length)?],
            BodyLength::Length(_) => return Ok(()),
            BodyLength::Chunked => b"0\r\n\r\n",
            BodyLength::None | BodyLength::UntilClose => b"",
        };
        let (read, end) = reader::requests(&[&out, body].concat(), Leniency::None);
        prop_assert!(matches!(end, End::Clean | End::Over), "{:?}", end);
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].end, Some(out.len() + body.len()));
        prop_assert_eq!(read[0].method.as_bytes(), head.method_name());
        prop_assert_eq!(latin1(&read[0].target), head.target());
        for hop_by_hop in ["keep-alive", "proxy-connection", "upgrade", "connection"] {
            prop_assert!(read[0].values(hop_by_hop).is_empty(), "{}", hop_by_hop);
        }
        let mut theirs: Vec<_> =
            read[0].fields.iter().map(|(name, value)| (latin1(name), latin1(value))).collect();
        let mut ours: Vec<_> =
            head.fields.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
        theirs.sort();
        ours.sort();
        prop_assert_eq!(theirs, ours);
    }

    /// After field edits, `get` and `has` agree with what is sent.
    #[test]
    fn field_edits_agree_with_what_is_sent(
        start in message(request_line()),
        edits in prop::collection::vec((0..5_u8, 0..4_usize), 0..12),
    ) {
        let mut head = RequestHead::default();
        head.received().extend_from_slice(&start);
        let Ok(Some(used)) = head.parse(&HeadLimits::default()) else { return Ok(()) };
        head.split_off(used, &mut Vec::new());
        let names = [FieldName::Host, FieldName::Te, FieldName::XForwardedFor, FieldName::Via];
        for (edit, which) in edits {
            let name = names[which];
            match edit {
                0 => head.fields.set(name, b"set"),
                1 => head.fields.append(name, b"more"),
                2 => head.fields.remove(name),
                3 => head.fields.join(name, b", ", b"joined"),
                _ => head.fields.retain(|at, _, _, _| at % 3 != 1),
            }
            for name in names {
                let values: Vec<&[u8]> =
                    head.fields.iter().filter(|f| f.0 == name).map(|f| f.2).collect();
                prop_assert_eq!(head.fields.get(name), values.first().copied());
                prop_assert_eq!(head.fields.has(name), !values.is_empty());
                prop_assert_eq!(head.fields.is_repeated(name), values.len() > 1);
            }
        }
    }
}

#[test]
fn parsing_a_head_byte_by_byte_takes_linear_time() {
    // Parsing from the start at every byte would take minutes.
    let limits = HeadLimits { bytes_max: 1 << 20, ..HeadLimits::default() };
    for filling in ["a", "\r\n", "\n"] {
        let before = if filling == "a" { "GET / HTTP/1.1\r\nHost: h\r\na: " } else { "" };
        let mut head = RequestHead::default();
        head.received().extend_from_slice(before.as_bytes());
        for byte in filling.bytes().cycle().take(600_000) {
            head.received().push(byte);
            assert_eq!(head.parse(&limits), Ok(None));
        }
        let end = if filling == "a" { "\r\n\r\n" } else { "\nGET / HTTP/1.1\r\n\r\n" };
        head.received().extend_from_slice(end.as_bytes());
        assert_eq!(head.parse(&limits), Ok(Some(head.clone().received().len())));
    }
}

#[test]
fn warm_buffers_cause_no_allocations() {
    let text: &[u8] =
        b"POST /headers?a=1 HTTP/1.1\r\nHost: localhost:15001\r\nUser-Agent: curl\r\n\
        Accept: */*\r\nConnection: keep-alive\r\nX-Custom: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nContent-Type: text/html\r\n\
        Connection: close\r\nContent-Length: 3\r\n\r\n";
    let manager = ConnectionManager::default();
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let mut out = Vec::new();
    let mut exchange = || {
        request.clear();
        request.received().extend_from_slice(text);
        assert_eq!(request.parse(&manager.limits), Ok(Some(text.len())));
        let length = framing::request(&request).expect("framed");
        let outcome = normalize::request(&mut request, &manager, &peer(), &mut || 1);
        assert!(matches!(outcome, normalize::Outcome::Continue(_)));
        framing::announce_request(&mut request, length);
        out.clear();
        encode::request(&request, &mut out);

        response.clear();
        response.received().extend_from_slice(answer);
        assert_eq!(response.parse(&manager.limits), Ok(Some(answer.len())));
        let length = framing::response(Method::Post, &response).expect("framed");
        headers::from_origin(&mut response, Some(3));
        headers::remove_hop_by_hop(&mut response, false);
        let finish =
            Finish { date: date_line(*b"Mon, 23 Nov 2026 20:15:18 GMT"), request_id: None };
        headers::finish(&mut response, &manager.response, &finish);
        framing::announce_response(Method::Post, request.version, &mut response, length);
        out.clear();
        encode::response(&response, &mut out);
    };
    exchange();
    let before = ALLOCATIONS.get();
    exchange();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Counts the allocations of this thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is unsafe; this one forwards to the system's")]
// SAFETY: every call is forwarded unchanged, so the system allocator's promises hold.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` above, that is, from the system.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peer() -> Peer<'static> {
    Peer { remote: ([192, 0, 2, 1], 4000).into(), local: ([192, 0, 2, 9], 80).into(), tls: None }
}

fn encoded(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(head, &mut out);
    out
}

/// Text as Latin-1 bytes.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|byte| byte as u8).collect()
}

fn pieces<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

// === Messages that are almost valid ===

fn message(first: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(field(), 0..8);
    (first, fields, line_end(), noise()).prop_map(|(first, fields, end, noise)| {
        let mut text = format!("{first}{}{end}body", fields.concat()).into_bytes();
        if let Some((at, byte)) = noise {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text
    })
}

fn request_line() -> impl Strategy<Value = String> {
    let method = pick(&["GET", "GET", "GET", "POST", "CONNECT", "OPTIONS", "FOO", "\r\nGET"]);
    let target = prop_oneof![
        4 => "/[a-z%.;/]{0,8}(\\?[a-z=#]{0,4})?",
        2 => pick(&["*", "http://other:80/p", "https://other?x", "h:443"]).prop_map(str::to_owned),
        1 => "[ -~]{1,8}",
    ];
    let version =
        pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""]);
    (method, target, version, line_end())
        .prop_map(|(method, target, version, end)| format!("{method} {target} {version}{end}"))
}

fn status_line() -> impl Strategy<Value = String> {
    let version = pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]);
    let status = pick(&["200", "200", "200", "204", "099", "1000", "2x"]);
    (version, status, "[ a-z]{0,5}", line_end())
        .prop_map(|(version, status, reason, end)| format!("{version} {status}{reason}{end}"))
}

fn field() -> impl Strategy<Value = String> {
    let name = pick(&[
        "Host",
        "Host",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Expect",
        "Upgrade",
        "X-A",
        "X-Forwarded-For",
        "Via",
        " X",
        "X ",
        "",
    ]);
    let value = prop_oneof![
        4 => pick(&[
            "h", "h", "h", "chunked", "chunked", "close, te", "chunked, gzip", "100-continue",
            "upgrade", "x-a", "trailers", "a\r\n b",
        ])
        .prop_map(str::to_owned),
        1 => "[0-9]{1,3}",
        1 => "[ -~\t]{0,6}",
    ];
    (name, value, line_end()).prop_map(|(name, value, end)| format!("{name}: {value}{end}"))
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => Just("\r\n"), 2 => Just("\n"), 1 => Just("\r"), 1 => Just("")]
}

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(choices)
}

fn noise() -> impl Strategy<Value = Option<(prop::sample::Index, u8)>> {
    prop::option::weighted(0.2, any::<(prop::sample::Index, u8)>())
}

fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![
        6 => "[0-9a-cA-C]",
        1 => "[ -~]{0,3}",
        1 => pick(&["0a", "fffffffffffffffff"]).prop_map(str::to_owned),
    ];
    let extension = prop_oneof![
        6 => Just(String::new()),
        3 => pick(&[";a=b", " ; a=\"b;\\\"\" ", ";"]).prop_map(str::to_owned),
        1 => "[;= a\"\t]{0,6}",
    ];
    let chunk = (size, extension, line_end(), line_end(), any::<bool>()).prop_map(
        |(size, extension, first, second, honest)| {
            let len = usize::from_str_radix(&size, 16).unwrap_or(3).min(12);
            let len = if honest { len } else { len + 1 };
            format!("{size}{extension}{first}{}{second}", "d".repeat(len))
        },
    );
    let trailers = prop::collection::vec(field(), 0..2);
    (prop::collection::vec(chunk, 0..4), trailers, line_end(), noise()).prop_map(
        |(chunks, trailers, end, noise)| {
            let text = format!("{}0\r\n{}{end}next", chunks.concat(), trailers.concat());
            let mut text = text.into_bytes();
            if let Some((at, byte)) = noise {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text
        },
    )
}
