//! Where tokens are in a request.

use std::borrow::Cow;

use crate::http::RequestHead;
use crate::request::query::{parameter, remove_parameter};
use crate::request::route::matchers::cookie_value;

/// A place where a token can be. In the order in which tokens are looked for; they are verified in reverse.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Location {
    /// A header, given in lower case, and what precedes the token in it.
    Header {
        name: Box<[u8]>,
        prefix: Box<[u8]>,
    },
    Parameter(Box<[u8]>),
    Cookie(Box<[u8]>),
}

impl Location {
    /// Where tokens are looked for unless a provider says something else.
    pub(super) fn defaults() -> [Self; 2] {
        [
            Self::Header { name: b"authorization"[..].into(), prefix: b"Bearer "[..].into() },
            Self::Parameter(b"access_token"[..].into()),
        ]
    }

    /// The tokens here; only a header can have several.
    pub(super) fn tokens<'a>(&self, request: &'a RequestHead) -> Vec<Cow<'a, [u8]>> {
        match self {
            Self::Header { name, prefix } => {
                let values = request.fields.iter().filter(|(_, other, _)| *other == &**name);
                let tokens = values.filter_map(|(_, _, value)| after(value, prefix));
                tokens.map(Cow::Borrowed).collect()
            }
            Self::Parameter(name) => parameter(request, name).into_iter().map(Cow::Owned).collect(),
            Self::Cookie(name) => {
                let value = cookie_value(&request.fields, name);
                value.into_iter().map(Cow::Borrowed).collect()
            }
        }
    }

    /// Whether removing the token at `other` removes what is here too.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header { name, .. }, Self::Header { name: removed, .. }) => name == removed,
            (Self::Parameter(name), Self::Parameter(removed)) => name == removed,
            _ => false,
        }
    }

    /// Removes the token. As in Envoy, one in a cookie stays.
    pub(super) fn remove(&self, request: &mut RequestHead) {
        match self {
            Self::Header { name, .. } => request.fields.remove_other(name),
            Self::Parameter(name) => remove_parameter(request, name),
            Self::Cookie(_) => {}
        }
    }
}

/// The token after a prefix. As in Envoy, the prefix can be anywhere, and what is between it and the token is
/// skipped.
fn after<'a>(value: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if prefix.is_empty() {
        return Some(value);
    }
    let at = memchr::memmem::find(value, prefix)?;
    let is_of_token =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let rest = value.get(at + prefix.len()..)?;
    let begin = rest.iter().position(is_of_token);
    // Without a token, the whole value is a bad one.
    begin.map_or(Some(value), |begin| rest.get(begin..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route::tests::request;

    fn header(name: &str, prefix: &str) -> Location {
        Location::Header { name: name.as_bytes().into(), prefix: prefix.as_bytes().into() }
    }

    #[test]
    fn a_token_is_found_behind_its_prefix() {
        let head = request("/", &["authorization: x, Bearer \"a.b.c d", "x-a: 1", "x-a: 2"]);
        let tokens = |location: &Location| {
            let tokens = location.tokens(&head).into_iter();
            tokens.map(|token| String::from_utf8(token.into_owned()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(tokens(&header("authorization", "Bearer ")), ["a.b.c d"]);
        assert_eq!(tokens(&header("authorization", "bearer ")), [""; 0]);
        assert_eq!(tokens(&header("x-a", "")), ["1", "2"]);
        assert_eq!(tokens(&header("x-b", "")), [""; 0]);
    }

    #[test]
    fn a_token_is_removed_from_headers_and_parameters() {
        let mut head = request("/?t=a&u=b", &["x-a: 1", "cookie: c=d"]);
        for location in [
            header("x-a", ""),
            Location::Parameter(b"t"[..].into()),
            Location::Cookie(b"c"[..].into()),
        ] {
            assert_eq!(location.tokens(&head).len(), 1);
            location.remove(&mut head);
        }
        assert_eq!(head.target(), b"/?u=b");
        assert_eq!(head.fields.find(b"x-a"), None);
        assert_eq!(head.fields.find(b"cookie"), Some(&b"c=d"[..]));
    }
}
