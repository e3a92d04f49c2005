//! Addresses of the ends of connections, and names of hosts.

use super::{Inputs, write_display, write_ip};
use crate::address::{Address, Cidr};

/// An end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    DownstreamDirectLocal,
    DownstreamDirectRemote,
    DownstreamLocal,
    DownstreamRemote,
    /// The host, connected or not.
    UpstreamHost,
    UpstreamLocal,
    UpstreamRemote,
}

/// The part of an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum AddressPart {
    All,
    Ip,
    /// The network with this prefix length, of which the address is one.
    Network(u8),
    Port,
}

/// How the hosts that a request was sent to are shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hosts {
    Addresses,
    Ips,
    Names,
    NamesWithoutPort,
}

impl Peer {
    /// By the part of a command's name before `_ADDRESS` or `_PORT`.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "DOWNSTREAM_DIRECT_LOCAL" => Self::DownstreamDirectLocal,
            "DOWNSTREAM_DIRECT_REMOTE" => Self::DownstreamDirectRemote,
            "DOWNSTREAM_LOCAL" => Self::DownstreamLocal,
            "DOWNSTREAM_REMOTE" => Self::DownstreamRemote,
            "UPSTREAM_LOCAL" => Self::UpstreamLocal,
            "UPSTREAM_REMOTE" => Self::UpstreamRemote,
            _ => return None,
        })
    }

    pub(super) fn address(self, inputs: &Inputs<'_>) -> Option<Address> {
        let stream = inputs.stream;
        match self {
            Self::DownstreamDirectLocal => stream.downstream_direct_local_address(),
            Self::DownstreamDirectRemote => stream.downstream_direct_remote_address(),
            Self::DownstreamLocal => stream.downstream_local_address(),
            Self::DownstreamRemote => stream.downstream_remote_address(),
            Self::UpstreamHost => stream.upstream_host(),
            Self::UpstreamLocal => stream.upstream_local_address(),
            Self::UpstreamRemote => stream.upstream_remote_address(),
        }
    }

    pub(super) fn port(self, inputs: &Inputs<'_>) -> Option<u64> {
        self.address(inputs).and_then(Address::port).map(u64::from)
    }
}

impl AddressPart {
    /// Without the port; with the prefix length in the parameters, the network. As in Envoy a text that is
    /// no number is ignored.
    pub(super) fn network(parameters: &str) -> Self {
        let length = |length: u32| u8::try_from(length).unwrap_or(u8::MAX);
        parameters.parse().map_or(Self::Ip, |prefix_len| Self::Network(length(prefix_len)))
    }

    pub(super) fn write(self, address: Address, out: &mut Vec<u8>) -> Option<()> {
        match (self, address.ip()) {
            // A number, written as one.
            (Self::Port, _) => return None,
            (Self::All, _) | (_, None) => write_display(&address, out),
            (Self::Ip, Some(ip)) => write_ip(ip, out),
            (Self::Network(prefix_len), Some(address)) => {
                let Cidr { address, prefix_len } = Cidr { address, prefix_len }.normalized();
                write_display(&format_args!("{address}/{prefix_len}"), out);
            }
        }
        Some(())
    }
}

impl Hosts {
    /// As in Envoy only the last host, and none if there was no connection to it.
    pub(super) fn write(self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        let address = inputs.stream.upstream_remote_address()?;
        match self {
            Self::Addresses => AddressPart::All.write(address, out),
            Self::Ips => AddressPart::Ip.write(address, out),
            Self::Names => host_name(inputs, true, out),
            Self::NamesWithoutPort => host_name(inputs, false, out),
        }
    }
}

/// The endpoint's hostname, or its address if it has none.
pub(super) fn host_name(inputs: &Inputs<'_>, port: bool, out: &mut Vec<u8>) -> Option<()> {
    let address = inputs.stream.upstream_host();
    let name = inputs.stream.upstream_host_name().filter(|name| !name.is_empty());
    match (name, address) {
        (Some(name), _) => {
            let end = if port { None } else { name.rfind(':') };
            out.extend_from_slice(name.get(..end.unwrap_or(name.len()))?.as_bytes());
            Some(())
        }
        (None, Some(address)) if port => AddressPart::All.write(address, out),
        (None, Some(address)) => AddressPart::Ip.write(address, out),
        (None, None) => None,
    }
}
