//! Schema → addresses and ranges of them.

use std::net::{IpAddr, SocketAddr};

use corvoy_config::{self as config, Path, Problems};

use super::{Address, Cidr, Pipe};

/// Compiles the ranges of the list at `at`; those with errors are left out.
pub(crate) fn cidrs(ranges: &[config::CidrRange], at: &Path, problems: &mut Problems) -> Vec<Cidr> {
    let each = ranges.iter().enumerate();
    each.filter_map(|(index, range)| cidr(range, &at.index(index), problems)).collect()
}

/// Compiles the range at `at`. A prefix that is longer than the address is the whole address, as in
/// Envoy.
pub(crate) fn cidr(range: &config::CidrRange, at: &Path, problems: &mut Problems) -> Option<Cidr> {
    let config::CidrRange { address_prefix, prefix_len } = range;
    let Ok(address) = address_prefix.parse() else {
        let message = format!("'{address_prefix}' is not an IP address");
        problems.error(&at.field("address_prefix"), message);
        return None;
    };
    let prefix_len = prefix_len.map_or(0, |len| u8::try_from(len).unwrap_or(u8::MAX));
    Some(Cidr { address, prefix_len })
}

/// An address to listen on, with what its configuration says about its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    pub(crate) address: Address,
    /// `ipv4_compat`
    pub(crate) ipv4_compat: bool,
    /// `pipe.mode`
    pub(crate) mode: Option<u32>,
}

/// Compiles an address to listen on: an IP literal and a port, or a unix socket.
pub(crate) fn listening(
    address: &config::Address,
    at: &Path,
    problems: &mut Problems,
) -> Option<Listening> {
    let config::Address { socket_address, pipe } = address;
    if let Some(pipe) = pipe {
        let at = at.field("pipe");
        let config::Pipe { path: _, mode } = pipe;
        let address = self::pipe(pipe, &at, problems)?;
        let mode = Some(*mode).filter(|mode| *mode != 0);
        if mode.is_some() && !address.is_path() {
            problems.error(&at.field("mode"), "an abstract unix socket has no mode");
        }
        return Some(Listening { address: Address::Pipe(address), ipv4_compat: false, mode });
    }
    let at = at.field("socket_address");
    let socket_address = socket_address.as_ref()?;
    let address = ip_and_port(socket_address, &at, problems)?;
    let ipv4_compat = socket_address.ipv4_compat;
    if ipv4_compat && !is_ipv4_compatible(address.ip()) {
        let why = "only :: and an IPv4-mapped IPv6 address can have ipv4_compat";
        problems.error(&at.field("ipv4_compat"), why);
    }
    Some(Listening { address: Address::Ip(address), ipv4_compat, mode: None })
}

fn is_ipv4_compatible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unspecified() || address.to_ipv4_mapped().is_some(),
    }
}

/// Compiles an IP literal and a port of TCP.
pub(crate) fn ip_and_port(
    address: &config::SocketAddress,
    at: &Path,
    problems: &mut Problems,
) -> Option<SocketAddr> {
    // The caller looks at it.
    let config::SocketAddress { protocol, address, port_value, resolver_name, ipv4_compat: _ } =
        address;
    if *protocol != config::Protocol::Tcp {
        problems.not_implemented(&at.field("protocol"), "UDP");
    }
    if !resolver_name.is_empty() {
        problems.error(&at.field("resolver_name"), "a listening address must be an IP address");
    }
    let port = u16::try_from(port_value.unwrap_or(0)).unwrap_or(0);
    match address.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => {
            problems.error(&at.field("address"), format!("malformed IP address: {address}"));
            None
        }
    }
}

/// Compiles the name of a unix socket.
pub(crate) fn pipe(pipe: &config::Pipe, at: &Path, problems: &mut Problems) -> Option<Pipe> {
    // Only who binds the socket looks at it.
    let config::Pipe { path, mode: _ } = pipe;
    let name = Pipe::new(path);
    name.map_err(|error| problems.error(&at.field("path"), error.to_string())).ok()
}
