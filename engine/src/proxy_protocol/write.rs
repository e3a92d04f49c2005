//! Addresses → header.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Addresses, SIGNATURE_V2, Version};

/// The header that announces the addresses. `None`: that there are none to announce.
#[must_use]
pub fn write(version: Version, addresses: Option<Addresses>) -> Vec<u8> {
    match version {
        Version::V1 => line(addresses),
        Version::V2 => binary(addresses),
    }
}

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
