//! The string formats that a rule can name instead of a pattern.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost_reflect::{DynamicMessage, Value};

/// A format that a rule can name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Address,
    HeaderName { may_be_empty: bool },
    HeaderValue,
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
        // `strict` is true unless a rule says otherwise. Envoy is lax nearly everywhere: it rejects
        // only CR, LF and NUL, and sends the rest unchanged. Corvoy always requires a valid value.
        let strict = !rules.has_field_by_name("strict") || flag("strict");
        match known {
            Some(1) => return Some(Self::HeaderName { may_be_empty: !strict }),
            Some(2) => return Some(Self::HeaderValue),
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
            Self::Address => "host name or IP address",
            Self::HeaderName { .. } => {
                "header name: use letters, digits and any of !#$%&'*+-.^_`|~"
            }
            Self::HeaderValue => "header value: it contains a control character",
            Self::Hostname => "host name",
            Self::Ip => "IP address",
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
        })
    }
}

/// Whether `text` has the format.
pub(super) fn is(format: Format, text: &str) -> bool {
    match format {
        Format::Address => is_hostname(text) || text.parse::<IpAddr>().is_ok(),
        Format::HeaderName { may_be_empty } => {
            is_header_name(text) || (may_be_empty && text.is_empty())
        }
        Format::HeaderValue => !text.chars().any(|c| c.is_ascii_control() && c != '\t'),
        Format::Hostname => is_hostname(text),
        Format::Ip => text.parse::<IpAddr>().is_ok(),
        Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
        Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
    }
}

/// A token of RFC 9110, optionally after a colon.
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
    fn a_header_name_is_a_token_or_a_pseudo_header() {
        for may_be_empty in [true, false] {
            let name = Format::HeaderName { may_be_empty };
            for good in ["x-request-id", ":path", "a_b.c~"] {
                assert!(is(name, good), "{good}");
            }
            for bad in ["x request", "x:y", "a ", "x\r\n", "é", ":", "::a", "(a)"] {
                assert!(!is(name, bad), "{bad}");
            }
            assert_eq!(is(name, ""), may_be_empty);
        }
    }

    #[test]
    fn a_header_value_has_no_control_character_except_the_tab() {
        for good in ["", "a\tb c", "é", "%REQ(a)%"] {
            assert!(is(Format::HeaderValue, good), "{good:?}");
        }
        for bad in ["a\nb", "\r", "\0", "\u{1}", "\u{7f}"] {
            assert!(!is(Format::HeaderValue, bad), "{bad:?}");
        }
    }

    #[test]
    fn a_host_name_has_labels_of_at_most_63_letters() {
        assert!(is(Format::Hostname, "a.example"));
        assert!(!is(Format::Hostname, "-a.example"));
        assert!(!is(Format::Hostname, &"a".repeat(64)));
        assert!(is(Format::Address, "::1"));
    }
}
