//! The formats of strings that a rule can name instead of a pattern.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost_reflect::{DynamicMessage, Value};

/// A format that a rule can name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Address,
    HeaderName { strict: bool },
    HeaderValue { strict: bool },
    Hostname,
    Ip,
    Ipv4,
    Ipv6,
}

impl Format {
    /// The format that a `validate.StringRules` names.
    pub(super) fn of(rules: &DynamicMessage) -> Option<Self> {
        let value = |name: &str| rules.get_field_by_name(name);
        let flag = |name| {
            rules.has_field_by_name(name) && value(name).and_then(|v| v.as_bool()) == Some(true)
        };
        let known = value("well_known_regex").as_deref().and_then(Value::as_enum_number);
        // `strict` is true unless a rule says otherwise.
        let strict = !rules.has_field_by_name("strict") || flag("strict");
        match known {
            Some(1) => return Some(Self::HeaderName { strict }),
            Some(2) => return Some(Self::HeaderValue { strict }),
            _ => {}
        }
        [
            ("address", Self::Address),
            ("hostname", Self::Hostname),
            ("ip", Self::Ip),
            ("ipv4", Self::Ipv4),
            ("ipv6", Self::Ipv6),
        ]
        .into_iter()
        .find_map(|(name, format)| flag(name).then_some(format))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "a host name or an IP address",
            Self::HeaderName { .. } => "the name of a header",
            Self::HeaderValue { .. } => "a value for a header",
            Self::Hostname => "a host name",
            Self::Ip => "an IP address",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
        })
    }
}

/// Whether `text` has the format.
pub(super) fn is(format: Format, text: &str) -> bool {
    match format {
        Format::Address => is_hostname(text) || text.parse::<IpAddr>().is_ok(),
        Format::HeaderName { strict: true } => is_header_name(text),
        Format::HeaderValue { strict: true } => {
            !text.chars().any(|c| c == '\u{7f}' || (c < ' ' && c != '\t'))
        }
        Format::HeaderName { strict: false } | Format::HeaderValue { strict: false } => {
            !text.contains(['\0', '\n', '\r'])
        }
        Format::Hostname => is_hostname(text),
        Format::Ip => text.parse::<IpAddr>().is_ok(),
        Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
        Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
    }
}

/// A token of RFC 9110, or one after a colon.
fn is_header_name(text: &str) -> bool {
    let name = text.strip_prefix(':').unwrap_or(text);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~`".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::{Format, is};

    #[test]
    fn a_header_name_is_a_token_unless_the_rule_is_lax() {
        assert!(is(Format::HeaderName { strict: true }, "x-request-id"));
        assert!(is(Format::HeaderName { strict: true }, ":path"));
        assert!(!is(Format::HeaderName { strict: true }, "x request"));
        assert!(!is(Format::HeaderName { strict: true }, ""));
        assert!(is(Format::HeaderName { strict: false }, "x request"));
        assert!(!is(Format::HeaderName { strict: false }, "x\r\nrequest"));
    }

    #[test]
    fn a_host_name_has_labels_of_at_most_63_letters() {
        assert!(is(Format::Hostname, "a.example"));
        assert!(!is(Format::Hostname, "-a.example"));
        assert!(!is(Format::Hostname, &"a".repeat(64)));
        assert!(is(Format::Address, "::1"));
    }
}
