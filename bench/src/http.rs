//! The part of HTTP/1 that a bench needs: where a head ends and how long its body is.
//!
//! It is not a validating codec. Both ends are ours or a proxy under test, so it parses what
//! well-behaved peers write, and everything else is [`Malformed`].

use std::mem::MaybeUninit;

/// The bytes are not the HTTP/1 message that was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// The rest of a message body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Body {
    Complete,
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chunk {
    Size(u64),
    Extension(u64),
    Data(u64),
    DataEnd,
    Trailer { empty: bool },
}

/// A complete head: its length and the body that follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) len: usize,
    pub(crate) body: Body,
    pub(crate) keep_alive: bool,
}

const FIELDS_MAX: usize = 64;

/// Parses a request head; `None` until it is complete. The target is a slice of `bytes`.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Head, &str)>, Malformed> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, &mut fields).map_err(|_| Malformed)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(len) => {
            let (body, keep_alive) = framing(head.headers, Body::Complete)?;
            Ok(Some((Head { len, body, keep_alive }, head.path.unwrap_or("/"))))
        }
    }
}

/// Parses the head of the answer to a GET or POST; `None` until it is complete.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<(Head, u16)>, Malformed> {
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut head,
        bytes,
        &mut fields,
    );
    match parsed.map_err(|_| Malformed)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(len) => {
            let status = head.code.unwrap_or(0);
            let (body, keep_alive) = framing(head.headers, Body::UntilClose)?;
            let body = if matches!(status, 204 | 304) { Body::Complete } else { body };
            Ok(Some((Head { len, body, keep_alive }, status)))
        }
    }
}

fn framing(fields: &[httparse::Header<'_>], default: Body) -> Result<(Body, bool), Malformed> {
    let (mut body, mut keep_alive) = (default, true);
    for field in fields {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                keep_alive = !field.value.eq_ignore_ascii_case(b"close");
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let text = str::from_utf8(field.value).map_err(|_| Malformed)?;
                body = Body::length(text.trim().parse().map_err(|_| Malformed)?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                body = Body::Chunked(Chunk::Size(0));
            }
            _ => {}
        }
    }
    Ok((body, keep_alive))
}

impl Body {
    fn length(length: u64) -> Self {
        if length == 0 { Self::Complete } else { Self::Length(length) }
    }

    pub(crate) fn is_complete(self) -> bool {
        self == Self::Complete
    }

    /// Consumes the bytes of this body at the start of `bytes` and returns their number.
    pub(crate) fn consume(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Complete => Ok(0),
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *self = Self::length(*left - taken as u64);
                Ok(taken)
            }
            Self::Chunked(_) => self.consume_chunks(bytes),
        }
    }

    fn consume_chunks(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let (Self::Chunked(state), Some(&byte)) = (*self, bytes.get(at)) {
            let next = match state {
                Chunk::Data(left) => {
                    let available = (bytes.len() - at) as u64;
                    let taken = available.min(left);
                    at += usize::try_from(taken).map_err(|_| Malformed)?;
                    if taken == left { Chunk::DataEnd } else { Chunk::Data(left - taken) }
                }
                other => {
                    at += 1;
                    match other.after(byte)? {
                        Some(next) => next,
                        None => {
                            *self = Self::Complete;
                            return Ok(at);
                        }
                    }
                }
            };
            *self = Self::Chunked(next);
        }
        Ok(at)
    }
}

impl Chunk {
    /// The state after one byte that is not data; `None` when it ended the body.
    fn after(self, byte: u8) -> Result<Option<Self>, Malformed> {
        let next = match (self, byte) {
            (Self::Size(size) | Self::Extension(size), b'\n') if size > 0 => Self::Data(size),
            (Self::Size(_) | Self::Extension(_), b'\n') => Self::Trailer { empty: true },
            (Self::Size(size), b'\r' | b';') => Self::Extension(size),
            (Self::Size(size), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)?;
                Self::Size(size + u64::from(digit))
            }
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::Trailer { empty: true }, b'\n') => return Ok(None),
            (Self::Trailer { .. }, b'\n') => Self::Trailer { empty: true },
            (Self::Trailer { empty }, b'\r') => Self::Trailer { empty },
            (Self::Trailer { .. }, _) => Self::Trailer { empty: false },
            (Self::DataEnd | Self::Data(_), _) => return Err(Malformed),
        };
        Ok(Some(next))
    }
}

/// An answer that arrives in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Only filled if a head did not arrive in one piece.
    partial: Vec<u8>,
    head: Option<(Head, u16)>,
    body_bytes: u64,
}

impl Answer {
    /// Adds the next bytes of the connection; true when the answer is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        let rest = match self.head {
            Some(_) => bytes,
            None if self.partial.is_empty() => match response(bytes)? {
                Some(found) => {
                    self.head = Some(found);
                    bytes.get(found.0.len..).unwrap_or_default()
                }
                None => {
                    self.partial.extend_from_slice(bytes);
                    return Ok(false);
                }
            },
            None => {
                let before = self.partial.len();
                self.partial.extend_from_slice(bytes);
                let Some(found) = response(&self.partial)? else { return Ok(false) };
                self.head = Some(found);
                bytes.get(found.0.len - before..).unwrap_or_default()
            }
        };
        let Some((head, _)) = &mut self.head else { return Ok(false) };
        let taken = head.body.consume(rest)?;
        self.body_bytes += taken as u64;
        if taken < rest.len() {
            return Err(Malformed); // an unexpected second answer
        }
        Ok(head.body.is_complete())
    }

    /// The connection was closed; true if that is how this answer ends.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.head.is_some_and(|(head, _)| head.body == Body::UntilClose)
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.map_or(0, |(_, status)| status)
    }

    pub(crate) fn keep_alive(&self) -> bool {
        self.head.is_some_and(|(head, _)| head.keep_alive && head.body != Body::UntilClose)
    }

    /// Bytes of the body as framed: chunk sizes and line ends of a chunked body count too.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
        5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\n";

    #[test]
    fn a_request_head_has_a_target_and_a_body_length() {
        let bytes = b"POST /13?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nabc";
        let (head, target) = request(bytes).unwrap().unwrap();
        assert_eq!(target, "/13?x=1");
        assert_eq!(head.body, Body::Length(7));
        assert_eq!(head.len, bytes.len() - 3);
        assert!(head.keep_alive);
    }

    #[test]
    fn an_incomplete_head_needs_more_bytes() {
        assert_eq!(request(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn a_chunked_answer_ends_after_its_trailers_wherever_it_is_cut() {
        for cut in 1..CHUNKED.len() {
            let (first, second) = CHUNKED.split_at(cut);
            let mut answer = Answer::default();
            assert_eq!(answer.feed(first), Ok(false), "cut at {cut}");
            assert_eq!(answer.feed(second), Ok(true), "cut at {cut}");
            assert_eq!((answer.status(), answer.keep_alive()), (200, true));
        }
    }

    #[test]
    fn a_byte_after_the_answer_is_an_error() {
        let mut answer = Answer::default();
        assert_eq!(answer.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc"), Err(Malformed));
    }

    #[test]
    fn an_answer_without_length_ends_with_the_connection() {
        let mut answer = Answer::default();
        assert_eq!(answer.feed(b"HTTP/1.1 200 OK\r\n\r\nabc"), Ok(false));
        assert!(answer.ends_with_connection());
        assert_eq!(answer.body_bytes(), 3);
    }

    #[test]
    fn connection_close_is_seen() {
        let mut answer = Answer::default();
        let bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer.feed(bytes), Ok(true));
        assert!(!answer.keep_alive());
    }
}
