//! Whether a connection begins with HTTP, and which version: by its first line.
//!
//! Pure. It tells protocols apart, and does not validate requests: the codec does.

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstLine {
    /// The line is not complete.
    Incomplete,
    /// The preface of HTTP/2.
    Http2,
    /// A request line with `HTTP/1.1`.
    Http11,
    /// A request line with another version, or without one.
    Http10,
    /// Not a request line.
    NotHttp,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest first line that is waited for, as in Envoy.
pub const LINE_MAX: usize = 64 * 1024;

/// Looks at the first bytes of a connection; `bytes` are all that have arrived so far.
#[must_use]
pub fn inspect(bytes: &[u8]) -> FirstLine {
    if bytes.starts_with(PREFACE) {
        return FirstLine::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return FirstLine::Incomplete;
    }
    let method = bytes.iter().position(|&byte| !is_token(byte));
    match method.and_then(|end| Some((end, bytes.get(end)?))) {
        Some((1.., b' ')) => {}
        None if bytes.len() < LINE_MAX => return FirstLine::Incomplete,
        _ => return FirstLine::NotHttp,
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() < LINE_MAX { FirstLine::Incomplete } else { FirstLine::NotHttp };
    };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii_end();
    if line.ends_with(b" HTTP/1.1") { FirstLine::Http11 } else { FirstLine::Http10 }
}

/// A character of a method.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded with Envoy 1.40.
    #[test]
    fn the_first_line_is_told_apart_as_in_envoy() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\n", FirstLine::Http11),
            ("GET / HTTP/1.1\n", FirstLine::Http11),
            ("foo / HTTP/1.1\r\n", FirstLine::Http11),
            ("GET  / HTTP/1.1\r\n", FirstLine::Http11),
            ("GET /\x01 HTTP/1.1\r\n", FirstLine::Http11),
            ("CONNECT a:1 HTTP/1.1\r\n", FirstLine::Http11),
            ("GET / HTTP/1.0\r\n", FirstLine::Http10),
            ("GET / HTTP/2.0\r\n", FirstLine::Http10),
            ("GET /\r\n", FirstLine::Http10),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstLine::Http2),
            ("PRI * HTTP/2.0\r\n\r\nXX", FirstLine::Http10),
            ("\r\nGET / HTTP/1.1\r\n", FirstLine::NotHttp),
            (" GET / HTTP/1.1\r\n", FirstLine::NotHttp),
            ("HTTP/1.1 200 OK\r\n", FirstLine::NotHttp),
            ("\0\x01\x02\n", FirstLine::NotHttp),
        ] {
            assert_eq!(inspect(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn every_beginning_of_a_line_is_incomplete() {
        for line in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            for end in 0..line.len() {
                assert_eq!(inspect(&line.as_bytes()[..end]), FirstLine::Incomplete, "{end}");
            }
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let line = [b"GET /".to_vec(), vec![b'a'; LINE_MAX]].concat();
        assert_eq!(inspect(&line[..LINE_MAX - 1]), FirstLine::Incomplete);
        assert_eq!(inspect(&line), FirstLine::NotHttp);
        assert_eq!(inspect(&vec![b'G'; LINE_MAX]), FirstLine::NotHttp);
    }
}
