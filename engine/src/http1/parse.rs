//! Parses heads. httparse finds the lines, names and values; where it is too lenient, this module
//! checks more.
//!
//! Deliberate differences from Envoy 1.40: rejected in requests are a folded line (Envoy joins it), a
//! bare CR in a value (Envoy deletes it), `Host` twice (Envoy joins them), an empty `Host`, and one
//! with user information, a comma or a port that is not a number. As in Envoy, a line of a head may
//! end in a bare LF: re-encoding removes it. In a response a folded line is joined, as RFC 9112 §5.2
//! allows a proxy to do, unless the field frames the body.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use super::Error;
use super::plain;
use super::scan;
use crate::http::byte_set::{HOST, REG_NAME};
use crate::http::fields::{Field, Fields, Span, offset};
use crate::http::head::{HeadLimits, Progress, RequestHead, ResponseHead, Scheme, Version};
use crate::http::{FieldName, Method};

impl RequestHead {
    /// Parses what was received so far. `Some(n)`: the head is complete and takes the first `n`
    /// bytes; the body or the next request follows. `None`: more bytes are needed.
    ///
    /// The result does not depend on how the bytes are split over calls, and the work is linear. An
    /// error in an incomplete head may be found only when more has arrived.
    ///
    /// # Errors
    /// The head is invalid: the error determines the reply, and the connection is closed.
    pub fn parse(&mut self, limits: &HeadLimits) -> Result<Option<usize>, Error> {
        request(self, limits)
    }
}

impl ResponseHead {
    /// As [`RequestHead::parse`].
    ///
    /// # Errors
    /// The head is invalid. The end of the response is unknown, so the connection must be closed.
    #[inline(always)]
    pub fn parse(&mut self, limits: &HeadLimits) -> Result<Option<usize>, Error> {
        let head_bytes = response(self, limits)?;
        if let Some(head_bytes) = head_bytes {
            let received = offset(self.fields.bytes.len());
            self.surplus = Span { start: offset(head_bytes), end: received };
        }
        Ok(head_bytes)
    }
}

impl Progress {
    /// Whether to try to parse, given all that was received.
    fn due(&mut self, bytes: &[u8], bytes_max: usize) -> bool {
        let len = bytes.len();
        let mut due = self.tried == 0 || len >= self.tried * 2 || len >= bytes_max;
        if !due {
            let from = self.scanned.max(self.start);
            for at in memchr::memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
                let at = from + at;
                if !self.line_tried {
                    self.line_tried = true;
                    due = true;
                }
                if matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])) {
                    due = true;
                    break;
                }
            }
        }
        // A line end is recognised together with the next two bytes.
        self.scanned = len.saturating_sub(3);
        if due {
            self.tried = len;
        }
        due
    }
}

/// Up to this many fields are parsed without an allocation.
const FIELDS_ON_STACK: usize = 128;

/// Parses a request head; see [`RequestHead::parse`].
fn request(head: &mut RequestHead, limits: &HeadLimits) -> Result<Option<usize>, Error> {
    let len = head.fields.bytes.len();
    skip_empty_lines(&head.fields.bytes, &mut head.progress)?;
    let start = head.progress.start;
    if start == len {
        return too_long_or_partial(len, limits);
    }
    if !head.progress.due(&head.fields.bytes, limits.bytes_max) {
        return Ok(None);
    }
    let used = match plain_request(head, start, limits) {
        Some(used) => Some(used),
        None => full_request(head, start, limits)?,
    };
    if used.is_some() {
        check_host(head)?;
        check_target(head, limits)?;
    }
    Ok(used)
}

/// As [`request`], with httparse; `start` is where the first line begins.
fn full_request(
    head: &mut RequestHead,
    start: usize,
    limits: &HeadLimits,
) -> Result<Option<usize>, Error> {
    let len = head.fields.bytes.len();
    let (bytes, list) = head.fields.parts();
    let window = bytes.get(start..len.min(limits.bytes_max)).unwrap_or_default();
    list.clear();
    let base = bytes.as_ptr() as usize;
    let span = |text: &[u8]| span_of(base, text);

    let mut few = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut many = Vec::new();
    let room = room_for(limits.fields_max, &mut few, &mut many);
    let mut parsed = httparse::Request::new(&mut []);
    let outcome = parsed.parse_with_uninit_headers(window, room);
    // Errors in the first line come first, whether or not the rest is complete or valid.
    let method = known_method(parsed.method.unwrap_or("GET"), limits)?;
    if !parsed.path.unwrap_or_default().is_ascii() {
        return Err(Error::Target);
    }
    let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    if version == Version::Http10 && !limits.accept_http_10 {
        return Err(Error::VersionUnsupported);
    }
    let used = match outcome {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return too_long_or_partial(len, limits),
        Err(httparse::Error::Version) => return unsupported_version(window, len, limits),
        Err(httparse::Error::Token) => return Err(of_request_line(window)),
        Err(error) => return Err(of_httparse(error)),
    };
    head.method = method;
    head.version = version;
    head.method_name = parsed.method.map(|name| span(name.as_bytes())).unwrap_or_default();
    head.target = parsed.path.map(|target| span(target.as_bytes())).unwrap_or_default();
    list.extend(
        parsed
            .headers
            .iter()
            .map(|field| Field::received(bytes, span(field.name.as_bytes()), span(field.value))),
    );
    head.fields.recognise();
    Ok(Some(start + used))
}

