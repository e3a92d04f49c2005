//! Bytes → header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Header, LINE_MAX, SIGNATURE_V1, SIGNATURE_V2, Tlv, Version, Versions};

/// What the first bytes of a connection say about a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signature {
    /// A header of this version follows.
    Found(Version),
    /// Too few bytes to tell.
    Incomplete,
    /// They do not begin a header.
    Absent,
}

/// The header is malformed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed PROXY protocol header")]
pub struct Malformed;

/// Looks for the signatures of these versions.
#[must_use]
pub fn signature(bytes: &[u8], versions: Versions) -> Signature {
    let candidates = [(Version::V1, SIGNATURE_V1), (Version::V2, &SIGNATURE_V2[..])];
    let wanted = candidates.into_iter().filter(|(version, _)| versions.include(*version));
    let mut outcome = Signature::Absent;
    for (version, signature) in wanted {
        if bytes.starts_with(signature) {
            return Signature::Found(version);
        }
        if signature.starts_with(bytes) {
            outcome = Signature::Incomplete;
        }
    }
    outcome
}

/// Parses a header of a version whose signature was found; `None` until it is complete.
///
/// # Errors
/// When the header is malformed.
pub fn parse(bytes: &[u8], version: Version) -> Result<Option<Header>, Malformed> {
    match version {
        Version::V1 => line(bytes),
        Version::V2 => binary(bytes),
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 5000 80`
fn line(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let most = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = most.windows(2).position(|pair| pair == b"\r\n") else {
        return if most.len() < LINE_MAX { Ok(None) } else { Err(Malformed) };
    };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed)?;
    let words: Vec<&str> = line.trim().split(' ').collect();
    let addresses = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, source, destination, source_port, destination_port] => {
            let source: IpAddr = source.parse().map_err(|_| Malformed)?;
            let destination: IpAddr = destination.parse().map_err(|_| Malformed)?;
            let is_family = match *family {
                "TCP4" => source.is_ipv4() && destination.is_ipv4(),
                "TCP6" => source.is_ipv6() && destination.is_ipv6(),
                _ => false,
            };
            if !is_family {
                return Err(Malformed);
            }
            let port = |text: &str| text.parse::<u16>().map_err(|_| Malformed);
            Some(Addresses {
                source: SocketAddr::new(source, port(source_port)?),
                destination: SocketAddr::new(destination, port(destination_port)?),
            })
        }
        _ => return Err(Malformed),
    };
    Ok(Some(Header { length: end + 2, addresses: unicast(addresses)?, tlvs: Vec::new() }))
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(rest) = bytes.get(SIGNATURE_V2.len()..) else { return Ok(None) };
    let Some((&[version_and_command, family, long, short], rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([long, short]));
    let (is_proxied, of) = match (version_and_command, family) {
        (0x20, _) => (false, Family::V4),
        (0x21, 0x11 | 0x12) => (true, Family::V4),
        (0x21, 0x21 | 0x22) => (true, Family::V6),
        // Envoy refuses unix addresses and unspecified ones, too.
        _ => return Err(Malformed),
    };
    if is_proxied && length < of.bytes() {
        return Err(Malformed);
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let whole = SIGNATURE_V2.len() + 4 + length;
    if !is_proxied {
        return Ok(Some(Header { length: whole, addresses: None, tlvs: Vec::new() }));
    }
    let (addresses, rest) = of.addresses(payload).ok_or(Malformed)?;
    let tlvs = tlvs(rest)?;
    Ok(Some(Header { length: whole, addresses: unicast(Some(addresses))?, tlvs }))
}

/// The address family of version 2.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// How many bytes two addresses and two ports take.
    const fn bytes(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => 36,
        }
    }

    fn addresses(self, bytes: &[u8]) -> Option<(Addresses, &[u8])> {
        let ((source, destination), rest) = match self {
            Self::V4 => {
                let (source, rest) = bytes.split_first_chunk::<4>()?;
                let (destination, rest) = rest.split_first_chunk::<4>()?;
                let address = |octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets));
                ((address(*source), address(*destination)), rest)
            }
            Self::V6 => {
                let (source, rest) = bytes.split_first_chunk::<16>()?;
                let (destination, rest) = rest.split_first_chunk::<16>()?;
                let address = |octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets));
                ((address(*source), address(*destination)), rest)
            }
        };
        let (source_port, rest) = rest.split_first_chunk()?;
        let (destination_port, rest) = rest.split_first_chunk()?;
        let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
        let addresses = Addresses {
            source: SocketAddr::new(source, port(*source_port)),
            destination: SocketAddr::new(destination, port(*destination_port)),
        };
        Some((addresses, rest))
    }
}

fn tlvs(mut bytes: &[u8]) -> Result<Vec<Tlv>, Malformed> {
    let mut tlvs = Vec::new();
    while !bytes.is_empty() {
        let (&[kind, long, short], rest) = bytes.split_first_chunk().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([long, short]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        tlvs.push(Tlv { kind, value: value.to_vec() });
        bytes = rest;
    }
    Ok(tlvs)
}

/// TCP connects single hosts only.
fn unicast(addresses: Option<Addresses>) -> Result<Option<Addresses>, Malformed> {
    let is_unicast = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    match addresses {
        Some(Addresses { source, destination })
            if !is_unicast(source) || !is_unicast(destination) =>
        {
            Err(Malformed)
        }
        addresses => Ok(addresses),
    }
}
