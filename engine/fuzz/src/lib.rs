//! The fuzz targets: properties that hold for any input. A test runs them on the stored corpora.
//!
//! What is fuzzed is compiled from its sources, not as the engine's library: it has few dependencies, of which
//! only rustls takes its time. The reference is the strict reader of the end-to-end tests.

#![allow(unfulfilled_lint_expectations, reason = "the engine has more lints")]

#[expect(dead_code, reason = "the engine uses the rest")]
#[path = "../../src/request/filters/cdn_loop/parse.rs"]
mod cdn_loop;
mod certificates;
#[path = "../../src/downstream/listener_filters/first_line.rs"]
mod first_line;
mod frames;
#[expect(dead_code, unused_imports, reason = "the engine uses the rest")]
#[path = "../../src/http/mod.rs"]
mod http;
#[expect(dead_code, reason = "the engine uses the rest")]
#[path = "../../src/http1/mod.rs"]
mod http1;
mod http2;
#[expect(dead_code, reason = "the engine uses the rest")]
#[path = "../../src/limits.rs"]
mod limits;
#[expect(dead_code, unused_imports, reason = "the engine uses the rest")]
#[path = "../../src/proxy_protocol/mod.rs"]
mod proxy_protocol;
#[path = "../../src/request/filters/header_to_metadata/protobuf.rs"]
mod protobuf;
#[path = "../../../bin/tests/edge/reader.rs"]
mod reader;
mod shard;
mod text_matcher;
mod transport;
mod unchunked;

use http::{BodyLength, HeadLimits, Method, RequestHead, ResponseHead, Version};
use http1::{Error, chunked as coding, encode, framing};
use http2::hpack;
use reader::{End, Leniency};
use unchunked::unchunked;

pub use certificates::certificates;
pub use frames::frames;
pub use transport::tls::peers::peers;

/// The result of parsing a request or response head does not depend on how it is split.
pub fn head(input: &[u8]) {
    let (cuts, text) = cuts(input);
    let limits = HeadLimits { bytes_max: 2000, fields_max: 8, ..HeadLimits::default() };
    let parse_request = |pieces: &[&[u8]]| {
        let mut head = RequestHead::default();
        let used = fed(pieces, |piece| {
            head.received().extend_from_slice(piece);
            head.parse(&limits)
        })?;
        let mut out = Vec::new();
        encode::request(&head, &mut out);
        Ok((used, head.method_name().to_vec(), out))
    };
    assert_same(parse_request(&[text, END]), parse_request(&pieces(&cuts, text)));
    let parse_response = |pieces: &[&[u8]]| {
        let mut head = ResponseHead::default();
        let used = fed(pieces, |piece| {
            head.received().extend_from_slice(piece);
            head.parse(&limits)
        })?;
        let mut out = Vec::new();
        encode::response(&head, &mut out);
        Ok((used, head.reason().to_vec(), out))
    };
    assert_same(parse_response(&[text, END]), parse_response(&pieces(&cuts, text)));
}

/// The inputs of filters: one more `cdn-id` in `CDN-Loop` counts once more; and of a value that is encoded
/// twice, the last one counts.
pub fn filters(input: &[u8]) {
    let id = b"cdn.test";
    if let Some(count) = cdn_loop::count(input, id) {
        let longer = [input, b", cdn.test;a=1"].concat();
        assert_eq!(cdn_loop::count(&longer, id), Some(count + 1));
    }
    if let Some(value) = protobuf::value(input) {
        assert_eq!(protobuf::value(&[input, input].concat()), Some(value));
    }
}

/// What the first bytes of a connection are does not depend on how many have arrived: once that is
/// decided, more bytes do not change it.
pub fn first_bytes(input: &[u8]) {
    let input = &input[..input.len().min(600)];
    stays_decided(input, client_hello, &None);
    stays_decided(input, first_line::inspect, &first_line::FirstLine::Incomplete);
    let announced =
        |bytes: &[u8]| match proxy_protocol::signature(bytes, proxy_protocol::Versions::BOTH) {
            proxy_protocol::Signature::Incomplete => Ok(None),
            proxy_protocol::Signature::Absent => Err(None),
            proxy_protocol::Signature::Found(version) => {
                proxy_protocol::parse(bytes, version).map_err(Some)
            }
        };
    stays_decided(input, announced, &Ok(None));
    if let Ok(Some(header)) = announced(input) {
        assert!(header.length <= input.len(), "{header:?}");
    }
}

