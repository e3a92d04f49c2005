//! `internal_redirect_policy`: which redirects of hosts the proxy follows itself, and how.
//!
//! Only the decisions; `request/internal_redirect.rs` carries them out.

pub(crate) mod compile;

use crate::http::{JOINED_IN_REQUESTS, RequestHead, ResponseHead, Scheme};

use super::mutation;

/// Which redirects are followed.
#[derive(Debug)]
pub struct InternalRedirectPolicy {
    /// How many in a row.
    pub max: u32,
    /// Of these statuses.
    pub statuses: Box<[u16]>,
    /// Whether the scheme may change.
    pub allow_cross_scheme: bool,
    /// The headers of the response that the new request gets; in lower case.
    pub response_headers_to_copy: Box<[Box<[u8]>]>,
    /// Conditions on the new route. All must hold.
    pub predicates: Box<[Predicate]>,
}

/// A condition on the route that a redirect leads to.
#[derive(Debug)]
pub enum Predicate {
    /// No redirect from the same route has led there before, for this request.
    PreviousRoutes,
    /// It has one of these names.
    AllowListedRoutes(Box<[Box<str>]>),
    /// The request does not go on over TLS if the client does not use TLS.
    SafeCrossScheme,
}

/// A URL in a `location`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Url<'a> {
    /// `None`: neither http nor https.
    pub scheme: Option<Scheme>,
    /// Host and port, without user information.
    pub host: &'a [u8],
    /// Path and query; `/` if there is neither. As in Envoy, a query may have no path before it: no route
    /// leads there.
    pub path: &'a [u8],
}

/// The redirects of one request so far.
#[derive(Debug, Default)]
pub struct Redirects {
    /// How many were followed.
    pub count: u32,
    /// From which route to which, by their names.
    taken: Vec<(Box<str>, Box<str>)>,
}

impl<'a> Url<'a> {
    /// Parses an absolute URL, as strictly as Envoy; but a path must not have a space. The fragment is left
    /// out.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let colon = memchr::memmem::find(text, b"://")?;
        let (scheme, rest) = text.split_at_checked(colon)?;
        let rest = rest.get(3..)?;
        if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, path) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        // As in Envoy.
        if path.starts_with(b"#") {
            return None;
        }
        let path = path.split(|&byte| byte == b'#').next().unwrap_or_default();
        let host = match memchr::memrchr(b'@', authority) {
            Some(at) => authority.get(at + 1..)?,
            None => authority,
        };
        if !is_host(host) || !path.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let scheme = if scheme.eq_ignore_ascii_case(b"http") {
            Some(Scheme::Http)
        } else if scheme.eq_ignore_ascii_case(b"https") {
            Some(Scheme::Https)
        } else {
            None
        };
        Some(Self { scheme, host, path: if path.is_empty() { b"/" } else { path } })
    }
}

/// Whether it is a host, with or without a port.
fn is_host(text: &[u8]) -> bool {
    let (is_name, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (address, port) = rest.split_at(end);
            let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            (!address.is_empty() && address.iter().all(is_address), port.get(1..))
        }
        None => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            (!name.is_empty() && name.iter().all(is_name), Some(port))
        }
    };
    let is_port = match port.unwrap_or_default() {
        [] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    };
    is_name && is_port
}

impl InternalRedirectPolicy {
    /// Whether a redirect from the route `from` may lead to the route `to`. What the predicates remember
    /// of earlier ones is in `redirects`.
    pub fn accepts(
        &self,
        from: &str,
        to: &str,
        (client_uses_tls, target): (bool, Scheme),
        redirects: &mut Redirects,
    ) -> bool {
        self.predicates.iter().all(|predicate| match predicate {
            Predicate::PreviousRoutes => redirects.take(from, to),
            Predicate::AllowListedRoutes(names) => names.iter().any(|name| **name == *to),
            Predicate::SafeCrossScheme => client_uses_tls || target == Scheme::Http,
        })
    }

    /// Copies headers of the response to the request. As in Envoy, one that the response lacks is removed.
    pub fn copy_headers(&self, response: &ResponseHead, request: &mut RequestHead) {
        for name in &self.response_headers_to_copy {
            request.fields.remove_other(name);
            for (_, other, value) in response.fields.iter() {
                if *other == **name {
                    mutation::append(name, value, &mut request.fields, JOINED_IN_REQUESTS);
                }
            }
        }
    }
}

