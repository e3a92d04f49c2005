//! The host that a request names itself, for the clusters that go by that: `ORIGINAL_DST` and
//! `dynamic_forward_proxy`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::host::Host;
use crate::address::Address;

/// Where a request wants to go.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Destination {
    /// To this address.
    Address(Address),
    /// To a host and port, as [`name`] writes them.
    Name(Box<str>),
}

impl Destination {
    /// What requests for this host name.
    pub(super) fn of(host: &Host, by_name: bool) -> Self {
        if by_name {
            Self::Name(host.endpoint.hostname.as_str().into())
        } else {
            Self::Address(host.address)
        }
    }
}

/// The address that a text names: an IP address with a port.
#[must_use]
pub fn address(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A host with its port, which is `default_port` if `authority` has none. As in Envoy its case stays, and an IPv6
/// address has brackets.
#[must_use]
pub fn name(authority: &str, default_port: u16) -> Cow<'_, str> {
    let (host, port) = split(authority);
    match port {
        Some(_) => Cow::Borrowed(authority),
        None if host.contains(':') => Cow::Owned(format!("[{host}]:{default_port}")),
        None => Cow::Owned(format!("{host}:{default_port}")),
    }
}

fn bare(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Takes a host and its port apart; brackets around an address are no part of it.
#[must_use]
pub fn split(authority: &str) -> (&str, Option<u16>) {
    if let Some(host) = bare(authority) {
        return (host, None);
    }
    // An IPv6 address without brackets has no port.
    if authority.parse::<IpAddr>().is_ok() {
        return (authority, None);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (bare(host).unwrap_or(host), Some(port)),
            Err(_) => (authority, None),
        },
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_always_has_a_port() {
        assert_eq!(name("a.example", 80), "a.example:80");
        assert_eq!(name("a.example:8080", 80), "a.example:8080");
        assert_eq!(name("A.example:8080", 80), "A.example:8080");
        assert_eq!(name("[::1]", 443), "[::1]:443");
        assert_eq!(name("[::1]:81", 443), "[::1]:81");
        assert_eq!(name("a:b", 80), "[a:b]:80");
    }

    #[test]
    fn an_authority_has_a_host_and_perhaps_a_port() {
        assert_eq!(split("a.example"), ("a.example", None));
        assert_eq!(split("a.example:8080"), ("a.example", Some(8080)));
        assert_eq!(split("127.0.0.1:1"), ("127.0.0.1", Some(1)));
        assert_eq!(split("[::1]:81"), ("::1", Some(81)));
        assert_eq!(split("::1"), ("::1", None));
        assert_eq!(split("a:99999"), ("a:99999", None));
    }

    #[test]
    fn an_address_needs_a_port() {
        assert_eq!(address(b"127.0.0.1:80"), Some(([127, 0, 0, 1], 80).into()));
        assert_eq!(address(b"[::1]:80").map(|it| it.to_string()).as_deref(), Some("[::1]:80"));
        for text in [&b"127.0.0.1"[..], b"a.example:80", b"", b"127.0.0.1:99999", b"\xff"] {
            assert_eq!(address(text), None);
        }
    }
}