/// Parses a response head; see [`ResponseHead::parse`].
#[inline(always)]
fn response(head: &mut ResponseHead, limits: &HeadLimits) -> Result<Option<usize>, Error> {
    match head.fields.bytes.first() {
        None => return Ok(None),
        // Empty lines are accepted from clients only (RFC 9112 §2.2).
        Some(b'\r' | b'\n') => return Err(Error::StatusLine),
        Some(_) => {}
    }
    if !head.progress.due(&head.fields.bytes, limits.bytes_max) {
        return Ok(None);
    }
    match plain_response(head, limits) {
        Some(used) => Ok(Some(used)),
        None => full_response(head, limits),
    }
}

/// As [`response`], with httparse.
fn full_response(head: &mut ResponseHead, limits: &HeadLimits) -> Result<Option<usize>, Error> {
    let len = head.fields.bytes.len();
    let (bytes, list) = head.fields.parts();
    let window = bytes.get(..len.min(limits.bytes_max)).unwrap_or_default();
    list.clear();
    let base = bytes.as_ptr() as usize;
    let span = |text: &[u8]| span_of(base, text);

    let mut few = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut many = Vec::new();
    let room = room_for(limits.fields_max, &mut few, &mut many);
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    let folds = head.progress.folds;
    config.allow_obsolete_multiline_headers_in_responses(folds);
    let used = match config.parse_response_with_uninit_headers(&mut parsed, window, room) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return too_long_or_partial(len, limits),
        // A folded line begins with white space, a name does not. Folding is rare: parse again.
        Err(httparse::Error::HeaderName) if !folds => {
            head.progress = Progress { folds: true, ..Progress::default() };
            return full_response(head, limits);
        }
        Err(error) => return Err(of_httparse(error)),
    };
    head.status = parsed.code.unwrap_or_default();
    head.version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
    head.reason = parsed.reason.map(|reason| span(reason.as_bytes())).unwrap_or_default();
    list.extend(
        parsed
            .headers
            .iter()
            .map(|field| Field::received(bytes, span(field.name.as_bytes()), span(field.value))),
    );
    head.fields.recognise();
    if folds {
        let (bytes, list) = head.fields.parts();
        unfold(bytes, list)?;
    }
    // RFC 9112 §4: "The status-code element is a 3-digit integer code"; RFC 9110 §15 begins
    // at 100.
    if head.status < 100 {
        return Err(Error::StatusLine);
    }
    Ok(Some(used))
}

/// Fast path for a plain request head; `None`: use httparse.
fn plain_request(head: &mut RequestHead, start: usize, limits: &HeadLimits) -> Option<usize> {
    let plain = plainly(&mut head.fields, limits, |bytes, list| {
        let plain = plain::request(bytes, start, limits.fields_max, list);
        debug_assert!(
            plain.is_none_or(|plain| plain.agrees_with_httparse(bytes, start, list)),
            "httparse disagrees on {:?}",
            String::from_utf8_lossy(bytes)
        );
        plain
    })?;
    (head.method, head.target, head.version) = (plain.method, plain.target, Version::Http11);
    head.line = plain.line;
    Some(plain.used)
}

/// Fast path for a plain response head; `None`: use httparse.
fn plain_response(head: &mut ResponseHead, limits: &HeadLimits) -> Option<usize> {
    let plain = plainly(&mut head.fields, limits, |bytes, list| {
        let plain = plain::response(bytes, limits.fields_max, list);
        debug_assert!(
            plain.is_none_or(|plain| plain.agrees_with_httparse(bytes, list)),
            "httparse disagrees on {:?}",
            String::from_utf8_lossy(bytes)
        );
        plain
    })?;
    (head.status, head.reason, head.version) = (plain.status, plain.reason, Version::Http11);
    Some(plain.used)
}

