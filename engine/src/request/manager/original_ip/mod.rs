//! `original_ip_detection_extensions`: how the address of the client is found, other than by
//! `use_remote_address` and `xff_num_trusted_hops`.

pub(crate) mod compile;

use std::net::IpAddr;

use super::normalize::{forwarded_for, named_by};
use crate::address::{Address, Cidr};
use crate::http::{FieldName, Fields, members};

/// A way to find the address.
#[derive(Clone, Debug)]
pub enum Detection {
    /// `custom_header`: it is in this header.
    CustomHeader {
        /// The header, in lower case.
        name: Box<[u8]>,
        /// Whether the client is internal if the address is.
        is_trusted: bool,
        /// The status for requests without a valid address; none: they are accepted.
        reject_with: Option<u16>,
    },
    /// `xff`: at this position of `x-forwarded-for`, counted from the end.
    Hops {
        /// How many proxies in front of this one are trusted.
        hops: usize,
        /// Whether the peer is appended to `x-forwarded-for`.
        appends: bool,
    },
    /// `xff_trusted_cidrs`: the last one in `x-forwarded-for` that is not a trusted proxy; the first one if
    /// all are.
    TrustedProxies {
        /// The addresses of the proxies. The peer must be one of them.
        ranges: Box<[Cidr]>,
        /// Whether the peer is appended to `x-forwarded-for`.
        appends: bool,
    },
}

/// What the extensions have found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Detected {
    /// The address of the client; none: that of the peer.
    pub client: Option<Address>,
    /// Whether the client is internal if the address is.
    pub is_trusted: bool,
    /// Whether the peer is appended to `x-forwarded-for`.
    pub appends: bool,
}

/// Asks one extension after the other; the first address counts.
///
/// # Errors
/// The status of the reply, if one rejects the request.
pub fn detect(extensions: &[Detection], fields: &Fields, peer: Address) -> Result<Detected, u16> {
    let mut appends = false;
    for extension in extensions {
        let detected = extension.detect(fields, peer)?;
        // As in Envoy, also if another one finds the address.
        appends |= detected.appends;
        if detected.client.is_some() {
            return Ok(Detected { appends, ..detected });
        }
    }
    Ok(Detected { appends, ..Detected::default() })
}

impl Detection {
    fn detect(&self, fields: &Fields, peer: Address) -> Result<Detected, u16> {
        // As in Envoy, an internal client has not come through other proxies.
        let is_single = || members(fields, FieldName::XForwardedFor).nth(1).is_none();
        match self {
            Self::CustomHeader { name, is_trusted, reject_with } => {
                let client = fields.find(name).and_then(named_by);
                match (client, reject_with) {
                    (None, Some(status)) => Err(*status),
                    _ => Ok(Detected { client, is_trusted: *is_trusted, appends: false }),
                }
            }
            Self::Hops { hops, appends } => Ok(Detected {
                client: forwarded_for(fields, *hops),
                is_trusted: is_single(),
                appends: *appends,
            }),
            Self::TrustedProxies { ranges, appends } => {
                let is_proxy = |ip: IpAddr| ranges.iter().any(|range| range.contains(ip));
                if !peer.ip().is_some_and(is_proxy) {
                    return Ok(Detected { appends: true, ..Detected::default() });
                }
                let value = fields.get(FieldName::XForwardedFor);
                let client = value.and_then(|value| last_untrusted(value, is_proxy));
                Ok(Detected { client, is_trusted: is_single(), appends: *appends })
            }
        }
    }
}

