//! Addresses → header.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Addresses, SIGNATURE_V2, Tlv, Version};

/// The header that announces the addresses. `None`: that there are none to announce.
#[must_use]
pub fn write(version: Version, addresses: Option<Addresses>) -> Vec<u8> {
    match version {
        Version::V1 => line(addresses),
        Version::V2 => binary(addresses),
    }
}

/// Appends values to a header of version 2, as many as its length permits. Returns whether all fitted.
#[must_use]
pub fn append<'a>(header: &mut Vec<u8>, tlvs: impl Iterator<Item = &'a Tlv>) -> bool {
    let mut all_fitted = true;
    for Tlv { kind, value } in tlvs {
        let length = (header.len() + TLV_HEADER + value.len()).saturating_sub(LENGTH_AT.end);
        match (u16::try_from(length), u16::try_from(value.len())) {
            (Ok(length), Ok(value_length)) => {
                if let Some(field) = header.get_mut(LENGTH_AT) {
                    field.copy_from_slice(&length.to_be_bytes());
                }
                header.push(*kind);
                header.extend_from_slice(&value_length.to_be_bytes());
                header.extend_from_slice(value);
            }
            _ => all_fitted = false,
        }
    }
    all_fitted
}

/// Where a header of version 2 has its length.
const LENGTH_AT: std::ops::Range<usize> = SIGNATURE_V2.len() + 2..SIGNATURE_V2.len() + 4;
/// Type and length in front of a value.
const TLV_HEADER: usize = 3;

fn line(addresses: Option<Addresses>) -> Vec<u8> {
    let mut line = Vec::with_capacity(64);
    let written = match addresses {
        Some(Addresses { source, destination }) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            let (from_port, to_port) = (source.port(), destination.port());
            write!(line, "PROXY {family} {from} {to} {from_port} {to_port}\r\n")
        }
        None => write!(line, "PROXY UNKNOWN\r\n"),
    };
    debug_assert!(written.is_ok(), "a buffer in memory takes everything");
    line
}

fn binary(addresses: Option<Addresses>) -> Vec<u8> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let mut header = Vec::with_capacity(SIGNATURE_V2.len() + 4 + 36);
    header.extend_from_slice(&SIGNATURE_V2);
    let Some(Addresses { source, destination }) = addresses else {
        header.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return header;
    };
    // TCP of either family, and how long two addresses and two ports are.
    let (family, length) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    header.extend_from_slice(&[PROXY, family, 0, length]);
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
        }
    }
    for port in [source, destination].map(|address: SocketAddr| address.port()) {
        header.extend_from_slice(&port.to_be_bytes());
    }
    header
}
