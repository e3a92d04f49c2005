//! Fingerprints of TLS clients: JA3 and JA4, which are the same for all connections of one client program.
//!
//! They are made exactly as Envoy makes them, also where Envoy differs from the definitions: JA3 keeps
//! GREASE values among the groups, JA4 keeps them among the signature algorithms. Lists are read without
//! regard to the length that they announce.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use crate::transport::tls::client_hello::{ClientHello, Numbers, Reader, extension};

/// Whether a number is one of those that clients make up, so that servers get used to unknown ones.
fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// The MD5 sum of version, cipher suites, extensions, groups and point formats, in hexadecimal.
pub(super) fn ja3(hello: &ClientHello<'_>) -> String {
    let kinds = hello.extensions.iter().map(|(kind, _)| kind);
    let groups = content(hello, extension::SUPPORTED_GROUPS, 2);
    let formats = content(hello, extension::EC_POINT_FORMATS, 1);
    let fields = [
        decimals(hello.cipher_suites.iter().filter(|suite| !is_grease(*suite))),
        decimals(kinds.filter(|kind| !is_grease(*kind))),
        decimals(Numbers(groups).iter()),
        decimals(formats.iter().map(|format| u16::from(*format))),
    ];
    let text = format!("{},{}", hello.legacy_version, fields.join(","));
    format!("{:x}", md5::compute(text))
}

/// What is after the length of a list, which takes `length` bytes; empty if there is no such extension.
fn content<'a>(hello: &ClientHello<'a>, kind: u16, length: usize) -> &'a [u8] {
    hello.extensions.get(kind).and_then(|content| content.get(length..)).unwrap_or_default()
}

fn decimals(numbers: impl Iterator<Item = u16>) -> String {
    let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
    numbers.join("-")
}

/// Version, number of cipher suites and extensions and the first protocol of ALPN, then a hash of the
/// sorted cipher suites, and one of the sorted extensions and the signature algorithms.
pub(super) fn ja4(hello: &ClientHello<'_>) -> String {
    let suites: Vec<u16> = hello.cipher_suites.iter().filter(|suite| !is_grease(*suite)).collect();
    let kinds = hello.extensions.iter().map(|(kind, _)| kind);
    let kinds: Vec<u16> = kinds.filter(|kind| !is_grease(*kind)).collect();
    let name = if hello.server_name.is_some() { 'd' } else { 'i' };
    let version = version(hello);
    let (suite_count, kind_count) = (suites.len().min(99), kinds.len().min(99));
    let alpn = first_protocol(hello);
    let hashed: Vec<u16> = kinds
        .into_iter()
        .filter(|kind| ![extension::SERVER_NAME, extension::ALPN].contains(kind))
        .collect();
    let mut details = hexadecimals(sorted(hashed));
    let algorithms = Numbers(content(hello, extension::SIGNATURE_ALGORITHMS, 2));
    if !details.is_empty() && algorithms.iter().next().is_some() {
        details = format!("{details}_{}", hexadecimals(algorithms.iter()));
    }
    let suites = short_hash(&hexadecimals(sorted(suites)));
    format!(
        "t{version}{name}{suite_count:02}{kind_count:02}{alpn}_{suites}_{}",
        short_hash(&details)
    )
}

/// The newest version that the client has, in two characters.
fn version(hello: &ClientHello<'_>) -> &'static str {
    let newest =
        match (hello.extensions.get(extension::SUPPORTED_VERSIONS), hello.supported_versions) {
            (Some(_), None) => return "00",
            (_, versions) => {
                let known = versions.unwrap_or_default();
                known.iter().filter(|version| !is_grease(*version)).max()
            }
        };
    match newest.unwrap_or(hello.legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        _ => "00",
    }
}

/// The first and last character of the first protocol of ALPN, or digits of them.
fn first_protocol(hello: &ClientHello<'_>) -> String {
    let protocol = Reader(content(hello, extension::ALPN, 2)).list8().unwrap_or_default();
    let (Some(&first), Some(&last)) = (protocol.first(), protocol.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [char::from(first), char::from(last)].iter().collect()
    } else {
        format!("{:x}{:x}", first >> 4, last & 0x0f)
    }
}

fn sorted(mut numbers: Vec<u16>) -> impl Iterator<Item = u16> {
    numbers.sort_unstable();
    numbers.into_iter()
}

fn hexadecimals(numbers: impl Iterator<Item = u16>) -> String {
    let numbers: Vec<_> = numbers.map(|number| format!("{number:04x}")).collect();
    numbers.join(",")
}

/// The first twelve digits of the SHA-256 sum; zeros for an empty text.
fn short_hash(text: &str) -> String {
    let mut digits = String::new();
    if text.is_empty() {
        return "0".repeat(12);
    }
    for byte in digest(&SHA256, text.as_bytes()).as_ref().iter().take(6) {
        let _infallible = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::{ja3, ja4};
    use crate::transport::tls::client_hello::ClientHello;

    #[test]
    fn fingerprints_are_those_of_envoy() {
        let mut count = 0;
        for line in include_str!("fingerprints.txt").lines().filter(|line| !line.starts_with('#')) {
            let [name, message, expected_ja3, expected_ja4] =
                <[&str; 4]>::try_from(line.split(" | ").collect::<Vec<_>>()).unwrap();
            let byte = |at: usize| u8::from_str_radix(&message[at..at + 2], 16).unwrap();
            let message: Vec<u8> = (0..message.len()).step_by(2).map(byte).collect();
            let hello = ClientHello::parse(&message[4..]).unwrap();
            assert_eq!(ja3(&hello), expected_ja3, "{name}");
            assert_eq!(ja4(&hello), expected_ja4, "{name}");
            count += 1;
        }
        assert!(count > 50, "{count}");
    }
}