/// The parsed ClientHello with its extensions, as text; none until it is decided whether it is one.
fn client_hello(bytes: &[u8]) -> Option<String> {
    use transport::tls::client_hello::{ClientHello, FirstBytes, first_message};
    match first_message(bytes) {
        FirstBytes::Incomplete => None,
        FirstBytes::ClientHello(message) => {
            let hello = ClientHello::parse(&message);
            let kinds = hello.iter().flat_map(|hello| hello.extensions.iter());
            Some(format!("{hello:?} {}", kinds.count()))
        }
        other => Some(format!("{other:?}")),
    }
}

fn stays_decided<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    decide: impl Fn(&[u8]) -> T,
    undecided: &T,
) {
    let mut decided: Option<T> = None;
    for end in 0..=input.len() {
        let now = decide(&input[..end]);
        if let Some(before) = &decided {
            assert_eq!(before, &now, "after {end} bytes");
        } else if now != *undecided {
            decided = Some(now);
        }
    }
}

/// Header blocks of one connection: what can be decoded is encoded so that it is decoded again to the same,
/// also when tables were made smaller in between. Each block is preceded by its length; a length above 200
/// changes the sizes of the tables of the way back.
pub fn hpack(mut input: &[u8]) {
    let mut received = hpack::Decoder::default();
    let (mut encoder, mut again) = (hpack::Encoder::default(), hpack::Decoder::default());
    while let Some((&len, rest)) = input.split_first() {
        if len > 200 {
            let limit = (usize::from(len) - 200) * 40;
            encoder.set_limit(limit);
            again.set_limit(limit);
            input = rest;
            continue;
        }
        let (block, rest) = rest.split_at(usize::from(len).min(rest.len()));
        input = rest;
        let mut out = Vec::new();
        encoder.begin(&mut out);
        let mut fields = Vec::new();
        let decoded = received.decode(block, |field| {
            fields.push((field.name.to_vec(), field.value.to_vec()));
            encoder.received(&field, &mut out);
        });
        let mut read = Vec::new();
        again
            .decode(&out, |field| read.push((field.name.to_vec(), field.value.to_vec())))
            .expect("what is encoded can be decoded");
        assert_eq!(fields, read);
        if decoded.is_err() {
            return;
        }
    }
}

/// The data and the end of a chunked body do not depend on how it is split, and a strict reader sees
/// the same.
pub fn chunked(input: &[u8]) {
    let (cuts, text) = cuts(input);
    let whole = unchunked(&[text, END]);
    assert_eq!(whole, unchunked(&pieces(&cuts, text)), "split");

    let message = [POST_CHUNKED, text, END].concat();
    let (read, _) = reader::requests(&message, Leniency::EmptyLines);
    let theirs = read.first().and_then(|request| request.end);
    match whole {
        Ok((data, Some(used))) => {
            assert_eq!(theirs, Some(POST_CHUNKED.len() + used), "the end of the body");
            assert_eq!(read[0].body, data);
        }
        Ok((_, None)) => assert_eq!(theirs, None, "we wait for more than necessary"),
        // We may be stricter.
        Err(_) => {}
    }
}

/// A strict reader sees the same requests in what a client sends and in what we forward, however the
/// input is split.
pub fn connection(input: &[u8]) {
    let (sent, _) = reader::requests(input, Leniency::AsEnvoy);
    let counts = [vec![input], scattered(input)].map(|pieces| {
        let (sent_on, count) = forward(&pieces);
        let (read, end) = reader::requests(&sent_on, Leniency::None);
        let text = String::from_utf8_lossy(&sent_on);
        assert!(!matches!(end, End::Wrong(_)), "{end:?} in {text:?}");
        assert_eq!(read.len(), count, "requests in {text:?}");
        assert!(sent.len() >= count, "sent on {count}, sent {sent:?}");
        for (read, sent) in read.iter().zip(&sent) {
            assert!(read.means(sent), "{read:?} is not {sent:?}");
        }
        count
    });
    assert_eq!(counts[0], counts[1], "split");
}