impl Redirects {
    /// Remembers a way; returns whether it is a new one.
    fn take(&mut self, from: &str, to: &str) -> bool {
        if self.taken.iter().any(|(a, b)| **a == *from && **b == *to) {
            return false;
        }
        self.taken.push((from.into(), to.into()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded from Envoy 1.40.0, but for the space in a path.
    #[test]
    fn a_location_is_followed_if_it_is_an_absolute_url() {
        for (text, wanted) in [
            ("http://n.t", Some(("n.t", "/"))),
            ("http://n.t/#f", Some(("n.t", "/"))),
            ("http://n.t/x?y#f?g", Some(("n.t", "/x?y"))),
            ("http://u:p@n.t/x", Some(("n.t", "/x"))),
            ("HTTP://n.t/x", Some(("n.t", "/x"))),
            ("http://n.t:99/x", Some(("n.t:99", "/x"))),
            ("http://n.t:0/x", Some(("n.t:0", "/x"))),
            ("http://[::1]:9/x", Some(("[::1]:9", "/x"))),
            ("http://n.t/%zz", Some(("n.t", "/%zz"))),
            ("http://n.t/../b", Some(("n.t", "/../b"))),
            ("http://n.t//x", Some(("n.t", "//x"))),
            ("http://n.t?x=1", Some(("n.t", "?x=1"))),
            ("http://n.t#f/x", None),
            ("http://n.t:99999/x", None),
            ("http://n.t:/x", None),
            ("http://n_t/x", None),
            ("http://n,t/x", None),
            ("http://n t/x", None),
            ("http://n.t/\u{e9}", None),
            ("http://n.t/a b", None),
            ("http:///x", None),
            ("http://:80/x", None),
            ("http://[::1/x", None),
            ("http://[]/x", None),
            ("http://[::1]x/x", None),
            ("//n.t/x", None),
            ("/x", None),
            ("x", None),
            ("http://", None),
            ("", None),
        ] {
            let url = Url::parse(text.as_bytes());
            let parts = url.map(|url| (url.host, url.path));
            let wanted = wanted.map(|(host, path)| (host.as_bytes(), path.as_bytes()));
            assert_eq!(parts, wanted, "{text}");
        }
    }

    #[test]
    fn the_scheme_of_a_location_is_one_of_two_or_another() {
        let scheme = |text: &'static str| Url::parse(text.as_bytes()).map(|url| url.scheme);
        assert_eq!(scheme("http://a"), Some(Some(Scheme::Http)));
        assert_eq!(scheme("hTTps://a"), Some(Some(Scheme::Https)));
        assert_eq!(scheme("ftp://a"), Some(None));
    }

    fn policy(predicate: Predicate) -> InternalRedirectPolicy {
        InternalRedirectPolicy {
            max: 1,
            statuses: [302].into(),
            allow_cross_scheme: true,
            response_headers_to_copy: Box::default(),
            predicates: [predicate].into(),
        }
    }

    #[test]
    fn predicates_look_at_names_ways_and_schemes() {
        let (plain, mut redirects) = ((false, Scheme::Http), Redirects::default());
        let listed = policy(Predicate::AllowListedRoutes(["b".into()].into()));
        assert!(listed.accepts("a", "b", plain, &mut redirects));
        assert!(!listed.accepts("a", "c", plain, &mut redirects));
        let safe = policy(Predicate::SafeCrossScheme);
        for (tls, target, accepted) in [
            (false, Scheme::Http, true),
            (false, Scheme::Https, false),
            (true, Scheme::Http, true),
            (true, Scheme::Https, true),
        ] {
            assert_eq!(safe.accepts("a", "b", (tls, target), &mut redirects), accepted);
        }
        let previous = policy(Predicate::PreviousRoutes);
        assert!(previous.accepts("a", "b", plain, &mut redirects));
        assert!(previous.accepts("b", "a", plain, &mut redirects));
        assert!(previous.accepts("a", "a", plain, &mut redirects));
        assert!(!previous.accepts("a", "b", plain, &mut redirects));
    }
}
