//! Fast path for plain heads, as nearly all are: `name: value`, text without control characters, lines
//! that end in CRLF, HTTP/1.1.
//!
//! It rejects nothing: what is not plain, incomplete or invalid is left to httparse (`parse.rs`), which
//! decides.
//!
//! Invariant: httparse accepts every head that is accepted here, with the same result. If the only error
//! is an invalid field name, httparse rejects the head, too. Builds with debug assertions, fuzz targets
//! included, check this for each head.

use super::scan;
use crate::http::fields::{Field, Shape, Span, offset};
use crate::http::{FieldName, Method, TOKEN};

/// The first line of a request, and how many bytes the head takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) target: Span,
    /// The whole line, without the line end.
    pub(super) line: Span,
    pub(super) used: usize,
}

/// The first line of a response, and how many bytes the head takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) reason: Span,
    pub(super) used: usize,
}

impl Request {
    /// Whether httparse accepts the head with the same result, or rejects it if a name is invalid. For
    /// assertions.
    pub(super) fn agrees_with_httparse(&self, bytes: &[u8], at: usize, list: &[Field]) -> bool {
        let mut room = [httparse::EMPTY_HEADER; ASSERTED_FIELDS];
        let mut seen = httparse::Request::new(&mut room);
        let outcome = seen.parse(bytes.get(at..).unwrap_or_default());
        if list.len() > ASSERTED_FIELDS || has_invalid_name(bytes, list) {
            return outcome.is_err();
        }
        outcome == Ok(httparse::Status::Complete(self.used - at))
            && seen.version == Some(1)
            && seen.method == Some(self.method.as_str())
            && seen.path.map(str::as_bytes) == Some(self.target.of(bytes))
            && are_same(bytes, list, seen.headers)
    }
}

impl Response {
    /// As [`Request::agrees_with_httparse`].
    pub(super) fn agrees_with_httparse(&self, bytes: &[u8], list: &[Field]) -> bool {
        let mut room = [httparse::EMPTY_HEADER; ASSERTED_FIELDS];
        let mut seen = httparse::Response::new(&mut room);
        let outcome = seen.parse(bytes);
        if list.len() > ASSERTED_FIELDS || has_invalid_name(bytes, list) {
            return outcome.is_err();
        }
        outcome == Ok(httparse::Status::Complete(self.used))
            && seen.version == Some(1)
            && seen.code == Some(self.status)
            && seen.reason.map(str::as_bytes) == Some(self.reason.of(bytes))
            && are_same(bytes, list, seen.headers)
    }
}

const ASSERTED_FIELDS: usize = 128;

/// Whether a name is invalid: the fast path itself does not validate names.
fn has_invalid_name(bytes: &[u8], list: &[Field]) -> bool {
    list.iter().any(|field| !TOKEN.has_all(field.name.of(bytes)))
}

fn are_same(bytes: &[u8], list: &[Field], seen: &[httparse::Header<'_>]) -> bool {
    list.len() == seen.len()
        && list.iter().zip(seen).all(|(field, seen)| {
            field.name.of(bytes) == seen.name.as_bytes() && field.value.of(bytes) == seen.value
        })
}

/// Reads a request head that begins at `at`; `bytes` ends with [`scan::PADDING`]. The caller looks up
/// the names of the fields, and validates unknown ones ([`TOKEN`]).
pub(super) fn request(
    bytes: &[u8],
    at: usize,
    fields_max: usize,
    list: &mut Vec<Field>,
) -> Option<Request> {
    let line = bytes.get(at..)?;
    let method_len = scan::space(line)?;
    let (method, line) = line.split_at_checked(method_len as usize)?;
    let (_, line) = line.split_first()?;
    let target_len = scan::space(line)?;
    let (target, rest) = line.split_at_checked(target_len as usize)?;
    let method = Method::of(method);
    // The target ends at the first space, so it is valid if it is text.
    let is_plain = method != Method::Custom
        && !target.is_empty()
        && scan::end_of_text(line)? >= target_len
        && rest.starts_with(VERSION);
    if !is_plain {
        return None;
    }
    let start = offset(at) + method_len + 1;
    let target = Span { start, end: start + target_len };
    let fields_at = target.end + offset(VERSION.len());
    let line = Span { start: offset(at), end: fields_at - 2 };
    let used = fields(bytes, fields_at, fields_max, list)?;
    Some(Request { method, target, line, used })
}

/// Reads a response head; as [`request`].
pub(super) fn response(bytes: &[u8], fields_max: usize, list: &mut Vec<Field>) -> Option<Response> {
    let (version, rest) = bytes.split_first_chunk()?;
    let ([hundreds, tens, ones, space], rest) = rest.split_first_chunk()?;
    let digits = [*hundreds, *tens, *ones];
    let reason_len = scan::end_of_text(rest)?;
    let is_plain = version == b"HTTP/1.1 "
        && *hundreds > b'0'
        && digits.iter().all(u8::is_ascii_digit)
        && *space == b' '
        && matches!(rest.get(reason_len as usize..)?, [b'\r', b'\n', ..]);
    if !is_plain {
        return None;
    }
    let status = digits.into_iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    let start = offset(version.len()) + 4;
    let reason = Span { start, end: start + reason_len };
    let used = fields(bytes, reason.end + 2, fields_max, list)?;
    Some(Response { status, reason, used })
}

/// Reads the fields from `at` on, and the empty line after them. Returns the end of that line.
fn fields(bytes: &[u8], mut at: u32, fields_max: usize, list: &mut Vec<Field>) -> Option<usize> {
    let mut rest = bytes.get(at as usize..)?;
    loop {
        if let [b'\r', b'\n', ..] = rest {
            return Some(at as usize + 2);
        }
        let colon = scan::end_of_name(rest)?;
        let (name, line) = rest.split_at_checked(colon as usize)?;
        let (separator, value) = line.split_first_chunk()?;
        let value_len = scan::end_of_text(value)?;
        let (value, end) = value.split_at_checked(value_len as usize)?;
        let (line_end, next) = end.split_first_chunk()?;
        // White space around the value is not part of it.
        let is_plain = !name.is_empty()
            && separator == b": "
            && value.first() > Some(&b' ')
            && value.last() > Some(&b' ')
            && line_end == b"\r\n"
            && list.len() < fields_max;
        if !is_plain {
            return None;
        }
        let name = Span { start: at, end: at + colon };
        let value = Span { start: name.end + 2, end: name.end + 2 + value_len };
        list.push(Field { id: FieldName::Other, shape: Shape::Line, name, value });
        at = value.end + 2;
        rest = next;
    }
}

const VERSION: &[u8] = b" HTTP/1.1\r\n";