fn plainly<H>(
    fields: &mut Fields,
    limits: &HeadLimits,
    read: impl FnOnce(&[u8], &mut Vec<Field>) -> Option<H>,
) -> Option<H> {
    let len = fields.bytes.len();
    if len > limits.bytes_max || fields.bytes.capacity() - len < scan::PADDING.len() {
        return None;
    }
    fields.bytes.extend_from_slice(&scan::PADDING);
    let (bytes, list) = fields.parts();
    list.clear();
    let head = read(bytes, list);
    fields.bytes.truncate(len);
    let head = head?;
    fields.recognise().then_some(head)
}

fn known_method(name: &str, limits: &HeadLimits) -> Result<Method, Error> {
    match Method::of(name.as_bytes()) {
        Method::Custom if !limits.allow_custom_methods => Err(Error::Method),
        method => Ok(method),
    }
}

fn span_of(base: usize, text: &[u8]) -> Span {
    let start = (text.as_ptr() as usize).wrapping_sub(base);
    Span { start: offset(start), end: offset(start + text.len()) }
}

fn room_for<'r, 'b>(
    fields_max: usize,
    few: &'r mut [MaybeUninit<httparse::Header<'b>>; FIELDS_ON_STACK],
    many: &'r mut Vec<MaybeUninit<httparse::Header<'b>>>,
) -> &'r mut [MaybeUninit<httparse::Header<'b>>] {
    if let Some(room) = few.get_mut(..fields_max) {
        return room;
    }
    many.resize_with(fields_max, MaybeUninit::uninit);
    many
}

fn too_long_or_partial(len: usize, limits: &HeadLimits) -> Result<Option<usize>, Error> {
    if len >= limits.bytes_max { Err(Error::HeadTooLarge) } else { Ok(None) }
}

/// RFC 9112 §2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore
/// at least one empty line (CRLF) received prior to the request-line."
fn skip_empty_lines(bytes: &[u8], progress: &mut Progress) -> Result<(), Error> {
    loop {
        match bytes.get(progress.start..) {
            Some([b'\r', b'\n', ..]) => progress.start += 2,
            Some([b'\n', ..]) => progress.start += 1,
            Some([b'\r']) => return Ok(()),
            Some([b'\r', ..]) => return Err(Error::LineEnd),
            _ => return Ok(()),
        }
    }
}

/// httparse supports HTTP/1.0 and HTTP/1.1. Envoy answers any other version with 426; anything that is
/// not a version is a malformed line.
fn unsupported_version(
    window: &[u8],
    len: usize,
    limits: &HeadLimits,
) -> Result<Option<usize>, Error> {
    let Some(end) = memchr::memchr(b'\n', window) else {
        return too_long_or_partial(len, limits);
    };
    let line = window.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Error::VersionUnsupported)
        }
        _ => Err(Error::Version),
    }
}

/// A line of method and target is HTTP/0.9, which Envoy also answers with 426.
fn of_request_line(window: &[u8]) -> Error {
    let line = window.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some(method), Some([b'/', target @ ..]), None)
            if Method::of(method) != Method::Custom && target.iter().all(u8::is_ascii_graphic) =>
        {
            Error::VersionUnsupported
        }
        _ => Error::Target,
    }
}

fn of_httparse(error: httparse::Error) -> Error {
    match error {
        httparse::Error::HeaderName => Error::FieldName,
        httparse::Error::HeaderValue => Error::FieldValue,
        httparse::Error::NewLine => Error::LineEnd,
        httparse::Error::Status => Error::StatusLine,
        httparse::Error::Token => Error::Target,
        httparse::Error::TooManyHeaders => Error::TooManyFields,
        httparse::Error::Version => Error::Version,
    }
}

/// RFC 9112 §5.2: "A proxy … that receives an obs-fold in a response message that is not within a
/// message/http container MUST either discard the message … or replace each received obs-fold
/// with one or more SP octets". Envoy: only the line end is removed.
///
/// A folded length is rejected: a parser that ends the field at the fold would see another one.
fn unfold(bytes: &mut [u8], list: &mut [Field]) -> Result<(), Error> {
    for field in list {
        if matches!(field.id, FieldName::ContentLength | FieldName::TransferEncoding)
            && is_folded(bytes, field)
        {
            return Err(Error::FieldName);
        }
        let range = field.value.start as usize..field.value.end as usize;
        let Some(value) = bytes.get_mut(range) else { continue };
        if memchr::memchr(b'\n', value).is_none() {
            continue;
        }
        let is_kept = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        let unfolded: Vec<u8> = value.iter().copied().filter(is_kept).collect();
        if let Some(start) = value.get_mut(..unfolded.len()) {
            start.copy_from_slice(&unfolded);
        }
        field.value.end = field.value.start + offset(unfolded.len());
    }
    Ok(())
}

