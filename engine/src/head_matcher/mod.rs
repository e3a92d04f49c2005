//! Conditions on the head of a request or a response: on headers, query parameters and cookies; and on the
//! certificate of the client.
//!
//! They are pure and have no state.

pub(crate) mod compile;

use std::borrow::Cow;
use std::fmt;

use crate::http::{FieldName, Fields, RequestHead, ResponseHead, Scheme};
use crate::text_matcher::TextMatcher;
use crate::transport::tls::facts::TlsFacts;

/// A head whose headers can be matched, pseudo-headers included.
pub trait Head {
    /// Its fields.
    fn fields(&self) -> &Fields;

    /// Whether `test` holds for the value of this pseudo-header; `None` if the head does not have
    /// it.
    fn pseudo(&self, name: Pseudo, test: impl FnMut(&[u8]) -> bool) -> Option<bool>;
}

/// The parts of a head that matchers address as headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Pseudo {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
}

/// The name of a header, resolved once.
#[derive(Clone, Debug)]
pub enum HeaderName {
    /// A well-known name.
    Known(FieldName),
    /// Any other name, in lower case.
    Other(Box<[u8]>),
    /// `:path` and the like.
    Pseudo(Pseudo),
}

/// One header condition of a route.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// Which header.
    pub name: HeaderName,
    /// The condition on its value.
    pub condition: HeaderCondition,
    /// Inverts the result.
    pub invert: bool,
    /// A missing header counts as one with an empty value.
    pub missing_is_empty: bool,
}

/// The condition on a header.
#[derive(Clone, Debug)]
pub enum HeaderCondition {
    /// Present (`true`) or absent.
    Present(bool),
    /// A decimal number in this range; the end is exclusive.
    Range(std::ops::Range<i64>),
    /// A text that matches.
    Text(TextMatcher),
}

/// One query parameter condition of a route. Only the first parameter with the name counts, and
/// names and values are compared as received, not decoded.
#[derive(Clone, Debug)]
pub struct QueryParameterMatcher {
    /// Which parameter.
    pub name: Box<[u8]>,
    /// The condition on it.
    pub condition: QueryCondition,
}

/// The condition on a query parameter.
#[derive(Clone, Debug)]
pub enum QueryCondition {
    /// Present (`true`) or absent.
    Present(bool),
    /// Present with a value that matches; a bare name has an empty value.
    Text(TextMatcher),
}

/// One cookie condition of a route. Only the first cookie with the name counts; an absent one
/// matches only if the condition is inverted.
#[derive(Clone, Debug)]
pub struct CookieMatcher {
    /// Which cookie.
    pub name: Box<[u8]>,
    /// The condition on its value.
    pub text: TextMatcher,
    /// Inverts the result.
    pub invert: bool,
}

/// A condition on the certificate of the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsMatcher {
    /// Whether the client must have one; none: it does not matter.
    pub presented: Option<bool>,
    /// Whether it must have been found valid; none: it does not matter.
    pub validated: Option<bool>,
}

// === impl Head ===

impl Head for RequestHead {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn pseudo(&self, name: Pseudo, mut test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        Some(match name {
            Pseudo::Authority => test(self.authority()?),
            Pseudo::Method => test(self.method_name()),
            Pseudo::Path => test(self.target()),
            Pseudo::Scheme => test(scheme(self)),
            Pseudo::Status => return None,
        })
    }
}

impl Head for ResponseHead {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn pseudo(&self, name: Pseudo, mut test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        let status = (name == Pseudo::Status).then_some(self.status)?;
        Some(test(itoa::Buffer::new().format(status).as_bytes()))
    }
}

// === impl HeaderMatcher ===

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(id) => f.write_str(id.as_str()),
            Self::Other(name) => f.write_str(&String::from_utf8_lossy(name)),
            Self::Pseudo(pseudo) => f.write_str(match pseudo {
                Pseudo::Authority => ":authority",
                Pseudo::Method => ":method",
                Pseudo::Path => ":path",
                Pseudo::Scheme => ":scheme",
                Pseudo::Status => ":status",
            }),
        }
    }
}