/// A strict reader sees the fields and body of a forwarded response as we do.
pub fn answers(input: &[u8]) {
    let Some((&which, mut rest)) = input.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Post, Method::Connect][usize::from(which % 4)];
    while let Some((passed_on, body, used)) = answer(method, rest) {
        if let Some(body) = body {
            let (read, end) = reader::requests(&as_request(&passed_on), Leniency::None);
            assert_eq!(end, End::Clean, "{:?}", String::from_utf8_lossy(&passed_on));
            assert_eq!(read[0].body, body);
        }
        rest = &rest[used..];
    }
}

/// The input of a connection, piece by piece.
struct Feed<'a> {
    pieces: std::slice::Iter<'a, &'a [u8]>,
    /// Received, but not consumed yet.
    here: Vec<u8>,
}

impl<'a> Feed<'a> {
    fn of(pieces: &'a [&'a [u8]]) -> Self {
        Self { pieces: pieces.iter(), here: Vec::new() }
    }

    /// Receives the next piece; false if there is none.
    fn more(&mut self) -> bool {
        self.pieces.next().map(|piece| self.here.extend_from_slice(piece)).is_some()
    }
}

/// Parses and re-encodes requests as the proxy does, without the connection manager's rules.
fn forward(pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let (mut out, mut count) = (Vec::new(), 0);
    let mut feed = Feed::of(pieces);
    loop {
        let mut head = RequestHead::default();
        let used = loop {
            head.received().append(&mut feed.here);
            match head.parse(&HeadLimits::default()) {
                Ok(Some(used)) => break used,
                Ok(None) if feed.more() => {}
                Ok(None) | Err(_) => return (out, count),
            }
        };
        head.split_off(used, &mut feed.here);
        let Ok(length) = framing::request(&head) else { return (out, count) };
        // The connection manager rejects these.
        let is_path = match head.target() {
            [b'/', path @ ..] => !path.contains(&b'#'),
            target => target == b"*" || head.method == Method::Connect,
        };
        if head.authority().is_none() || !is_path {
            return (out, count);
        }
        let last = !head.keep_alive() || head.method == Method::Connect;
        framing::announce_request(&mut head, length);
        encode::request(&head, &mut out);
        count += 1;
        if body(length, &mut feed, &mut out).is_none() || last {
            return (out, count);
        }
    }
}

/// Copies a body; none if it is invalid or incomplete.
fn body(length: BodyLength, feed: &mut Feed<'_>, out: &mut Vec<u8>) -> Option<()> {
    match length {
        BodyLength::None => {}
        BodyLength::UntilClose => {
            while feed.more() {}
            coding::encode_chunk(out, &feed.here);
            coding::encode_end(out);
            feed.here.clear();
        }
        BodyLength::Length(mut left) => {
            while left > 0 {
                if feed.here.is_empty() && !feed.more() {
                    return None;
                }
                let most =
                    usize::try_from(left).map_or(feed.here.len(), |n| n.min(feed.here.len()));
                out.extend(feed.here.drain(..most));
                left -= most as u64;
            }
        }
        BodyLength::Chunked => {
            let mut decoder = coding::Decoder::new();
            loop {
                if feed.here.is_empty() && !feed.more() {
                    return None;
                }
                let decoded = decoder.decode(&feed.here).ok()?;
                coding::encode_chunk(out, &feed.here[decoded.data]);
                feed.here.drain(..decoded.consumed);
                if decoded.end {
                    coding::encode_end(out);
                    break;
                }
            }
        }
    }
    Some(())
}