/// The last address of a list that is no proxy; the first one if all are. None if one that is looked at is
/// no address.
fn last_untrusted(value: &[u8], is_proxy: impl Fn(IpAddr) -> bool) -> Option<Address> {
    let mut found = None;
    for text in value.rsplit(|&byte| byte == b',') {
        let address = named_by(text.trim_ascii())?;
        found = Some(address);
        if !address.ip().is_some_and(&is_proxy) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn fields(lines: &str) -> Fields {
        Fields::of_lines(lines.as_bytes())
    }

    fn found(extensions: &[Detection], lines: &str) -> Result<(Option<String>, bool, bool), u16> {
        let peer = Address::from("127.0.0.1:5".parse::<SocketAddr>().unwrap());
        let detected = detect(extensions, &fields(lines), peer)?;
        let client = detected.client.map(|client| client.to_string());
        Ok((client, detected.is_trusted && detected.client.is_some(), detected.appends))
    }

    fn some(address: &str) -> Option<String> {
        Some(format!("{address}:0"))
    }

    fn header(is_trusted: bool, reject_with: Option<u16>) -> Detection {
        Detection::CustomHeader { name: b"x-real"[..].into(), is_trusted, reject_with }
    }

    /// As recorded from Envoy 1.40.0, like the others.
    #[test]
    fn a_header_names_the_client() {
        let lenient = [header(false, None)];
        assert_eq!(found(&lenient, "x-real: 10.1.1.1\r\n"), Ok((some("10.1.1.1"), false, false)));
        assert_eq!(
            found(&lenient, "x-real: 1.1.1.1\r\nx-real: 2.2.2.2\r\n").unwrap().0,
            some("1.1.1.1")
        );
        assert_eq!(found(&lenient, "x-real: ::1\r\n").unwrap().0, Some("[::1]:0".to_owned()));
        for unknown in
            ["", "x-real: no\r\n", "x-real: 8.8.8.8:99\r\n", "x-forwarded-for: 1.1.1.1\r\n"]
        {
            assert_eq!(found(&lenient, unknown), Ok((None, false, false)), "{unknown:?}");
            assert_eq!(found(&[header(true, Some(403))], unknown), Err(403), "{unknown:?}");
        }
        assert!(found(&[header(true, None)], "x-real: 10.1.1.1\r\n").unwrap().1);
    }

    #[test]
    fn a_number_of_hops_is_trusted() {
        let of = |hops, lines| found(&[Detection::Hops { hops, appends: true }], lines).unwrap();
        assert_eq!(of(0, ""), (None, false, true));
        assert_eq!(of(0, "x-forwarded-for: 1.1.1.1\r\n"), (some("1.1.1.1"), true, true));
        assert_eq!(of(0, "x-forwarded-for: 1.1.1.1, 2.2.2.2\r\n").0, some("2.2.2.2"));
        assert_eq!(of(1, "x-forwarded-for: 1.1.1.1, 2.2.2.2\r\n"), (some("1.1.1.1"), false, true));
        assert_eq!(of(1, "x-forwarded-for: 1.1.1.1,bad\r\n").0, some("1.1.1.1"));
        assert_eq!(of(0, "x-forwarded-for: 1.1.1.1,bad\r\n").0, None);
        assert_eq!(of(1, "x-forwarded-for: 1.1.1.1\r\n").0, None);
    }

    #[test]
    fn trusted_proxies_are_left_out() {
        let ranges = |texts: &[&str]| {
            let range = |text: &&str| Cidr { address: text.parse().unwrap(), prefix_len: 8 };
            texts.iter().map(range).collect::<Box<[_]>>()
        };
        let ranges = ranges(&["127.0.0.1", "10.0.0.0"]);
        let trusting = [Detection::TrustedProxies { ranges, appends: false }];
        for (list, client) in [
            ("1.1.1.1, 10.2.2.2", some("1.1.1.1")),
            ("2.2.2.2,1.1.1.1,10.2.2.2,10.3.3.3", some("1.1.1.1")),
            ("10.2.2.2", some("10.2.2.2")),
            ("10.0.0.1,10.2.2.2", some("10.0.0.1")),
            ("1.1.1.1,bad", None),
            ("bad,10.2.2.2", None),
        ] {
            let lines = format!("x-forwarded-for: {list}\r\n");
            assert_eq!(found(&trusting, &lines).unwrap().0, client, "{list}");
        }
        let others = Cidr { address: "1.0.0.1".parse().unwrap(), prefix_len: 32 };
        let others = Detection::TrustedProxies { ranges: [others].into(), appends: false };
        assert_eq!(found(&[others], "x-forwarded-for: 1.1.1.1\r\n"), Ok((None, false, true)));
    }

    #[test]
    fn the_first_extension_that_finds_an_address_counts() {
        let both = [header(false, None), Detection::Hops { hops: 0, appends: false }];
        let lines = "x-real: 8.8.8.8\r\nx-forwarded-for: 10.2.2.2\r\n";
        assert_eq!(found(&both, lines).unwrap().0, some("8.8.8.8"));
        assert_eq!(found(&both, "x-forwarded-for: 10.2.2.2\r\n").unwrap().0, some("10.2.2.2"));
    }
}