impl HeaderName {
    /// Parses a name; case does not matter.
    pub fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match (name.as_str(), FieldName::of(name.as_bytes())) {
            (":authority" | "host", _) => Self::Pseudo(Pseudo::Authority),
            (":method", _) => Self::Pseudo(Pseudo::Method),
            (":path", _) => Self::Pseudo(Pseudo::Path),
            (":scheme", _) => Self::Pseudo(Pseudo::Scheme),
            (":status", _) => Self::Pseudo(Pseudo::Status),
            (_, FieldName::Other) => Self::Other(name.into_bytes().into()),
            (_, known) => Self::Known(known),
        }
    }

    /// Whether `test` holds for any of the values; `None` if there is no such header.
    pub fn any_value(&self, head: &impl Head, mut test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        let fields = head.fields();
        match self {
            Self::Known(id) => fields.has(*id).then(|| fields.get_all(*id).any(test)),
            Self::Other(name) => {
                let mut values =
                    fields.iter().filter(|(_, n, _)| *n == &**name).map(|(_, _, value)| value);
                let first = values.next()?;
                Some(test(first) || values.any(test))
            }
            Self::Pseudo(pseudo) => head.pseudo(*pseudo, test),
        }
    }

    /// The value of this header in a request, if it occurs exactly once.
    pub fn only_value<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        let mut count = 0;
        self.any_value(head, |_| {
            count += 1;
            false
        });
        self.first_value(head).filter(|_| count == 1)
    }

    /// All values of this header in a request, joined with commas.
    pub fn joined<'a>(&self, head: &'a RequestHead) -> Option<Cow<'a, [u8]>> {
        if let Some(only) = self.only_value(head) {
            return Some(Cow::Borrowed(only));
        }
        self.joined_in(head).map(Cow::Owned)
    }

    /// All values of this header in any head, joined with commas.
    pub fn joined_in(&self, head: &impl Head) -> Option<Vec<u8>> {
        let mut joined = Vec::new();
        self.any_value(head, |value| {
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
            false
        })?;
        Some(joined)
    }

    /// Removes this header; a pseudo-header stays.
    pub fn remove_from(&self, fields: &mut Fields) {
        match self {
            Self::Known(id) => fields.remove(*id),
            Self::Other(name) => fields.remove_other(name),
            Self::Pseudo(_) => {}
        }
    }

    /// The first value of this header in a request.
    pub fn first_value<'a>(&self, head: &'a RequestHead) -> Option<&'a [u8]> {
        match self {
            Self::Known(id) => head.fields.get(*id),
            Self::Other(name) => head.fields.find(name),
            Self::Pseudo(Pseudo::Authority) => head.authority(),
            Self::Pseudo(Pseudo::Method) => Some(head.method_name()),
            Self::Pseudo(Pseudo::Path) => Some(head.target()),
            Self::Pseudo(Pseudo::Scheme) => Some(scheme(head)),
            Self::Pseudo(Pseudo::Status) => None,
        }
    }
}

impl HeaderMatcher {
    /// Whether the head fulfils the condition. Each line of a repeated header is checked on its
    /// own; one match is enough.
    pub fn matches(&self, head: &impl Head) -> bool {
        let fits = |value: &[u8]| match &self.condition {
            HeaderCondition::Present(_) => true,
            HeaderCondition::Range(range) => number(value).is_some_and(|n| range.contains(&n)),
            HeaderCondition::Text(text) => text.matches(value),
        };
        let mut fitting = self.name.any_value(head, fits);
        if fitting.is_none() && self.missing_is_empty {
            fitting = Some(fits(b""));
        }
        match &self.condition {
            HeaderCondition::Present(present) => (fitting.is_some() == *present) != self.invert,
            // As in Envoy, an inverted condition too requires that the header is present.
            _ => fitting.is_some_and(|fits| fits != self.invert),
        }
    }
}

impl QueryParameterMatcher {
    /// Whether the query (without `?`) fulfils the condition.
    pub fn matches(&self, query: &[u8]) -> bool {
        let value = query.split(|&byte| byte == b'&').find_map(|parameter| {
            let (name, value) = split_once(parameter, b'=').unwrap_or((parameter, b""));
            (name == &*self.name).then_some(value)
        });
        self.condition.holds(value)
    }
}

impl QueryCondition {
    /// Whether the value fulfils the condition.
    pub(crate) fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::Present(present) => value.is_some() == *present,
            Self::Text(text) => value.is_some_and(|value| text.matches(value)),
        }
    }
}

impl CookieMatcher {
    /// Whether the cookies of the request fulfil the condition.
    pub fn matches(&self, head: &RequestHead) -> bool {
        let value = cookie_value(&head.fields, &self.name);
        value.is_some_and(|value| self.text.matches(value)) != self.invert
    }
}

/// The value of the first cookie of this name.
pub(crate) fn cookie_value<'a>(fields: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    fields.get_all(FieldName::Cookie).find_map(|cookies| {
        cookies.split(|&byte| byte == b';').find_map(|cookie| {
            let (other, value) = cookie_parts(cookie)?;
            (other == name).then(|| unquoted(value))
        })
    })
}

/// All cookies in one line, but those of this name.
pub(crate) fn cookies_without(head: &RequestHead, name: &[u8]) -> Vec<u8> {
    let lines = head.fields.get_all(FieldName::Cookie);
    let others = lines
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .filter(|cookie| cookie_parts(cookie).is_none_or(|(other, _)| other != name))
        .map(<[u8]>::trim_ascii)
        .filter(|cookie| !cookie.is_empty());
    others.collect::<Vec<_>>().join(&b"; "[..])
}

/// Name and value of a cookie. As in Envoy, spaces before the name are skipped; those after the value
/// belong to it.
fn cookie_parts(cookie: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = split_once(cookie, b'=')?;
    let spaces = name.iter().take_while(|&&byte| byte == b' ').count();
    Some((name.get(spaces..)?, value))
}

impl TlsMatcher {
    /// Whether the client of a connection with this TLS fulfils the condition.
    pub fn matches(&self, tls: Option<&TlsFacts>) -> bool {
        let presented = || tls.is_some_and(|tls| tls.peer_certificate().is_some());
        let validated = || tls.is_some_and(|tls| tls.validated);
        self.presented.is_none_or(|wanted| wanted == presented())
            && self.validated.is_none_or(|wanted| wanted == validated())
    }
}

/// The scheme of a request, `http` if it has none.
pub fn scheme(head: &RequestHead) -> &'static [u8] {
    head.scheme.unwrap_or(Scheme::Http).as_str().as_bytes()
}

/// A decimal number as `absl::SimpleAtoi` parses it.
fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

#[cfg(test)]
mod tests;