/// Whether the field spans more than one line, including the white space around its value.
fn is_folded(bytes: &[u8], field: &Field) -> bool {
    let until_value = bytes.get(field.name.end as usize..field.value.end as usize);
    let after = bytes.get(field.value.end as usize..).unwrap_or_default();
    let next_line = memchr::memchr(b'\n', after).and_then(|end| after.get(end + 1));
    until_value.is_some_and(|text| memchr::memchr(b'\n', text).is_some())
        || matches!(next_line, Some(b' ' | b'\t'))
}

/// RFC 9112 §3.2: the four forms of a request target.
fn check_target(head: &mut RequestHead, limits: &HeadLimits) -> Result<(), Error> {
    match (head.method, head.target.of(&head.fields.bytes)) {
        (Method::Connect, authority) => {
            // RFC 9112 §3.2.3: "authority-form = uri-host ":" port"
            target_port(authority)?.ok_or(Error::Url)?;
            let authority = head.target;
            head.fields.set_span(FieldName::Host, authority);
            Ok(())
        }
        (_, [b'/', ..]) => Ok(()),
        (Method::Options, b"*") => Ok(()),
        _ => absolute_form(head, limits),
    }
}

/// RFC 9112 §3.2.2: "When an origin server receives a request with an absolute-form of
/// request-target, the origin server MUST ignore the received Host header field (if any) and
/// instead use the host information of the request-target."
fn absolute_form(head: &mut RequestHead, limits: &HeadLimits) -> Result<(), Error> {
    let Span { start, end } = head.target;
    let target = head.target.of(&head.fields.bytes);
    let colon = memchr::memmem::find(target, b"://").ok_or(Error::Target)?;
    let (scheme, rest) = target.split_at(colon);
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"http") => Scheme::Http,
        _ if scheme.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => return Err(Error::Scheme),
    };
    if !limits.allow_absolute_url {
        // Envoy leaves it to the connection manager, which answers 404.
        return Ok(());
    }
    let rest = rest.get(3..).unwrap_or_default();
    let slash = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let authority = rest.get(..slash.unwrap_or(rest.len())).unwrap_or_default();
    target_port(authority)?;
    let host = start + offset(colon + 3);
    let host = Span { start: host, end: host + offset(authority.len()) };
    let path = Span { start: host.end, end };
    let path = match path.of(&head.fields.bytes) {
        // For Envoy a query alone is not a path: the connection manager answers 404.
        [b'/' | b'?', ..] => path,
        // The path is `/`: the span of the last slash before the host.
        [] => Span { start: host.start - 1, end: host.start },
        _ => return Err(Error::Target),
    };
    head.scheme = Some(scheme);
    head.line = Span::default();
    head.target = path;
    head.fields.set_span(FieldName::Host, host);
    Ok(())
}

/// The port of a target's authority, if it has one.
///
/// Envoy: the host consists of letters, digits, `-` and `.`, or is an IPv6 address in brackets. Envoy
/// removes user information; here it is rejected: it is deprecated for http (RFC 9110 §4.2.4).
fn target_port(authority: &[u8]) -> Result<Option<u16>, Error> {
    let text = std::str::from_utf8(authority).map_err(|_| Error::Url)?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && HOST.has_all(host.as_bytes()),
    };
    match port {
        _ if !is_host => Err(Error::Url),
        // `u16::parse` accepts a plus sign.
        Some(port) if port.starts_with('+') => Err(Error::Url),
        Some(port) => port.parse().map(Some).map_err(|_| Error::Url),
        None => Ok(None),
    }
}

/// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
/// request message that lacks a Host header field and to any request message that contains more
/// than one Host header field line or a Host header field with an invalid field value." A missing one
/// is left to the connection manager.
fn check_host(head: &RequestHead) -> Result<(), Error> {
    match head.fields.get(FieldName::Host) {
        None => Ok(()),
        Some(_) if head.fields.is_repeated(FieldName::Host) => Err(Error::Authority),
        Some(host) => check_authority(host),
    }
}

/// Checks an authority (RFC 3986 §3.2): a host, an address or an IP literal in brackets, and a numeric
/// port. User information is rejected, as it is deprecated for http (RFC 9110 §4.2.4), and so is a
/// comma, by which repetitions may have been joined.
fn check_authority(authority: &[u8]) -> Result<(), Error> {
    let (host, port) = match authority {
        [b'[', rest @ ..] => {
            let end = memchr::memchr(b']', rest).ok_or(Error::Authority)?;
            let (literal, port) = rest.split_at(end);
            if !literal.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return Err(Error::Authority);
            }
            (literal, port.get(1..).unwrap_or_default())
        }
        _ => {
            let end = authority.iter().position(|&byte| !REG_NAME.has(byte));
            authority.split_at(end.unwrap_or(authority.len()))
        }
    };
    match port {
        _ if host.is_empty() => Err(Error::Authority),
        [] => Ok(()),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(Error::Authority),
    }
}