/// The first response as it is forwarded, its body if it has one, and its length.
fn answer(method: Method, rest: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>, usize)> {
    let mut head = ResponseHead::default();
    head.received().extend_from_slice(rest);
    let used = head.parse(&HeadLimits::default()).ok()??;
    let length = framing::response(method, &head).ok()?;
    let length_sent = framing::announce_response(method, Version::Http11, &mut head, length);
    let mut out = Vec::new();
    head.fields.retain(|_, name, _, _| name != b"host" && name != b"connection");
    encode::response(&head, &mut out);
    if length_sent == BodyLength::None {
        return Some((out, None, used));
    }
    let pieces = [&rest[used..]];
    let mut feed = Feed::of(&pieces);
    feed.more();
    body(length, &mut feed, &mut out)?;
    let end = rest.len() - used - feed.here.len();
    let mut data = Vec::new();
    match length {
        BodyLength::Chunked => data = unchunked(&[&rest[used..used + end]]).ok()?.0,
        _ => data.extend_from_slice(&rest[used..used + end]),
    }
    Some((out, Some(data), used + end))
}

/// The same fields and body after a request line, for a reader of requests.
fn as_request(answer: &[u8]) -> Vec<u8> {
    let line = answer.iter().position(|&byte| byte == b'\n').expect("a status line");
    [b"POST / HTTP/1.1\r\nhost: h\r\n", &answer[line + 1..]].concat()
}

/// Feeds pieces until there is a result.
fn fed(
    pieces: &[&[u8]],
    mut feed: impl FnMut(&[u8]) -> Result<Option<usize>, Error>,
) -> Result<Option<usize>, Error> {
    for piece in pieces {
        match feed(piece) {
            Ok(None) => {}
            result => return result,
        }
    }
    Ok(None)
}

/// What is parsed is the same; a head with two errors may be rejected for either.
fn assert_same<T: PartialEq + std::fmt::Debug>(one: Result<T, Error>, other: Result<T, Error>) {
    match (one, other) {
        (Err(_), Err(_)) => {}
        (one, other) => assert_eq!(one, other, "split"),
    }
}

/// The first byte is the number of cuts, the next bytes are their positions.
fn cuts(input: &[u8]) -> (Vec<usize>, &[u8]) {
    let Some((&count, rest)) = input.split_first() else { return (Vec::new(), input) };
    let (places, text) = rest.split_at(rest.len().min(usize::from(count % 8)));
    let mut cuts: Vec<usize> =
        places.iter().map(|&place| usize::from(place) * text.len() / 255).collect();
    cuts.sort_unstable();
    (cuts, text)
}

/// The text in pieces whose lengths follow from a hash of the text.
fn scattered(text: &[u8]) -> Vec<&[u8]> {
    let mut seed = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |seed, &byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (mut rest, mut pieces) = (text, Vec::new());
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Mostly short ones, so that there are cuts in every part of a message.
        let max = if seed >> 61 == 0 { 512 } else { 12 };
        let (piece, after) = rest.split_at(rest.len().min(1 + (seed >> 33) as usize % max));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn pieces<'a>(cuts: &[usize], text: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for &cut in cuts {
        pieces.push(&text[start..cut]);
        start = cut;
    }
    pieces.push(&text[start..]);
    pieces.push(END);
    pieces
}

/// Appended to the input, so that a head or a body can end.
const END: &[u8] = b"\r\n\r\n";

const POST_CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";

#[cfg(test)]
mod tests {
    use std::fs;

    /// Runs each target on its corpus.
    #[test]
    fn the_corpus_holds() {
        let targets: [(&str, fn(&[u8])); 10] = [
            ("head", super::head),
            ("chunked", super::chunked),
            ("connection", super::connection),
            ("answers", super::answers),
            ("first_bytes", super::first_bytes),
            ("hpack", super::hpack),
            ("http2", super::frames),
            ("certificates", super::certificates),
            ("tls", super::peers),
            ("filters", super::filters),
        ];
        for (name, target) in targets {
            let folder = format!("{}/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut count = 0;
            for file in fs::read_dir(folder).unwrap() {
                target(&fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 10, "{count} seeds for {name}");
        }
    }
}
