//! The subject alternative names of a certificate, and what they are matched with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::ServerName;
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use crate::text_matcher::TextMatcher;
use crate::transport::tls::der::{Der, explicit};

/// A name must have this type and this text.
#[derive(Clone, Debug)]
pub struct SanMatcher {
    /// The type.
    pub kind: SanType,
    /// The text.
    pub text: TextMatcher,
}

/// The type of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SanType {
    /// An e-mail address.
    Email,
    /// A DNS name; a wildcard in the certificate matches an exact text.
    Dns,
    /// A URI.
    Uri,
    /// An IP address, in its usual form.
    Ip,
    /// A text with this object identifier.
    Other(String),
}

/// The names of a certificate, each with its type.
#[derive(Debug)]
pub(super) struct Sans(Vec<(SanType, String)>);

impl Sans {
    /// None if they cannot be read.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let mut names = Vec::new();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(sans) => {
                    names.extend(sans.general_names.iter().filter_map(name));
                }
                ParsedExtension::ParseError { .. } if extension.critical => return None,
                _ => {}
            }
        }
        Some(Self(names))
    }

    /// As in Envoy's messages.
    pub(super) fn texts(self) -> Vec<String> {
        self.0.into_iter().map(|(_, text)| text).collect()
    }

    /// Whether one of the names matches.
    pub(super) fn matches(&self, matcher: &SanMatcher) -> bool {
        self.0.iter().any(|(kind, text)| {
            *kind == matcher.kind
                && match (&matcher.kind, &matcher.text) {
                    (SanType::Dns, TextMatcher::Exact(exact)) => {
                        std::str::from_utf8(&exact.text).is_ok_and(|exact| is_dns_name(exact, text))
                    }
                    (_, condition) => condition.matches(text.as_bytes()),
                }
        })
    }

    /// Whether it has a name with this text, of any type.
    pub(super) fn has_text(&self, expected: &str) -> bool {
        self.0.iter().any(|(kind, text)| match kind {
            SanType::Dns => is_dns_name(expected, text),
            _ => expected == text,
        })
    }

    /// Whether it has this name.
    pub(super) fn has(&self, expected: &ServerName<'_>) -> bool {
        match expected {
            ServerName::DnsName(name) => self
                .0
                .iter()
                .any(|(kind, text)| *kind == SanType::Dns && is_dns_name(name.as_ref(), text)),
            ServerName::IpAddress(address) => {
                let text = IpAddr::from(*address).to_string();
                self.0.iter().any(|(kind, it)| *kind == SanType::Ip && *it == text)
            }
            _ => false,
        }
    }
}

fn name(name: &GeneralName<'_>) -> Option<(SanType, String)> {
    Some(match name {
        GeneralName::RFC822Name(name) => (SanType::Email, (*name).to_owned()),
        GeneralName::DNSName(name) => (SanType::Dns, (*name).to_owned()),
        GeneralName::URI(name) => (SanType::Uri, (*name).to_owned()),
        GeneralName::IPAddress(bytes) => (SanType::Ip, ip(bytes)?.to_string()),
        GeneralName::OtherName(oid, value) => {
            (SanType::Other(oid.to_id_string()), other_name(value)?)
        }
        _ => return None,
    })
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or_else(|_| v6()).ok()
}

/// The text in the value of an `otherName`, whatever type of string it is.
fn other_name(value: &[u8]) -> Option<String> {
    let mut value = Der::new(value);
    let inner = value.take_if(explicit(0));
    let mut value = inner.map_or(value, Der::new);
    let (_, text) = value.any()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Whether a DNS name is meant by the name in a certificate, which may have one asterisk in its first
/// label.
pub(super) fn is_dns_name(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let (Some((label, rest)), Some((wild, domain))) =
        (name.split_once('.'), pattern.split_once('.'))
    else {
        return false;
    };
    let Some((before, after)) = wild.split_once('*') else { return false };
    // An asterisk in or against an internationalised label means something else.
    let is_ascii =
        |label: &str| !label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    let (label, before, after) =
        (label.to_ascii_lowercase(), before.to_ascii_lowercase(), after.to_ascii_lowercase());
    rest.eq_ignore_ascii_case(domain)
        && !after.contains('*')
        && (wild == "*" || (is_ascii(&label) && is_ascii(wild)))
        && label.len() >= before.len() + after.len()
        && !label.is_empty()
        && label.starts_with(&before)
        && label.ends_with(&after)
}

#[cfg(test)]
mod tests {
    use super::is_dns_name;

    #[test]
    fn a_wildcard_stands_for_one_label_or_a_part_of_it() {
        for (name, pattern, expected) in [
            ("a.test", "a.test", true),
            ("A.test", "a.TEST", true),
            ("q.wild.test", "*.wild.test", true),
            ("p.q.wild.test", "*.wild.test", false),
            ("wild.test", "*.wild.test", false),
            (".wild.test", "*.wild.test", false),
            ("foo1.wild.test", "foo*.wild.test", true),
            ("xn--foo1.wild.test", "xn--foo*.wild.test", false),
            ("q.wild.test", "q.*.test", false),
            ("ab.test", "*a*b.test", false),
            ("test", "*", false),
        ] {
            assert_eq!(is_dns_name(name, pattern), expected, "{name} {pattern}");
        }
    }
}
