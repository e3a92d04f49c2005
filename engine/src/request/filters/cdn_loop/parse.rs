//! The grammar of `CDN-Loop`, RFC 8586 §2:
//!
//! ```text
//! CDN-Loop = #cdn-info
//! cdn-info = cdn-id *( OWS ";" OWS parameter )
//! cdn-id   = ( uri-host [ ":" port ] ) / pseudonym
//! ```
//!
//! As in Envoy, a `cdn-id` is a token or an address in brackets, with a port or not.

use crate::http::TOKEN;

/// How often a `CDN-Loop` names `id`; none if it is malformed.
pub(super) fn count(text: &[u8], id: &[u8]) -> Option<usize> {
    let mut rest = Rest(text);
    let mut found = 0;
    loop {
        rest.skip_space();
        // RFC 9110 §5.6.1.2: a recipient ignores empty elements.
        if rest.0.is_empty() {
            return Some(found);
        }
        if rest.eat(b',') {
            continue;
        }
        found += usize::from(rest.info()? == id);
        rest.skip_space();
        if !rest.0.is_empty() && !rest.eat(b',') {
            return None;
        }
    }
}

/// Whether the text is a `cdn-id`.
pub(super) fn is_id(text: &[u8]) -> bool {
    let mut rest = Rest(text);
    rest.id().is_some() && rest.0.is_empty()
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// Reads a `cdn-info`; returns its `cdn-id`.
    fn info(&mut self) -> Option<&'a [u8]> {
        let id = self.id()?;
        loop {
            self.skip_space();
            if !self.eat(b';') {
                return Some(id);
            }
            self.skip_space();
            self.parameter()?;
        }
    }

    fn id(&mut self) -> Option<&'a [u8]> {
        let start = self.0;
        if self.eat(b'[') {
            self.take(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            self.eat(b']').then_some(())?;
        } else {
            self.token()?;
        }
        if self.eat(b':') {
            self.take(|byte| byte.is_ascii_digit());
        }
        start.get(..start.len() - self.0.len())
    }

    fn parameter(&mut self) -> Option<()> {
        self.token()?;
        self.eat(b'=').then_some(())?;
        if self.eat(b'"') { self.quoted() } else { self.token().map(drop) }
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        Some(self.take(|byte| TOKEN.has(byte))).filter(|token| !token.is_empty())
    }

    /// The rest of a quoted string, RFC 9110 §5.6.4.
    fn quoted(&mut self) -> Option<()> {
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    is_text(escaped).then_some(())?;
                    self.0 = rest;
                }
                byte => is_text(byte).then_some(())?,
            }
        }
    }

    fn skip_space(&mut self) {
        self.take(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn eat(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !wanted(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }
}

/// Visible characters, spaces, tabs, and what is not ASCII.
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_are_counted() {
        for (text, expected) in [
            ("", Some(0)),
            ("a", Some(0)),
            ("cdn", Some(1)),
            (" , cdn ,, cdn\t", Some(2)),
            ("CDN", Some(0)),
            ("cdn:80", Some(0)),
            ("[::1]:80, cdn; v=1 ; w=\"a,cdn\\\"\"", Some(1)),
            ("cdn cdn", None),
            ("cdn;", None),
            ("cdn; v", None),
            ("cdn; v=", None),
            ("cdn; v=\"", None),
            ("cdn; v=\"\\", None),
            ("[::1", None),
            ("\"cdn\"", None),
        ] {
            assert_eq!(count(text.as_bytes(), b"cdn"), expected, "{text}");
        }
    }

    #[test]
    fn an_identifier_is_a_token_or_an_address() {
        assert!(["cdn", "cdn.example:8080", "[2001:db8::1]"].iter().all(|id| is_id(id.as_bytes())));
        assert!(!["", "c d n", "cdn,", "[::1", "cdn; v=1"].iter().any(|id| is_id(id.as_bytes())));
    }
}
